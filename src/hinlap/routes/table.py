"""The routes there are."""

from __future__ import annotations

from dataclasses import dataclass

from hinlap.app.app import App
from hinlap.core.errors import AppError
from hinlap.core.messages import Engine
from hinlap.routes import few_shot, fine_tuned, service, zero_shot
from hinlap.routes.route import BuildRoute, MakePrompt, Route, RouteContext

ROUTES: dict[str, BuildRoute] = {
    "zero-shot": zero_shot.build,
    "few-shot": few_shot.build,
    "service": service.build,
    "fine-tuned": fine_tuned.build,
}


def build_route(name: str, app: App, context: RouteContext) -> Route:
    """The app's route ``name``, ready to answer. Raises HinlapError when it cannot be."""
    return ROUTES[_kind(name, app)](name, app, context)


@dataclass(frozen=True)
class PromptMaker:
    """A route's prompts without its being ready: ``engine`` renders and counts, no more.

    estimated: the count is rough (a service's tokenizer is not known).
    """

    make_prompt: MakePrompt
    engine: Engine
    estimated: bool


def prompt_maker(name: str, app: App, context: RouteContext) -> PromptMaker:
    """How the route ``name`` asks: no tuning, no key, no server."""
    kind = _kind(name, app)
    if kind == "fine-tuned":  # asked with the base model's prompt and tokenizer
        return PromptMaker(*fine_tuned.base_prompts(name, app, context), estimated=False)
    if kind == "service":
        return PromptMaker(*service.prompts(name, app, context), estimated=True)
    route = ROUTES[kind](name, app, context)
    return PromptMaker(route.make_prompt, route.engine, estimated=False)


def _kind(name: str, app: App) -> str:
    spec = app.spec.routes.get(name)
    if spec is None:
        raise AppError(
            f"no route {name!r}",
            where=str(app.file),
            hint=f"routes are: {', '.join(app.spec.routes)}",
        )
    return spec.kind
