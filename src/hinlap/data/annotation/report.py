"""What was done on a set, by whom and how fast, and how far two who did the same row agree."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hinlap.data.annotation.log import Action, Entry
from hinlap.data.near_duplicates import normalised
from hinlap.stats.bootstrap import Interval, wilson

DONE = (Action.WRITTEN, Action.CORRECTED, Action.ACCEPTED, Action.KEPT)
_COUNTED = (*DONE, Action.SKIPPED, Action.FLAGGED)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two annotators, over the rows both did. decision: both used the row, or both flagged it.
    answer: of rows that both used, equal but for case, spaces and punctuation. category: equal,
    of rows that both used and either gave one."""

    first: str
    second: str
    decision: Interval
    answer: Interval
    category: Interval


@dataclass(frozen=True, slots=True)
class Report:
    """rows: how many each action was last done to; nothing that was taken back counts.

    seconds:  median over all deeds on a row, of n_seconds; None where n is 0.
    drafts:   share of rows with a draft beside them whose answer is the draft as it was.
    distance: median Levenshtein distance (characters) of the other answers to their drafts.
    """

    rows: dict[Action, int]
    by_annotator: dict[str, int]
    seconds: float | None
    n_seconds: int
    drafts: Interval
    distance: float | None
    agreements: tuple[Agreement, ...]


def annotation_report(entries: Sequence[Entry]) -> Report:
    """Of a whole log, in its order."""
    undone = {entry.undoes for entry in entries if entry.undoes}
    deeds = [e for e in entries if e.action in _COUNTED and e.number not in undone]
    last = {entry.row: entry for entry in deeds}
    rows = {action: sum(e.action is action for e in last.values()) for action in _COUNTED}
    by_annotator: dict[str, int] = defaultdict(int)
    for entry in last.values():
        by_annotator[entry.annotator] += 1
    seconds = [entry.seconds for entry in deeds if entry.seconds > 0]
    drafted = [e for e in last.values() if e.action in DONE and e.draft is not None]
    changed = [
        e.draft_distance
        for e in drafted
        if e.draft_distance is not None and e.action is not Action.ACCEPTED
    ]
    return Report(
        rows,
        dict(by_annotator),
        statistics.median(seconds) if seconds else None,
        len(seconds),
        _share(sum(e.action is Action.ACCEPTED for e in drafted), len(drafted)),
        statistics.median(changed) if changed else None,
        tuple(_agreements(deeds)),
    )


def _share(hits: int, n: int) -> Interval:
    """With Wilson's interval."""
    return Interval(hits / n, *wilson(hits, n), n) if n else Interval(None, None, None, 0)


def _agreements(deeds: Iterable[Entry]) -> Iterable[Agreement]:
    """A skip is no judgement of a row."""
    done: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in deeds:
        if entry.action is not Action.SKIPPED:
            done[entry.annotator][entry.row] = entry
    for first, second in itertools.combinations(sorted(done), 2):
        both = [(done[first][row], done[second][row]) for row in done[first] if row in done[second]]
        if not both:
            continue
        used = [(a.fields, b.fields) for a, b in both if a.fields and b.fields]
        named = [(a, b) for a, b in used if a.category or b.category]
        yield Agreement(
            first,
            second,
            _share(sum((a.fields is None) == (b.fields is None) for a, b in both), len(both)),
            _share(sum(normalised(a.output) == normalised(b.output) for a, b in used), len(used)),
            _share(sum(a.category == b.category for a, b in named), len(named)),
        )


def report_lines(report: Report) -> list[str]:
    """The report for a terminal, in English."""
    rows = report.rows
    lines = [
        " · ".join(f"{rows[action]:,} {action}" for action in _COUNTED if rows[action])
        or "nothing was done yet"
    ]
    if report.seconds is not None:
        lines.append(f"median {report.seconds:.1f} s a row (n {report.n_seconds:,})")
    if report.drafts.n:
        lines.append(f"drafts accepted unchanged: {_percent(report.drafts)}")
    if report.distance is not None:
        lines.append(f"other answers: median {report.distance:,.0f} characters from the draft")
    if len(report.by_annotator) > 1:
        people = sorted(report.by_annotator.items())
        lines.append("last by: " + ", ".join(f"{who} {n:,}" for who, n in people))
    for pair in report.agreements:
        lines.append(
            f"{pair.first} and {pair.second} agree: on using or flagging {_percent(pair.decision)}"
            f"; on the answer {_percent(pair.answer)}; on the category {_percent(pair.category)}"
        )
    return lines


def _percent(part: Interval) -> str:
    if part.value is None or part.low is None or part.high is None:
        return "– (n 0)"
    return f"{part.value:.0%} [{part.low:.0%}, {part.high:.0%}] (n {part.n:,})"
