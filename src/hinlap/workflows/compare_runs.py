"""Files of scores on the same items, compared in pairs: better, worse or not decisive."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.metrics.scores import Scores
from hinlap.stats.bootstrap import Interval, bootstrap_interval
from hinlap.stats.paired import (
    Paired,
    Verdict,
    compare_paired,
    holm,
    items_to_decide,
    smallest_detectable,
    verdict,
)
from hinlap.workflows.metric_file import MetricFile, check_folder, read_metric

_METHOD = "95% paired percentile bootstrap, p by approximate randomisation, both 10000 resamples"


@dataclass(frozen=True)
class RunPair:
    """Figure of file ``b`` minus figure of file ``a``, which stands before it.

    p:            corrected by Holm for the pairs of this metric.
    items_needed: about how many items would decide, where these do not.
    detectable:   the smallest difference that so many items show in four cases of five.
    """

    a: str
    b: str
    paired: Paired
    p: float | None
    verdict: Verdict
    items_needed: int | None
    detectable: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "verdict": self.verdict,
            "difference": self.paired.difference,
            "low": self.paired.low,
            "high": self.paired.high,
            "n": self.paired.n,
            "clusters": self.paired.clusters,
            "p": self.paired.p,
            "p_holm": self.p,
            "items_to_decide": self.items_needed,
            "smallest_detectable": self.detectable,
        }


@dataclass(frozen=True)
class MetricRuns:
    """One metric: its interval in each file, in their order, what is odd there (how many items of
    which kind), and the pairs."""

    metric: str
    signature: str
    higher_is_better: bool
    intervals: Sequence[Interval]
    notes: Sequence[Mapping[str, int]]
    pairs: Sequence[RunPair]


@dataclass(frozen=True)
class ComparedRuns:
    """files: the first is the baseline. clusters: how many; None where each item is its own.
    refused: metrics that were measured in different ways, with those ways."""

    files: Sequence[str]
    n: int
    clusters: int | None
    seed: int
    metrics: Sequence[MetricRuns]
    refused: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {
            "files": list(self.files),
            "n": self.n,
            "clusters": self.clusters,
            "method": _METHOD,
            "seed": self.seed,
            "metrics": [
                {
                    "metric": each.metric,
                    "signature": each.signature,
                    "higher_is_better": each.higher_is_better,
                    "files": [
                        {
                            "file": file,
                            "value": i.value,
                            "low": i.low,
                            "high": i.high,
                            "notes": dict(notes),
                        }
                        for file, i, notes in zip(
                            self.files, each.intervals, each.notes, strict=True
                        )
                    ],
                    "pairs": [pair.as_json() for pair in each.pairs],
                }
                for each in self.metrics
            ],
            "refused": dict(self.refused),
        }


def compare_runs(
    paths: Sequence[Path], *, clusters: str | None = None, seed: int = 0
) -> ComparedRuns:
    """Every two files on every metric they hold, a later against an earlier.

    clusters: a file with one name per line in the order of the items, or as JSON by id; or the
              key of such a list in the files of scores. None: their list ``clusters``, if any.
    A metric whose signature is not the same in all files is refused, the others are compared.
    Raises InputError where fewer than two are given, or metrics, the signatures of all of them,
    items or clusters differ: figures of different things cannot be compared.
    """
    if len(paths) < 2:
        raise InputError("two files at least are needed", hint="hinlap compare-runs A.json B.json")
    files = [read_metric(path) for path in paths]
    first = files[0]
    for other in files[1:]:
        _check_references(first, other)
        _check_metrics(first, other)
    refused = _measured_differently(files)
    for other in files[1:]:
        _check_items(first, other)
    groups = _clusters(files, clusters)
    metrics = []
    for name in (name for name in first.scores if name not in refused):
        rows = [_in_order_of(first, file, file.scores[name]) for file in files]
        metrics.append(_compare(name, [str(path) for path in paths], rows, groups, seed))
    number = None if groups is None else len(set(groups))
    return ComparedRuns([str(path) for path in paths], first.n, number, seed, metrics, refused)


def write_comparison(compared: ComparedRuns, path: Path) -> None:
    check_folder(path)
    path.write_text(json.dumps(compared.as_json(), indent=2) + "\n", encoding="utf-8")


def compare_pairs(
    names: Sequence[str],
    rows: Sequence[Scores],
    *,
    seed: int,
    clusters: Sequence[str] | None = None,
) -> list[RunPair]:
    """Every two systems on one metric, a later against an earlier, with p corrected by Holm over
    these pairs. names: of the systems; rows: their scores, on the same items in one order."""
    better = rows[0].higher_is_better
    places = list(itertools.combinations(range(len(rows)), 2))
    compared = [
        compare_paired(rows[b].stats, rows[a].stats, rows[a].reduce, seed=seed, clusters=clusters)
        for a, b in places
    ]
    known = [paired.p for paired in compared if paired.p is not None]
    corrected = iter(holm(known))
    pairs = []
    for (a, b), paired in zip(places, compared, strict=True):
        p = next(corrected) if paired.p is not None else None
        stands = verdict(paired, p, higher_is_better=better)
        needed = items_to_decide(paired, len(known)) if stands == "not decisive" else None
        if needed is not None:
            needed = max(needed, paired.n + 1)
        detectable = smallest_detectable(paired, len(known))
        pairs.append(RunPair(names[a], names[b], paired, p, stands, needed, detectable))
    return pairs


def _compare(
    name: str, files: Sequence[str], rows: Sequence[Scores], groups: Sequence[str] | None, seed: int
) -> MetricRuns:
    better = rows[0].higher_is_better
    intervals = [
        bootstrap_interval(s.stats, s.reduce, seed=seed, share=s.share, clusters=groups)
        for s in rows
    ]
    pairs = compare_pairs(files, rows, seed=seed, clusters=groups)
    notes = [scores.notes for scores in rows]
    return MetricRuns(name, rows[0].signature, better, intervals, notes, pairs)


def _check_metrics(first: MetricFile, other: MetricFile) -> None:
    where = f"{first.path}, {other.path}"
    if first.scores.keys() != other.scores.keys():
        mine, its = (", ".join(file.scores) for file in (first, other))
        raise InputError(
            f"different metrics: {mine}; {its}", where=where, hint="score both with the same metric"
        )
    for name, scores in first.scores.items():
        if scores.higher_is_better != other.scores[name].higher_is_better:
            raise InputError(f"higher {name} is better in one of them only", where=where)


def _measured_differently(files: Sequence[MetricFile]) -> dict[str, str]:
    """The ways of each metric that was measured in several. Raises InputError when all were."""
    ways = {
        name: list(dict.fromkeys(file.scores[name].signature for file in files))
        for name in files[0].scores
    }
    found = {name: " and ".join(own) for name, own in ways.items() if len(own) > 1}
    if len(found) == len(ways):
        name, own = next(iter(found.items()))
        raise InputError(
            f"{name} was measured in different ways: {own}",
            where=", ".join(str(file.path) for file in files),
            hint="score all with the same settings and versions",
        )
    return found


def _check_references(first: MetricFile, other: MetricFile) -> None:
    if len({first.references_sha256, other.references_sha256} - {None}) > 1:
        raise InputError(
            "scored against different references",
            where=f"{first.path}, {other.path}",
            hint="score both on the same items",
        )


def _check_items(first: MetricFile, other: MetricFile) -> None:
    where = f"{first.path}, {other.path}"
    hint = "score both on the same items"
    if first.ids is not None and other.ids is not None:
        its_ids, my_ids = set(other.ids), set(first.ids)
        only = [i for i in first.ids if i not in its_ids]
        its = [i for i in other.ids if i not in my_ids]
        if only or its:
            raise InputError(
                f"different items: {len(only)} only in the first, {len(its)} only in the second "
                f"(such as {(only + its)[0]!r})",
                where=where,
                hint=hint,
            )
    elif first.n != other.n:
        raise InputError(f"different items: {first.n} and {other.n}", where=where, hint=hint)


def _in_order_of(first: MetricFile, file: MetricFile, scores: Scores) -> Scores:
    if first.ids is None or file.ids is None or first.ids == file.ids:
        return scores
    place = {identity: i for i, identity in enumerate(file.ids)}
    return scores.subset([place[identity] for identity in first.ids])


def _clusters(files: Sequence[MetricFile], chosen: str | None) -> tuple[str, ...] | None:
    """One name per item, in the order of the first file."""
    first = files[0]
    if chosen is not None and Path(chosen).is_file():
        return _read_clusters(Path(chosen), first)
    key = chosen or "clusters"
    holding = [file for file in files if key in file.labels]
    if not holding:
        if chosen is None:
            return None
        raise InputError(
            f"there is no file {chosen!r}, nor a list of that name in {first.path}",
            where="--clusters",
            hint="give a file with one name per line, or the key of a list with one text per item",
        )
    rows = [_labels_in_order_of(first, file, key) for file in holding]
    for file, row in zip(holding, rows, strict=True):
        if row != rows[0]:
            raise InputError(
                f"the items have other {key!r} than in {holding[0].path}",
                where=str(file.path),
                hint="score both on the same items, or give --clusters FILE",
            )
    return rows[0]


def _labels_in_order_of(first: MetricFile, file: MetricFile, key: str) -> tuple[str, ...]:
    labels = file.labels[key]
    if first.ids is None or file.ids is None or first.ids == file.ids:
        return labels
    by_id = dict(zip(file.ids, labels, strict=True))
    return tuple(by_id[identity] for identity in first.ids)


def _read_clusters(path: Path, first: MetricFile) -> tuple[str, ...]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        if first.ids is None:
            raise InputError(
                f"it names clusters by id, and {first.path} has no ids",
                where=str(path),
                hint="give one name per line, in the order of the items",
            )
        lacking = next((i for i in first.ids if i not in found), None)
        if lacking is not None:
            raise InputError(f"it has no cluster for the item {lacking!r}", where=str(path))
        return tuple(str(found[i]) for i in first.ids)
    names = [str(x) for x in found] if isinstance(found, list) else text.split("\n")
    if names and not isinstance(found, list) and names[-1] == "":
        names.pop()
    if len(names) != first.n:
        raise InputError(
            f"{len(names)} clusters for {first.n} items",
            where=str(path),
            hint="give one name per line, in the order of the items",
        )
    return tuple(name.strip() for name in names)
