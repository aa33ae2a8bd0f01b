"""``hinlap data import``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted


@click.command(name="import")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True,
    help="The file to write: .jsonl, .jsonl.gz or .parquet.",
)  # fmt: skip
@click.option(
    "--format", "format_name", default="",
    help="hinlap, alpaca, dolly, messages, sharegpt, prompt-completion. [default: recognised]",
)  # fmt: skip
@click.option(
    "--map", "maps", multiple=True, metavar="FIELD=COLUMN",
    help="The column that stands for a format's field, as instruction=question.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="The first bad row stops it; nothing is written.")
@click.option("--licence", default="", help="Of the rows, as CC-BY-SA-3.0.")
@click.option("--group", default="", metavar="COLUMN", help="Rows alike in it never part.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def data_import(
    sources: tuple[str, ...],
    out: Path,
    format_name: str,
    maps: tuple[str, ...],
    strict: bool,
    licence: str,
    group: str,
    overwrite: bool,
) -> None:
    """Bring rows of any known format into one file with a manifest beside it.

    A SOURCE is a file (JSONL, JSON, CSV, TSV, Parquet; also gzipped), a pattern in quotes, or a
    set of the Hugging Face hub: hf:owner/name@revision, and behind a colon a file or config/split.
    Bad rows go to OUT.bad.jsonl with place and reason. Killed, the same command goes on.
    """
    from hinlap.cli.data_report import command_line, pairs_of, print_bad
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.data_import import ImportOptions, import_rows

    options = ImportOptions(format_name, pairs_of(maps, "--map"), strict, licence, group, overwrite)
    with TerminalProgress() as progress:
        report = import_rows(sources, out, options, command=command_line(), progress=progress)
    click.echo(
        f"{counted(report.rows, 'row')} in {report.out}, read as {', '.join(report.formats)}"
    )
    if report.renamed:
        click.echo(f"{counted(report.renamed, 'id')} came twice and got a number behind")
    print_bad(report.bad, report.shown, report.bad_file, "could not be read")
    if not report.licence:
        click.echo("licence unknown: name it with --licence, so that a mix can be judged")
