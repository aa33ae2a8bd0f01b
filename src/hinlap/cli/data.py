"""``hinlap data``: its commands, each in a file of its own, loaded when called."""

from __future__ import annotations

import importlib

import click

DATA_COMMANDS = {
    "import": "Bring rows of any known format into one file, and say which were bad.",
    "convert": "Write a file of rows in another format.",
    "check": "Look for copies, leaks, cut answers, personal data ... before anything learns.",
    "split": "Part a set by a keyed hash, so that a row stays on its side.",
    "mix": "Put sets together, and say what the mix allows.",
    "log": "Where a set came from, step by step.",
    "diff": "Which rows were added, removed or changed.",
    "card": "Write a Hugging Face data card.",
    "self-instruct": "Have a model write rows from seed tasks.",
    "augment": "Paraphrases, translations and harder variants of one's own rows.",
    "annotate": "Write and correct rows by hand, a model's draft beside them.",
}


class _LazyData(click.Group):
    """Imports a command's module, ``data_NAME``, when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(DATA_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in DATA_COMMANDS:
            return None
        name = f"data_{cmd_name.replace('-', '_')}"
        command = getattr(importlib.import_module(f"hinlap.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(DATA_COMMANDS.items()))


@click.group(cls=_LazyData)
def data() -> None:
    """From a few examples, or none, to a clean, versioned training and test set."""
