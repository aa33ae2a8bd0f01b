"""The options of commands in which a model writes: which one, its key, its prices, the cap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def writer_options(*, required: bool) -> Callable[[Command], Command]:
    """Adds --model, --key-env, --usd-in, --usd-out and --budget-usd to a command.

    required: whether it does nothing without --model.
    """
    options = (
        click.option("--model", required=required, help="Who writes: a catalogue name, a folder, "
                     "a .gguf file, or https://host/v1#name."),
        click.option("--key-env", default="OPENAI_API_KEY", show_default=True,
                     help="Variable with a service's key."),
        click.option("--usd-in", type=float, help="A service's price per million tokens read."),
        click.option("--usd-out", type=float, help="Its price per million tokens written."),
        click.option("--budget-usd", type=float, help="It stops before it could cost more."),
    )  # fmt: skip

    def added(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return added
