"""Answering inputs by one route of an app."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hinlap.app.app import App, sampling_for
from hinlap.app.chain import ItemResult, run_chain
from hinlap.app.declaration import StepSpec
from hinlap.core.errors import BudgetError, EngineError, HinlapError, ServiceSetupError
from hinlap.core.examples import Example
from hinlap.core.messages import Completion, Finish
from hinlap.core.progress import Progress
from hinlap.engines.cache import answer_key
from hinlap.engines.pool import EnginePool
from hinlap.routes.route import Route, RouteContext
from hinlap.routes.table import build_route
from hinlap.store.store import Store
from hinlap.workflows.estimate import say_estimates


@contextlib.contextmanager
def route_context(app: App, progress: Progress, *, one_by_one: int = 0) -> Iterator[RouteContext]:
    """Opens the app's store and what routes share; closes all at the end."""
    with contextlib.ExitStack() as cleanup:
        store = Store(app.store_path)
        cleanup.callback(store.close)
        yield RouteContext(
            pool=EnginePool(progress),
            store=store,
            progress=progress,
            cleanup=cleanup,
            environment=os.environ,
            one_by_one=one_by_one,
        )


@dataclass
class RouteRun:
    """A route's way through items. ``stopped`` is the error that ended it early, if any: items
    not answered by then are FAILED with it."""

    route: Route
    items: list[ItemResult]
    stopped: HinlapError | None = None

    @property
    def answered(self) -> bool:
        """Whether the route's model answered at all, be it unreadably."""
        return any(
            step.completion is not None and step.completion.finish is not Finish.FAILED
            for item in self.items
            for step in item.steps
        )


@dataclass
class _Answering:
    """Answers steps for a route; once the budget or the service gives out, or the service
    refuses key or payment, keeps what is had."""

    route: Route
    seed: int
    context: RouteContext
    stopped: HinlapError | None = field(default=None)

    def __call__(self, step: StepSpec, fields: Sequence[Mapping[str, str]]) -> list[Completion]:
        if self.stopped is None:
            try:
                return self.route.answer(
                    step, fields, self.seed, self.context.store, self.context.progress
                )
            except (BudgetError, EngineError, ServiceSetupError) as error:
                self.stopped = error
        return self._answered_before(step, fields, self.stopped)

    def _answered_before(
        self, step: StepSpec, fields: Sequence[Mapping[str, str]], error: HinlapError
    ) -> list[Completion]:
        sampling = sampling_for(step, self.seed)
        keys = [
            answer_key(self.route.engine, self.route.make_prompt(step, f), sampling) for f in fields
        ]
        known = self.context.store.answers(keys)
        missing = Completion("", Finish.FAILED, 0, 0, 0.0, error=f"not answered: {error.what}")
        return [known.get(key, missing) for key in keys]


def run_route(
    app: App, route: Route, examples: Sequence[Example], context: RouteContext
) -> RouteRun:
    """All items through a ready route, with a progress stage of its own."""
    model_steps = [s for s in app.spec.steps if s.name not in app.functions]
    context.progress.start(route.name, len(examples) * len(model_steps))
    answering = _Answering(route, app.spec.seed, context)
    try:
        items = run_chain(app, examples, answering)
    finally:
        context.progress.finish()
    return RouteRun(route, items, answering.stopped)


def answer_inputs(
    app: App, route_name: str, examples: Sequence[Example], progress: Progress
) -> RouteRun:
    """Builds the route (tuning it if need be) and answers; see `Application.run`.

    Raises what ended the route early when it could answer nothing at all.
    """
    with route_context(app, progress) as context:
        route = build_route(route_name, app, context)
        say_estimates(app, [route_name], examples, context)
        run = run_route(app, route, examples, context)
    if run.stopped is not None and not run.answered:
        raise run.stopped
    return run
