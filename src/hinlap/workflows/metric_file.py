"""One system's scores as a JSON file: written by ``hinlap metrics``, read by ``compare-runs``.

    {"metric": "bleu", "signature": "...", "value": 26.3, "low": 25.1, "high": 27.6, "n": 3004,
     "items": [31.2, null, ...],         the metric of each item alone; null: undefined
     "higher_is_better": true, "share": false, "notes": {},
     "interval": {"method": "...", "seed": 0, "clusters": null},    null where there is none
     "stats": [[...], ...],              where the figure is not the mean of the items: rows whose
     "settings": {"order": 4, ...},      sums make it, and what that is set to
     "parts": [{"metric": ...}, ...],    more metrics of the same items, each as above
     "ids": [...], "clusters": [...],    one text per item; may be absent
     "references_sha256": "...",         of what was scored against; may be absent
     "system": "..."}                    what was scored, where it is a model; may be absent

Only metric, signature and items are needed to compare; a figure that is no mean needs stats too.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hinlap.core.errors import InputError
from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.table import is_mean, reduction, settings_of
from hinlap.stats.bootstrap import RESAMPLES, Interval

_OF_A_METRIC = (
    *("metric", "signature", "value", "low", "high", "n", "items", "higher_is_better", "share"),
    *("notes", "interval", "stats", "settings"),
)
_OWN_KEYS = {*_OF_A_METRIC, "parts", "ids", "clusters", "references_sha256", "system"}
_HINT = "give files written by hinlap metrics ... --json"


@dataclass(frozen=True)
class MetricFile:
    """scores: the file's metric and its parts, by name, all over the same items in one order.
    labels: every list of one text per item that the file holds, by key: clusters among them."""

    path: Path
    scores: Mapping[str, Scores]
    n: int
    ids: tuple[str, ...] | None
    labels: Mapping[str, tuple[str, ...]]
    references_sha256: str | None


def write_metric(
    path: Path,
    scores: Scores,
    interval: Interval,
    *,
    seed: int,
    parts: Sequence[tuple[Scores, Interval]] = (),
    ids: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
    references_sha256: str | None = None,
    system: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes scores with their interval, in the form above.

    parts: more metrics of the same items. extra: more keys at the top (SQuAD's parts, counts).
    Raises ValueError when lengths differ or an extra key is one of the form's; InputError when
    there is no such folder.
    """
    check_folder(path)
    taken = _OWN_KEYS & (extra or {}).keys()
    if taken:
        raise ValueError(f"not for other use: {', '.join(sorted(taken))}")
    for name, each in (("ids", ids), ("clusters", clusters)):
        if each is not None and len(each) != scores.n:
            raise ValueError(f"{scores.n} items have {len(each)} {name}")
    content = metric_as_json(scores, interval, seed)
    if parts:
        if any(part.n != scores.n for part, _ in parts):
            raise ValueError("a part has other items")
        content["parts"] = [metric_as_json(part, own, seed) for part, own in parts]
    if ids is not None:
        content["ids"] = list(ids)
    if clusters is not None:
        content["clusters"] = list(clusters)
    if references_sha256 is not None:
        content["references_sha256"] = references_sha256
    if system is not None:
        content["system"] = system
    content |= extra or {}
    # ASCII: an id may hold a lone surrogate, which no file can
    path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="ascii")


def check_folder(path: Path) -> None:
    """Raises InputError where a file cannot be written, before work is begun on it."""
    if not path.parent.is_dir():
        raise InputError(
            "there is no such folder to write to",
            where=str(path.parent),
            hint=f"make it: mkdir -p {path.parent}",
        )


def metric_as_json(scores: Scores, interval: Interval, seed: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "metric": scores.name,
        "signature": scores.signature,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "items": [x if x is not None and math.isfinite(x) else None for x in scores.items],
        "higher_is_better": scores.higher_is_better,
        "share": scores.share,
        "notes": dict(scores.notes),
        "interval": None
        if interval.low is None
        else {
            "method": f"95% percentile bootstrap, {RESAMPLES} resamples",
            "seed": seed,
            "clusters": interval.clusters,
        },
    }
    if not _is_mean_of_items(scores):
        whole = bool((scores.stats == np.floor(scores.stats)).all())
        content["stats"] = (scores.stats.astype(np.int64) if whole else scores.stats).tolist()
        content["settings"] = settings_of(scores)
    return content


def _is_mean_of_items(scores: Scores) -> bool:
    if None in scores.items or not is_mean(scores.name):
        return False
    values = [float(value) for value in scores.items if value is not None]
    return np.array_equal(scores.stats, mean_scores(scores.name, values, "").stats)


