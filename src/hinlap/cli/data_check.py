"""``hinlap data check``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hinlap.core.counting import counted

if TYPE_CHECKING:
    from hinlap.workflows.data_check import Check

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(name="check")
@click.argument("train", type=_PATH)
@click.option(
    "--against", multiple=True, type=_PATH, metavar="TEST",
    help="No row may be in it: a file of rows, an app's folder, or a folder of benchmarks' files.",
)  # fmt: skip
@click.option("--model", default="", help="Count tokens as it does, against its window.")
@click.option("--fix", type=_FILE, metavar="OUT", help="Write the cleaned set: .jsonl or .parquet.")
@click.option(
    "--remove", default="", metavar="GATE,...",
    help="Rows that --fix takes out besides: a gate, or a kind of one (answers:cut).",
)  # fmt: skip
@click.option("--keep", default="", metavar="GATE,...", help="Rows that --fix lets be; likewise.")
@click.option("--mask", is_flag=True, help="--fix writes [email] for an e-mail address, and so on.")
@click.option("--json", "json_file", type=_FILE, help="Write every count and finding.")
@click.option("--page", type=_FILE, help="Write an HTML page with plots and examples.")
@click.option("--fail-on", default="", metavar="GATE,...", help="Exit with 1 if these find a row.")
@click.option("--format", "format_name", default="", help="Of TRAIN. [default: recognised]")
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="As in import.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --fix.")
def data_check(
    train: Path,
    against: tuple[Path, ...],
    model: str,
    fix: Path | None,
    remove: str,
    keep: str,
    mask: bool,
    json_file: Path | None,
    page: Path | None,
    fail_on: str,
    format_name: str,
    maps: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Put the rows of TRAIN through all gates, and say what they find.

    \b
    duplicates  copies, near copies, one question with two answers
    overlap     rows in which a test item stands (--against)
    answers     empty, echoed, refused, repeated, cut off
    lengths     in words; in tokens against a model's window (--model)
    languages   answered in another language than asked
    personal    e-mail, phone, card, national numbers; shown masked
    balance     classes, who wrote, what is asked for
    formats     JSON, a list of five, one word ... asked for and not given

    TRAIN is not changed. --fix writes the rows that stay, and OUT.removed.jsonl with the others
    and why each is out.
    """
    from hinlap.cli.data_report import command_line, pairs_of, print_bad
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import UserError
    from hinlap.workflows.data_check import (
        CheckOptions,
        check_data,
        check_out,
        kinds_named,
        write_fixed,
        write_json,
    )
    from hinlap.workflows.data_check_page import write_page
    from hinlap.workflows.data_import import now

    if fix is None and (mask or remove or keep):
        raise UserError(
            "--mask, --remove and --keep say what --fix writes", where="--fix",
            hint="--fix OUT.jsonl",
        )  # fmt: skip
    if fix is not None:
        check_out(train, fix, overwrite=overwrite)
    failing = _names(fail_on)
    kinds_named(failing, "--fail-on")
    options = CheckOptions(
        format_name, pairs_of(maps, "--map"), against, model, _names(remove), _names(keep)
    )
    with TerminalProgress() as progress:
        check = check_data(train, options, progress)
    _print(check)
    print_bad(check.bad_count, check.bad, None, "could not be read")
    if json_file is not None:
        write_json(check, json_file)
    if page is not None:
        write_page(check, page)
        click.echo(f"page: {page}")
    if fix is not None:
        fixed = write_fixed(check, fix, mask=mask, command=command_line(), created=now())
        more = f", {fixed.masked:,} of them masked" if mask else ""
        click.echo(f"{counted(fixed.kept, 'row')} in {fixed.out}{more}")
        click.echo(f"{counted(fixed.removed, 'row')} taken out: {fixed.removed_file}")
    else:
        click.echo(f"--fix OUT would take out {counted(len(check.removed()), 'row')}")
    found = check.failing(failing)
    if found:
        click.echo(f"failed on: {', '.join(found)}", err=True)
        sys.exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(check: Check) -> None:
    from hinlap.data.gates.table import GATES

    click.secho(f"{check.train} · {counted(len(check.rows), 'row')}", bold=True)
    for report in check.reports:
        rows = counted(report.rows, "row") if report.rows else "–"
        rows = rows if report.looked else "not looked for"
        click.secho(f"{report.title:<20} {rows}", bold=bool(report.rows))
        for kind, count in report.counts.items():
            if count:
                removes = any(f.removes for f in report.findings if f.kind == kind)
                mark = "  (out)" if removes else ""
                click.echo(f"  {count:>7,}  {kind}: {GATES[report.name].kinds[kind].means}{mark}")
        for note in report.notes:
            click.secho(f"           {note}", dim=True)
