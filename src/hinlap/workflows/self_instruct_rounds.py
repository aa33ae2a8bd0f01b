"""New tasks from seed tasks: rounds of asking, reading, filtering, until there are enough.

After Self-Instruct (Wang et al. 2022) a round asks for instructions, then whether each that is new
is a classification, then for an example of it; after Alpaca it asks for whole tasks at once. A
round that is over is one line of a journal beside the output, on the disk before the next begins;
the answers of the one under way are in the store. So a killed run goes on where it was and ends as
an unbroken one.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hinlap.core.counting import counted
from hinlap.core.errors import BudgetError, EngineError, HinlapError, ServiceSetupError
from hinlap.core.messages import (
    Completion,
    Continuation,
    Engine,
    Finish,
    Prompt,
    Sampling,
    ScoringEngine,
)
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import Origin, Row
from hinlap.data.formats.record import content_id
from hinlap.data.novelty import NoveltyPool
from hinlap.data.self_instruct.choosing import agreement
from hinlap.data.self_instruct.filters import Instance, usable_instances, why_no_news
from hinlap.data.self_instruct.parsing import (
    read_example,
    read_instructions,
    read_labelled,
    read_whole_tasks,
    read_yes,
)
from hinlap.data.self_instruct.prompts import (
    Language,
    Steer,
    ask_classification,
    ask_example,
    ask_instructions,
    ask_labelled,
    ask_whole_tasks,
    written_example,
)
from hinlap.data.self_instruct.seeds import SeedTask
from hinlap.engines.cache import answer_each, weigh_all
from hinlap.engines.tokens import estimate_tokens
from hinlap.store.store import Store
from hinlap.workflows.data_engine import OpenWriter, own_words
from hinlap.workflows.round_journal import Round, RoundJournal
from hinlap.workflows.self_instruct_options import SelfInstructOptions, check_choosing

_T = TypeVar("_T")

MOST_INSTANCES = 5
"""Of one instruction, as published."""
_SHORT_SEED_CHARACTERS = 1200
"""A longer seed is shown only where there are no others: a prompt holds several."""
_EXAMPLES_SHOWN = 3


@dataclass(frozen=True)
class SelfInstructReport:
    """rows: kept ones, at most as many as were wanted. yields: how many of what, by (step, what),
    in the order of the pipeline. rounds: in all. stopped: why there are fewer than wanted; None
    where there are not. spent_usd: by this run."""

    rows: tuple[Row, ...]
    wanted: int
    yields: Mapping[tuple[str, str], int]
    rounds: int
    stopped: HinlapError | None
    spent_usd: float | None = None


def say_plan(
    seeds: Sequence[SeedTask], options: SelfInstructOptions, writer: OpenWriter, progress: Progress
) -> None:
    """What is odd about the seeds, and for a paid service what a round costs, before it starts."""
    human, _ = options.shown
    if seeds and len(seeds) < human:
        progress.say(
            f"{counted(len(seeds), 'seed task')}: every prompt shows the same, so the new tasks "
            f"will be alike; {human} or more seeds make them differ"
        )
    if writer.prices is None or writer.budget is None:
        return
    tokens_in, tokens_out = _round_tokens(seeds, options)
    usd = writer.prices.cost_usd(tokens_in, tokens_out)
    per_round = options.requests * options.wanted
    rounds = math.ceil(options.count / per_round)
    line = (
        f"{writer.engine.name}: a round asks for {per_round} tasks with about {tokens_in:,} tokens "
        f"in and at most {tokens_out:,} out: about {usd:.4f} USD at the most; "
        f"{counted(options.count, 'row')} need {counted(rounds, 'round')} if all are kept, which "
        f"they are not: from {rounds * usd:.4f} USD; the cap is {writer.budget.cap_usd:.4f}"
    )
    if rounds * usd > writer.budget.cap_usd:
        line += ", so it may stop there"
    progress.say(line)


def _round_tokens(seeds: Sequence[SeedTask], options: SelfInstructOptions) -> tuple[int, int]:
    """Estimated tokens in, most tokens out, of one round whose instructions are all new."""
    state = _State.fresh(seeds, options)
    first = [_asking(0, k, state, seeds, options)[0] for k in range(options.requests)]
    tokens_in = sum(estimate_tokens(prompt.messages[0].content) for prompt in first)
    tokens_out = options.requests * options.max_tokens
    if options.way == "stages":
        typical = "x" * 120
        each = ask_example(typical, _solved_shown(seeds, typical, None, options), options.language)
        judged = ask_classification(typical, options.language)
        tasks = options.requests * options.wanted
        per_task = estimate_tokens(each.messages[0].content) * options.draws
        tokens_in += tasks * (per_task + estimate_tokens(judged.messages[0].content))
        tokens_out += tasks * (options.draws * options.max_tokens + _YES_TOKENS)
    return tokens_in, tokens_out


def write_tasks(
    seeds: Sequence[SeedTask],
    options: SelfInstructOptions,
    writer: OpenWriter,
    store: Store,
    journal: RoundJournal,
    progress: Progress,
) -> SelfInstructReport:
    """Rounds until ``count`` rows are kept, patience or money ends, or the model gives out.

    Each round is in the journal before the next; those there already are not asked again. Why it
    ended early is in the report; what was kept by then is, too.
    """
    check_choosing(options, writer.engine)
    state = _State.fresh(seeds, options)
    for done in journal.rounds:
        state.take(done)
    progress.start("self-instruct", options.count)
    progress.advance(min(len(state.rows), options.count))
    stopped: HinlapError | None = None
    while len(state.rows) < options.count and stopped is None:
        if state.barren >= options.patience:
            stopped = _out_of_patience(state, options, writer.engine)
            break
        try:
            done = _one_round(state, seeds, options, writer.engine, store)
        except (BudgetError, ServiceSetupError) as error:
            stopped = own_words(error)
        except EngineError as error:
            stopped = error
        else:
            journal.append(done)
            before = min(len(state.rows), options.count)
            state.take(done, pooled=True)
            progress.advance(
                min(len(state.rows), options.count) - before, note=f"round {state.rounds}"
            )
    progress.finish()
    return SelfInstructReport(
        rows=tuple(state.rows[: options.count]),
        wanted=options.count,
        yields=_ordered(state.yields),
        rounds=state.rounds,
        stopped=stopped,
        spent_usd=None if writer.budget is None else writer.budget.spent_usd,
    )


@dataclass
class _State:
    """What earlier rounds leave to the next. pool: all instructions, the seeds' first."""

    pool: NoveltyPool
    instructions: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    yields: Counter[tuple[str, str]] = field(default_factory=Counter)
    rounds: int = 0
    barren: int = 0
    lately: Counter[tuple[str, str]] = field(default_factory=Counter)  # since the last row

    @staticmethod
    def fresh(seeds: Sequence[SeedTask], options: SelfInstructOptions) -> _State:
        texts = [seed.instruction for seed in seeds]
        return _State(NoveltyPool(texts, threshold=options.threshold))

    def take(self, done: Round, *, pooled: bool = False) -> None:
        """pooled: its instructions are in the pool already."""
        for instruction in done.instructions:
            self.instructions.append(instruction)
            if not pooled:
                self.pool.add(instruction)
        self.rows += done.rows
        self.rounds += 1
        self.yields.update(done.yields)
        if done.rows:
            self.barren, self.lately = 0, Counter()
        else:
            self.barren += 1
            self.lately.update(done.yields)


