"""Who a benchmark asks: a bare model, or a route of an app."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hinlap.benchmarks.benchmark import Benchmark, Item
from hinlap.core.errors import ModelError, UserError
from hinlap.core.examples import Example, Split
from hinlap.core.messages import Completion, Continuation, Finish, Scorer, ScoringEngine
from hinlap.core.progress import Progress
from hinlap.engines.cache import answer_each, weigh_all
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import open_scorer
from hinlap.engines.service_scoring import ServiceScorer
from hinlap.store.store import Store
from hinlap.workflows.bench_prompts import Prompting

if TYPE_CHECKING:  # a bare model needs neither apps nor routes
    from hinlap.app.app import App
    from hinlap.app.chain import ItemResult
    from hinlap.app.declaration import StepSpec
    from hinlap.routes.route import Route


class Asked(Protocol):
    """name, digest: who is asked, and all of it that decides an answer."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def benchmark(self) -> Benchmark: ...

    def weigh(self, items: Sequence[Item]) -> list[list[tuple[float, int]]]:
        """(log-likelihood in nats, tokens) of each text of each item."""
        ...

    def cut(self, items: Sequence[Item]) -> int:
        """Of how many texts the context is over the window, and loses its beginning."""
        ...

    def answer(self, items: Sequence[Item]) -> list[list[Completion]]:
        """So many answers of each item as its benchmark draws."""
        ...


@dataclass(frozen=True)
class AskedModel:
    engine: Scorer
    benchmark: Benchmark
    prompting: Prompting
    store: Store
    progress: Progress
    seed: int

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def digest(self) -> str:
        return self.engine.digest

    def weigh(self, items: Sequence[Item]) -> list[list[tuple[float, int]]]:
        weighed = iter(weigh_all(self.engine, self.store, self._pairs(items), self.progress))
        return [[next(weighed) for _ in item.texts] for item in items]

    def cut(self, items: Sequence[Item]) -> int:
        return _over_window(self.engine, self._pairs(items))

    def _pairs(self, items: Sequence[Item]) -> list[Continuation]:
        return [
            self.prompting.weighing(text.question, text.text)
            for item in items
            for text in item.texts
        ]

    def answer(self, items: Sequence[Item]) -> list[list[Completion]]:
        if not isinstance(self.engine, ScoringEngine):
            raise ModelError(
                "this server is asked for log-probabilities only; the benchmark wants answers",
                where=self.name,
                hint="name local weights, or an app with a service route: --app DIR --route NAME",
            )
        drawn = self.benchmark.sampling
        if drawn is None:
            return [[] for _ in items]
        requests = [
            (
                self.prompting.prompt(item.question),
                replace(drawn, seed=self.seed, repeat=repeat),
            )
            for item in items
            for repeat in range(self.benchmark.draws)
        ]
        made = iter(answer_each(self.engine, self.store, requests, self.progress))
        return [[next(made) for _ in range(self.benchmark.draws)] for _ in items]


