"""What a tuning came to: the page, the lines of the terminal, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup, escape

from hinlap.core.version import __version__
from hinlap.data.whole_file import write_whole
from hinlap.engines.catalogue import CATALOGUE
from hinlap.metrics.scores import Scores
from hinlap.stats.bootstrap import Interval, bootstrap_interval
from hinlap.stats.learning_curve import LearningCurve, learning_curve
from hinlap.stats.paired import (
    compare_paired,
    holm,
    items_to_decide,
    smallest_detectable,
    verdict,
)
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.tuned import Evaluation, Tuned
from hinlap.workflows.compare_runs import RunPair
from hinlap.workflows.measuring import Measured
from hinlap.workflows.numbers import short, with_interval
from hinlap.workflows.wording import Language

ZERO_SHOT, FEW_SHOT, TUNED = "base zero-shot", "base few-shot", "tuned"
BEFORE, AFTER = "before", "after"
SMALL_PARAMETERS = 3e9
_LONGEST_TEXT = 6_000
_DRAWN_STEPS = 400
_COLOURS = {ZERO_SHOT: "#5b7083", FEW_SHOT: "#c4572e", TUNED: "#2f6db5"}
_OTHERS = ("#3a8f5c", "#8a5fb0", "#b08d2f")
Standing = Literal["better", "worse", "mixed", "unknown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One item's answers side by side.

    asked: what the item is, in words for a reader. wanted: the reference; "" where there is none.
    answers: by system; None where it gave none that could be used.
    """

    id: str
    asked: str
    wanted: str
    answers: Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class TuningReport:
    """All that the page shows; figures and tests are made from it.

    systems:    by name (`ZERO_SHOT`, `FEW_SHOT`, `TUNED`, or others), by metric: what it scored,
                on which items. `TUNED` is tested against each of the others.
    decide_by:  the metric of the headline; "" for the first that `TUNED` has.
    items:      what those items are, in words.
    forgetting: `BEFORE` and `AFTER` tuning on a general set, by metric. general_set: its name.
    curve:      as `curve_of`; curve_metric: its metric.
    examples:   a choice of items; what a page can bear.
    notes:      what else a reader must know, a sentence each.
    made_at:    ISO 8601.
    """

    title: str
    tuned: Tuned
    systems: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    decide_by: str = ""
    items: str = ""
    forgetting: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    general_set: str = ""
    curve: LearningCurve | None = None
    curve_metric: str = ""
    examples: Sequence[Shown] = ()
    notes: Sequence[str] = ()
    language: Language = "en"
    seed: int = 0
    made_at: str = ""

    @cached_property
    def findings(self) -> Findings:
        """Figures and tests, made once."""
        return _find(self)


@dataclass(frozen=True)
class SystemFigure:
    """A metric of one system over the items that it has a value for; undefined: how many others."""

    metric: str
    system: str
    interval: Interval
    signature: str
    higher_is_better: bool
    undefined: int
    notes: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        i = self.interval
        return {
            "metric": self.metric, "system": self.system, "value": i.value, "low": i.low,
            "high": i.high, "n": i.n, "undefined": self.undefined, "signature": self.signature,
            "higher_is_better": self.higher_is_better, "notes": dict(self.notes),
        }  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """figures: of `systems`. pairs: by metric, `TUNED` (b) against each other system (a), p
    corrected by Holm within the metric. decide_by: the headline's metric, "" for none.
    general, forgot: the same for the general set; `AFTER` against `BEFORE`, p corrected by Holm
    over its metrics."""

    figures: Sequence[SystemFigure]
    pairs: Mapping[str, Sequence[RunPair]]
    decide_by: str
    standing: Standing
    general: Sequence[SystemFigure]
    forgot: Mapping[str, RunPair]


def curve_of(points: Mapping[int, Measured], *, threshold: float, seed: int = 0) -> LearningCurve:
    """The learning curve over the items that have a value at every size.

    points: by number of examples, four or more. threshold: the gain of doubling that would pay,
    in the metric's unit. Raises ValueError as `learning_curve`, or where a size was measured in
    another way.
    """
    sizes = sorted(points)
    rows = _on_common_items([points[size] for size in sizes])
    first = rows[0]
    return learning_curve(
        sizes,
        [scores.stats for scores in rows],
        first.reduce,
        threshold=threshold,
        seed=seed,
        higher_is_better=first.higher_is_better,
        share=first.share,
    )


def _on_common_items(measured: Sequence[Measured]) -> list[Scores]:
    """Their scores on the items that each of them has a value for, in one order."""
    if len({each.scores.signature for each in measured}) > 1:
        ways = " and ".join(dict.fromkeys(each.scores.signature for each in measured))
        raise ValueError(f"measured in different ways: {ways}")
    places = [{each.ids[k]: k for k in _defined(each.scores)} for each in measured]
    common = [i for i in measured[0].ids if all(i in place for place in places)]
    return [
        each.scores.subset([place[i] for i in common])
        for each, place in zip(measured, places, strict=True)
    ]


