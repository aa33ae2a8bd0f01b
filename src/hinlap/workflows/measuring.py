"""From a route's outputs to scores: picks what each metric needs, and asks the weighing model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hinlap.app.app import App, metric_label
from hinlap.app.declaration import MetricSpec
from hinlap.core.errors import AppError
from hinlap.core.examples import Example
from hinlap.core.messages import Continuation, Message, Prompt, ScoringEngine
from hinlap.core.progress import Progress
from hinlap.engines.cache import weigh_all
from hinlap.metrics.bleu import bleu
from hinlap.metrics.chrf import chrf
from hinlap.metrics.match import exact_match, passes_all
from hinlap.metrics.riddle import is_riddle, leaks_answer, ranks_first, solvable
from hinlap.metrics.rouge import Variant, rouge
from hinlap.metrics.scores import Scores
from hinlap.metrics.ter import ter
from hinlap.store.store import Store

CANDIDATES = 10
Texts = Sequence[str]


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric of texts alone. ``references`` tells whether it needs one for each item."""

    compute: Callable[[Texts, Texts, str], Scores]
    references: bool = True


def _rouge(variant: Variant, predictions: Texts, references: Texts, language: str) -> Scores:
    return rouge(variant, predictions, [[text] for text in references], stem=language == "en")


TEXT_METRICS: dict[str, TextMetric] = {
    "rouge1": TextMetric(lambda p, r, lang: _rouge("rouge1", p, r, lang)),
    "rouge2": TextMetric(lambda p, r, lang: _rouge("rouge2", p, r, lang)),
    "rougeL": TextMetric(lambda p, r, lang: _rouge("rougeL", p, r, lang)),
    "rougeLsum": TextMetric(lambda p, r, lang: _rouge("rougeLsum", p, r, lang)),
    "bleu": TextMetric(lambda p, r, lang: bleu(p, [[text] for text in r])),
    "chrf": TextMetric(lambda p, r, lang: chrf(p, [[text] for text in r])),
    "ter": TextMetric(lambda p, r, lang: ter(p, [[text] for text in r])),
    "exact_match": TextMetric(lambda p, r, lang: exact_match(p, [[text] for text in r])),
    "leaks_answer": TextMetric(lambda p, r, lang: leaks_answer(p, r)),
    "is_riddle": TextMetric(lambda p, r, lang: is_riddle(p), references=False),
}
SOLVABLE = "solvable"
PASSES_ALL = "passes_all"
SHARES = ("exact_match", "leaks_answer", "is_riddle", SOLVABLE)
METRIC_NAMES = (*TEXT_METRICS, SOLVABLE, PASSES_ALL)


@dataclass(frozen=True)
class Weigher:
    """Who weighs texts for metrics that need a model, where the weights are kept, and the name
    of the stage that a progress bar shows."""

    engine: ScoringEngine
    store: Store
    progress: Progress
    stage: str


@dataclass(frozen=True)
class Measured:
    """Scores and the ids of the items behind their rows."""

    scores: Scores
    ids: tuple[str, ...]


def check_metrics(app: App) -> None:
    """Raises AppError for a metric that does not exist or lacks its label column."""
    for index, metric in enumerate(app.spec.metrics):
        if metric.metric not in METRIC_NAMES:
            raise AppError(
                f"no metric {metric.metric!r}",
                where=app.where(("metrics", index, "metric")),
                hint=f"metrics are: {', '.join(METRIC_NAMES)}",
            )
        if metric.metric == SOLVABLE and metric.label is None:
            raise AppError(
                f"{SOLVABLE} needs 'label', the column with each item's headline",
                where=app.where(("metrics", index)),
                hint=f"{{metric: {SOLVABLE}, ..., label: title}}",
            )
        if (metric.metric == PASSES_ALL) != (metric.of is not None):
            raise AppError(
                f"'of' goes with {PASSES_ALL}, and only with it",
                where=app.where(("metrics", index)),
                hint=f"{{metric: {PASSES_ALL}, step: ..., of: [STEP.METRIC, STEP.METRIC]}}",
            )
        shares = [m.key for m in app.spec.metrics[:index] if m.metric in SHARES]
        for part in metric.of or ():
            if part not in shares:
                raise AppError(
                    f"{part!r} is not a share declared above",
                    where=app.where(("metrics", index, "of")),
                    hint=f"shares declared above: {', '.join(shares) or 'none'}",
                )
        if metric.label and app.test and not any(metric_label(metric, e) for e in app.test):
            columns = dict.fromkeys(c for e in app.test for c in (*e.labels, *e.wanted, *e.inputs))
            raise AppError(
                f"no test item has the column {metric.label!r}",
                where=app.where(("metrics", index, "label")),
                hint=f"columns are: {', '.join(columns)}",
            )


