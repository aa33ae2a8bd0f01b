"""``hinlap data diff``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted


@click.command(name="diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
def data_diff(a: Path, b: Path) -> None:
    """Which rows B has that A has not, lacks, or has in another wording."""
    from hinlap.workflows.data_diff import diff_sets

    found = diff_sets(a, b)
    click.echo(f"{a}: {counted(found.rows_a, 'row')}; {b}: {counted(found.rows_b, 'row')}")
    click.echo(f"same content: {found.same:,} ({found.renamed:,} under another id)")
    for name, count, ids in (
        ("added", found.added, found.added_ids),
        ("removed", found.removed, found.removed_ids),
        ("changed", found.changed, found.changed_ids),
    ):
        some = f": {', '.join(ids)}{' ...' if count > len(ids) else ''}" if ids else ""
        click.echo(f"{name}: {count:,}{some}")
    if found.bad:
        click.echo(f"{counted(found.bad, 'record')} could not be read, and stand aside")