REQUESTS, INSTRUCTIONS, TASKS, ANSWERS, ROWS = (
    "requests for tasks",
    "instructions",
    "tasks",
    "answers",
    "rows",
)
_STEPS = (REQUESTS, INSTRUCTIONS, TASKS, ANSWERS, ROWS)
ASKED, READ, NEW, KEPT = "asked", "read", "new", "kept"
FAILED, REFUSED, UNREADABLE = "failed", "refused", "unreadable"
NOT_WHOLE = "begun, not whole"
NOT_BEST = "not the best draw"
OVER_FIVE = f"over {MOST_INSTANCES} of one task"
CLASSIFICATION, UNCLEAR = "classification", "classification unclear: taken for none"
_YES_TOKENS = 6


def _one_round(
    state: _State,
    seeds: Sequence[SeedTask],
    options: SelfInstructOptions,
    engine: Engine,
    store: Store,
) -> Round:
    """Adds what is new to the pool; all else of the state stays."""
    yields: Counter[tuple[str, str]] = Counter()
    asked = [_asking(state.rounds, k, state, seeds, options) for k in range(options.requests)]
    temperature, top_p = options.drawing
    requests = [
        (
            prompt,
            Sampling(
                max_tokens=options.max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=options.seed,
                repeat=state.rounds * options.requests + k,
            ),
        )
        for k, (prompt, _) in enumerate(asked)
    ]
    completions = answer_each(engine, store, requests, Silent())
    if all(completion.finish is Finish.FAILED for completion in completions):
        raise EngineError(
            f"every request of a round failed: {completions[0].error}",
            where=engine.name,
            hint="where prompts are too long: fewer tasks in them (--human, --machine) or fewer "
            "--max-tokens; else run the same command again",
        )
    fresh: list[_Fresh] = []
    for completion, (_, labels) in zip(completions, asked, strict=True):
        for instruction, instance in _written(completion, options, yields):
            reason, similarity = why_no_news(
                instruction, state.pool, ascii_start=options.starts_in_ascii
            )
            if reason:
                yields[INSTRUCTIONS, reason] += 1
            else:
                state.pool.add(instruction)
                fresh.append(_Fresh(instruction, instance, similarity, labels))
    yields[INSTRUCTIONS, NEW] += len(fresh)
    if options.way == "stages":
        solved = _solve(fresh, seeds, options, engine, store, yields)
    else:
        solved = [_usable([task.instance], yields) if task.instance else [] for task in fresh]
    rows: list[Row] = []
    for task, instances in zip(fresh, solved, strict=True):
        yields[ANSWERS, OVER_FIVE] += max(0, len(instances) - MOST_INSTANCES)
        rows += _rows(task, instances[:MOST_INSTANCES], engine.name, state.rounds)
    yields[ROWS, KEPT] += len(rows)
    counts = {key: number for key, number in yields.items() if number}
    return Round(state.rounds, tuple(task.instruction for task in fresh), tuple(rows), counts)


