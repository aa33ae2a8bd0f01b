"""The nouns of this room: what a gate finds, and what it reports."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. means: a phrase, for readers. removes: whether ``--fix`` takes the row
    out unless told otherwise."""

    means: str
    removes: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in one row.

    row:     its index in the set.
    detail:  what was found; may quote the row, so personal data in it is masked where it is shown.
    other:   index of the row it goes with (a copy's original); None where there is none.
    """

    row: int
    kind: str
    detail: str
    removes: bool
    other: int | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """A figure to be drawn: one bar a label, in this order."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class GateReport:
    """What a gate found in ``n`` rows.

    findings: ordered by row. counts: findings of each kind, zeros included, in the gate's order.
    figures:  what to draw. notes: what a reader should know (what was not looked at, and why).
    looked:   False where there was nothing to look for: no test set, no model's window.
    """

    name: str
    title: str
    n: int
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    figures: tuple[Bars, ...] = ()
    notes: tuple[str, ...] = ()
    looked: bool = True

    @property
    def rows(self) -> int:
        """Rows with at least one finding."""
        return len({finding.row for finding in self.findings})


@dataclass(frozen=True, slots=True)
class Found:
    """A finding before its gate says whether it removes."""

    row: int
    kind: str
    detail: str
    other: int | None = None


def report(
    name: str,
    title: str,
    n: int,
    found: Iterable[Found],
    kinds: Mapping[str, Kind],
    figures: Sequence[Bars] = (),
    notes: Sequence[str] = (),
    *,
    looked: bool = True,
) -> GateReport:
    """The report of one gate; each finding removes as its kind does."""
    order = list(kinds)
    findings = sorted(
        (Finding(f.row, f.kind, f.detail, kinds[f.kind].removes, f.other) for f in found),
        key=lambda finding: (finding.row, order.index(finding.kind)),
    )
    seen = Counter(finding.kind for finding in findings)
    counts = {kind: seen[kind] for kind in kinds}
    return GateReport(name, title, n, tuple(findings), counts, tuple(figures), tuple(notes), looked)


def histogram(title: str, values: Sequence[int], edges: Sequence[int]) -> Bars:
    """How many whole numbers lie from each edge to below the next; in the last bar, from there on.

    >>> histogram("words", [1, 5, 500], [0, 1, 10, 100])
    Bars(title='words', labels=('0', '1 – 9', '10 – 99', '100 +'), counts=(0, 2, 0, 1))
    """
    counts = [0] * len(edges)
    for value in values:
        counts[max(0, bisect_right(edges, value) - 1)] += 1
    labels = [
        f"{low:,}" if high == low + 1 else f"{low:,} – {high - 1:,}"
        for low, high in pairwise(edges)
    ]
    return Bars(title, (*labels, f"{edges[-1]:,} +"), tuple(counts))
