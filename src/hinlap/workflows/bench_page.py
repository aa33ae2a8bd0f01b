"""The page of all benchmark runs kept in a store: figures, items, two models side by side."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.core.version import __version__
from hinlap.data.whole_file import write_whole
from hinlap.metrics.scores import Scores
from hinlap.store.store import BenchRecord, Store
from hinlap.workflows.compare_runs import RunPair, compare_pairs
from hinlap.workflows.hhh import CARD
from hinlap.workflows.metric_file import check_folder, scores_from_json
from hinlap.workflows.numbers import short

RUNS_COMPARED = 4
"""Of those on the same items, the newest: every two of them are tested. A metric of 1,500 items
takes about 0.05 seconds a pair, and the page is made anew by each run."""
MOST_BYTES = 50_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class _Run:
    """alike: names the items, so that runs on the same ones share it. name: tells the run from the
    others of the page."""

    key: str
    made_at: str
    content: dict[str, Any]
    alike: str
    name: str


def write_page(store: Store, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """One HTML file that needs nothing from outside; the one before stays whole until it is there.

    most_bytes: of items with what was given for them. From the first run on, newest first, that
    would go over it, items are left out, and the page says of which runs; figures and tests stay.
    Raises InputError where the folder is not there.
    """
    check_folder(path)
    records = store.benches()
    runs = _named([record for record in records if record.benchmark != CARD])
    pairs, notes = _pairs(runs)
    items, left_out = _items_as_json(runs, most_bytes)
    if left_out:
        names = "; ".join(f"{run.content['benchmark']}, {run.name}" for run in left_out)
        notes.append(
            f"The items of {counted(len(left_out), 'run')} are left out: with them the page would "
            f"hold over {most_bytes / 1e6:,.3g} MB of items. Their figures stand here: {names}."
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    data = f'{{"pairs":{_as_json(pairs)},{items}}}'
    page = environment.get_template("bench_page.html.j2").render(
        benchmarks=list(_benchmarks(runs)),
        cards=[json.loads(record.content) for record in records if record.benchmark == CARD],
        notes=notes,
        short=short,
        version=__version__,
        data=Markup(data),  # noqa: S704  no "<" in it: `_as_json`
    )
    write_whole(path, page.encode("utf-8", "replace"))


def _as_json(value: Any) -> str:
    """JSON that can stand in a script: no "<" that could end it, no surrogate that UTF-8 lacks."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _named(records: Sequence[BenchRecord]) -> list[_Run]:
    contents = [json.loads(record.content) for record in records]
    names = [f"{each['model']} · {_said(each['settings'])}" for each in contents]
    times = Counter(zip((each["benchmark"] for each in contents), names, strict=True))
    runs = []
    for record, content, name in zip(records, contents, names, strict=True):
        if times[content["benchmark"], name] > 1:  # other weights or data of the same names
            name += f" · {record.key[:6]}"
        asked = [[item["id"], item["question"], item["texts"]] for item in content["items"]]
        parts = json.dumps([content["benchmark"], content["data_sha256"], asked])
        alike = hashlib.sha256(parts.encode()).hexdigest()
        runs.append(_Run(record.key[:12], record.made_at, content, alike, name))
    return runs


def _said(settings: dict[str, Any]) -> str:
    said = [counted(settings["shots"], "shot") if settings["shots"] else "no shots"]
    said += ["chat template"] if settings["chat"] else []
    said += [f"prompt format {settings['prompt_format']}"] if "prompt_format" in settings else []
    said += [f"first {settings['limit']:,}"] if settings["limit"] else []
    said += [settings["dtype"]]
    said += [f"seed {settings['seed']}"] if settings["seed"] else []
    said += [f"rated by {settings['rater']}"] if settings["rater"] else []
    return ", ".join(said)


def _items_as_json(runs: Sequence[_Run], most_bytes: int) -> tuple[str, list[_Run]]:
    """``"sets":{...},"runs":[...]`` and the runs whose items are left out. Items stand there once
    for all runs on them."""
    sets: dict[str, str] = {}
    shown: list[str] = []
    left_out: list[_Run] = []
    size = 0
    for run in reversed(runs):
        own = "" if run.alike in sets else _as_json([_item(i) for i in run.content["items"]])
        given = _as_json([_given(item) for item in run.content["items"]])
        values = _as_json([[_rounded(x) for x in m["items"]] for m in run.content["metrics"]])
        more = sum(len(part.encode()) for part in (own, given, values))
        if left_out or size + more > most_bytes:
            left_out.append(run)
            given = values = "null"
        else:
            size += more
            if own:
                sets[run.alike] = own
        head = _as_json(_head(run))
        shown.append(f'{head[:-1]},"given":{given},"values":{values}}}')
    of_sets = ",".join(f'"{name}":{content}' for name, content in sets.items())
    return f'"sets":{{{of_sets}}},"runs":[{",".join(shown)}]', left_out


def _head(run: _Run) -> dict[str, Any]:
    content = run.content
    return {
        "key": run.key,
        "benchmark": content["benchmark"],
        "name": run.name,
        "set": run.alike,
        "groups_are": content["groups_are"],
        "instruction": content["instruction"],
        "shots": [shot["question"] + shot["answer"] for shot in content["shots"]],
        "metrics": [
            {
                "name": m["metric"],
                "higher": m["higher_is_better"],
                "neutral": m["neutral"],
                "groups": {
                    name: [*map(_rounded, figure[:3]), figure[3]]
                    for name, figure in m["groups"].items()
                    if figure[0] is not None
                },
            }
            for m in content["metrics"]
        ],
    }


