"""``hinlap models``, ``hinlap models pull`` and ``hinlap models advise``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from hinlap.workflows.advice import Advice, Advised


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models known by name; with pull NAME, fetch one; with advise APP, rank them.

    A Hugging Face id, a folder or a .gguf file works wherever a name does.
    """
    if ctx.invoked_subcommand is None:
        _print_catalogue()


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a model by catalogue name or Hugging Face id."""
    from hinlap.cli.progress import TerminalProgress
    from hinlap.engines.catalogue import model_folder

    with TerminalProgress() as progress:
        folder = model_folder(name, progress)
    click.echo(f"{name}: {folder}")


@models.command()
@click.argument("app", type=click.Path(path_type=Path))
@click.option(
    "--models",
    "names",
    multiple=True,
    metavar="A,B,...",
    help="Names, Hugging Face ids, folders or .gguf files; a name that is not here is fetched. "
    "[default: every catalogue model on this machine, and the embedded one]",
)
@click.option("--limit", type=click.IntRange(min=1), help="First N test items only.")
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    metavar="A,B",
    help="Precisions to run each in: float32, bfloat16.",
)
@click.option(
    "--latency-requests",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="First items asked one at a time, to time them.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write everything as JSON.",
)
def advise(
    app: Path,
    names: tuple[str, ...],
    limit: int | None,
    dtype: str,
    latency_requests: int,
    json_file: Path | None,
) -> None:
    """Rank models for APP by what they do on its own test items, here.

    Each is asked as the app's zero-shot and few-shot routes ask. What was answered before is
    reused; a killed run goes on where it was.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import InputError
    from hinlap.data.whole_file import write_whole
    from hinlap.workflows.advise import AdviseOptions
    from hinlap.workflows.advise import advise as measure_and_rank

    if json_file is not None and not json_file.parent.is_dir():
        raise InputError(
            "there is no such folder to write to",
            where=str(json_file.parent),
            hint=f"make it: mkdir -p {json_file.parent}",
        )
    options = AdviseOptions(
        models=tuple(name for each in names for name in _listed(each)),
        limit=limit,
        dtypes=_listed(dtype),
        latency_requests=latency_requests,
    )
    with TerminalProgress() as progress:
        advice = measure_and_rank(app, options, progress)
    if json_file is not None:
        content = json.dumps(advice.as_json(), ensure_ascii=False, indent=2)
        write_whole(json_file, content.encode())
    _print_advice(advice)
    if advice.errors:  # told when they happened
        sys.exit(advice.errors[0].exit_code)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))


def _print_advice(advice: Advice) -> None:
    from rich.console import Console
    from rich.table import Table

    from hinlap.core.counting import counted
    from hinlap.data.licences import NOT_ADVICE
    from hinlap.workflows.advice import RULE, licence_words
    from hinlap.workflows.numbers import short, with_interval

    console = Console()
    if not console.is_terminal:
        console = Console(width=190)
    title = f"{advice.app} · {counted(advice.items, 'item')} · {_machines(advice)}"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    by = advice.by
    better = next((e.quality[by].higher_is_better for e in advice.measured if by), True)
    for column in (
        "",
        "Model",
        "Precision",
        "Asked",
        *([f"{by} {'↑' if better else '↓'}"] if by else []),
        "Bits a byte ↓ (nats a token)",
        "s an item",
        "tokens/s",
        "Memory",
        "Longest/window",
        f"In {advice.language}",
    ):
        table.add_column(column)
    for number, each in enumerate(advice.measured, 1):
        bits, nats = each.bits_per_byte, each.nats_per_token
        quality = [each.quality[by].interval] if by else []
        table.add_row(
            "–" if each.excluded else str(number),
            each.model,
            each.dtype,
            each.route,
            *(f"{with_interval(found)} n={found.n}" for found in quality),
            f"{with_interval(bits.interval)} ({short(nats.interval.value)})"
            if bits and nats
            else "–",
            short(each.latency.mean),
            short(each.tokens_per_second),
            _gigabytes(each),
            f"{each.longest:,}/{each.machine.window:,}",
            f"{each.in_language}/{each.told}" if each.told else "–",
        )
    console.print(table)
    for each in advice.measured:
        if each.excluded:
            click.echo(f"– {each.name}: {each.excluded}")
    for left_out in advice.failed:
        click.echo(f"– {left_out.model}: {left_out.reason}")
    ranked = advice.ranked
    click.secho(f"\nTake {ranked[0].name}." if ranked else "\nNo model can be taken.", bold=True)
    for reason in advice.reasons:
        click.echo(f"  · {reason}")
    click.echo()
    for model in dict.fromkeys(each.model for each in advice.measured):
        one = next(each for each in advice.measured if each.model == model)
        click.echo(f"{model}: {_about(one)}")
    click.echo(NOT_ADVICE)
    if advice.not_here:
        click.echo("\nNot here (name one with --models to fetch and measure it):")
        for left_out in advice.not_here:
            memory, window = left_out.memory_bytes or 0.0, left_out.window or 0
            click.echo(
                f"  {left_out.model}: {(left_out.parameters or 0) / 1e9:.2f}B, window "
                f"{window:,}, {left_out.licence} ({licence_words(left_out.licence)}), needs "
                f"{memory / 1e9:.1f} GB: {'fits' if left_out.fits else 'does not fit'}"
            )
    click.echo()
    console.print(f"The rule: {RULE}", style="dim", highlight=False, markup=False)