@dataclass(frozen=True)
class AskedRoute:
    """A route of an app: the item's parts fill the app's inputs, the last step's output is the
    answer. Texts can be weighed where the app is one step of a model that weighs.

    inputs: the name of a part by the name of an app's input, where they differ.
    """

    app: App
    route: Route
    benchmark: Benchmark
    inputs: Mapping[str, str]
    store: Store
    progress: Progress
    seed: int

    @property
    def name(self) -> str:
        return f"{self.app.name}/{self.route.name}"

    @property
    def digest(self) -> str:
        content = [self.route.engine.digest, self.app.digest(), sorted(self.inputs.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def weigh(self, items: Sequence[Item]) -> list[list[tuple[float, int]]]:
        (step, *others), engine = self.app.spec.steps, self.route.engine
        if others or self.app.functions or not isinstance(engine, ScoringEngine):
            raise UserError(
                f"{self.benchmark.name} weighs given texts, which an app of one step on local "
                "weights can do",
                where=self.name,
                hint="take a benchmark whose items are answered (`hinlap bench list`)",
            )
        pairs = self._pairs(step, items)
        weighed = iter(weigh_all(engine, self.store, pairs, self.progress))
        return [[next(weighed) for _ in item.texts] for item in items]

    def cut(self, items: Sequence[Item]) -> int:
        return _over_window(self.route.engine, self._pairs(self.app.spec.steps[0], items))

    def _pairs(self, step: StepSpec, items: Sequence[Item]) -> list[Continuation]:
        return [
            Continuation(self.route.make_prompt(step, self._fields(item)), text.text.strip())
            for item in items
            for text in item.texts
        ]

    def answer(self, items: Sequence[Item]) -> list[list[Completion]]:
        from hinlap.app.chain import run_chain

        examples = [Example(item.id, self._fields(item), Split.TEST) for item in items]
        draws = []
        for repeat in range(self.benchmark.draws):

            def answered(
                step: StepSpec, fields: Sequence[Mapping[str, str]], repeat: int = repeat
            ) -> list[Completion]:
                return self.route.answer(
                    step, fields, self.seed + repeat, self.store, self.progress
                )

            draws.append([_last(item) for item in run_chain(self.app, examples, answered)])
        return [list(of_item) for of_item in zip(*draws, strict=True)]

    def _fields(self, item: Item) -> dict[str, str]:
        wanted = list(self.app.spec.inputs)
        parts = {**item.parts, "item": item.question}
        found = {}
        for name in wanted:
            part = self.inputs.get(name, name)
            if part not in parts and len(wanted) == 1 and name not in self.inputs:
                part = "item"
            if part not in parts:
                raise UserError(
                    f"the app's input {name!r} is no part of an item of {self.benchmark.name}",
                    where="--input",
                    hint=f"--input {name}=PART, one of: {', '.join(parts)}",
                )
            found[name] = parts[part]
        return found


def _over_window(engine: object, pairs: Sequence[Continuation]) -> int:
    """Of what was weighed, also where that is known from before. A server's window is not known:
    it refuses what is over it."""
    if not isinstance(engine, LocalEngine):
        return 0
    window = engine.context_length
    long = []  # a token is a byte at least: others need not be counted
    for pair in pairs:
        rendered = engine.render(pair.context)
        if len((rendered + pair.text).encode("utf-8", "replace")) >= window:
            long.append(((rendered, pair.text), pair.context.raw))
    if not long:
        return 0
    tokens = engine.encode_pairs([pair for pair, _ in long], [raw for _, raw in long])
    return sum(len(context) + len(text) > window + 1 for context, text in tokens)


def _last(item: ItemResult) -> Completion:
    """What came out of the chain: an output that could not be read counts as failed."""
    from hinlap.app.chain import Status

    step = item.steps[-1]
    if step.status in (Status.OK, Status.TRUNCATED):
        finish = Finish.LENGTH if step.status is Status.TRUNCATED else Finish.STOP
        return Completion(step.output, finish, 0, 0, 0.0)
    return Completion("", Finish.FAILED, 0, 0, 0.0, error=f"{step.step}: {step.error}")


class MakeAsked(Protocol):
    """From a benchmark and its prompting to who is asked. chats: whether a chat template is there
    to ask by."""

    @property
    def chats(self) -> bool: ...

    def __call__(self, benchmark: Benchmark, how: Prompting, progress: Progress) -> Asked: ...


@dataclass(frozen=True)
class ModelAsking:
    engine: LocalEngine | ServiceScorer
    store: Store
    seed: int

    @property
    def chats(self) -> bool:
        return isinstance(self.engine, LocalEngine) and self.engine.has_chat_template

    def __call__(self, benchmark: Benchmark, how: Prompting, progress: Progress) -> Asked:
        if how.chat and not self.chats:
            raise ModelError(
                "there is no chat template here",
                where=self.engine.name,
                hint="leave --chat out, or name the format it was tuned by: --prompt-format NAME",
            )
        return AskedModel(self.engine, benchmark, how, self.store, progress, self.seed)


@dataclass(frozen=True)
class RouteAsking:
    app: App
    route: Route
    inputs: Mapping[str, str]
    store: Store
    seed: int
    chats: bool = False

    def __call__(self, benchmark: Benchmark, how: Prompting, progress: Progress) -> Asked:
        if how.chat or how.shots != benchmark.preamble:
            raise UserError(
                "a route has its own prompt", where="--route", hint="leave --chat and --shots out"
            )
        return AskedRoute(
            self.app, self.route, benchmark, self.inputs, self.store, progress, self.seed
        )


def ask_model(
    model: str,
    dtype: str,
    seed: int,
    store: Store,
    progress: Progress,
    *,
    prompt_format: str = "",
) -> ModelAsking:
    """Raises ModelError when the model cannot be had."""
    engine = open_scorer(model, progress, dtype=dtype, prompt_format=prompt_format)
    return ModelAsking(engine, store, seed)


@contextlib.contextmanager
def ask_route(
    folder: Path, route: str, inputs: Mapping[str, str], seed: int, progress: Progress
) -> Iterator[RouteAsking]:
    """A route of an app, made ready, with the app's store. Raises AppError, and as the route."""
    from hinlap.routes.table import build_route
    from hinlap.workflows.answer import route_context
    from hinlap.workflows.load import load

    app = load(folder)
    with route_context(app, progress) as context:
        ready = build_route(route, app, context)
        yield RouteAsking(app, ready, inputs, context.store, seed)