def _item(item: dict[str, Any]) -> list[Any]:
    return [item["id"], item["group"], item["question"], item["texts"], item["facts"]]


def _given(item: dict[str, Any]) -> list[Any]:
    nats, ratings = ([_rounded(x) for x in item[key]] for key in ("nats", "ratings"))
    return [nats, item["tokens"], item["answers"], ratings, item.get("why", "")]


def _rounded(value: float | None) -> float | None:
    """To what a reader needs: all digits are in ``--json``."""
    return None if value is None else float(f"{value:.6g}")


def _pairs(runs: Sequence[_Run]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every two of the newest runs on the same items, metric by metric, as `compare_pairs`; and
    what was not tested."""
    found: list[dict[str, Any]] = []
    notes = []
    alike: dict[str, list[_Run]] = {}
    for run in runs:
        alike.setdefault(run.alike, []).append(run)
    for members in alike.values():
        name = members[0].content["benchmark"]
        if len(members) > RUNS_COMPARED:
            notes.append(
                f"{name}: of {len(members)} runs on the same items, the newest {RUNS_COMPARED} are "
                "tested against each other."
            )
        newest = members[-RUNS_COMPARED:]
        for metric in newest[-1].content["metrics"] if len(newest) > 1 else ():
            ways: dict[str, list[tuple[_Run, Scores]]] = {}
            for run in newest:
                try:
                    scores = _scores(run, metric["metric"])
                except InputError as error:
                    notes.append(f"{name}, {run.name}: not tested, {error.what}.")
                    continue
                if scores is not None:
                    ways.setdefault(scores.signature, []).append((run, scores))
            for same in ways.values():
                keys, rows = [run.key for run, _ in same], [scores for _, scores in same]
                tested = compare_pairs(keys, rows, seed=0)
                neutral = metric["neutral"]
                found += [_pair(metric["metric"], neutral, p, len(tested)) for p in tested]
    return found, notes


def _scores(run: _Run, metric: str) -> Scores | None:
    for each in run.content["metrics"]:
        if each["metric"] == metric:
            return scores_from_json(each, run.name)
    return None


def _pair(metric: str, neutral: float | None, pair: RunPair, tested: int) -> dict[str, Any]:
    found = pair.paired
    said: str = pair.verdict
    if pair.verdict == "not decisive":
        if pair.items_needed is not None:
            said += f": about {counted(pair.items_needed, 'item')} would decide"
    elif neutral is not None:  # less is not better below it
        said = f"{'higher' if (found.difference or 0) > 0 else 'lower'} ({neutral:g} is neutral)"
    low, high = short(found.low), short(found.high)
    return {
        "a": pair.a,
        "b": pair.b,
        "metric": metric,
        "difference": short(found.difference),
        "interval": "" if found.low is None else f"[{low}, {high}]",
        "p": short(pair.p),
        "tested": tested,
        "said": said,
    }


def _benchmarks(runs: Sequence[_Run]) -> Iterator[dict[str, Any]]:
    """By benchmark, the last run first: figures by metric, newest run first."""
    names = dict.fromkeys(run.content["benchmark"] for run in reversed(runs))
    for name in names:
        own = [run for run in reversed(runs) if run.content["benchmark"] == name]
        metrics: dict[str, list[tuple[_Run, dict[str, Any]]]] = {}
        for run in own:
            for metric in run.content["metrics"]:
                metrics.setdefault(metric["metric"], []).append((run, metric))
        yield {
            "name": name,
            "content": own[0].content,
            "runs": own,
            "metrics": [_metric(rows) for rows in metrics.values()],
            "signatures": dict.fromkeys(m["signature"] for r in metrics.values() for _, m in r),
        }


def _metric(rows: Sequence[tuple[_Run, dict[str, Any]]]) -> dict[str, Any]:
    first = rows[0][1]
    ends = [x for _, m in rows for x in (m["low"], m["value"], m["high"]) if x is not None]
    low, high = min([0.0, *ends]), max([1.0, *ends])
    neutral = first["neutral"]
    meant = "higher is better" if first["higher_is_better"] else "lower is better"
    return {
        "name": first["metric"],
        "meant": meant if neutral is None else f"{neutral:g} is neutral",
        "rows": [
            {
                "run": run,
                **metric,
                "defined": _defined(metric),
                "bar": _bar(metric, low, high, neutral),
            }
            for run, metric in rows
        ],
    }


def _defined(metric: dict[str, Any]) -> int:
    """How many items the figure is of: some are of a part of them only."""
    return sum(value is not None for value in metric["items"])


def _bar(metric: dict[str, Any], low: float, high: float, neutral: float | None) -> Markup:
    """A figure and its interval between ``low`` and ``high``; nothing for one that is undefined."""
    if metric["value"] is None:
        return Markup("")

    def place(value: float) -> str:
        return f"{4 + 132 * (value - low) / (high - low):.1f}"

    drawn = '<line class="grid" x1="4" x2="136" y1="7" y2="7"/>'
    neutral = 0.0 if neutral is None and low < 0 else neutral
    if neutral is not None:
        drawn += f'<line class="grid" x1="{place(neutral)}" x2="{place(neutral)}" y1="1" y2="13"/>'
    if metric["low"] is not None:
        ends = f'x1="{place(metric["low"])}" x2="{place(metric["high"])}"'
        drawn += f'<line class="range" {ends} y1="7" y2="7"/>'
    drawn += f'<circle cx="{place(metric["value"])}" cy="7" r="3.5"/>'
    return Markup(  # noqa: S704  numbers only
        f'<svg class="spread" viewBox="0 0 140 14" width="140" height="14" aria-hidden="true">'
        f"{drawn}</svg>"
    )
