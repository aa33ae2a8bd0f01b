"""Who writes data: a model of this machine or one behind an address, with prices and a cap."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hinlap.core.errors import BudgetError, ServiceSetupError, UserError
from hinlap.core.messages import Engine
from hinlap.core.progress import Progress
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.catalogue import is_address
from hinlap.engines.connection import ServiceAddress
from hinlap.engines.pool import EnginePool
from hinlap.engines.service import ServiceEngine
from hinlap.engines.service_scoring import scorer_at
from hinlap.routes.service import is_own_machine

_NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Writer:
    """Which model writes.

    model:       a catalogue name, a Hugging Face id, a folder, a .gguf file, or a server's address
                 and model (`https://api.openai.com/v1#name`).
    key_env:     the environment variable with a service's key.
    usd_in, usd_out: a service's price per million tokens; None where not given.
    budget_usd:  cap on one run of a command; None where not given.
    """

    model: str
    key_env: str = "OPENAI_API_KEY"
    usd_in: float | None = None
    usd_out: float | None = None
    budget_usd: float | None = None
    concurrency: int = 4
    timeout_seconds: float = 120.0
    max_retries: int = 5


@dataclass(frozen=True)
class OpenWriter:
    """prices, budget: None where nothing is paid."""

    engine: Engine
    prices: Prices | None = None
    budget: Budget | None = None


@contextlib.contextmanager
def open_writer(
    writer: Writer, progress: Progress, environment: Mapping[str, str] = os.environ
) -> Iterator[OpenWriter]:
    """The engine, closed at the end. Loads no weights yet.

    Raises UserError for a service on another machine without prices or a cap, ServiceSetupError
    without a key, ModelError when the model cannot be had.
    """
    if not is_address(writer.model):
        if writer.budget_usd is not None or writer.usd_in or writer.usd_out:
            raise UserError(
                "prices and a budget are for a service, and this model runs here",
                where=f"--model {writer.model}",
                hint="leave them out, or name an address: https://host/v1#model",
            )
        yield OpenWriter(EnginePool(progress).local(writer.model))
        return
    named = scorer_at(writer.model).address  # reads and checks the address
    own = is_own_machine(named.base_url)
    given = (writer.usd_in, writer.usd_out, writer.budget_usd)
    if None in given and (not own or any(value is not None for value in given)):
        raise UserError(
            "a service may cost money: it needs its prices and a cap",
            where=f"--model {writer.model}",
            hint="--usd-in and --usd-out (USD per million tokens) and --budget-usd; 0 0 0 where it "
            "is free",
        )
    usd_in, usd_out = writer.usd_in or 0.0, writer.usd_out or 0.0
    budget = Budget(writer.budget_usd or 0.0)
    prices = Prices(input=usd_in, output=usd_out, cached_input=usd_in)
    keys = dict(environment)
    if own and not keys.get(writer.key_env, "").strip():
        keys[writer.key_env] = _NO_KEY
    address = ServiceAddress(
        base_url=named.base_url,
        model=named.model,
        key_env=writer.key_env,
        prices=prices,
        concurrency=writer.concurrency,
        timeout_seconds=writer.timeout_seconds,
        max_retries=writer.max_retries,
    )
    engine = ServiceEngine(address, budget, environment=keys)
    engine.check_key()
    try:
        paid = bool(usd_in or usd_out)
        yield OpenWriter(engine, prices if paid else None, budget if paid else None)
    finally:
        engine.close()


def own_words(error: BudgetError | ServiceSetupError) -> UserError:
    """An error that speaks of app.yaml, said for a command without one."""
    if isinstance(error, BudgetError):
        return BudgetError(
            error.what,
            where="--budget-usd",
            hint="raise it and run the same command again; answers paid for are kept",
        )
    hint = error.hint.replace("(model and base_url in app.yaml)", "(--model)")
    return ServiceSetupError(error.what, where=error.where, hint=hint)