def _machines(advice: Advice) -> str:
    return "; ".join(dict.fromkeys(each.machine.words for each in advice.measured))


def _gigabytes(each: Advised) -> str:
    machine = each.machine
    peak = machine.peak_memory_bytes
    text = "–" if peak is None else f"{peak / 1e9:.2f} GB"
    if machine.accelerator_memory_bytes:
        text += f" + {machine.accelerator_memory_bytes / 1e9:.2f} GB on the GPU"
    return text


def _about(each: Advised) -> str:
    from hinlap.workflows.advice import licence_words

    kind = each.kind or ("chat template" if each.machine.chat_template else "no chat template")
    licence = each.licence or "no licence named"
    parts = [
        f"{each.parameters / 1e6:,.0f}M weights",
        kind,
        f"{licence} ({licence_words(each.licence)})",
        *each.notes,
    ]
    return ", ".join(parts)


def _print_catalogue() -> None:
    from rich.console import Console
    from rich.table import Table

    from hinlap.engines.catalogue import CATALOGUE, EMBEDDED, fits, machine_memory_bytes

    table = Table(header_style="bold", pad_edge=False)
    for column in ("Name", "Parameters", "Kind", "Context", "Licence", "Memory", "Fits here"):
        table.add_column(column, justify="right" if column in ("Parameters", "Memory") else "left")
    for entry in CATALOGUE.values():
        size = entry.parameters
        table.add_row(
            entry.name + (" (embedded)" if entry.name == EMBEDDED else ""),
            f"{size / 1e9:.2f}B" if size >= 1e9 else f"{size / 1e6:.0f}M",
            entry.kind,
            f"{entry.context:,}",
            entry.licence,
            f"{entry.memory_bytes / 1e9:.1f} GB",
            "yes" if fits(entry) else "no",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table)
    console.print(
        f"Memory: in float32 on the CPU; {machine_memory_bytes() / 1e9:.1f} GB are free here. "
        "A Hugging Face id, a folder or a .gguf file works wherever a name does.",
        style="dim",
        highlight=False,
    )
    _print_tuned(console)


def _print_tuned(console: Console) -> None:
    from hinlap.core.counting import counted
    from hinlap.engines.tuned_index import remembered
    from hinlap.tuning.tuned import read_tuned

    found = [tuned for home in remembered() if (tuned := read_tuned(home)) is not None]
    if found:
        console.print("\nTuned here (a folder's path works as a name)", style="bold")
    for tuned in found:
        line = f"{tuned.home}: {tuned.base or 'from scratch'}, {tuned.recipe.method}, "
        line += counted(tuned.rows, "row")
        if weighed := tuned.evaluations:
            line += f", held-out loss {weighed[0].loss:.3f} to {weighed[-1].loss:.3f}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
