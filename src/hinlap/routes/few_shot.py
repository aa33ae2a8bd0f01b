"""Premade examples before each item, to an open model on this machine."""

from __future__ import annotations

from hinlap.app.app import App
from hinlap.app.declaration import FewShotSpec
from hinlap.routes.route import Route, RouteContext, Traits
from hinlap.routes.shots import shots_prompt


def build(name: str, app: App, context: RouteContext) -> Route:
    spec = app.spec.routes[name]
    assert isinstance(spec, FewShotSpec)
    engine = context.pool.local(spec.model)
    return Route(
        name=name,
        kind=spec.kind,
        model=spec.model,
        engine=engine,
        make_prompt=shots_prompt(
            name,
            app,
            k=spec.k,
            select=spec.select,
            seed=spec.seed,
            window=lambda: engine.context_length,
            count_tokens=engine.count_tokens,
            progress=context.progress,
        ),
        traits=Traits(data_leaves_machine=False, lock_in="prompts", examples_needed=spec.k),
        one_by_one=context.one_by_one,
    )
