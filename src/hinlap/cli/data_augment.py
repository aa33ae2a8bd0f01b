"""``hinlap data augment``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.cli.writer_options import writer_options

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("augment")
@click.argument("file", type=_FILE)
@click.option("--kind", "kinds", multiple=True, required=True, metavar="KIND",
              help="paraphrase, harder, translate:th, translate:en; or several.")  # fmt: skip
@writer_options(required=True)
@click.option("--out", type=_FILE, required=True, help="The .jsonl or .parquet to write.")
@click.option("--draws", type=int, default=1, show_default=True,
              help="Variants of each kind asked for of a row.")  # fmt: skip
@click.option("--limit", type=int, help="The first so many rows only.")
@click.option("--with-originals", is_flag=True,
              help="The rows themselves, too, so that one split parts both.")  # fmt: skip
@click.option("--temperature", type=float, default=0.7, show_default=True)
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Of one answer.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--licence", default="", help="Of the result. Default: that of FILE.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def data_augment(
    file: Path,
    kinds: tuple[str, ...],
    model: str,
    out: Path,
    draws: int,
    limit: int | None,
    with_originals: bool,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    key_env: str,
    usd_in: float | None,
    usd_out: float | None,
    budget_usd: float | None,
    licence: str,
    overwrite: bool,
) -> None:
    """Paraphrases, translations and harder variants of the rows of FILE.

    A variant names its parent and has its group, so that `data split` keeps them on one side. What
    the model says is kept in .hinlap here: a killed run asks for the rest only.
    """
    from hinlap.cli.data_report import command_line
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.counting import counted
    from hinlap.workflows.augment import AugmentJob, augment
    from hinlap.workflows.data_engine import Writer

    job = AugmentJob(
        file=file,
        out=out,
        kinds=tuple(dict.fromkeys(kinds)),
        writer=Writer(model, key_env, usd_in, usd_out, budget_usd),
        draws=draws,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        limit=limit,
        with_originals=with_originals,
        licence=licence,
        overwrite=overwrite,
        command=command_line(),
    )
    with TerminalProgress() as progress:
        report = augment(job, progress)
    click.echo(f"{counted(report.rows, 'variant')} of {counted(report.parents, 'row')} in {out}")
    kind = ""
    for (own, what), number in report.yields.items():
        if own != kind:
            kind = own
            click.secho(kind, bold=True)
        click.echo(f"  {number:>8,}  {what}")
    if not with_originals:
        click.echo(f"before a split, put them beside their parents: hinlap data mix {file} {out}")
    if report.spent_usd is not None:
        click.echo(f"spent by this run: {report.spent_usd:.4f} USD")
    if report.stopped is not None:
        raise report.stopped
