"""The main job: every declared route on the same items, measured, priced, and one picked."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hinlap.app.app import App
from hinlap.app.chain import ItemResult, Status
from hinlap.core.errors import AppError, HinlapError, StorageError
from hinlap.core.examples import Example
from hinlap.core.progress import Progress
from hinlap.core.version import __version__
from hinlap.data.leaks import refuse_leaks
from hinlap.engines.budget import Budget
from hinlap.engines.catalogue import EMBEDDED
from hinlap.routes.costs import Cost, cheapest_by_volume, own_machine_cost
from hinlap.routes.decide import Candidate, Decision, decide
from hinlap.routes.route import Route, RouteContext
from hinlap.routes.table import build_route
from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.stats.paired import (
    Paired,
    Verdict,
    compare_paired,
    holm,
    items_to_decide,
    verdict,
)
from hinlap.store.store import FigureRecord, ItemRecord, utc_now
from hinlap.workflows.answer import RouteRun, route_context, run_route
from hinlap.workflows.comparison import (
    MEASURED,
    PARTIAL,
    UNAVAILABLE,
    Comparison,
    Figure,
    Latency,
    PairResult,
    RouteResult,
)
from hinlap.workflows.estimate import say_estimates
from hinlap.workflows.measuring import (
    CANDIDATES,
    SOLVABLE,
    Measured,
    Weigher,
    measure_all,
    needs_reference,
    needs_weigher,
)
from hinlap.workflows.numbers import short
from hinlap.workflows.wording import label, sentence

LATENCY_REQUESTS = 5


@dataclass(frozen=True)
class CompareOptions:
    """limit: first test items only. test: a file of other items to measure on. routes: only
    these. latency_requests: how many first items are asked singly, to time them."""

    limit: int | None = None
    test: Path | None = None
    routes: tuple[str, ...] = ()
    latency_requests: int = LATENCY_REQUESTS


@dataclass(frozen=True)
class _Outcome:
    """A route's run with its scores; ``run`` is None when the route answered nothing."""

    name: str
    run: RouteRun | None
    error: HinlapError | None
    scores: Mapping[str, Measured]


def compare_routes(app: App, options: CompareOptions, progress: Progress) -> Comparison:
    """Runs the routes, weighs their outputs, tests them in pairs, decides; keeps all in the store.

    A route that cannot be built or stops early is reported and the others go on. Raises AppError
    when there is nothing to measure on, LeakError when ``options.test`` holds a train example.
    """
    app = _with_options(app, options)
    names = list(options.routes or app.spec.routes)
    with route_context(app, progress, one_by_one=options.latency_requests) as context:
        run_id = context.store.start_run(app.name, app.digest(), "compare", __version__)
        say_estimates(app, names, app.test, context)
        runs = [_run(name, app, context) for name in names]
        outcomes = _weigh(app, runs, context)
        premade = _premade(app, context)
        routes = [_result(app, outcome, context) for outcome in outcomes]
        pairs = _pairs(app, outcomes)
        decision, by = _decide(app, routes, pairs)
        comparison = Comparison(
            app=app.name,
            app_digest=app.digest(),
            language=app.spec.language,
            version=__version__,
            made_at=utc_now(),
            run_id=run_id,
            examples=app.test,
            routes=routes,
            premade=premade,
            pairs=pairs,
            decide_by=by,
            decision=decision,
            reasons=[sentence(reason, app.spec.language) for reason in decision.reasons],
            cheapest=cheapest_by_volume({r.name: r.cost for r in routes if r.cost is not None}),
            assumptions={
                "machine_usd_per_hour": app.spec.costs.machine_usd_per_hour,
                "requests_per_month": app.spec.costs.requests_per_month,
                "months": app.spec.costs.months,
            },
            errors=[o.error for o in outcomes if o.error is not None],
        )
        context.store.finish_run(run_id, _item_records(routes), _figure_records(comparison))
    return comparison


