"""``hinlap data convert``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted


@click.command(name="convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to", required=True,
    help="alpaca, dolly, messages, sharegpt, prompt-completion or hinlap.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), required=True,
    help="The file to write: .jsonl, .jsonl.gz, .csv (flat formats) or .parquet (hinlap).",
)  # fmt: skip
@click.option("--format", "format_name", default="", help="Of FILE. [default: recognised]")
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="As in import.")
@click.option("--strict", is_flag=True, help="The first row that does not fit stops it.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def data_convert(
    file: Path,
    to: str,
    out: Path,
    format_name: str,
    maps: tuple[str, ...],
    strict: bool,
    overwrite: bool,
) -> None:
    """Write the rows of FILE in another format, and say what that cannot hold."""
    from hinlap.cli.data_report import command_line, pairs_of, print_bad
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.data_convert import convert_rows
    from hinlap.workflows.data_import import now

    with TerminalProgress() as progress:
        report = convert_rows(
            file, out, to, format=format_name, columns=pairs_of(maps, "--map"), strict=strict,
            overwrite=overwrite, command=command_line(), created=now(), progress=progress,
        )  # fmt: skip
    click.echo(f"{counted(report.rows, 'row')} in {report.out} as {to}")
    for name, count in sorted(report.lost.items()):
        click.echo(f"{to} does not hold: {name}, of {counted(count, 'row')}")
    print_bad(report.bad, report.shown, None, "left out")
