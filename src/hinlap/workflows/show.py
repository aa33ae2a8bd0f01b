"""The exact prompts of an item, without running a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hinlap.app.app import App
from hinlap.core.errors import AppError, InputError
from hinlap.core.examples import Example
from hinlap.core.progress import Progress
from hinlap.routes.table import prompt_maker
from hinlap.workflows.answer import route_context


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """text: as the model sees it (for a service: the request's body). estimated: the token count
    is rough, since the service's tokenizer is not known."""

    step: str
    item: str
    model: str
    text: str
    tokens: int
    max_tokens: int
    estimated: bool


def shown_prompts(
    app: App, route_name: str, item: str, only: str | None, progress: Progress
) -> Iterator[ShownPrompt]:
    """Raises AppError for an unknown route or step, InputError for an unknown item."""
    example = find_item(app, item)
    if only is not None and only not in {s.name for s in app.spec.steps}:
        raise AppError(
            f"no step {only!r}",
            where=str(app.file),
            hint=f"steps are: {', '.join(s.name for s in app.spec.steps)}",
        )
    with route_context(app, progress) as context:
        maker = prompt_maker(route_name, app, context)
        fields = dict(example.inputs)
        for step in app.spec.steps:
            if only in (None, step.name):
                prompt = maker.make_prompt(step, fields)
                yield ShownPrompt(
                    step=step.name,
                    item=example.id,
                    model=maker.engine.name,
                    text=maker.engine.render(prompt),
                    tokens=maker.engine.count_tokens(prompt),
                    max_tokens=step.max_tokens,
                    estimated=maker.estimated,
                )
            fields[step.name] = example.wanted.get(step.name, f"[what {step.name} will give]")


def find_item(app: App, item: str) -> Example:
    """A test item by number (from 1) or id; a train example by id. Raises InputError."""
    for example in (*app.test, *app.train):
        if example.id == item:
            return example
    if item.isdecimal() and 1 <= int(item) <= len(app.test):
        return app.test[int(item) - 1]
    if not app.test:
        ids = ", or give the id of a train example" if app.train else ""
        raise InputError(
            f"no item {item!r}: the app has no test items",
            where="--item",
            hint=f"add examples.test to app.yaml{ids}",
        )
    raise InputError(
        f"no item {item!r}",
        where="--item",
        hint=f"give a number from 1 to {len(app.test)}, or an id of the examples",
    )
