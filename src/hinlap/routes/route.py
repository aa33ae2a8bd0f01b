"""What every route is, and what it may use to become ready."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hinlap.app.app import App
from hinlap.app.declaration import StepSpec
from hinlap.core.messages import Completion, Engine, Prompt
from hinlap.core.progress import Progress
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.cache import answer_all
from hinlap.engines.pool import EnginePool
from hinlap.store.store import Store

MakePrompt = Callable[[StepSpec, Mapping[str, str]], Prompt]


@dataclass(frozen=True)
class Traits:
    """What does not come out of a measurement.

    lock_in: key of the report's sentence on what must be rewritten to leave.
    stand_in: measured on a local stand-in; never chosen.
    """

    data_leaves_machine: bool
    lock_in: str
    examples_needed: int
    stand_in: bool = False


@dataclass(frozen=True)
class Route:
    """A route that is ready to answer.

    model:          as a reader knows it.
    make_prompt:    the prompt of one step for one item's fields.
    prices:         of a service; None where own machines answer.
    tuning_seconds: measured once, spread over the traffic.
    one_by_one:     how many first items are asked singly, so that they give a latency.
    """

    name: str
    kind: str
    model: str
    engine: Engine
    make_prompt: MakePrompt
    traits: Traits
    prices: Prices | None = None
    tuning_seconds: float = 0.0
    one_by_one: int = 0
    notes: tuple[str, ...] = ()

    def answer(
        self,
        step: StepSpec,
        fields: Sequence[Mapping[str, str]],
        seed: int,
        store: Store,
        progress: Progress,
    ) -> list[Completion]:
        """One completion per item, from the store where it was answered before."""
        from hinlap.app.app import sampling_for

        prompts = [self.make_prompt(step, item) for item in fields]
        return answer_all(
            self.engine,
            store,
            prompts,
            sampling_for(step, seed),
            progress,
            one_at_a_time=self.one_by_one,
        )


@dataclass
class RouteContext:
    """What routes share while they are made ready.

    cleanup:     closed when the command ends (a stand-in server).
    environment: where keys are read from.
    """

    pool: EnginePool
    store: Store
    progress: Progress
    cleanup: contextlib.ExitStack
    environment: Mapping[str, str]
    one_by_one: int = 8
    budgets: dict[str, Budget] = field(default_factory=dict)


BuildRoute = Callable[[str, App, RouteContext], Route]
"""From the route's name, its app and the context to a ready route. Raises HinlapError."""
