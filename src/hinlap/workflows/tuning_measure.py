"""What a tuned model does beside its base, on the same items: figures for the report."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hinlap.app.app import App
from hinlap.app.declaration import FewShotSpec, ZeroShotSpec
from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.errors import UserError
from hinlap.core.messages import Completion, Finish, Message, Prompt, Sampling
from hinlap.core.progress import Progress
from hinlap.core.rows import Row
from hinlap.engines.cache import answer_all
from hinlap.engines.catalogue import EMBEDDED
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.rouge import rouge
from hinlap.routes.route import RouteContext
from hinlap.routes.table import build_route
from hinlap.store.store import Store
from hinlap.tuning.lessons import encode_lessons, lesson_of
from hinlap.tuning.tuned import Tuned
from hinlap.workflows.answer import run_route
from hinlap.workflows.bench import BenchOptions, run_bench
from hinlap.workflows.bench_asking import ModelAsking
from hinlap.workflows.measuring import Measured, Weigher, measure_all, needs_weigher
from hinlap.workflows.tuning_report import FEW_SHOT, TUNED, ZERO_SHOT, Shown

ANSWER_TOKENS = 128
GENERAL_SET = "instructions"
_SHOTS = 3
_EXAMPLES = 12
_PERPLEXITY, _ROUGE = "perplexity", "rougeL"

Systems = dict[str, dict[str, Measured]]


@dataclass(frozen=True)
class RowFigures:
    """What `measure_rows` found. examples: some items with each system's answer."""

    systems: Systems
    examples: tuple[Shown, ...]


def tuned_engine(tuned: Tuned, pool: EnginePool) -> LocalEngine:
    """Who answers with the tuned weights; an adapter's base is the pool's."""
    if tuned.adapter is not None:
        return pool.local(tuned.base, tuned.adapter)
    assert tuned.model is not None
    return pool.local(str(tuned.model))


def measure_rows(
    tuned: Tuned,
    held_out: Sequence[Row],
    train: Sequence[Row],
    answered: int,
    pool: EnginePool,
    store: Store,
    progress: Progress,
) -> RowFigures:
    """The base asked plainly, the base shown three solved rows, and the tuned model: perplexity
    of the references on every held-out row that all can read, ROUGE-L of answers on the first
    ``answered`` of them.

    The base is asked in its own prompt format, the tuned model in that of its tuning.
    """
    engine = tuned_engine(tuned, pool)
    rows = _that_fit(held_out, engine, tuned.recipe.max_length)
    lessons = [lesson_of(row) for row in rows]
    systems: Systems = {}
    answers: dict[str, list[Completion]] = {}
    asking = {TUNED: (engine, [lesson.asked for lesson in lessons])}
    if tuned.base:
        base = pool.local(tuned.base)
        shown = _shots(train, base, tuned.recipe.seed)
        asking[ZERO_SHOT] = (base, [lesson.asked for lesson in lessons])
        asking[FEW_SHOT] = (base, [Prompt((*shown, *x.asked.messages)) for x in lessons])
    for name in (ZERO_SHOT, FEW_SHOT, TUNED):
        if name not in asking:
            continue
        who, prompts = asking[name]
        systems[name] = {_PERPLEXITY: _foreseen(who, prompts, rows)}
        if answered:
            sampling = Sampling(max_tokens=ANSWER_TOKENS)
            found = answer_all(who, store, prompts[:answered], sampling, progress)
            answers[name] = found
            systems[name][_ROUGE] = _alike(found, rows)
    return RowFigures(systems, _examples(rows[:answered], answers))


def _that_fit(rows: Sequence[Row], engine: LocalEngine, max_length: int) -> list[Row]:
    """Those that were weighed while it trained, too."""
    kept = []
    for row in rows:
        if encode_lessons([lesson_of(row)], engine.tokenizer, max_length).taken:
            kept.append(row)
    return kept


