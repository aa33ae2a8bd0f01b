"""``hinlap bench``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.workflows.bench import BenchRun


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...|list|show NAME")
@click.option("--model", help="A catalogue name, a folder, a .gguf file, or http://host/v1#name.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A folder with the benchmarks' original files, or one such file.",
)
@click.option("--limit", type=int, help="The first so many items only.")
@click.option("--item", "number", type=int, help="With show: which item, counted from 0.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write figures and items as JSON, for compare-runs.",
)
def bench(
    names: tuple[str, ...],
    model: str | None,
    data: Path | None,
    limit: int | None,
    number: int | None,
    seed: int,
    json_file: Path | None,
) -> None:
    """Measure a model by published benchmarks: their definition, with intervals.

    `bench list` says what there is and where its data comes from; `bench show NAME --item N`
    prints exactly what a model is given. What was weighed is kept in .hinlap here: a killed run
    goes on where it was.
    """
    from hinlap.core.errors import UserError

    if names[0] == "list":
        _list()
        return
    if data is None:
        raise UserError(
            "where is the data?",
            where="--data",
            hint="a folder with the original files (see `hinlap bench list`), or one such file",
        )
    if names[0] == "show":
        if len(names) != 2:
            raise UserError("which benchmark?", hint="hinlap bench show NAME --item 7 --data DIR")
        _show(names[1], data, number or 0)
        return
    if model is None:
        raise UserError("which model?", where="--model", hint="`hinlap models` lists names")
    if json_file is not None and len(names) > 1:
        raise UserError("one file holds one benchmark", where="--json", hint="name one benchmark")
    _run(names, model, data, limit, seed, json_file)


def _list() -> None:
    from hinlap.benchmarks.table import BENCHMARKS

    for benchmark in BENCHMARKS.values():
        about = benchmark.about
        click.secho(benchmark.name, bold=True, nl=False)
        click.echo(f"  {benchmark.title}")
        click.echo(f"  {about.paper}; {about.licence}; as {about.peer}")
        click.echo(f"  data: {about.address}, here DIR/{benchmark.file}")


def _show(name: str, data: Path, number: int) -> None:
    from hinlap.core.errors import UserError
    from hinlap.workflows.bench import read_benchmark

    _, items = read_benchmark(name, data)
    if not 0 <= number < len(items):
        raise UserError(f"there is no item {number}", hint=f"0 to {len(items) - 1}")
    item = items[number]
    click.echo(f"item {item.id}{f' · {item.group}' if item.group else ''}")
    for pair, label in zip(item.asked, item.labels, strict=True):
        click.secho(f"--- {label}", dim=True)
        click.echo(pair.context.messages[0].content, nl=False)
        click.secho(pair.text, bold=True)


def _run(
    names: tuple[str, ...],
    model: str,
    data: Path,
    limit: int | None,
    seed: int,
    json_file: Path | None,
) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.store.store import Store
    from hinlap.workflows.bench import STORE, find_benchmark, run_bench, write_bench

    for name in names:
        find_benchmark(name)  # a misspelt last one is told before the first has run
    store = Store(STORE)
    try:
        for name in names:
            with TerminalProgress() as progress:
                run = run_bench(name, model, data, store, progress, limit=limit, seed=seed)
            if json_file is not None:
                write_bench(run, json_file)
            _print(run)
    finally:
        store.close()


def _print(run: BenchRun) -> None:
    from hinlap.workflows.bench import notes
    from hinlap.workflows.numbers import exact_with_interval, with_interval

    click.secho(f"{run.benchmark.name} · {run.model} · {len(run.items):,} items", bold=True)
    for figure in run.figures:
        click.echo(f"  {figure.scores.name}  {exact_with_interval(figure.interval)}")
        click.secho(f"    {figure.scores.signature}", dim=True)
        width = max((len(name) for name in figure.groups), default=0)
        for name, interval in figure.groups.items():
            click.echo(f"    {name:<{width}}  {with_interval(interval)}  n {interval.n}")
    for note in notes(run):
        click.echo(f"  note: {note}")
