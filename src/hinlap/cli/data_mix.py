"""``hinlap data mix``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted


@click.command(name="mix")
@click.argument("sets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A B...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--weights", default="", metavar="W,W...", help="Share of each set's rows to take.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the drawing.")
@click.option(
    "--licence", "licences", multiple=True, metavar="SET=LICENCE",
    help="Of a set whose manifest names none.",
)  # fmt: skip
@click.option("--with-test", multiple=True, metavar="SET", help="Take this test side all the same.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def data_mix(
    sets: tuple[Path, ...],
    out: Path,
    weights: str,
    seed: int,
    licences: tuple[str, ...],
    with_test: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Put the rows of sets into one file, and say what the mix allows and why."""
    from hinlap.cli.data_report import command_line, pairs_of
    from hinlap.core.errors import UserError
    from hinlap.data.licences import NOT_ADVICE
    from hinlap.workflows.data_import import now
    from hinlap.workflows.data_mix import mix_sets

    try:
        numbers = [float(weight) for weight in weights.split(",")] if weights else []
    except ValueError:
        raise UserError(
            f"{weights!r} has a weight that is no number", where="--weights", hint="1,0.5"
        ) from None
    report = mix_sets(
        sets, out, weights=numbers, seed=seed, licences=pairs_of(licences, "--licence"),
        with_test=with_test, overwrite=overwrite, command=command_line(), created=now(),
    )  # fmt: skip
    click.echo(f"{counted(sum(report.rows.values()), 'row')} in {out}")
    for name, count in report.rows.items():
        bad = f", {counted(report.bad[name], 'bad record')} left out" if report.bad[name] else ""
        click.echo(f"  {name}: {counted(count, 'row')}{bad}")
    if report.renamed:
        click.echo(f"{counted(report.renamed, 'id')} came twice and got a number behind")
    words = {True: "yes", False: "no", None: "unknown"}
    terms = report.terms
    click.echo(f"commercial use: {words[terms.commercial]}")
    as_what = f", under {terms.licence}" if terms.licence else ""
    click.echo(f"passed on as one work: {words[terms.as_one_work]}{as_what}")
    for reason in terms.reasons:
        click.echo(f"  · {reason}")
    if terms.attribution:
        click.echo(f"to be named: {', '.join(terms.attribution)}")
    click.echo(NOT_ADVICE)
