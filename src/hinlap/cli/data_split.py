"""``hinlap data split``"""

from __future__ import annotations

from pathlib import Path

import click

from hinlap.core.counting import counted

_SHOWN = 5


@click.command(name="split")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--shares", required=True, metavar="SIDE=SHARE,...", help="As train=0.8,test=0.2.")
@click.option("--key", default="", help="Of the hash. [default: the earlier split's, or hinlap]")
@click.option(
    "--by", default="group", show_default=True,
    help="What stays together: group (else what is asked), content, or field:NAME.",
)  # fmt: skip
@click.option("--together", is_flag=True, help="Near copies stay together, too.")
@click.option("--out-dir", type=click.Path(path_type=Path), help="[default: beside FILE]")
@click.option("--resplit", default="", metavar="NAME", help="Give up the earlier split of NAME.")
def data_split(
    file: Path, shares: str, key: str, by: str, together: bool, out_dir: Path | None, resplit: str
) -> None:
    """Part FILE into NAME.SIDE.jsonl for each side, by a keyed hash of each row's group.

    A row stays on its side when rows are added, derived rows go with their parent. Rows of the
    side test never teach: few-shot examples, tuning and mixes refuse them.
    """
    from hinlap.cli.data_report import command_line, pairs_of
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import UserError
    from hinlap.workflows.data_import import now
    from hinlap.workflows.data_split import split_rows

    texts = pairs_of(shares.split(","), "--shares")
    try:
        numbers = {side.strip(): float(share) for side, share in texts.items()}
    except ValueError:
        raise UserError(
            f"{shares!r} has a share that is no number", where="--shares",
            hint="train=0.8,test=0.2",
        ) from None  # fmt: skip
    with TerminalProgress() as progress:
        report = split_rows(
            file, numbers, key=key, by=by, together=together, folder=out_dir, resplit=resplit,
            command=command_line(), created=now(), progress=progress,
        )  # fmt: skip
    total = sum(report.rows.values())
    for side, path in report.files.items():
        count = report.rows[side]
        click.echo(f"{side}: {counted(count, 'row')} ({count / total:.1%}) in {path}")
    click.echo(f"{counted(report.groups, 'group')}; key {report.split.key}")
    if report.orphans:
        click.echo(
            f"{counted(report.orphans, 'derived row')} without their parent here: they may stand "
            "apart from it"
        )
    if report.across is None:
        click.echo("near copies across the sides were not looked for: hinlap data check does it")
    elif report.across:
        click.echo(
            f"{counted(len(report.across), 'pair')} of near copies on two sides "
            "(--together keeps them on one)"
        )
        for a, side_a, b, side_b, alike in report.across[:_SHOWN]:
            click.echo(f"  {a} ({side_a}) and {b} ({side_b}): {alike:.0%} shared")
