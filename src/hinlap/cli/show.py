"""``hinlap show``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--route", required=True, help="Which of the app's routes.")
@click.option(
    "--item", default="1", show_default=True, help="Test item: its number, from 1, or its id."
)
@click.option("--step", help="Only this step. [default: all]")
def show(app: Path, route: str, item: str, step: str | None) -> None:
    """Print the exact prompt and token count that a model would see. No model is run.

    A later step's prompt holds the wanted outputs of the earlier steps where the item has them,
    and a mark where it has not.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.counting import counted
    from hinlap.workflows.load import load
    from hinlap.workflows.show import shown_prompts

    with TerminalProgress() as progress:
        for prompt in shown_prompts(load(app), route, item, step, progress):
            about = "about " if prompt.estimated else ""
            click.secho(
                f"--- {prompt.step} · {prompt.item} · {prompt.model} · {about}"
                f"{counted(prompt.tokens, 'token')}, up to {prompt.max_tokens} for the answer",
                bold=True,
            )
            click.echo(prompt.text)