def _with_options(app: App, options: CompareOptions) -> App:
    for name in options.routes:
        if name not in app.spec.routes:
            raise AppError(
                f"no route {name!r}",
                where=str(app.file),
                hint=f"routes are: {', '.join(app.spec.routes)}",
            )
    if options.test is not None:
        app = app.with_test(app.inputs_from(options.test))
        refuse_leaks(app.train, app.test)
    if options.limit is not None:
        app = app.with_test(app.test[: options.limit])
    if not app.test:
        raise AppError(
            "there are no test items to compare on",
            where=str(app.file),
            hint="add examples.test to app.yaml, or give --test FILE",
        )
    return app


def _run(name: str, app: App, context: RouteContext) -> tuple[str, RouteRun | HinlapError]:
    """What ends a route or keeps it from beginning is told here, while it still helps."""
    try:
        # closed before the next route: a stand-in's thread that waits with torch's threads of its
        # own made everything after it twice as slow
        with contextlib.ExitStack() as cleanup:
            route = build_route(name, app, dataclasses.replace(context, cleanup=cleanup))
            for note in route.notes:
                context.progress.say(f"{name}: {note}")
            examples: Sequence[Example] = app.test
            spec = app.spec.routes[name]
            if route.traits.stand_in and spec.kind == "service" and spec.stand_in_items is not None:
                examples = examples[: spec.stand_in_items]
            run = run_route(app, route, examples, context)
    except StorageError:  # nothing more could be kept: no other route may be paid
        raise
    except HinlapError as error:
        context.progress.say(f"{name}: {error}")
        return name, error
    if run.stopped is None:
        return name, run
    context.progress.say(f"{name}: {run.stopped}")
    return name, run if run.answered else run.stopped


def _weigh(
    app: App, runs: Sequence[tuple[str, RouteRun | HinlapError]], context: RouteContext
) -> list[_Outcome]:
    outcomes = []
    for name, run in runs:
        if isinstance(run, HinlapError):
            outcomes.append(_Outcome(name, None, run, {}))
            continue
        outputs = {
            step.name: [
                (i.example, i.outputs[step.name]) for i in run.items if step.name in i.outputs
            ]
            for step in app.spec.steps
        }
        scores = measure_all(app, outputs, _weigher(app, context, f"weighing {name}"))
        outcomes.append(_Outcome(name, run, run.stopped, scores))
    return outcomes


def _weigher(app: App, context: RouteContext, stage: str) -> Weigher | None:
    if not needs_weigher(app):
        return None
    return Weigher(context.pool.local(EMBEDDED), context.store, context.progress, stage)


def _premade(app: App, context: RouteContext) -> dict[str, Figure]:
    """The test items' own wanted outputs, by the metrics that do not compare with them."""
    outputs = {
        step.name: [(e, e.wanted[step.name]) for e in app.test if step.name in e.wanted]
        for step in app.spec.steps
    }
    if not any(outputs.values()):
        return {}
    own = [m for m in app.spec.metrics if m.label or m.of or not needs_reference(m)]
    app = app.with_metrics(own)
    measured = measure_all(app, outputs, _weigher(app, context, "weighing premade outputs"))
    return {key: figure_of(app, m) for key, m in measured.items() if m.scores.n}


def figure_of(app: App, measured: Measured) -> Figure:
    """A metric's value with its 95% bootstrap interval over the items, by the app's seed."""
    scores = measured.scores
    interval = bootstrap_interval(
        scores.stats, scores.reduce, seed=app.spec.seed, share=scores.share
    )
    return Figure(
        interval=interval,
        signature=f"{scores.signature}|n:{interval.n}|ci:95%-bootstrap-10000|seed:{app.spec.seed}",
        higher_is_better=scores.higher_is_better,
        per_item=dict(zip(measured.ids, scores.items, strict=True)),
    )


