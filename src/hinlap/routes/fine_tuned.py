"""An open model tuned by LoRA on the train split, then asked as in zero-shot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hinlap.app.app import App, prompt_for
from hinlap.app.declaration import FineTunedSpec
from hinlap.core.counting import counted
from hinlap.core.errors import AppError
from hinlap.core.examples import Example
from hinlap.core.messages import Engine, Message
from hinlap.data.leaks import refuse_leaks, refuse_test_sets
from hinlap.engines.local import LocalEngine
from hinlap.routes.route import MakePrompt, Route, RouteContext, Traits
from hinlap.tuning.lessons import Encoded, Lesson, encode_lessons
from hinlap.tuning.recipe import LoraFields, Recipe
from hinlap.tuning.tune import Job, tune


def build(name: str, app: App, context: RouteContext) -> Route:
    """Trains, or reuses what was trained on the same rows, recipe and base."""
    spec = app.spec.routes[name]
    assert isinstance(spec, FineTunedSpec)
    refuse_leaks(app.train, app.test)
    refuse_test_sets(app)
    taught = app.train[: spec.examples]
    rows = lessons(app, taught)
    if not rows:
        raise AppError(
            f"the route {name!r} needs train examples with outputs; there are none",
            where=str(app.file),
            hint="add examples.train, or leave the route out",
        )
    base = context.pool.local(spec.model)
    job = app_job(spec, rows, base)
    tuned = tune(job, tuned_home(app, job), context.progress)
    return Route(
        name=name,
        kind=spec.kind,
        model=f"{spec.model} + LoRA on {counted(len(taught), 'example')}",
        engine=context.pool.local(spec.model, tuned.adapter),
        make_prompt=prompt_for,
        traits=Traits(data_leaves_machine=False, lock_in="tuning", examples_needed=len(taught)),
        tuning_seconds=tuned.seconds,
        one_by_one=context.one_by_one,
        notes=(
            f"tuned {tuned.seconds:.0f} s on {counted(tuned.rows, 'row')}, "
            f"loss {tuned.losses[0]:.2f} to {tuned.losses[-1]:.2f}"
            + (", reused" if tuned.reused else ""),
        ),
    )


def base_prompts(name: str, app: App, context: RouteContext) -> tuple[MakePrompt, Engine]:
    """How it asks, without tuning: prompts and the base model's engine."""
    spec = app.spec.routes[name]
    assert isinstance(spec, FineTunedSpec)
    return prompt_for, context.pool.local(spec.model)


def recipe_of(spec: FineTunedSpec) -> Recipe:
    """The route's declaration as a recipe of LoRA in the model's own prompt format."""
    return Recipe(
        name="app",
        model=spec.model,
        method="lora",
        format="own",
        held_out_rows=0,
        epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        warmup_steps=spec.warmup_steps,
        max_length=spec.max_length,
        seed=spec.seed,
        lora=LoraFields(rank=spec.rank, alpha=spec.alpha, dropout=spec.dropout, target=spec.target),
    )


def app_job(spec: FineTunedSpec, rows: Sequence[Lesson], engine: LocalEngine) -> Job:
    """What the route trains on, with the tokenizer that serves it."""
    from hinlap.tuning.bases import Base, refuse_adapter

    refuse_adapter(spec.model)
    recipe = recipe_of(spec)
    tokenizer = engine.tokenizer
    return Job(
        recipe,
        Base(spec.model, engine.folder, engine.digest),
        tokenizer,
        encode_lessons(rows, tokenizer, spec.max_length),
        Encoded((), {}),
    )


def tuned_home(app: App, job: Job) -> Path:
    """Where a route's tuned model stands: by what it is made from."""
    return app.folder / ".hinlap" / "tuned" / job.digest()[:16]


def lessons(app: App, examples: Sequence[Example]) -> list[Lesson]:
    """One row per step and example that has the step's output and all it sees."""
    rows = []
    for example in examples:
        fields = dict(example.inputs)
        for step in app.spec.steps:
            wanted = example.wanted.get(step.name)
            if wanted is None:
                break  # later steps see this one's output
            asked = prompt_for(step, fields).messages
            rows.append(Lesson((*asked, Message("assistant", wanted))))
            fields[step.name] = wanted
    return rows
