"""One published benchmark on one model: read, weigh what is not weighed yet, measure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hinlap.benchmarks.benchmark import Benchmark, Item
from hinlap.benchmarks.files import original_file
from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.counting import counted
from hinlap.core.errors import UserError
from hinlap.core.progress import Progress
from hinlap.data.text_file import read_utf8
from hinlap.engines.cache import weigh_all
from hinlap.engines.pool import open_scorer
from hinlap.metrics.scores import Scores
from hinlap.stats.bootstrap import Interval, bootstrap_interval
from hinlap.store.store import Store
from hinlap.workflows.metric_file import write_metric

STORE = Path(".hinlap") / "store.db"


@dataclass(frozen=True)
class Measured:
    """A figure with its interval, over all items and by group."""

    scores: Scores
    interval: Interval
    groups: dict[str, Interval]


@dataclass(frozen=True)
class BenchRun:
    """nats: the log-likelihood of each text of each item. file: the data's file and digest."""

    benchmark: Benchmark
    model: str
    items: Sequence[Item]
    nats: Sequence[Sequence[float]]
    figures: Sequence[Measured]
    file: Path
    file_sha256: str
    seed: int


def find_benchmark(name: str) -> Benchmark:
    """Raises UserError with the names that there are."""
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark {name!r}", hint=f"one of: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def read_benchmark(name: str, data: Path, limit: int | None = None) -> tuple[Path, list[Item]]:
    """The file and its first ``limit`` items. data: a folder of original files, or one file."""
    benchmark = find_benchmark(name)
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} leaves no items", hint="--limit 1 or more")
    file = original_file(data / benchmark.file if data.is_dir() else data)
    items = benchmark.read(file)
    if not items:
        raise UserError("there are no items", where=str(file))
    return file, items[:limit]


def run_bench(
    name: str,
    model: str,
    data: Path,
    store: Store,
    progress: Progress,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> BenchRun:
    """Weighs every text that the store does not have (so a killed run goes on), and measures.

    Raises UserError for an unknown name or a limit below 1, InputError for data that is not the
    benchmark's, ModelError for a model that cannot be had.
    """
    benchmark = find_benchmark(name)
    file, items = read_benchmark(name, data, limit)
    scorer = open_scorer(model, progress)
    asked = [pair for item in items for pair in item.asked]
    progress.start(f"{name}: weighing", len(asked))
    weighed = iter(weigh_all(scorer, store, asked, progress))
    progress.finish()
    nats = [[next(weighed)[0] for _ in item.asked] for item in items]
    figures = [
        Measured(scores, _interval(scores, seed), _by_group(scores, items, seed))
        for scores in benchmark.measure(items, nats)
    ]
    digest = hashlib.sha256(read_utf8(file).encode("utf-8")).hexdigest()  # gzipped or not
    return BenchRun(benchmark, model, items, nats, figures, file, digest, seed)


def write_bench(run: BenchRun, path: Path) -> None:
    """The figures as `hinlap compare-runs` reads them: two models on the same items compare."""
    first, *others = run.figures
    write_metric(
        path,
        first.scores,
        first.interval,
        seed=run.seed,
        parts=[(figure.scores, figure.interval) for figure in others],
        ids=[item.id for item in run.items],
        references_sha256=run.file_sha256,
        extra={
            "benchmark": run.benchmark.name,
            "model": run.model,
            "groups": [item.group for item in run.items],
            "nats": [list(values) for values in run.nats],
        },
    )


def notes(run: BenchRun) -> list[str]:
    """What a reader must know of beside the figures."""
    if len(run.items) < 100:
        return [f"{counted(len(run.items), 'item')}: too few to say much"]
    return []


def _interval(scores: Scores, seed: int) -> Interval:
    return bootstrap_interval(scores.stats, scores.reduce, seed=seed, share=scores.share)


def _by_group(scores: Scores, items: Sequence[Item], seed: int) -> dict[str, Interval]:
    members: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        members.setdefault(item.group, []).append(place)
    if len(members) < 2:
        return {}
    return {name: _interval(scores.subset(members[name]), seed) for name in sorted(members)}
