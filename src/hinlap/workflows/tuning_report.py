"""What a tuning came to: the page, the lines of the terminal, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jinja2

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
from hinlap.workflows.tuning_charts import bar_svg, curve_svg, is_marked, losses_svg
from hinlap.workflows.tuning_words import say
from hinlap.workflows.wording import Language

ZERO_SHOT, FEW_SHOT, TUNED = "base zero-shot", "base few-shot", "tuned"
BEFORE, AFTER = "before", "after"
SMALL_PARAMETERS = 3e9
_LONGEST_TEXT = 6_000
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
        return say("untested" if report.tuned.base else "no base", language)
    parts = []
    for stands in ("better", "worse", "not decisive"):
        names = [p.a for p in found.pairs[found.decide_by] if p.verdict == stands]
        if names:
            parts.append(say(f"{stands} than", language, names=_and(names, language)))
    said = say("by metric", language, said="; ".join(parts), metric=found.decide_by)
    return said[0].upper() + said[1:]


def reasons(report: TuningReport) -> list[str]:
    """The headline's figures: a sentence for each system that the tuned one was tested against."""
    found, language = report.findings, report.language
    pairs = found.pairs.get(found.decide_by, ())
    values = {(f.metric, f.system): f for f in found.figures}
    said = []
    for pair in pairs:
        own, other = values[found.decide_by, TUNED], values[found.decide_by, pair.a]
        line = say(
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
    line = say(key, language, difference=_difference(pair), p=short(pair.p), n=pair.paired.n)
    if pair.verdict == "not decisive" and pair.detectable is not None:
        line += " " + say("detectable", language, least=short(pair.detectable))
    return line


def curve_line(curve: LearningCurve, language: Language) -> str:
    """What the learning curve says of more examples."""
    line = say(
        curve.outcome, language, gain=with_interval(curve.gain), rise=with_interval(curve.rise),
        double=f"{2 * curve.sizes[-1]:,}", largest=f"{curve.sizes[-1]:,}",
        smallest=f"{curve.sizes[0]:,}", threshold=short(curve.threshold),
        p="–" if curve.trend_p is None else short(curve.trend_p),
    )  # fmt: skip
    if curve.enough_at is not None and curve.outcome in ("enough", "still rising"):
        low = "–" if curve.enough_low is None else f"{curve.enough_low:,}"
        high = (
            f"> {10 * curve.sizes[-1]:,}"
            if curve.enough_high is None
            else (f"{curve.enough_high:,}")
        )
        beyond = "enough_beyond" if curve.enough_at > curve.sizes[-1] else "enough_at"
        line += " " + say(beyond, language, at=f"{curve.enough_at:,}", low=low, high=high)
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
        return [say("no number decides", language)]
    return [say("would decide", language, items=f"{pair.items_needed:,}")]


def _and(names: Sequence[str], language: Language) -> str:
    word = say("and", language)
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
    if tuned.kept is not None:
        lines += ["", _evaluations_line(tuned, tuned.kept, language)]
    lines += [f"{report.general_set or say('general', language)}, {metric}: "
              f"{forgetting_line(report, metric)}" for metric in found.forgot]  # fmt: skip
    if report.curve is not None:
        lines.append(f"{say('curve', language)}: {curve_line(report.curve, language)}")
    lines.append(_spent(tuned, language))
    if tuned.left_out:
        reasons_said = ", ".join(f"{why}: {n:,}" for why, n in tuned.left_out.items())
        lines.append(f"{say('left_out', language)}: {reasons_said}")
    if tuned.stopped:
        lines.append(f"{say('stopped', language)}: {tuned.stopped}")
    return [*lines, *report.notes]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _evaluations_line(tuned: Tuned, last: Evaluation, language: Language) -> str:
    evaluations = tuned.evaluations
    first = evaluations[0]

    def between(a: float | None, b: float | None) -> str:
        return short(a) if len(evaluations) == 1 else f"{short(a)} → {short(b)}"

    return say(
        "held_out", language, loss=between(finite(first.loss), finite(last.loss)),
        perplexity=between(perplexity(first.loss), perplexity(last.loss)),
        accuracy=between(first.accuracy, last.accuracy), tokens=f"{last.tokens:,}",
    )  # fmt: skip


def _spent(tuned: Tuned, language: Language) -> str:
    return say(
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

    def in_language(key: str, **values: object) -> str:
        return say(key, language, **values)

    page = environment.get_template("tuning_report.html.j2").render(
        r=report,
        t=tuned,
        found=found,
        say=in_language,
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
        losses_svg=losses_svg(tuned, language),
        curve_svg=curve_svg(report.curve) if report.curve else None,
        curve_marked=report.curve is not None and is_marked(report.curve),
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
            {
                "figure": f,
                "bar": bar_svg(f.interval, low, high),
                "pair": pairs.get((f.system, metric)),
            }
            for f in own
        ]
        tables.append({"metric": metric, "higher": own[0].higher_is_better, "rows": rows})
    return tables