def _shots(train: Sequence[Row], base: LocalEngine, seed: int) -> tuple[Message, ...]:
    """Solved rows, the shorter half of the train rows so that they fit, drawn by seed."""
    short = sorted(train, key=lambda row: len(row.content()))[: max(_SHOTS, len(train) // 2)]
    chosen = random.Random(f"{seed}/shots").sample(short, min(_SHOTS, len(short)))
    room = base.context_length // 2
    shown: list[Message] = []
    for row in chosen:
        turn = lesson_of(row).messages[-2:]
        if base.count_tokens(Prompt((*shown, *turn))) <= room:
            shown += turn
    return tuple(shown)


def _foreseen(engine: LocalEngine, prompts: Sequence[Prompt], rows: Sequence[Row]) -> Measured:
    """Perplexity of each reference as the answer, its ending token left out: a base may end
    its answers by another."""
    pairs = []
    for prompt, row in zip(prompts, rows, strict=True):
        text = row.output.strip()
        pairs.append((engine.encode_prompt(prompt), engine.encode_texts([text])[0]))
    weighed = engine.score_tokens(pairs)
    stretches = [
        Foreseen(
            w.total,
            len(w.tokens),
            sum(rank == 0 for rank in w.ranks),
            len(row.output.split()),
            len(row.output.strip().encode()),
        )
        for w, row in zip(weighed, rows, strict=True)
    ]
    found = {each.name: each for each in foresight(stretches, "answers|end:left out")}
    scores = found[_PERPLEXITY]
    cut = sum(w.cut > 0 for w in weighed)
    if cut:
        scores = replace(scores, notes={**scores.notes, "prompts cut to the window": cut})
    return Measured(scores, tuple(row.id for row in rows))


def _alike(found: Sequence[Completion], rows: Sequence[Row]) -> Measured:
    """ROUGE-L of what was said, cut answers included (all are held to the same length)."""
    kept = [
        (row, c.text)
        for row, c in zip(rows, found, strict=False)
        if c.finish in (Finish.STOP, Finish.LENGTH)
    ]
    scores = rouge(
        "rougeL", [text for _, text in kept], [[row.output] for row, _ in kept], stem=True
    )
    return Measured(scores, tuple(row.id for row, _ in kept))


def _examples(
    rows: Sequence[Row], answers: Mapping[str, Sequence[Completion]]
) -> tuple[Shown, ...]:
    shown = []
    for index, row in enumerate(rows[:_EXAMPLES]):
        said = {
            name: found[index].text if found[index].finish is not Finish.FAILED else None
            for name, found in answers.items()
        }
        shown.append(Shown(row.id, row.asked(), row.output, said))
    return tuple(shown)


@dataclass(frozen=True)
class AppFigures:
    """What `measure_app` found. left: why a system has no figures, by its name."""

    systems: Systems
    examples: tuple[Shown, ...]
    left: Mapping[str, str]


def measure_app(app: App, route: str, limit: int | None, context: RouteContext) -> AppFigures:
    """The app's fine-tuned route beside its base asked plainly and shown examples, by the app's
    own metrics on its test items."""
    spec = app.spec.routes[route]
    few = FewShotSpec(kind="few-shot", model=spec.model, k=max(1, min(_SHOTS, len(app.train))))
    zero = ZeroShotSpec(kind="zero-shot", model=spec.model)
    beside = app.with_routes({"zero-shot": zero, "few-shot": few, route: spec})
    beside = beside.with_test(app.test[:limit])
    names = {"zero-shot": ZERO_SHOT, "few-shot": FEW_SHOT, route: TUNED}
    systems: Systems = {}
    left: dict[str, str] = {}
    said: dict[str, dict[str, str | None]] = {}
    for name, shown_as in names.items():
        try:
            run = run_route(beside, build_route(name, beside, context), beside.test, context)
        except UserError as error:
            if name == route:
                raise
            left[shown_as] = str(error)
            continue
        outputs = {
            step.name: [
                (i.example, i.outputs[step.name]) for i in run.items if step.name in i.outputs
            ]
            for step in app.spec.steps
        }
        weigher = None
        if needs_weigher(app):
            stage = f"weighing {shown_as}"
            weigher = Weigher(context.pool.local(EMBEDDED), context.store, context.progress, stage)
        systems[shown_as] = dict(measure_all(beside, outputs, weigher))
        last = app.spec.steps[-1].name
        said[shown_as] = {item.example.id: item.outputs.get(last) for item in run.items}
    examples = tuple(
        Shown(
            example.id,
            "\n\n".join(example.inputs.values()),
            example.wanted.get(app.spec.steps[-1].name, ""),
            {name: found.get(example.id) for name, found in said.items()},
        )
        for example in beside.test[:_EXAMPLES]
    )
    return AppFigures(systems, examples, left)


def measure_general(
    engine: LocalEngine, limit: int, store: Store, progress: Progress
) -> dict[str, Measured]:
    """The general set: instructions with checkable constraints, the first ``limit`` of them."""
    chat = engine.has_chat_template
    options = BenchOptions(None, limit, None, chat, "float32", 0, "offline")
    run = run_bench(
        BENCHMARKS[GENERAL_SET], ModelAsking(engine, store, 0), options, store, progress
    )
    ids = tuple(item.id for item in run.items)
    return {each.scores.name: Measured(each.scores, ids) for each in run.figures}
