"""A paid service behind an OpenAI-compatible address, or its local stand-in."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from hinlap.app.app import App, prompt_for
from hinlap.app.declaration import ServiceSpec
from hinlap.core.messages import Engine
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.catalogue import EMBEDDED
from hinlap.engines.connection import ServiceAddress
from hinlap.engines.service import ServiceEngine
from hinlap.engines.stand_in import KEY, stand_in_service
from hinlap.routes.route import MakePrompt, Route, RouteContext, Traits
from hinlap.routes.shots import shots_prompt


def build(name: str, app: App, context: RouteContext) -> Route:
    """Raises ServiceSetupError when there is no key and no stand-in is allowed."""
    spec = _spec(name, app)
    environment = dict(context.environment)
    stand_in = spec.stand_in and not environment.get(spec.key_env, "").strip()
    model, base_url, identity = spec.model, spec.base_url, ""
    if stand_in:
        local = context.pool.local(EMBEDDED)
        base_url = context.cleanup.enter_context(stand_in_service(local))
        environment = {spec.key_env: KEY}
        # its port changes from run to run: cached answers go by the model behind it
        model, identity = EMBEDDED, f"stand-in/{local.digest}"
    budget = context.budgets.setdefault(name, Budget(spec.budget_usd))
    address = _address(spec, base_url, model)
    engine = ServiceEngine(address, budget, environment=environment, identity=identity)
    context.cleanup.callback(engine.close)
    engine.check_key()
    return Route(
        name=name,
        kind=spec.kind,
        model=f"stand-in for {spec.model} ({EMBEDDED})" if stand_in else spec.model,
        engine=engine,
        make_prompt=_make_prompt(name, spec, app, engine, context),
        traits=Traits(
            data_leaves_machine=not is_own_machine(spec.base_url),
            lock_in="service",
            examples_needed=spec.shots,
            stand_in=stand_in,
        ),
        prices=address.prices,
    )


def prompts(name: str, app: App, context: RouteContext) -> tuple[MakePrompt, Engine]:
    """How it asks, without a key: prompts and an engine that only renders and counts."""
    spec = _spec(name, app)
    engine = ServiceEngine(_address(spec, spec.base_url, spec.model), Budget(0.0))
    return _make_prompt(name, spec, app, engine, context), engine


def _spec(name: str, app: App) -> ServiceSpec:
    spec = app.spec.routes[name]
    assert isinstance(spec, ServiceSpec)
    return spec


def _address(spec: ServiceSpec, base_url: str, model: str) -> ServiceAddress:
    cached = spec.prices.cached_input
    return ServiceAddress(
        base_url=base_url,
        model=model,
        key_env=spec.key_env,
        prices=Prices(
            input=spec.prices.input,
            output=spec.prices.output,
            cached_input=spec.prices.input if cached is None else cached,
        ),
        concurrency=spec.concurrency,
        timeout_seconds=spec.timeout_seconds,
        max_retries=spec.max_retries,
    )


def _make_prompt(
    name: str, spec: ServiceSpec, app: App, engine: ServiceEngine, context: RouteContext
) -> MakePrompt:
    if not spec.shots:
        return prompt_for
    return shots_prompt(
        name,
        app,
        k=spec.shots,
        select=spec.select,
        seed=spec.seed,
        window=lambda: 0,
        count_tokens=engine.count_tokens,
        progress=context.progress,
    )


def is_own_machine(base_url: str) -> bool:
    """Whether the address is this machine's own (loopback): then nothing leaves it.

    >>> is_own_machine("http://127.0.0.1:8000/v1"), is_own_machine("https://api.openai.com/v1")
    (True, False)
    """
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
