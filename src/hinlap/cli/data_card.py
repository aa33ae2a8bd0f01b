"""``hinlap data card``"""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="card")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="[default: README.md beside FILE]")
@click.option("--language", "languages", multiple=True, help="ISO 639-1 code, as en. Repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace the card.")
def data_card(file: Path, out: Path | None, languages: tuple[str, ...], overwrite: bool) -> None:
    """Write a Hugging Face data card of FILE: licence, size, checks and lineage."""
    from hinlap.data.import_state import refuse_existing
    from hinlap.workflows.data_card import write_card

    place = out or file.parent / "README.md"
    refuse_existing(place, overwrite)
    click.echo(f"wrote {write_card(file, place, languages)}")
