"""The instruction alone, to an open model on this machine."""

from __future__ import annotations

from hinlap.app.app import App, prompt_for
from hinlap.app.declaration import ZeroShotSpec
from hinlap.routes.route import Route, RouteContext, Traits


def build(name: str, app: App, context: RouteContext) -> Route:
    spec = app.spec.routes[name]
    assert isinstance(spec, ZeroShotSpec)
    return Route(
        name=name,
        kind=spec.kind,
        model=spec.model,
        engine=context.pool.local(spec.model),
        make_prompt=prompt_for,
        traits=Traits(data_leaves_machine=False, lock_in="prompts", examples_needed=0),
        one_by_one=context.one_by_one,
    )
