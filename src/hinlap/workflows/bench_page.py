"""The page of all benchmark runs kept in a store: figures, items, two models side by side."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from hinlap.core.version import __version__
from hinlap.metrics.scores import Scores
from hinlap.stats.paired import compare_paired, holm, items_to_decide, verdict
from hinlap.store.store import Store
from hinlap.workflows.metric_file import check_folder, scores_from_json
from hinlap.workflows.numbers import short

RUNS_COMPARED = 6
"""Of one benchmark, the newest: every two of them are tested."""
_MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class _Run:
    number: int
    made_at: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.content['model']} · {_settings(self.content['settings'])}"


def write_page(store: Store, path: Path) -> None:
    """One HTML file that needs nothing from outside. Raises InputError where the folder is not
    there. Items of the oldest runs are left out, and that is said, where all would be over 50 MB;
    their figures stay."""
    check_folder(path)
    records = store.benches()
    runs = [
        _Run(number, record.made_at, json.loads(record.content))
        for number, record in enumerate(records)
    ]
    pairs, notes = _pairs(runs)
    size, shown = 0, []
    for run, record in reversed(list(zip(runs, records, strict=True))):
        size += len(record.content)
        shown.append(_for_reading(run, with_items=size <= _MOST_BYTES))
    if size > _MOST_BYTES:
        left_out = sum(not each["items"] for each in shown)
        notes.append(f"the items of the {left_out} oldest runs are left out: over 50 MB in all")
    data = json.dumps({"runs": shown[::-1], "pairs": pairs}, ensure_ascii=True, allow_nan=False)
    page = Environment(
        loader=PackageLoader("hinlap.workflows", "."), autoescape=True, trim_blocks=True
    ).get_template("bench_page.html.j2")
    groups = {
        name: [run for run in reversed(runs) if run.content["benchmark"] == name]
        for name in dict.fromkeys(run.content["benchmark"] for run in runs)
    }
    path.write_text(
        page.render(
            groups=groups,
            notes=notes,
            short=short,
            spread=_spread,
            version=__version__,
            # ASCII JSON; "<" as an escape, so that no text can end the script
            data=Markup(data.replace("<", "\\u003c")),  # noqa: S704  made by json.dumps above
        ),
        encoding="utf-8",
    )


def _settings(settings: dict[str, Any]) -> str:
    said = [f"{settings['shots']} shots" if settings["shots"] else "no shots"]
    said += ["chat template"] if settings["chat"] else []
    said += [f"first {settings['limit']}"] if settings["limit"] else []
    said += [settings["dtype"]] if settings["dtype"] != "float32" else []
    said += [f"seed {settings['seed']}"] if settings["seed"] else []
    said += [f"rated by {settings['rater']}"] if settings["rater"] else []
    return ", ".join(said)


def _for_reading(run: _Run, *, with_items: bool) -> dict[str, Any]:
    content = run.content
    return {
        "number": run.number,
        "benchmark": content["benchmark"],
        "name": run.name,
        "instruction": content["instruction"],
        "shots": content["shots"],
        "metrics": [
            {"name": m["metric"], "values": m["items"], "higher": m["higher_is_better"]}
            for m in content["metrics"]
        ],
        "items": content["items"] if with_items else [],
    }


def _pairs(runs: Sequence[_Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every two of the newest runs of a benchmark on the same items, metric by metric; p corrected
    by Holm over the pairs of a metric."""
    found: list[dict[str, Any]] = []
    notes = []
    alike: dict[tuple[str, ...], list[_Run]] = {}
    for run in runs:
        content = run.content
        ids = tuple(item["id"] for item in content["items"])
        alike.setdefault((content["benchmark"], content["data_sha256"], *ids), []).append(run)
    for members in alike.values():
        if len(members) > RUNS_COMPARED:
            name = members[0].content["benchmark"]
            notes.append(f"{name}: the newest {RUNS_COMPARED} of {len(members)} runs are compared")
        newest = members[-RUNS_COMPARED:]
        scores = {run.number: _scores(run) for run in newest}
        for metric in scores[newest[0].number] if len(newest) > 1 else ():
            tested = []
            for a, b in itertools.combinations(newest, 2):
                x, y = scores[a.number].get(metric), scores[b.number].get(metric)
                if x is None or y is None:
                    continue
                row = {"a": a.number, "b": b.number, "metric": metric}
                if x.signature != y.signature:
                    found.append({**row, "said": "measured in different ways: not compared"})
                    continue
                tested.append((row, x, compare_paired(y.stats, x.stats, x.reduce, seed=0)))
            corrected = holm([1.0 if pair.p is None else pair.p for _, _, pair in tested])
            for (row, x, pair), p in zip(tested, corrected, strict=True):
                said: str = verdict(pair, p, higher_is_better=x.higher_is_better)
                more = items_to_decide(pair, len(tested))
                if said == "not decisive" and more is not None:
                    said += f": about {more:,} items would decide"
                found.append(
                    {
                        **row,
                        "difference": short(pair.difference),
                        "interval": f"[{short(pair.low)}, {short(pair.high)}]",
                        "p": short(p),
                        "said": said,
                    }
                )
    return found, notes


def _scores(run: _Run) -> dict[str, Scores]:
    return {
        metric["metric"]: scores_from_json(metric, run.name) for metric in run.content["metrics"]
    }


def _spread(low: float | None, value: float | None, high: float | None) -> Markup:
    """A bar of 120 by 12 for figures in [0, 1], nothing for others."""
    if low is None or value is None or high is None or not 0 <= low <= high <= 1:
        return Markup("")
    return Markup(  # noqa: S704  numbers only
        f'<svg class="spread" viewBox="0 0 120 12" width="120" height="12">'
        f'<line class="grid" x1="0" x2="120" y1="6" y2="6"/>'
        f'<line class="range" x1="{120 * low:.1f}" x2="{120 * high:.1f}" y1="6" y2="6"/>'
        f'<circle cx="{120 * value:.1f}" cy="6" r="3.5"/></svg>'
    )