def _defined(scores: Scores) -> list[int]:
    """Places of the items that move the figure. One without a value of its own may: a perplexity
    too large for a number still has its tokens."""
    return [k for k, x in enumerate(scores.items) if x is not None or bool(scores.stats[k].any())]


def _find(report: TuningReport) -> Findings:
    figures = _figures(report.systems, report.seed)
    own = report.systems.get(TUNED, {})
    others = [name for name in report.systems if name != TUNED]
    pairs: dict[str, Sequence[RunPair]] = {}
    for metric, measured in own.items():
        beside = {o: report.systems[o][metric] for o in others if metric in report.systems[o]}
        if beside:
            tests = [(name, TUNED, base, measured) for name, base in beside.items()]
            pairs[metric] = _tested(tests, report.seed)
    if report.decide_by and report.decide_by not in own and own:
        raise ValueError(f"{report.decide_by} was not measured: {', '.join(own)} were")
    by = report.decide_by or next(iter(own), "")
    before, after = (report.forgetting.get(when, {}) for when in (BEFORE, AFTER))
    both = [metric for metric in before if metric in after]
    tested = _tested([(BEFORE, AFTER, before[m], after[m]) for m in both], report.seed)
    return Findings(
        figures=figures,
        pairs=pairs,
        decide_by=by if by in pairs else "",
        standing=_standing(pairs.get(by, ())),
        general=_figures(report.forgetting, report.seed),
        forgot=dict(zip(both, tested, strict=True)),
    )


def _figures(systems: Mapping[str, Mapping[str, Measured]], seed: int) -> list[SystemFigure]:
    found = []
    for metric in dict.fromkeys(m for of in systems.values() for m in of):
        for name, of in systems.items():
            if metric not in of:
                continue
            scores = of[metric].scores
            kept = scores.subset(_defined(scores))
            interval = bootstrap_interval(kept.stats, kept.reduce, seed=seed, share=kept.share)
            found.append(
                SystemFigure(
                    metric, name, interval, scores.signature, scores.higher_is_better,
                    scores.n - kept.n, scores.notes,
                )
            )  # fmt: skip
    return found


def _tested(tests: Sequence[tuple[str, str, Measured, Measured]], seed: int) -> list[RunPair]:
    """The second of each against the first, on the items that both have; Holm over all."""
    compared = []
    for _, _, first, second in tests:
        a, b = _on_common_items([first, second])
        compared.append(compare_paired(b.stats, a.stats, b.reduce, seed=seed))
    known = [paired.p for paired in compared if paired.p is not None]
    corrected = iter(holm(known))
    pairs = []
    for (a_name, b_name, first, _), paired in zip(tests, compared, strict=True):
        p = next(corrected) if paired.p is not None else None
        stands = verdict(paired, p, higher_is_better=first.scores.higher_is_better)
        needed = items_to_decide(paired, len(known)) if stands == "not decisive" else None
        if needed is not None:
            needed = max(needed, paired.n + 1)
        detectable = smallest_detectable(paired, len(known))
        pairs.append(RunPair(a_name, b_name, paired, p, stands, needed, detectable))
    return pairs


def _standing(pairs: Sequence[RunPair]) -> Standing:
    found = {pair.verdict for pair in pairs}
    if not found:
        return "unknown"
    if "worse" in found:
        return "worse"
    return "better" if found == {"better"} else "mixed"


# What is said


def headline(report: TuningReport) -> str:
    """Whether tuning helped, in one sentence."""
    found, language = report.findings, report.language
    if not found.decide_by:
        return _say("untested", language)
    parts = []
    for stands in ("better", "worse", "not decisive"):
        names = [p.a for p in found.pairs[found.decide_by] if p.verdict == stands]
        if names:
            parts.append(_say(f"{stands} than", language, names=_and(names, language)))
    said = _say("by metric", language, said="; ".join(parts), metric=found.decide_by)
    return said[0].upper() + said[1:]


def reasons(report: TuningReport) -> list[str]:
    """The headline's figures: a sentence for each system that the tuned one was tested against."""
    found, language = report.findings, report.language
    pairs = found.pairs.get(found.decide_by, ())
    values = {(f.metric, f.system): f for f in found.figures}
    said = []
    for pair in pairs:
        own, other = values[found.decide_by, TUNED], values[found.decide_by, pair.a]
        line = _say(
            "reason", language, base=pair.a, own=short(own.interval.value),
            other=short(other.interval.value), difference=_difference(pair), p=short(pair.p),
            tests=len(pairs), n=f"{pair.paired.n:,}",
        )  # fmt: skip
        said.append(" ".join([line, *_undecided(pair, language)]))
    return said


