"""What changed between two versions of a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.rows import Row
from hinlap.data.formats.record import content_id
from hinlap.data.row_files import read_rows

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class DataDiff:
    """same: rows of the same content, whatever their ids. renamed: those of them with another id.
    changed: the same id and another content. added, removed: neither id nor content on the other
    side. The lists hold the first few ids."""

    rows_a: int
    rows_b: int
    same: int
    renamed: int
    changed: int
    added: int
    removed: int
    changed_ids: tuple[str, ...]
    added_ids: tuple[str, ...]
    removed_ids: tuple[str, ...]
    bad: int


def diff_sets(a: Path, b: Path) -> DataDiff:
    """Compares what rows teach, by id and by content. Memory: two names of a row of each side.

    Raises InputError where a file cannot be read.
    """
    bad: Counter[Path] = Counter()
    first = dict(_named(a, bad))
    second = dict(_named(b, bad))
    contents_a, contents_b = Counter(first.values()), Counter(second.values())
    same = (contents_a & contents_b).total()
    kept = sum(second.get(name) == content for name, content in first.items())
    left_a, left_b = contents_a - contents_b, contents_b - contents_a
    gone = _of(first, left_a)
    come = _of(second, left_b)
    changed = [name for name in gone if name in come]
    added = [name for name in come if name not in gone]
    removed = [name for name in gone if name not in come]
    return DataDiff(
        len(first), len(second), same, same - kept, len(changed), len(added), len(removed),
        tuple(changed[:_EXAMPLES]), tuple(added[:_EXAMPLES]), tuple(removed[:_EXAMPLES]),
        bad.total(),
    )  # fmt: skip


def _named(path: Path, bad: Counter[Path]) -> Iterator[tuple[str, str]]:
    for row in read_rows(path):
        if isinstance(row, Row):
            yield (
                row.id,
                content_id(row.instruction, row.input, row.output, row.system, row.history),
            )
        else:
            bad[path] += 1


def _of(rows: dict[str, str], left: Counter[str]) -> dict[str, str]:
    """The rows whose content is among ``left``, each content as often as it is there. Of copies
    the last ones are taken, as the first are the ones that were there before."""
    rest = Counter(left)
    found = []
    for name, content in reversed(rows.items()):
        if rest[content] > 0:
            rest[content] -= 1
            found.append((name, content))
    return dict(reversed(found))