def _result(app: App, outcome: _Outcome, context: RouteContext) -> RouteResult:
    spec = app.spec.routes[outcome.name]
    budget = context.budgets.get(outcome.name)
    if outcome.run is None:
        return RouteResult(
            name=outcome.name,
            kind=spec.kind,
            status=UNAVAILABLE,
            reason=str(outcome.error),
            model=spec.model,
            traits=None,
            quality={},
            latency=Latency(None, None, None, 0),
            cost=None,
            input_tokens=0,
            output_tokens=0,
            tokens_per_second=None,
            counts=dict.fromkeys(Status, 0),
            tuning_seconds=0.0,
            spent_usd=budget.spent_usd if budget else None,
            notes=_billed_without_answer(app, budget),
            items=(),
        )
    route, items = outcome.run.route, outcome.run.items
    latency = latency_of(items)
    completions = [s.completion for item in items for s in item.steps if s.completion]
    output_tokens = sum(c.output_tokens for c in completions)
    busy = sum(c.seconds / c.batch_size for c in completions)
    return RouteResult(
        name=outcome.name,
        kind=route.kind,
        status=PARTIAL if outcome.error is not None else MEASURED,
        reason=str(outcome.error) if outcome.error is not None else "",
        model=route.model,
        traits=route.traits,
        quality={key: figure_of(app, measured) for key, measured in outcome.scores.items()},
        latency=latency,
        cost=_cost(app, route, items, latency),
        input_tokens=sum(c.input_tokens for c in completions),
        output_tokens=output_tokens,
        tokens_per_second=output_tokens / busy if busy else None,
        counts={status.value: sum(item.status is status for item in items) for status in Status},
        tuning_seconds=route.tuning_seconds,
        spent_usd=budget.spent_usd if budget else None,
        notes=(*route.notes, *_billed_without_answer(app, budget)),
        items=items,
    )


def _billed_without_answer(app: App, budget: Budget | None) -> tuple[str, ...]:
    """A note on the requests that may have cost something and gave nothing, if any."""
    count, usd = budget.unanswered if budget else (0, 0.0)
    return (label("unanswered", app.spec.language, n=count, usd=short(usd)),) if count else ()


def latency_of(items: Sequence[ItemResult]) -> Latency:
    """Seconds of whole items, over those with a usable answer all of whose steps were asked
    singly; a cached answer has the time of its making, and a batch's time is no request's.
    Undefined (n = 0): no item was asked so."""
    seconds = []
    for item in items:
        asked = [s.completion for s in item.steps if s.completion is not None]
        usable = item.status in (Status.OK, Status.TRUNCATED)
        if asked and usable and all(c.batch_size == 1 for c in asked):
            seconds.append(sum(c.seconds for c in asked))
    if not seconds:
        return Latency(None, None, None, 0)
    p50, p95 = np.percentile(seconds, [50, 95])
    return Latency(float(p50), float(p95), float(np.mean(seconds)), len(seconds))


def _cost(app: App, route: Route, items: Sequence[ItemResult], latency: Latency) -> Cost | None:
    costs = app.spec.costs
    volume = costs.requests_per_month * costs.months
    if route.prices is not None:
        spent = [
            sum(
                route.prices.cost_usd(c.input_tokens, c.output_tokens, c.cached_input_tokens)
                for s in item.steps
                if (c := s.completion) is not None
            )
            for item in items
            if item.status is not Status.FAILED
        ]
        return Cost(sum(spent) / len(spent), 0.0, volume) if spent else None
    if latency.mean is None:
        return None
    return own_machine_cost(latency.mean, route.tuning_seconds, costs.machine_usd_per_hour, volume)


def _pairs(app: App, outcomes: Sequence[_Outcome]) -> list[PairResult]:
    """Every two routes on every metric, over the items both have; Holm within a metric."""
    results = []
    for metric in app.spec.metrics:
        compared = []
        for a, b in itertools.combinations(outcomes, 2):
            if metric.key in a.scores and metric.key in b.scores:
                compared.append((a.name, b.name, _paired(app, a, b, metric.key)))
        known = [paired.p for _, _, paired in compared if paired.p is not None]
        corrected = iter(holm(known))
        for a_name, b_name, paired in compared:
            p = next(corrected) if paired.p is not None else None
            better = _higher_is_better(outcomes, metric.key)
            stands = verdict(paired, p, higher_is_better=better)
            needed = items_to_decide(paired, len(known)) if stands == "not decisive" else None
            if needed is not None:
                needed = max(needed, paired.n + 1)
            results.append(PairResult(a_name, b_name, metric.key, paired, p, stands, needed))
    return results