def forgetting_line(report: TuningReport, metric: str) -> str:
    """What tuning did to a metric of the general set."""
    pair, language = report.findings.forgot[metric], report.language
    key = {"better": "gained", "worse": "forgot", "not decisive": "no loss shown"}[pair.verdict]
    line = _say(key, language, difference=_difference(pair), p=short(pair.p), n=pair.paired.n)
    if pair.verdict == "not decisive" and pair.detectable is not None:
        line += " " + _say("detectable", language, least=short(pair.detectable))
    return line


def curve_line(curve: LearningCurve, language: Language) -> str:
    """What the learning curve says of more examples."""
    line = _say(
        curve.outcome, language, gain=with_interval(curve.gain), rise=with_interval(curve.rise),
        double=f"{2 * curve.sizes[-1]:,}", largest=f"{curve.sizes[-1]:,}",
        smallest=f"{curve.sizes[0]:,}", threshold=short(curve.threshold),
    )  # fmt: skip
    if curve.enough_at is not None and curve.outcome in ("enough", "still rising"):
        low = "–" if curve.enough_low is None else f"{curve.enough_low:,}"
        high = (
            f"> {10 * curve.sizes[-1]:,}"
            if curve.enough_high is None
            else (f"{curve.enough_high:,}")
        )
        beyond = "enough_beyond" if curve.enough_at > curve.sizes[-1] else "enough_at"
        line += " " + _say(beyond, language, at=f"{curve.enough_at:,}", low=low, high=high)
    return line


def _difference(pair: RunPair) -> str:
    found = pair.paired
    if found.difference is None:
        return "–"
    value = f"{'+' if found.difference > 0 else ''}{short(found.difference)}"
    if found.low is None:
        return value
    return f"{value} [{short(found.low)}, {short(found.high)}]"


def _undecided(pair: RunPair, language: Language) -> list[str]:
    if pair.verdict != "not decisive":
        return []
    if pair.items_needed is None:
        return [_say("no number decides", language)]
    return [_say("would decide", language, items=f"{pair.items_needed:,}")]


def _and(names: Sequence[str], language: Language) -> str:
    word = _say("and", language)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def is_small(tuned: Tuned) -> bool | None:
    """Whether its base has under three billion parameters; None where that is not known."""
    if tuned.recipe.method == "scratch":
        return True
    entry = next((e for e in CATALOGUE.values() if tuned.base in (e.name, e.hub_id)), None)
    return None if entry is None else entry.parameters < SMALL_PARAMETERS


def perplexity(loss: float) -> float | None:
    """e to the loss; None where that is too large for a number, or the loss is none."""
    return math.exp(loss) if loss < 700 else None


def finite(value: float) -> float | None:
    """A loss as it can be shown; None where it is no number."""
    return value if math.isfinite(value) else None


def tokens_per_second(tuned: Tuned) -> float | None:
    """Of training, all tokens counted; None where no time was kept."""
    return tuned.tokens / tuned.seconds if tuned.seconds > 0 else None


def recipe_fields(recipe: Recipe) -> list[tuple[str, str]]:
    """Every field of a recipe by dotted name, but for parts that its method does not read."""
    unread = {"fresh"} if recipe.method != "scratch" else {"lora"}
    if recipe.method == "full":
        unread.add("lora")
    found: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list):
            found.append((prefix, ", ".join(map(str, value)) or "–"))
        else:
            found.append((prefix, "–" if value in (None, "") else _plain(value)))

    walk("", recipe.model_dump(mode="json", exclude=unread))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def report_lines(report: TuningReport) -> list[str]:
    """What the terminal shows at the end."""
    tuned, found, language = report.tuned, report.findings, report.language
    lines = [headline(report), *(f"  {line}" for line in reasons(report))]
    if found.figures:
        names = list(report.systems)
        rows = [["", *names]]
        for metric in dict.fromkeys(f.metric for f in found.figures):
            own = {f.system: f for f in found.figures if f.metric == metric}
            star = " ★" if metric == found.decide_by else ""
            cells = [with_interval(own[n].interval) if n in own else "–" for n in names]
            rows.append([metric + star, *cells])
        lines += ["", *_columns(rows)]
    if tuned.evaluations:
        lines += ["", _evaluations_line(tuned.evaluations, language)]
    lines += [f"{report.general_set or _say('general', language)}, {metric}: "
              f"{forgetting_line(report, metric)}" for metric in found.forgot]  # fmt: skip
    if report.curve is not None:
        lines.append(f"{_say('curve', language)}: {curve_line(report.curve, language)}")
    lines.append(_spent(tuned, language))
    if tuned.left_out:
        reasons_said = ", ".join(f"{why}: {n:,}" for why, n in tuned.left_out.items())
        lines.append(f"{_say('left_out', language)}: {reasons_said}")
    if tuned.stopped:
        lines.append(f"{_say('stopped', language)}: {tuned.stopped}")
    return [*lines, *report.notes]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _evaluations_line(evaluations: Sequence[Evaluation], language: Language) -> str:
    first, last = evaluations[0], evaluations[-1]

    def between(a: float | None, b: float | None) -> str:
        return short(a) if len(evaluations) == 1 else f"{short(a)} → {short(b)}"

    return _say(
        "held_out", language, loss=between(finite(first.loss), finite(last.loss)),
        perplexity=between(perplexity(first.loss), perplexity(last.loss)),
        accuracy=between(first.accuracy, last.accuracy), tokens=f"{last.tokens:,}",
    )  # fmt: skip


