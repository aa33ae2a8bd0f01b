"""``hinlap data log``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted


@click.command(name="log")
@click.argument("file", type=click.Path(path_type=Path))
def data_log(file: Path) -> None:
    """Print where FILE came from: each set, the command that made it, and its parents below."""
    from hinlap.workflows.data_log import lineage

    for step in lineage(file):
        indent = "  " * step.depth
        click.echo(f"{indent}{step.path}" + (f"  ! {step.state}" if step.state else ""))
        manifest = step.manifest
        if manifest is None:
            if not step.state:
                click.echo(f"{indent}  no manifest")
            continue
        told = [counted(manifest.rows, "row"), manifest.sha256[:12]]
        told += [manifest.licence or "licence unknown", manifest.created]
        if manifest.role:
            told.append(f"side {manifest.role}")
        click.echo(f"{indent}  {' · '.join(part for part in told if part)}")
        if manifest.source:
            click.echo(f"{indent}  {manifest.source} at {manifest.revision}")
        if manifest.command:
            click.echo(f"{indent}  {manifest.command}")
