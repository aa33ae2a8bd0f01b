"""``hinlap models`` and ``hinlap models pull``"""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models known by name; with pull NAME, fetch one.

    A Hugging Face id, a folder or a .gguf file works wherever a name does.
    """
    if ctx.invoked_subcommand is None:
        _print_catalogue()


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a model by catalogue name or Hugging Face id."""
    from hinlap.cli.progress import TerminalProgress
    from hinlap.engines.catalogue import model_folder

    with TerminalProgress() as progress:
        folder = model_folder(name, progress)
    click.echo(f"{name}: {folder}")


def _print_catalogue() -> None:
    from rich.console import Console
    from rich.table import Table

    from hinlap.engines.catalogue import CATALOGUE, EMBEDDED, fits, machine_memory_bytes

    table = Table(header_style="bold", pad_edge=False)
    for column in ("Name", "Parameters", "Kind", "Context", "Licence", "Memory", "Fits here"):
        table.add_column(column, justify="right" if column in ("Parameters", "Memory") else "left")
    for entry in CATALOGUE.values():
        size = entry.parameters
        table.add_row(
            entry.name + (" (embedded)" if entry.name == EMBEDDED else ""),
            f"{size / 1e9:.2f}B" if size >= 1e9 else f"{size / 1e6:.0f}M",
            entry.kind,
            f"{entry.context:,}",
            entry.licence,
            f"{entry.memory_bytes / 1e9:.1f} GB",
            "yes" if fits(entry) else "no",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
    console.print(
        f"Memory: in float32 on the CPU; {machine_memory_bytes() / 1e9:.1f} GB are free here. "
        "A Hugging Face id, a folder or a .gguf file works wherever a name does.",
        style="dim",
        highlight=False,
    )
