"""The command ``hinlap``: its commands, loaded only when called, and what an error looks like."""

from __future__ import annotations

import importlib
import os
import sys
import warnings

import click

from hinlap.core.errors import HinlapError, UserError
from hinlap.core.version import __version__

COMMANDS = {
    "init": "Write a working app into a folder.",
    "run": "Answer inputs by one route of an app.",
    "show": "Print the exact prompt that a model would see for an item.",
    "compare": "Measure every route on the same items, and pick one.",
    "metrics": "Score a file of outputs by BLEU, chrF, TER, ROUGE, SQuAD, perplexity ...",
    "compare-runs": "Say whether one system's scores are better than another's.",
    "bench": "Measure a model by published benchmarks.",
    "data": "Import, check, split, mix, make and write training and test sets.",
    "tune": "Tune a model by a recipe or an app's route; see what it gained.",
    "news": "Gather news articles from feeds, pages, NewsAPI or files.",
    "models": "List the models known by name, fetch one, or rank them for an app.",
    "schema": "Print the JSON schema of app.yaml, for editors.",
}


class _LazyCommands(click.Group):
    """Imports a command's module when it is called: help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"hinlap.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hinlap")
def cli() -> None:
    """Hinlap: one LLM app, four ways to build it, one decision.

    APP is a folder with an app.yaml, or the file. Start with: hinlap init DIR
    """


def _end(code: int) -> None:
    """Where a training of several processes ran here, the process ends now."""
    processes = sys.modules.get("hinlap.tuning.processes")
    if processes is not None:
        processes.end(code)


def main() -> None:
    """Entry point. Exit code 2: the user's mistake; 1: the program's or the machine's."""
    # libraries warn their own developers; a user can do nothing about it
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        cli(prog_name="hinlap", standalone_mode=False)
        _end(0)
    except HinlapError as error:
        # a user's mistake is seen by all processes of a launcher: the first one tells it
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, UserError):
            click.echo(f"hinlap: {error}", err=True)
        _end(error.exit_code)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\nhinlap: interrupted; what was finished is kept: run the same command again", err=True
        )
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        click.echo(f"hinlap: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        click.echo("  → check the path, its permissions and the free space", err=True)
        sys.exit(1)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)


if __name__ == "__main__":
    main()