@dataclass
class _Fresh:
    """An instruction that is new. instance: what came with it, where whole tasks are asked for."""

    instruction: str
    instance: Instance | None
    similarity: float
    labels: dict[str, object]
    classification: bool | None = None


def _asking(
    round_number: int,
    k: int,
    state: _State,
    seeds: Sequence[SeedTask],
    options: SelfInstructOptions,
) -> tuple[Prompt, dict[str, object]]:
    """The k-th prompt of a round and what its rows say of it. Drawn anew from the seed, the round
    and k, so that a broken round draws the same again."""
    rng = random.Random(f"{options.seed}/{round_number}/{k}")
    human, machine = options.shown
    turn = round_number * options.requests + k
    steer = Steer(
        topic=options.topics[turn % len(options.topics)] if options.topics else "",
        persona=options.personas[turn % len(options.personas)] if options.personas else "",
    )
    labels: dict[str, object] = {}
    if steer.topic:
        labels["topic"] = steer.topic
    if steer.persona:
        labels["persona"] = steer.persona
    if options.way == "whole":
        written = [
            SeedTask(row.id, row.instruction, ((row.input, row.output),)) for row in state.rows
        ]
        own = _sample(rng, written, machine)
        tasks = _sample(rng, _short(seeds), human) + own
        rng.shuffle(tasks)
        labels["shown"] = [task.id for task in tasks]
        return ask_whole_tasks(tasks, options.wanted, options.language, steer), labels
    made = _sample(rng, state.instructions, machine)
    drawn = _sample(rng, seeds, human + machine - len(made))  # people's fill the machine's places
    texts = made + [seed.instruction for seed in drawn]
    rng.shuffle(texts)
    labels["shown"] = [seed.id for seed in drawn]
    return ask_instructions(texts, options.wanted, options.language, steer), labels