def read_metric(path: Path) -> MetricFile:
    """Raises InputError, naming file and field, for what is not in the form above, or whose value
    is not what its items or statistics make."""
    content = _parsed(path)
    if not isinstance(content, dict) or "metric" not in content:
        raise InputError("no scores of a metric: there is no 'metric'", where=str(path), hint=_HINT)
    parts = content.get("parts", [])
    if not isinstance(parts, list):
        raise InputError("'parts' is not a list", where=str(path), hint=_HINT)
    scores: dict[str, Scores] = {}
    for place, part in [("", content), *((f"parts[{i}]: ", p) for i, p in enumerate(parts))]:
        found = scores_from_json(part, f"{path}: {place}".rstrip(": "))
        if found.name in scores:
            raise InputError(f"two metrics are called {found.name!r}", where=str(path))
        scores[found.name] = found
    sizes = {found.n for found in scores.values()}
    if len(sizes) > 1:
        raise InputError("its metrics have different numbers of items", where=str(path), hint=_HINT)
    n = sizes.pop()
    labels = {
        key: tuple(value)
        for key, value in content.items()
        if key not in ("items", "ids") and _texts(value) and len(value) == n
    }
    ids = _per_item(content, "ids", n, path)
    _per_item(content, "clusters", n, path)
    if ids is not None and len(set(ids)) != n:
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"the id {twice!r} stands there twice", where=f"{path}: ids")
    digest = content.get("references_sha256")
    return MetricFile(path, scores, n, ids, labels, digest if isinstance(digest, str) else None)


def scores_from_json(part: Any, where: str) -> Scores:
    if not isinstance(part, dict):
        raise InputError("not an object", where=where, hint=_HINT)
    for key in ("metric", "signature"):
        if not isinstance(part.get(key), str):
            raise InputError(f"{key!r} is not a text", where=where, hint=_HINT)
    name, signature, items = part["metric"], part["signature"], part.get("items")
    if not isinstance(items, list) or not all(x is None or _number(x) for x in items):
        raise InputError("'items' is not a list of numbers", where=where, hint=_HINT)
    if "n" in part and part["n"] != len(items):
        raise InputError(f"'n' is {part['n']} and there are {len(items)} items", where=where)
    values = [None if x is None else float(x) for x in items]
    better, share = part.get("higher_is_better", True), part.get("share", False)
    if not isinstance(better, bool) or not isinstance(share, bool):
        raise InputError("'higher_is_better' and 'share' are true or false", where=where)
    if "stats" not in part:
        defined = [x for x in values if x is not None]
        if len(defined) < len(values):
            raise InputError(
                "an item is undefined, and there are no 'stats' to tell what it weighs",
                where=where,
                hint=_HINT,
            )
        scores = mean_scores(name, defined, signature, higher_is_better=better, share=share)
    else:
        settings = part.get("settings", {})
        try:
            reduce = reduction(name, settings if isinstance(settings, dict) else {})
        except ValueError as error:
            raise InputError(str(error), where=f"{where}: settings", hint=_HINT) from None
        rows = _rows(part["stats"], len(items), where)
        scores = Scores(name, signature, rows, reduce, tuple(values), better, share)
    _check_value(scores, part.get("value"), where)
    notes = part.get("notes", {})
    if not isinstance(notes, dict) or not all(map(_number, notes.values())):
        raise InputError("'notes' does not count items", where=where, hint=_HINT)
    scores.notes.update(notes)
    return scores


def _rows(stats: Any, n: int, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = isinstance(stats, list) and all(isinstance(row, list) and row for row in stats)
    if not rows or len(stats) != n or len({len(row) for row in stats}) > 1:
        raise InputError(f"'stats' is not {n} equally long rows", where=where, hint=_HINT)
    if not all(_number(x) for row in stats for x in row):
        raise InputError("'stats' holds what is not a number", where=where, hint=_HINT)
    return np.asarray(stats, dtype=np.float64).reshape(n, -1)


def _check_value(scores: Scores, value: Any, where: str) -> None:
    if value is None:
        return
    if not _number(value):
        raise InputError("'value' is not a number", where=where, hint=_HINT)
    try:
        made = scores.value
    except (IndexError, TypeError, ValueError):  # rows of another metric's length
        made = None
    if made is None or not math.isclose(made, value, rel_tol=1e-6, abs_tol=1e-9):
        result = "nothing" if made is None else f"{made:g}"
        raise InputError(
            f"'value' is {value:g}, but its items make {result}",
            where=where,
            hint="a figure that is not the mean of its items needs 'stats'; score it again",
        )


def _parsed(path: Path) -> Any:
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), hint=_HINT)
    raw = path.read_bytes()
    try:
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        return json.loads(raw)
    except (ValueError, OSError, EOFError, RecursionError):
        raise InputError("not JSON", where=str(path), hint=_HINT) from None


def _per_item(content: Mapping[str, Any], key: str, n: int, path: Path) -> tuple[str, ...] | None:
    value = content.get(key)
    if value is None:
        return None
    if not _texts(value) or len(value) != n:
        raise InputError(f"{key!r} is not one text for each of the {n} items", where=str(path))
    return tuple(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