def needs_weigher(app: App) -> bool:
    return any(metric.metric == SOLVABLE for metric in app.spec.metrics)


def needs_reference(metric: MetricSpec) -> bool:
    """Whether it compares with the step's own wanted output."""
    rule = TEXT_METRICS.get(metric.metric)
    return rule is not None and rule.references and metric.label is None


def measure_all(
    app: App, outputs: Mapping[str, Sequence[tuple[Example, str]]], weigher: Weigher | None
) -> dict[str, Measured]:
    """Every declared metric by its key.

    outputs: by step, the usable ones with their items; a step without any may be left out.
    """
    found: dict[str, Measured] = {}
    for metric in app.spec.metrics:
        if metric.of is not None:
            found[metric.key] = _measure_passes_all(metric.of, found)
        else:
            found[metric.key] = measure(app, metric, outputs.get(metric.step, ()), weigher)
    return found


def _measure_passes_all(keys: Sequence[str], found: Mapping[str, Measured]) -> Measured:
    parts = [found[key] for key in keys]
    common = [i for i in parts[0].ids if all(i in part.ids for part in parts)]
    aligned = [part.scores.subset([part.ids.index(i) for i in common]) for part in parts]
    return Measured(passes_all(aligned, keys), tuple(common))


def measure(
    app: App,
    metric: MetricSpec,
    outputs: Sequence[tuple[Example, str]],
    weigher: Weigher | None,
) -> Measured:
    """The metric over those outputs whose item has what it needs (a reference, a headline)."""
    if metric.metric == SOLVABLE:
        assert weigher is not None
        return _measure_solvable(app, metric, outputs, weigher)
    rule = TEXT_METRICS[metric.metric]
    kept = []
    for example, output in outputs:
        label = metric_label(metric, example)
        if label is not None or not rule.references:
            kept.append((example.id, output, label or ""))
    scores = rule.compute(
        [output for _, output, _ in kept], [label for *_, label in kept], app.spec.language
    )
    return Measured(scores, tuple(identity for identity, *_ in kept))


def _measure_solvable(
    app: App, metric: MetricSpec, outputs: Sequence[tuple[Example, str]], weigher: Weigher
) -> Measured:
    """Among ten headlines (nine drawn by seed from the other test items, the same for every
    route), does the riddle make the right one likelier by the most?

    By log P(headline | riddle) - log P(headline | no riddle): without the second part short and
    common headlines win whatever the riddle says (Holtzman et al. 2021, "Surface Form
    Competition"; measured in docs/lab-notes.md).
    """
    headlines = {e.id: h for e in app.test if (h := metric_label(metric, e)) is not None}
    candidates = min(CANDIDATES, len(set(headlines.values())))
    prompt = SOLVE_PROMPT[app.spec.language]
    pairs: list[Continuation] = []
    rights: list[int] = []
    ids: list[str] = []
    for example, output in outputs:
        own = headlines.get(example.id)
        if own is None or candidates < 2:
            continue
        others = sorted({h for h in headlines.values() if h != own})
        rng = random.Random(f"{app.spec.seed}/{example.id}")
        choices = rng.sample(others, candidates - 1)
        right = rng.randrange(candidates)
        choices.insert(right, own)
        context = _question(prompt.format(riddle=output))
        pairs += [Continuation(context, choice) for choice in choices]
        rights.append(right)
        ids.append(example.id)
    without = _question(prompt.format(riddle=""))
    known = sorted({pair.text for pair in pairs})
    asked = [*pairs, *(Continuation(without, headline) for headline in known)]
    weigher.progress.start(weigher.stage, len(asked))
    weights = weigh_all(weigher.engine, weigher.store, asked, weigher.progress)
    weigher.progress.finish()
    alone = {h: logprob for h, (logprob, _) in zip(known, weights[len(pairs) :], strict=True)}
    gains = [logprob - alone[pair.text] for pair, (logprob, _) in zip(pairs, weights, strict=False)]
    ranks = [
        ranks_first(gains[i * candidates : (i + 1) * candidates], right)
        for i, right in enumerate(rights)
    ]
    scores = solvable(
        ranks, candidates=candidates, model=weigher.engine.name, rule="nats-minus-unconditional"
    )
    return Measured(scores, tuple(ids))


def _question(text: str) -> Prompt:
    return Prompt((Message("user", text),))


SOLVE_PROMPT = {
    "en": "Riddle: {riddle}\n\nWhich news headline does this riddle point to?",
    "th": "ปริศนา: {riddle}\n\nปริศนานี้หมายถึงหัวข้อข่าวใด",
}
