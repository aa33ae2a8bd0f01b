"""An existing set through the filters of self-instruct: what each takes, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hinlap.core.rows import BadRow, Row
from hinlap.data.novelty import THRESHOLD, NoveltyPool
from hinlap.data.self_instruct.filters import Instance, usable_instances, why_no_news
from hinlap.data.self_instruct.seeds import SeedTask
from hinlap.workflows.self_instruct_rounds import KEPT, MOST_INSTANCES, OVER_FIVE, READ, UNREADABLE


@dataclass(frozen=True)
class FilterReport:
    """yields: rows read, dropped by each filter, kept, in the order of the filters' meeting."""

    yields: Mapping[str, int]
    kept: tuple[Row, ...]


def filter_rows(
    rows: Iterable[Row | BadRow],
    seeds: Sequence[SeedTask],
    *,
    threshold: float = THRESHOLD,
    ascii_start: bool = True,
) -> FilterReport:
    """Each row through the filters in their order, the similarity filter against the seeds and all
    rows kept before it. Rows of one group that share an instruction are instances of one task."""
    pool = NoveltyPool((seed.instruction for seed in seeds), threshold=threshold)
    yields: Counter[str] = Counter({READ: 0})
    kept: list[Row] = []
    tasks: dict[tuple[str, str], list[Instance]] = {}
    for row in rows:
        yields[READ] += 1
        if isinstance(row, BadRow):
            yields[UNREADABLE] += 1
            continue
        instruction = row.instruction.strip()
        task = (row.group, instruction)
        known = tasks.get(task) if row.group else None
        if known is None:
            reason, _ = why_no_news(instruction, pool, ascii_start=ascii_start)
            if reason:
                yields[reason] += 1
                continue
        instance = Instance(row.input.strip(), row.output.strip())
        left, dropped = usable_instances([*(known or ()), instance])
        if dropped or len(left) > MOST_INSTANCES:
            yields[dropped[-1] if dropped else OVER_FIVE] += 1
            continue
        if known is None:
            pool.add(instruction)
        tasks[task] = left
        kept.append(row)
    yields[KEPT] = len(kept)
    return FilterReport(dict(yields), tuple(kept))