def _spent(tuned: Tuned, language: Language) -> str:
    return _say(
        "spent", language, rows=f"{tuned.rows:,}", steps=f"{len(tuned.losses):,}",
        tokens=f"{tuned.tokens:,}", learnt=f"{tuned.learnt_tokens:,}",
        time=_duration(tuned.seconds), speed=short(tokens_per_second(tuned)),
    )  # fmt: skip


def report_json(report: TuningReport) -> dict[str, Any]:
    """What ``--json`` writes: every figure, test and count of the page."""
    tuned, found = report.tuned, report.findings
    summary = {k: v for k, v in asdict(tuned).items() if k not in ("home", "reused", "recipe")}
    summary["losses"] = [finite(loss) for loss in tuned.losses]
    summary["evaluations"] = [asdict(e) | {"loss": finite(e.loss)} for e in tuned.evaluations]
    return {
        "title": report.title,
        "hinlap_version": __version__,
        "made_at": report.made_at,
        "verdict": found.standing,
        "headline": headline(report),
        "decide_by": found.decide_by or None,
        "items": report.items,
        "figures": [figure.as_json() for figure in found.figures],
        "per_item": {
            name: {m: dict(zip(x.ids, x.scores.items, strict=True)) for m, x in of.items()}
            for name, of in report.systems.items()
        },
        "pairs": {metric: [p.as_json() for p in pairs] for metric, pairs in found.pairs.items()},
        "forgetting": {
            "set": report.general_set,
            "figures": [figure.as_json() for figure in found.general],
            "pairs": {metric: pair.as_json() for metric, pair in found.forgot.items()},
        },
        "curve": asdict(report.curve) | {"metric": report.curve_metric} if report.curve else None,
        "tuned": summary
        | {
            "home": str(tuned.home),
            "recipe": tuned.recipe.model_dump(mode="json"),
            "tokens_per_second": tokens_per_second(tuned),
            "perplexities": [perplexity(e.loss) for e in tuned.evaluations],
        },
        "seed": report.seed,
        "notes": list(report.notes),
    }


# The page


def write_report(path: Path, report: TuningReport) -> None:
    """One HTML file that needs nothing from outside; the one before stays whole until it is there.
    Raises as ``write_whole``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    tuned, found, language = report.tuned, report.findings, report.language

    def say(key: str, **values: object) -> str:
        return _say(key, language, **values)

    page = environment.get_template("tuning_report.html.j2").render(
        r=report,
        t=tuned,
        found=found,
        say=say,
        short=short,
        with_interval=with_interval,
        perplexity=perplexity,
        finite=finite,
        version=__version__,
        headline=headline(report),
        reasons=reasons(report),
        tables=_tables(found.figures, {(p.a, m): p for m, ps in found.pairs.items() for p in ps}),
        general=_tables(found.general, {(BEFORE, m): p for m, p in found.forgot.items()}),
        difference=_difference,
        forgetting={metric: forgetting_line(report, metric) for metric in found.forgot},
        losses_svg=_losses_svg(tuned, language),
        curve_svg=_curve_svg(report.curve) if report.curve else None,
        curve_marked=report.curve is not None and _marked(report.curve),
        curve_line=curve_line(report.curve, language) if report.curve else "",
        colours=_colours(report),
        examples=[_shown(each) for each in report.examples],
        recipe=recipe_fields(tuned.recipe),
        spent=_spent(tuned, language),
        small=is_small(tuned),
    )
    write_whole(path, page.encode("utf-8", "replace"))


def _colours(report: TuningReport) -> dict[str, str]:
    others = iter(_OTHERS * (1 + len(report.systems)))
    names = [*report.systems, *(name for each in report.examples for name in each.answers)]
    return {name: _COLOURS.get(name) or next(others) for name in dict.fromkeys(names)}


def _shown(example: Shown) -> Shown:
    return Shown(
        example.id,
        _cut(example.asked),
        _cut(example.wanted),
        {name: None if said is None else _cut(said) for name, said in example.answers.items()},
    )


def _cut(text: str) -> str:
    """A text as the page shows it: a megabyte of it would only weigh the page down."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … ({len(text):,})"


