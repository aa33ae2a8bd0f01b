"""``hinlap bench``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.benchmarks.benchmark import Benchmark
    from hinlap.store.store import Store
    from hinlap.workflows.bench import BenchOptions, BenchRun
    from hinlap.workflows.bench_asking import MakeAsked


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...|list|show NAME")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A catalogue name, a folder, a .gguf file, or http://host/v1#name. Twice: two models, "
    "compared item by item.",
)
@click.option(
    "--app",
    "app_folder",
    type=click.Path(path_type=Path),
    help="Measure a route of this app instead of a bare model.",
)
@click.option("--route", help="With --app: which route.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=PART",
    help="With --app: which part of an item fills an input of another name.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A folder with the benchmarks' original files, or one such file. Without it they are "
    "fetched at their pinned revision.",
)
@click.option("--limit", type=int, help="The first so many items only.")
@click.option("--shots", type=int, help="Solved examples before each item.")
@click.option("--chat", is_flag=True, help="Ask by the model's chat template.")
@click.option(
    "--prompt-format",
    default="",
    metavar="NAME",
    help="Chat by this format, alpaca or dolly, over any template of the model (with --chat).",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option(
    "--rater",
    default="offline",
    show_default=True,
    help="Who rates toxicity: offline, perspective, or a Hugging Face classifier.",
)
@click.option("--item", "number", type=int, help="With show: which item, counted from 0.")
@click.option("--seed", type=int, default=0, show_default=True,
              help="Of intervals, drawn answers, chosen shots.")  # fmt: skip
@click.option(
    "--check-leaks",
    "training",
    type=click.Path(path_type=Path, exists=True),
    help="Instead of measuring: which items stand in this training set.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write figures and items as JSON, for compare-runs.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench.html"),
    show_default=True,
    help="The page of all runs kept here.",
)
def bench(
    names: tuple[str, ...],
    models: tuple[str, ...],
    app_folder: Path | None,
    route: str | None,
    inputs: tuple[str, ...],
    data: Path | None,
    limit: int | None,
    shots: int | None,
    chat: bool,
    prompt_format: str,
    dtype: str,
    rater: str,
    number: int | None,
    seed: int,
    training: Path | None,
    json_file: Path | None,
    page: Path,
) -> None:
    """Measure a model by published benchmarks: their definition, with intervals.

    `bench list` says what there is and where its data comes from; `bench show NAME --item N`
    prints exactly what a model is given; `bench hhh` gives the helpful, honest, harmless card.
    NAME may be a YAML file that declares items of your own. What was asked is kept in .hinlap
    here: a killed run goes on where it was.
    """
    from hinlap.core.errors import UserError
    from hinlap.workflows.bench import BenchOptions, find_benchmark
    from hinlap.workflows.metric_file import check_folder

    if prompt_format and not chat:
        raise UserError(
            "plain text takes no prompt format", where="--prompt-format", hint="add --chat"
        )
    options = BenchOptions(data, limit, shots, chat, dtype, seed, rater, prompt_format)
    if names[0] == "list":
        _list()
        return
    if names[0] == "show":
        if len(names) != 2:
            raise UserError("which benchmark?", hint="hinlap bench show NAME --item 7 --data DIR")
        _show(names[1], models[0] if models else None, options, number or 0)
        return
    card = names == ("hhh",)
    if "hhh" in names and not card:
        raise UserError("hhh is a card of its own", hint="hinlap bench hhh --model M")
    if card and (chat or shots is not None or training is not None):
        raise UserError(
            "the card asks each part as its paper does",
            where="hhh",
            hint="leave --chat, --shots and --check-leaks out, or name one benchmark",
        )
    benchmarks = [] if card else [find_benchmark(name) for name in names]
    if training is not None:
        _check_leaks(benchmarks, options, training)
        return
    if bool(models) == bool(app_folder):
        raise UserError(
            "which model?",
            where="--model",
            hint="`hinlap models` lists names; or a route: --app DIR --route NAME",
        )
    if (route or inputs) and app_folder is None:
        raise UserError(
            "routes and inputs are an app's", where="--route", hint="--app DIR --route NAME"
        )
    for file in (page, *([json_file] if json_file is not None else [])):
        check_folder(file)  # now, and not after hours
    if json_file is not None and len(names) * max(1, len(models)) > 1:
        raise UserError(
            "one file holds one run", where="--json", hint="name one benchmark and one model"
        )
    if app_folder is not None:
        _run_route(benchmarks, app_folder, route, inputs, options, json_file, page)
    else:
        _run_models(benchmarks, models, options, json_file, page)


def _list() -> None:
    from hinlap.benchmarks.table import BENCHMARKS

    for benchmark in BENCHMARKS.values():
        about = benchmark.about
        click.secho(benchmark.name, bold=True, nl=False)
        click.echo(f"  {benchmark.title}")
        click.echo(f"  {about.paper}; {about.licence}; as {about.peer}")
        places = ", ".join(f"DIR/{file.path}" for file in benchmark.files)
        click.echo(f"  data: {about.address}" + ("" if benchmark.own else f", here {places}"))


def _show(name: str, model: str | None, options: BenchOptions, number: int) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.bench import find_benchmark
    from hinlap.workflows.bench_show import shown_item

    with TerminalProgress() as progress:
        shown = shown_item(find_benchmark(name), number, model, options, progress)
    click.echo(shown.title)
    for label, context, text in shown.parts:
        click.secho(f"--- {label}", dim=True)
        click.echo(context, nl=False)
        click.secho(text, bold=True)


def _check_leaks(benchmarks: list[Benchmark], options: BenchOptions, training: Path) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.bench_leaks import leaked_items

    for benchmark in benchmarks:
        with TerminalProgress() as progress:
            found = leaked_items(benchmark, options, training, progress)
        for line in found.lines():
            click.echo(line)


def _run_models(
    benchmarks: list[Benchmark],
    models: tuple[str, ...],
    options: BenchOptions,
    json_file: Path | None,
    page: Path,
) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.store.store import Store
    from hinlap.workflows.bench import STORE
    from hinlap.workflows.bench_asking import ask_model

    store = Store(STORE)
    try:
        with TerminalProgress() as progress:
            makers: list[MakeAsked] = [
                ask_model(
                    model,
                    options.dtype,
                    options.seed,
                    store,
                    progress,
                    prompt_format=options.prompt_format,
                )
                for model in models
            ]
        _run_all(benchmarks, makers, options, store, json_file)
        _write_page(store, page)
    finally:
        store.close()


def _run_route(
    benchmarks: list[Benchmark],
    folder: Path,
    route: str | None,
    inputs: tuple[str, ...],
    options: BenchOptions,
    json_file: Path | None,
    page: Path,
) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import UserError
    from hinlap.workflows.bench_asking import ask_route

    if route is None:
        raise UserError("which route?", where="--route", hint="--route NAME, as in app.yaml")
    pairs = dict(each.partition("=")[::2] for each in inputs)
    if not all(pairs.values()):
        raise UserError("an input is given as NAME=PART", where="--input")
    with (
        TerminalProgress() as progress,
        ask_route(folder, route, pairs, options.seed, progress) as make,
    ):
        _run_all(benchmarks, [make], options, make.store, json_file)
        _write_page(make.store, page)


def _run_all(
    benchmarks: list[Benchmark],
    makers: list[MakeAsked],
    options: BenchOptions,
    store: Store,
    json_file: Path | None,
) -> None:
    """Without benchmarks: the card."""
    for benchmark in benchmarks:
        _run(benchmark, makers, options, store, json_file)
    if not benchmarks:
        for make in makers:
            _run_card(make, options, store, json_file)


def _run_card(make: MakeAsked, options: BenchOptions, store: Store, json_file: Path | None) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.hhh import hhh_card, write_card
    from hinlap.workflows.numbers import short, with_interval

    with TerminalProgress() as progress:
        card = hhh_card(make, options, store, progress)
    if json_file is not None:
        write_card(card, json_file)
    click.secho(f"helpful, honest, harmless · {card.model}", bold=True)
    virtue = ""
    for row in card.rows:
        if row.virtue != virtue:
            virtue = row.virtue
            click.secho(virtue, bold=True)
        figure = row.figure
        shown = with_interval(figure.interval) if figure else "–"
        n = f"  n {figure.interval.n:,}" if figure else ""
        p = "" if figure is None or figure.p_neutral is None else f"  p {short(figure.p_neutral)}"
        said = f"  ({row.said})" if row.said else ""
        click.echo(f"  {shown}{n}{p}  {row.meaning}{said}")
        click.secho(f"    {row.benchmark}: {row.metric}", dim=True)
    for run in card.runs:
        for note in run.notes:
            click.echo(f"  note, {run.benchmark.name}: {note}")


def _run(
    benchmark: Benchmark,
    makers: list[MakeAsked],
    options: BenchOptions,
    store: Store,
    json_file: Path | None,
) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.bench import run_bench, write_bench

    runs = []
    for make in makers:
        with TerminalProgress() as progress:
            run = run_bench(benchmark, make, options, store, progress)
        if json_file is not None:
            write_bench(run, json_file)
        _print(run)
        runs.append(run)
    if len(runs) > 1:
        _print_pairs(runs)


def _print(run: BenchRun) -> None:
    from hinlap.workflows.numbers import exact_with_interval, short, with_interval

    click.secho(f"{run.benchmark.name} · {run.model} · {len(run.items):,} items", bold=True)
    for figure in run.figures:
        neutral = "" if figure.p_neutral is None else f"  p {short(figure.p_neutral)} (neutral)"
        click.echo(f"  {figure.scores.name}  {exact_with_interval(figure.interval)}{neutral}")
        click.secho(f"    {figure.scores.signature}", dim=True)
        width = max((len(name) for name in figure.groups), default=0)
        for name, interval in figure.groups.items():
            click.echo(f"    {name:<{width}}  {with_interval(interval)}  n {interval.n}")
        for kind, count in figure.scores.notes.items():
            click.echo(f"    {count:,} {kind}")
    for note in run.notes:
        click.echo(f"  note: {note}")


def _print_pairs(runs: list[BenchRun]) -> None:
    from hinlap.workflows.bench import compare_benches
    from hinlap.workflows.numbers import short

    for pair in compare_benches(runs):
        click.echo(
            f"  {pair.metric}: {pair.b} against {pair.a} {short(pair.paired.difference)} "
            f"[{short(pair.paired.low)}, {short(pair.paired.high)}], p {short(pair.p)} (Holm): "
            f"{pair.verdict}"
        )


def _write_page(store: Store, page: Path) -> None:
    from hinlap.workflows.bench_page import write_page

    write_page(store, page)
    click.echo(f"page: {page}")