def _paired(app: App, a: _Outcome, b: _Outcome, key: str) -> Paired:
    of_a, of_b = a.scores[key], b.scores[key]
    place_b = {identity: index for index, identity in enumerate(of_b.ids)}
    common = [(i, place_b[x]) for i, x in enumerate(of_a.ids) if x in place_b]
    return compare_paired(
        of_a.scores.subset([i for i, _ in common]).stats,
        of_b.scores.subset([j for _, j in common]).stats,
        of_a.scores.reduce,
        seed=app.spec.seed,
    )


def _higher_is_better(outcomes: Sequence[_Outcome], key: str) -> bool:
    return next(o.scores[key].scores.higher_is_better for o in outcomes if key in o.scores)


def _decide(
    app: App, routes: Sequence[RouteResult], pairs: Sequence[PairResult]
) -> tuple[Decision, str | None]:
    if app.spec.decide is None:
        return Decision(None, ()), None
    by = app.spec.decide.by
    chance = None
    metric = next(m for m in app.spec.metrics if m.key == by)
    if any(part.endswith(f".{SOLVABLE}") for part in (metric.key, *(metric.of or ()))):
        chance = 1 / min(CANDIDATES, max(2, len(app.test)))
    candidates = []
    for route in routes:
        figure = route.quality.get(by)
        candidates.append(
            Candidate(
                name=route.name,
                measured=route.status == MEASURED,
                stand_in=bool(route.traits and route.traits.stand_in),
                usable_share=route.usable_share,
                quality=figure.interval.value if figure else None,
                low=figure.interval.low if figure else None,
                chance=chance,
                cost_per_1000_usd=route.cost.per_1000_usd if route.cost else None,
                p95_seconds=route.latency.p95,
                data_leaves_machine=bool(route.traits and route.traits.data_leaves_machine),
            )
        )
    known = {(p.a, p.b): p for p in pairs if p.metric == by}
    opposite: dict[Verdict, Verdict] = {
        "better": "worse",
        "worse": "better",
        "not decisive": "not decisive",
    }

    def stands(a: str, b: str) -> tuple[Verdict, int | None]:
        if (a, b) in known:
            return known[a, b].verdict, known[a, b].items_needed
        if (b, a) in known:
            return opposite[known[b, a].verdict], known[b, a].items_needed
        return "not decisive", None

    figures = [r.quality[by] for r in routes if by in r.quality]
    higher = figures[0].higher_is_better if figures else True
    return decide(candidates, app.spec.decide.limits, higher_is_better=higher, verdict=stands), by


def _item_records(routes: Sequence[RouteResult]) -> list[ItemRecord]:
    return [
        ItemRecord(
            route=route.name,
            item=item.example.id,
            step=step.step,
            status=step.status.value,
            output=step.output,
            error=step.error,
        )
        for route in routes
        for item in route.items
        for step in item.steps
    ]


def _figure_records(comparison: Comparison) -> list[FigureRecord]:
    records = []
    for route in comparison.routes:
        for key, figure in route.quality.items():
            i = figure.interval
            records.append(
                FigureRecord(route.name, key, i.value, i.low, i.high, i.n, figure.signature)
            )
        for name, value in (
            ("latency_seconds.p50", route.latency.p50),
            ("latency_seconds.p95", route.latency.p95),
        ):
            records.append(
                FigureRecord(
                    route.name, name, value, None, None, route.latency.n, "uncached|singly"
                )
            )
        cost = route.cost.per_1000_usd if route.cost else None
        records.append(
            FigureRecord(route.name, "cost_per_1000_usd", cost, None, None, len(route.items), "usd")
        )
    return records
