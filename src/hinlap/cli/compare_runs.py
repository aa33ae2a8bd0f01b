"""``hinlap compare-runs``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.workflows.compare_runs import ComparedRuns, MetricRuns, RunPair


@click.command(name="compare-runs")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A B...")
@click.option(
    "--clusters",
    metavar="FILE|KEY",
    help="Items that belong together: a file with one name per line, or a list in A and B. "
    "[default: their list 'clusters', if any]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write everything as JSON.",
)
def compare_runs(
    files: tuple[Path, ...], clusters: str | None, seed: int, json_file: Path | None
) -> None:
    """Say whether B is better than A, worse, or not decisive: scores of the same items.

    A, B and more are files written by hinlap metrics ... --json. The first is the baseline; of
    more than two, all pairs are compared and p is corrected for their number (Holm).
    """
    from hinlap.workflows.compare_runs import compare_runs as compare
    from hinlap.workflows.compare_runs import write_comparison

    compared = compare(files, clusters=clusters, seed=seed)
    if json_file is not None:
        write_comparison(compared, json_file)
    for number, metric in enumerate(compared.metrics):
        if number:
            click.echo()
        _print(compared, metric)
    for name, ways in compared.refused.items():
        click.echo(f"\n{name}: not compared, as it was measured in different ways: {ways}")


def _print(compared: ComparedRuns, metric: MetricRuns) -> None:
    from hinlap.workflows.numbers import with_interval

    arrow = "↑" if metric.higher_is_better else "↓"
    items = f"{compared.n:,} item{'s' if compared.n != 1 else ''}"
    groups = "" if compared.clusters is None else f" in {compared.clusters:,} clusters"
    click.secho(f"{metric.metric} {arrow} · {items}{groups}", bold=True)
    click.echo(f"  {metric.signature}")
    width = max(len(file) for file in compared.files)
    for file, interval, notes in zip(compared.files, metric.intervals, metric.notes, strict=True):
        odd = "".join(f"; {what}: {n:,}" for what, n in notes.items())
        click.echo(f"  {file:<{width}}  {with_interval(interval)}{odd}")
    for pair in metric.pairs:
        click.echo(_sentence(pair, corrected=len(metric.pairs) > 1))


def _sentence(pair: RunPair, *, corrected: bool) -> str:
    from hinlap.workflows.numbers import short

    paired = pair.paired
    if paired.difference is None:
        return f"{pair.b} against {pair.a}: not decisive, as the figure is undefined"
    text = f"{pair.b} against {pair.a}: {pair.verdict}, by {_signed(paired.difference)}"
    if paired.low is not None and paired.high is not None:
        text += f" [{_signed(paired.low)}, {_signed(paired.high)}]"
    if pair.p is not None:
        text += f", p {short(pair.p)}{' (Holm)' if corrected else ''}"
    if pair.items_needed is not None:
        text += f"; about {pair.items_needed:,} items would decide"
    if pair.detectable is not None:
        text += f"; a difference of {short(pair.detectable)} would show in 4 of 5 such tests"
    return text


def _signed(value: float) -> str:
    from hinlap.workflows.numbers import short

    text = short(value)
    return "0" if text in ("0", "-0") else f"+{text}" if value > 0 else text