def _sample(rng: random.Random, population: Sequence[_T], count: int) -> list[_T]:
    return rng.sample(population, min(count, len(population)))


def _short(seeds: Sequence[SeedTask]) -> list[SeedTask]:
    """The seeds whose first instance is short, or all where none is."""
    short = [
        seed
        for seed in seeds
        if len(seed.instruction) + sum(map(len, seed.instances[0])) <= _SHORT_SEED_CHARACTERS
    ]
    return short or list(seeds)


def _written(
    completion: Completion, options: SelfInstructOptions, yields: Counter[tuple[str, str]]
) -> list[tuple[str, Instance | None]]:
    """The instructions of one answer, perhaps with their instance."""
    yields[REQUESTS, ASKED] += 1
    if completion.finish in (Finish.FAILED, Finish.REFUSED):
        yields[REQUESTS, FAILED if completion.finish is Finish.FAILED else REFUSED] += 1
        return []
    cut = completion.finish is Finish.LENGTH
    found: list[tuple[str, Instance | None]] = []
    if options.way == "whole":
        tasks, broken = read_whole_tasks(completion.text, cut=cut)
        found += tasks
        yields[INSTRUCTIONS, NOT_WHOLE] += broken
    else:
        found += [(text, None) for text in read_instructions(completion.text, cut=cut)]
    if not found:
        yields[REQUESTS, UNREADABLE] += 1
    yields[INSTRUCTIONS, READ] += len(found)
    return found


def _solve(
    fresh: Sequence[_Fresh],
    seeds: Sequence[SeedTask],
    options: SelfInstructOptions,
    engine: Engine,
    store: Store,
    yields: Counter[tuple[str, str]],
) -> list[list[Instance]]:
    """The instances of each instruction's best draw; none where no draw is usable."""
    judging = Sampling(max_tokens=_YES_TOKENS, seed=options.seed)
    judged = answer_each(
        engine,
        store,
        [(ask_classification(task.instruction, options.language), judging) for task in fresh],
        Silent(),
    )
    prompts: list[Prompt] = []
    for task, completion in zip(fresh, judged, strict=True):
        says = read_yes(completion.text) if completion.finish is not Finish.FAILED else None
        yields[TASKS, UNCLEAR] += says is None
        yields[TASKS, CLASSIFICATION] += says is True
        task.classification = says is True
        shown = _solved_shown(seeds, task.instruction, task.classification, options)
        ask = ask_labelled if task.classification else ask_example
        prompts.append(ask(task.instruction, shown, options.language))
    # one answer: the likeliest, as published; several: drawn
    temperature, top_p = options.drawing if options.draws > 1 else (0.0, 1.0)
    samplings = [
        Sampling(
            max_tokens=options.max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=options.seed,
            repeat=draw,
        )
        for draw in range(options.draws)
    ]
    requests = [(prompt, sampling) for prompt in prompts for sampling in samplings]
    answers = iter(answer_each(engine, store, requests, Silent()))
    usable = [
        [_usable(_read_answer(next(answers), task, yields), yields) for _ in samplings]
        for task in fresh
    ]
    return _best_draws(prompts, usable, options, engine, store, yields)


def _solved_shown(
    seeds: Sequence[SeedTask],
    instruction: str,
    classification: bool | None,
    options: SelfInstructOptions,
) -> list[SeedTask]:
    """A few solved tasks of the same kind, drawn by the instruction."""
    if classification:
        alike = [seed for seed in seeds if seed.is_classification]
    else:
        alike = [seed for seed in seeds if not seed.is_classification]
    rng = random.Random(f"{options.seed}/{instruction}")
    return _sample(rng, _short(alike), _EXAMPLES_SHOWN)