def _tables(
    figures: Sequence[SystemFigure], pairs: Mapping[tuple[str, str], RunPair]
) -> list[dict[str, Any]]:
    """By metric: a row for each system, with its bar and its test."""
    tables = []
    for metric in dict.fromkeys(f.metric for f in figures):
        own = [f for f in figures if f.metric == metric]
        intervals = [f.interval for f in own]
        ends = [x for i in intervals for x in (i.low, i.value, i.high) if x is not None]
        low, high = min([0.0, *ends]), max([0.0, *ends])
        rows = [
            {"figure": f, "bar": _bar(f.interval, low, high), "pair": pairs.get((f.system, metric))}
            for f in own
        ]
        tables.append({"metric": metric, "higher": own[0].higher_is_better, "rows": rows})
    return tables


def _bar(interval: Interval, low: float, high: float) -> Markup:
    if interval.value is None or high <= low:
        return Markup("")

    def place(value: float) -> str:
        return f"{4 + 132 * (value - low) / (high - low):.1f}"

    zero = place(0.0)
    drawn = '<line class="grid" x1="4" x2="136" y1="7" y2="7"/>'
    drawn += f'<line class="grid" x1="{zero}" x2="{zero}" y1="1" y2="13"/>'
    if interval.low is not None and interval.high is not None:
        ends = f'x1="{place(interval.low)}" x2="{place(interval.high)}"'
        drawn += f'<line class="range" {ends} y1="7" y2="7"/>'
    drawn += f'<circle cx="{place(interval.value)}" cy="7" r="3.5"/>'
    return Markup(  # noqa: S704  numbers only
        '<svg class="spread" viewBox="0 0 140 14" width="140" height="14" aria-hidden="true">'
        f"{drawn}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where values stand in a drawing of 480 by 240."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = 52.0
    right: float = 466.0
    top: float = 10.0
    bottom: float = 208.0

    def x(self, value: float) -> float:
        width = self.right - self.left
        return self.left + width * (value - self.x_low) / max(1e-12, self.x_high - self.x_low)

    def y(self, value: float) -> float:
        height = self.bottom - self.top
        return self.bottom - height * (value - self.y_low) / max(1e-12, self.y_high - self.y_low)

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        at = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="{kind}" points="{at}"/>'

    def frame(self, x_ticks: Sequence[tuple[float, str]], name: str) -> str:
        drawn = f'<svg viewBox="0 0 480 240" role="img" aria-label="{escape(name)}">'
        for value in _ticks(self.y_low, self.y_high):
            at = self.y(value)
            drawn += (
                f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{at:.1f}" '
                f'y2="{at:.1f}"/><text class="tick" x="{self.left - 7}" y="{at + 4:.1f}" '
                f'text-anchor="end">{short(value)}</text>'
            )
        for value, said in x_ticks:
            drawn += (
                f'<text class="tick" x="{self.x(value):.1f}" y="{self.bottom + 19}" '
                f'text-anchor="middle">{said}</text>'
            )
        return drawn


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two, about five."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (s * power) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _losses_svg(tuned: Tuned, language: Language) -> Markup | None:
    """Loss of each step (long runs: of as many as can be seen), its running mean, and that of the
    held-out rows."""
    steps = [(k + 1.0, loss) for k, loss in enumerate(tuned.losses) if math.isfinite(loss)]
    held = [(float(e.step), e.loss) for e in tuned.evaluations if math.isfinite(e.loss)]
    if len(steps) + len(held) < 2:
        return None
    window = max(1, len(steps) // 30)
    smooth = []
    for k in range(len(steps)):
        around = steps[max(0, k - window) : k + window + 1]
        smooth.append((steps[k][0], sum(loss for _, loss in around) / len(around)))
    thin = max(1, -(-len(steps) // _DRAWN_STEPS))
    heights = [y for _, y in (*steps, *held)]
    margin = 0.05 * (max(heights) - min(heights)) or 0.1
    last = max(x for x, _ in (*steps, *held))
    plot = _Plot(0.0, max(1.0, last), max(0.0, min(heights) - margin), max(heights) + margin)
    ticks = [(x, f"{x:,.0f}") for x in _ticks(0.0, plot.x_high) if x == int(x)]
    drawn = plot.frame(ticks, _say("losses", language))
    drawn += plot.line(steps[::thin], "each") + plot.line(smooth[::thin], "smooth")
    if len(held) > 1:
        drawn += plot.line(held, "held")
    for x, y in held:
        drawn += f'<circle class="held" cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" r="4"/>'
    return Markup(drawn + "</svg>")  # noqa: S704  numbers and an escaped label


def _marked(curve: LearningCurve) -> bool:
    """Whether the drawing shows where more examples stop paying."""
    known = curve.outcome in ("enough", "still rising")
    return known and curve.enough_at is not None and curve.enough_at <= 2 * curve.sizes[-1]


def _curve_svg(curve: LearningCurve) -> Markup:
    """Figures with intervals by number of examples, the fit up to twice the largest."""
    logs = [math.log10(size) for size in (*curve.sizes, 2 * curve.sizes[-1])]
    fitted: list[tuple[float, float]] = []
    for k in range(61 if curve.a is not None else 0):
        log = logs[0] + (logs[-1] - logs[0]) * k / 60
        value = curve.expected(10.0**log)
        if value is not None:
            fitted.append((log, value))
    ends = [x for i in curve.figures for x in (i.low, i.value, i.high) if x is not None]
    heights = [*ends, *(y for _, y in fitted)] or [0.0]
    margin = 0.05 * (max(heights) - min(heights)) or 0.1
    plot = _Plot(
        logs[0] - 0.03 * (logs[-1] - logs[0]), logs[-1], min(heights) - margin,
        max(heights) + margin,
    )  # fmt: skip
    shown, last = [], -1e9
    for log, size in zip(logs, (*curve.sizes, 2 * curve.sizes[-1]), strict=True):
        if plot.x(log) - last >= 60:  # numbers that stand clear of each other
            shown.append((log, f"{size:,}"))
            last = plot.x(log)
    drawn = plot.frame(shown, "learning curve")
    known = [point for point in fitted if point[0] <= logs[-2] + 1e-9]
    drawn += plot.line(known, "smooth") + plot.line(fitted[len(known) - 1 :], "beyond")
    if _marked(curve) and curve.enough_at is not None:
        at = f"{plot.x(math.log10(curve.enough_at)):.1f}"
        drawn += f'<line class="mark" x1="{at}" x2="{at}" y1="{plot.top}" y2="{plot.bottom}"/>'
    for log, interval in zip(logs, curve.figures, strict=False):
        if interval.value is None:
            continue
        x = f"{plot.x(log):.1f}"
        if interval.low is not None and interval.high is not None:
            y1, y2 = (f"{plot.y(y):.1f}" for y in (interval.low, interval.high))
            drawn += f'<line class="range" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'
        drawn += f'<circle class="point" cx="{x}" cy="{plot.y(interval.value):.1f}" r="4"/>'
    return Markup(drawn + "</svg>")  # noqa: S704  numbers only


_WORDS: dict[str, tuple[str, str]] = {
    "and": ("and", "และ"),
    "untested": (
        "Not shown to be better: it was not measured beside its base on the same items.",
        "ยังไม่พบว่าดีกว่า เพราะยังไม่ได้วัดเทียบกับโมเดลฐานบนรายการเดียวกัน",
    ),
    "better than": ("better than {names}", "ดีกว่า {names}"),
    "worse than": ("worse than {names}", "แย่กว่า {names}"),
    "not decisive than": (
        "against {names} the test is not decisive",
        "เมื่อเทียบกับ {names} ยังตัดสินไม่ได้",
    ),
    "by metric": ("{said}, by {metric}.", "{said} (ตัดสินด้วย {metric})"),
    "reason": (
        "Against {base}: {own} to {other}, on the items of both {difference}; p {p} "
        "(Holm, tests: {tests}), n={n}.",
        "เทียบกับ {base}: {own} ต่อ {other} บนรายการที่มีทั้งคู่ {difference} p {p} "
        "(Holm, จำนวนการทดสอบ: {tests}) n={n}",
    ),
    "would decide": ("About {items} items would decide.", "ต้องใช้ประมาณ {items} รายการจึงจะตัดสินได้"),
    "no number decides": (
        "There is no difference that more items would settle.",
        "ไม่พบความต่างที่จำนวนรายการมากขึ้นจะตัดสินได้",
    ),
    "forgot": (
        "worse after tuning: {difference}, p {p} (Holm), n={n}.",
        "แย่ลงหลังปรับแต่ง: {difference} p {p} (Holm) n={n}",
    ),
    "gained": (
        "better after tuning: {difference}, p {p} (Holm), n={n}.",
        "ดีขึ้นหลังปรับแต่ง: {difference} p {p} (Holm) n={n}",
    ),
    "no loss shown": (
        "no loss is shown, which is not the same as none: {difference}, p {p} (Holm), n={n}.",
        "ไม่พบว่าแย่ลง ซึ่งไม่ได้แปลว่าไม่แย่ลง: {difference} p {p} (Holm) n={n}",
    ),
    "detectable": (
        "So many items would show a change of {least} in four cases of five.",
        "จำนวนรายการเท่านี้จะพบความเปลี่ยนแปลงขนาด {least} ได้สี่ในห้าครั้ง",
    ),
    "still rising": (
        "still rising: twice the examples ({double}) are expected to add {gain}; "
        "a gain of {threshold} was said to pay.",
        "ยังเพิ่มขึ้น: หากเพิ่มตัวอย่างเป็นสองเท่า ({double}) คาดว่าจะเพิ่ม {gain} โดยเกณฑ์ที่คุ้มคือ {threshold}",
    ),
    "enough": (
        "enough: examples helped (from {smallest} to {largest}: {rise}), but twice as many are "
        "expected to add {gain} only, under the {threshold} that was said to pay.",
        "เพียงพอแล้ว: ตัวอย่างช่วยได้ (จาก {smallest} ถึง {largest}: {rise}) "
        "แต่หากเพิ่มเป็นสองเท่าคาดว่าจะเพิ่มเพียง {gain} ต่ำกว่าเกณฑ์ที่คุ้ม {threshold}",
    ),
    "flat": (
        "flat, examples do not help: from {smallest} to {largest} they changed {rise}, less than "
        "the {threshold} that was said to pay.",
        "คงที่ ตัวอย่างไม่ช่วย: จาก {smallest} ถึง {largest} เปลี่ยนไป {rise} น้อยกว่าเกณฑ์ที่คุ้ม {threshold}",
    ),
    "falling": (
        "falling, more examples made it worse: from {smallest} to {largest} by {rise}.",
        "ลดลง ตัวอย่างที่มากขึ้นทำให้แย่ลง: จาก {smallest} ถึง {largest} เปลี่ยนไป {rise}",
    ),
    "cannot say": (
        "cannot say, the intervals are too wide: from {smallest} to {largest} it changed {rise}, "
        "twice as many might add {gain}; a gain of {threshold} was said to pay.",
        "บอกไม่ได้ ช่วงความเชื่อมั่นกว้างเกินไป: จาก {smallest} ถึง {largest} เปลี่ยนไป {rise} "
        "หากเพิ่มเป็นสองเท่าอาจเพิ่ม {gain} โดยเกณฑ์ที่คุ้มคือ {threshold}",
    ),
    "enough_at": (
        "From about {at} examples on [{low}, {high}], doubling pays less than that.",
        "ตั้งแต่ประมาณ {at} ตัวอย่าง [{low}, {high}] การเพิ่มเป็นสองเท่าจะไม่คุ้ม",
    ),
    "enough_beyond": (
        "Beyond what was measured, from about {at} examples on [{low}, {high}], doubling would "
        "pay less than that.",
        "นอกช่วงที่วัด ตั้งแต่ประมาณ {at} ตัวอย่าง [{low}, {high}] การเพิ่มเป็นสองเท่าจะไม่คุ้ม",
    ),
    "held_out": (
        "held-out rows: loss {loss}, perplexity {perplexity}, token accuracy {accuracy} "
        "({tokens} tokens)",
        "แถวที่กันไว้: loss {loss} perplexity {perplexity} ความแม่นยำของโทเค็น {accuracy} "
        "({tokens} โทเค็น)",
    ),
    "spent": (
        "learnt from {rows} rows in {steps} steps, {tokens} tokens of which {learnt} taught, "
        "{time}, {speed} tokens a second",
        "เรียนจาก {rows} แถวใน {steps} ขั้น {tokens} โทเค็น ในนั้น {learnt} โทเค็นเป็นสิ่งที่เรียน {time} "
        "{speed} โทเค็นต่อวินาที",
    ),
    "systems": (
        "Tuned beside its base, on the same items",
        "เทียบโมเดลที่ปรับแต่งกับโมเดลฐานบนรายการเดียวกัน",
    ),
    "system": ("System", "ระบบ"),
    "figure": ("Figure [95%]", "ค่า [95%]"),
    "difference": ("Tuned minus it [95%]", "ที่ปรับแต่งแล้วลบด้วยค่านี้ [95%]"),
    "change": ("After minus before [95%]", "หลังลบด้วยก่อน [95%]"),
    "verdict": ("So tuned is", "ที่ปรับแต่งแล้ว"),
    "better": ("better", "ดีกว่า"),
    "worse": ("worse", "แย่กว่า"),
    "not decisive": ("not decisive", "ยังตัดสินไม่ได้"),
    "higher": ("higher is better", "ยิ่งมากยิ่งดี"),
    "lower": ("lower is better", "ยิ่งน้อยยิ่งดี"),
    "undefined": ("without a value", "ไม่มีค่า"),
    "tests_note": (
        "Bars and brackets are 95% bootstrap intervals over items. Differences are on the items "
        "that both have; p by approximate randomisation, corrected by Holm within a metric. "
        "One training was measured: another seed would give somewhat other figures.",
        "แถบและวงเล็บคือช่วงความเชื่อมั่น 95% แบบบูตสแตรปบนรายการ ผลต่างคิดบนรายการที่มีทั้งคู่ ค่า p "
        "จากการสุ่มสลับ ปรับด้วย Holm ภายในตัวชี้วัด วัดจากการปรับแต่งครั้งเดียว ค่าเริ่มสุ่มอื่นจะให้ตัวเลขต่างไปบ้าง",
    ),
    "losses": ("Training", "การปรับแต่ง"),
    "losses_note": ("loss, nats a learnt token, by step", "loss (nats ต่อโทเค็นที่เรียน) ตามขั้น"),
    "each": ("each step", "แต่ละขั้น"),
    "smooth": ("running mean", "ค่าเฉลี่ยเคลื่อนที่"),
    "held": ("held-out rows", "แถวที่กันไว้"),
    "step": ("Step", "ขั้น"),
    "loss": ("Loss", "Loss"),
    "perplexity": ("Perplexity", "Perplexity"),
    "accuracy": ("Token accuracy", "ความแม่นยำของโทเค็น"),
    "tokens": ("Tokens", "โทเค็น"),
    "stopped": ("Stopped early", "หยุดก่อนกำหนด"),
    "forgetting": ("What it forgot", "สิ่งที่ลืมไป"),
    "general": ("general set", "ชุดทั่วไป"),
    "before": ("before", "ก่อน"),
    "after": ("after", "หลัง"),
    "not_checked": (
        "Not checked: no general set was measured before and after.",
        "ไม่ได้ตรวจ: ไม่มีชุดทั่วไปที่วัดก่อนและหลัง",
    ),
    "curve": ("Quality against the number of examples", "คุณภาพต่อจำนวนตัวอย่าง"),
    "curve_note": (
        "Dots: measured, with 95% intervals of the items. Line: y = a − b·n^−c, dashed beyond "
        "what was measured.",
        "จุด: ค่าที่วัด พร้อมช่วงความเชื่อมั่น 95% เส้น: y = a − b·n^−c เส้นประคือนอกช่วงที่วัด",
    ),
    "curve_mark": (
        "Dotted: from here on doubling does not pay.",
        "เส้นจุด: ตั้งแต่ตรงนี้การเพิ่มเป็นสองเท่าไม่คุ้ม",
    ),
    "deviation": (
        "The points stray from the line by more than their items explain: trainings differ by "
        "about {deviation} (standard deviation), which the intervals of the gain hold.",
        "จุดห่างจากเส้นมากกว่าที่รายการอธิบายได้: การปรับแต่งแต่ละครั้งต่างกันราว {deviation} "
        "(ส่วนเบี่ยงเบนมาตรฐาน) ซึ่งรวมอยู่ในช่วงของค่าที่เพิ่มแล้ว",
    ),
    "examples": ("Before and after", "ก่อนและหลัง"),
    "asked": ("asked", "คำถาม"),
    "wanted": ("wanted", "ที่ต้องการ"),
    "no_answer": ("no answer that could be used", "ไม่มีคำตอบที่ใช้ได้"),
    "empty": ("empty", "ว่าง"),
    "left_out": ("Left out of training", "ไม่ได้ใช้ปรับแต่ง"),
    "none_left_out": ("No row was left out.", "ใช้ทุกแถว"),
    "data": ("What taught", "ข้อมูลที่ใช้ปรับแต่ง"),
    "no_data": ("The files were not kept.", "ไม่ได้บันทึกไฟล์"),
    "file": ("File", "ไฟล์"),
    "rows": ("Rows", "แถว"),
    "licence": ("Licence", "สัญญาอนุญาต"),
    "unknown": ("unknown", "ไม่ทราบ"),
    "recipe": ("Recipe", "สูตร"),
    "machine": ("Machine and time", "เครื่องและเวลา"),
    "base": ("base", "โมเดลฐาน"),
    "scratch": ("from scratch", "ตั้งแต่ต้น"),
    "signatures": ("How it was measured", "วิธีวัด"),
    "small": (
        "A small model (under 3 billion parameters): weak answers and wrong facts are to be "
        "expected. Nothing here measures whether it is safe.",
        "โมเดลเล็ก (ไม่ถึง 3 พันล้านพารามิเตอร์) คำตอบย่อมอ่อนและอาจผิดข้อเท็จจริง หน้านี้ไม่ได้วัดความปลอดภัย",
    ),
    "unsafe": (
        "Nothing here measures whether it is safe.",
        "หน้านี้ไม่ได้วัดความปลอดภัย",
    ),
}  # fmt: skip


def _say(key: str, language: Language, **values: object) -> str:
    return _WORDS[key][language == "th"].format(**values)
