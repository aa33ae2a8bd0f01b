"""``hinlap metrics``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.workflows.score_files import Scored

_FILE = click.Path(path_type=Path)
_FEW = 20  # items or clusters: a percentile bootstrap of fewer is too narrow


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--predictions", type=_FILE, help="Outputs to score; - is standard input.")
@click.option(
    "--references",
    multiple=True,
    type=_FILE,
    help="What they should be; repeat for several references of each item.",
)
@click.option("--field", help="The files are JSONL, with the text under this name.")
@click.option("--prediction-field", help="The same of the predictions only.")
@click.option("--reference-field", help="The same of the references only; may hold a list.")
@click.option("--ids", metavar="FIELD", help="Field with each row's id; items are matched by it.")
@click.option("--clusters", metavar="FIELD", help="Field of what belongs together, as an article.")
@click.option("--stem/--no-stem", default=None, help="ROUGE: Porter stems. [default: stem]")
@click.option("--segmentation", help="ROUGE, TER, token_f1, squad: what a word is. [default: auto]")
@click.option("--tokenize", help="BLEU: 13a, intl, zh, char ... [default: auto]")
@click.option("--lowercase", is_flag=True, default=None, help="BLEU, chrF: case aside.")
@click.option("--no-answer", type=_FILE, help="squad: JSON of question id to its probability.")
@click.option("--threshold", type=float, help="squad: above it an answer is none. [default: 1]")
@click.option("--model", help="perplexity: a name, or a folder; see hinlap models.")
@click.option("--text", type=_FILE, help="perplexity: a running text, or JSONL with --field.")
@click.option("--window", type=int, help="perplexity: tokens at once. [default: the model's]")
@click.option("--stride", type=int, help="perplexity: tokens to move on by. [default: window]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="[default: float32]")
@click.option(
    "--level",
    type=click.Choice(["corpus", "sentence"]),
    default="corpus",
    show_default=True,
    help="sentence: print each item's own figure, too.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@click.option("--no-interval", is_flag=True, help="The figure alone.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write figure, interval, signature and items; hinlap compare-runs reads it.",
)
def metrics(
    name: str,
    predictions: Path | None,
    references: tuple[Path, ...],
    field: str | None,
    prediction_field: str | None,
    reference_field: str | None,
    ids: str | None,
    clusters: str | None,
    stem: bool | None,
    segmentation: str | None,
    tokenize: str | None,
    lowercase: bool | None,
    no_answer: Path | None,
    threshold: float | None,
    model: str | None,
    text: Path | None,
    window: int | None,
    stride: int | None,
    dtype: str | None,
    level: str,
    seed: int,
    no_interval: bool,
    json_file: Path | None,
) -> None:
    """Score a file of outputs by the metric NAME, with a 95% interval.

    \b
    hinlap metrics list                      every metric in a line
    hinlap metrics bleu --predictions out.txt --references gold.txt
    hinlap metrics squad --predictions answers.json --references dev.json

    Files hold one text per line, or JSONL with --field; squad reads SQuAD's JSON; all may be
    gzipped. Predictions and references go together by line, or by --ids.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.metric_file import check_folder
    from hinlap.workflows.score_files import Request, score_files

    if name == "list":
        _print_list()
        return
    if json_file is not None:
        check_folder(json_file)
    request = Request(
        predictions=predictions,
        references=references,
        field=field,
        prediction_field=prediction_field,
        reference_field=reference_field,
        ids=ids,
        clusters=clusters,
        stem=stem,
        segmentation=segmentation,
        tokenize=tokenize,
        lowercase=lowercase,
        no_answer=no_answer,
        threshold=threshold,
        model=model,
        text=text,
        window=window,
        stride=stride,
        dtype=dtype,
    )
    with TerminalProgress() as progress:
        scored = score_files(name, request, seed=seed, interval=not no_interval, progress=progress)
    if json_file is not None:
        scored.write(json_file)
    if level == "sentence":
        _print_items(scored)
    _print(scored)


def _print(scored: Scored) -> None:
    from hinlap.workflows.numbers import exact_with_interval, short

    if scored.found.system is not None:
        click.echo(scored.found.system)
    notes: dict[tuple[str, int], list[str]] = {}
    for scores, interval in zip(scored.found.scores, scored.intervals, strict=True):
        arrow = "↑" if scores.higher_is_better else "↓"
        items = f"{interval.n:,} item{'s' if interval.n != 1 else ''}"
        groups = "" if interval.clusters is None else f" in {interval.clusters:,} clusters"
        figure = exact_with_interval(interval) if interval.value is not None else "undefined"
        click.secho(f"{scores.name} {arrow} {figure} · {items}{groups}", bold=True)
        click.echo(f"  {scores.signature}")
        for what, n in scores.notes.items():
            notes.setdefault((what, n), []).append(scores.name)
    figures = scored.found.figures
    for prefix, title in (("HasAns", "with an answer"), ("NoAns", "without an answer")):
        if f"{prefix}_total" in figures:
            exact, f1 = (short(figures[f"{prefix}_{key}"]) for key in ("exact", "f1"))
            click.echo(f"{title}: f1 {f1}, exact match {exact}, n {figures[f'{prefix}_total']:,}")
    if "best_f1" in figures:
        exact, f1 = (
            f"{short(figures[f'best_{key}'])} above {short(figures[f'best_{key}_thresh'])}"
            for key in ("exact", "f1")
        )
        click.echo(
            f"no answer where its probability is over the best threshold: f1 {f1}, "
            f"exact match {exact}"
        )
    for (what, n), names in notes.items():
        whose = f" ({', '.join(names)})" if len(names) < len(scored.found.scores) else ""
        click.echo(f"note: {what}: {n:,}{whose}")
    drawn = {
        (i.n, "items") if i.clusters is None else (i.clusters, "clusters")
        for i in scored.intervals
        if i.low is not None
    }
    for n, what in sorted(drawn):
        if n < _FEW:
            click.echo(f"note: an interval from so few {what} is unreliable: {n}")


def _print_items(scored: Scored) -> None:
    """One line per item: its number or id, then each figure; a dash where undefined."""
    from hinlap.workflows.numbers import exact

    scores = scored.found.scores
    names = scored.found.ids or [str(i) for i in range(1, scores[0].n + 1)]
    click.echo("\t".join(["item", *(each.name for each in scores)]))
    for name, *values in zip(names, *(each.items for each in scores), strict=True):
        shown = name if name.isprintable() else repr(name)
        click.echo("\t".join([shown, *(exact(value) for value in values)]))
    click.echo()


def _print_list() -> None:
    from hinlap.workflows.score_files import METRICS

    for metric in METRICS:
        arrow = "↑" if metric.higher_is_better else "↓"
        click.echo(f"{metric.name:<11} {arrow} {metric.range:<8}  {metric.sees}; as {metric.peer}")