def _read_answer(
    completion: Completion, task: _Fresh, yields: Counter[tuple[str, str]]
) -> list[Instance]:
    yields[ANSWERS, ASKED] += 1
    if completion.finish in (Finish.FAILED, Finish.REFUSED):
        yields[ANSWERS, FAILED if completion.finish is Finish.FAILED else REFUSED] += 1
        return []
    cut = completion.finish is Finish.LENGTH
    if task.classification:
        found = read_labelled(completion.text, cut=cut)
    else:
        one = read_example(completion.text, cut=cut)
        found = [] if one is None else [one]
    yields[ANSWERS, "cut" if cut else UNREADABLE] += not found
    return found


def _usable(instances: Sequence[Instance], yields: Counter[tuple[str, str]]) -> list[Instance]:
    yields[ANSWERS, READ] += len(instances)
    kept, dropped = usable_instances(instances)
    yields.update((ANSWERS, reason) for reason in dropped)
    return kept


def _best_draws(
    prompts: Sequence[Prompt],
    usable: Sequence[Sequence[list[Instance]]],
    options: SelfInstructOptions,
    engine: Engine,
    store: Store,
    yields: Counter[tuple[str, str]],
) -> list[list[Instance]]:
    """For each instruction its best usable draw; the first among equals."""
    texts = [[_as_text(draw, options.language) for draw in draws if draw] for draws in usable]
    values: list[list[float]] = [[0.0] * len(each) for each in texts]
    undecided = [place for place, each in enumerate(texts) if len(set(each)) > 1]
    if undecided and isinstance(engine, ScoringEngine) and options.best_by != "agreement":
        pairs = [Continuation(prompts[place], text) for place in undecided for text in texts[place]]
        weighed = iter(weigh_all(engine, store, pairs, Silent()))
        for place in undecided:
            values[place] = [
                total / tokens for total, tokens in (next(weighed) for _ in texts[place])
            ]
    else:
        for place in undecided:
            values[place] = agreement(texts[place])
    best = []
    for draws, own in zip(usable, values, strict=True):
        found = [draw for draw in draws if draw]
        chosen = found[own.index(max(own))] if found else []
        yields[ANSWERS, NOT_BEST] += sum(map(len, found)) - len(chosen)
        best.append(chosen)
    return best


def _as_text(instances: Sequence[Instance], language: Language) -> str:
    return "\n".join(written_example(i.input, i.output, language) for i in instances)


def _rows(
    task: _Fresh, instances: Sequence[Instance], model: str, round_number: int
) -> Iterable[Row]:
    group = content_id(task.instruction, "", "", "", ()) if len(instances) > 1 else ""
    labels: dict[str, object] = {
        "model": model,
        "round": round_number,
        "similarity": task.similarity,
        **task.labels,
    }
    if task.classification is not None:
        labels["is_classification"] = task.classification
    for instance in instances:
        yield Row(
            id=content_id(task.instruction, instance.input, instance.output, "", ()),
            instruction=task.instruction,
            input=instance.input,
            output=instance.output,
            group=group,
            origin=Origin.MACHINE,
            labels=labels,
        )


def _ordered(yields: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """By step; within one as it was met, what was asked first and what is kept last."""
    first, last = (ASKED, READ), (NEW, KEPT)

    def place(key: tuple[str, str]) -> tuple[int, int]:
        step, what = key
        return _STEPS.index(step), -1 if what in first else 1 if what in last else 0

    return {key: yields[key] for key in sorted(yields, key=place)}


def _out_of_patience(state: _State, options: SelfInstructOptions, engine: Engine) -> EngineError:
    lately = state.lately
    read, new = lately[INSTRUCTIONS, READ], lately[INSTRUCTIONS, NEW]
    if not read:
        why = "none of its answers held a task that could be read"
    elif not new:
        why = f"none of its {counted(read, 'instruction')} was new and fit"
    else:
        why = f"{counted(new, 'new instruction')}, but no usable answer to any"
    return EngineError(
        f"{counted(state.barren, 'round')} in a row gave nothing: {why}",
        where=engine.name,
        hint="take a larger model, a higher --temperature, other --topics or more seeds; "
        f"--patience {options.patience + 5} goes on from here",
    )
