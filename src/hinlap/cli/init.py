"""``hinlap init``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--language",
    type=click.Choice(["en", "th"]),
    default="en",
    show_default=True,
    help="Of the app that is written.",
)
def init(directory: Path, language: str) -> None:
    """Write a working app into DIRECTORY: app.yaml, a few examples, the schema for editors.

    Files that are there already are never touched.
    """
    from hinlap.workflows.init_app import init_app

    for file in init_app(directory, language):
        click.echo(f"wrote {file}")
    click.echo(f"next: hinlap compare {directory}")
