"""``hinlap tune``"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.core.progress import Progress
    from hinlap.tuning.recipe import Recipe
    from hinlap.workflows.tune import After, TuneOptions
    from hinlap.workflows.tuning_report import TuningReport


@click.command()
@click.argument("recipe", metavar="RECIPE|APP")
@click.option("--route", help="Of an app: which fine-tuned route (default: its only one).")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of rows in any format of `hinlap data import`; several times for several. "
    "Without it: the recipe's own source.",
)
@click.option("--model", help="Another base model than the recipe's.")
@click.option("--small", is_flag=True, help="The recipe's form for a small machine.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Another value of a recipe's field, as lora.rank=16; several times.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the tuned model.")
@click.option("--plan", "only_plan", is_flag=True, help="Memory, steps, time, cost; no training.")
@click.option(
    "--devices", metavar="NxKIND", help="With --plan: 8xA100-80GB, say (default: this machine)."
)
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(["merged", "gguf", "gguf-f32", "gguf-q8_0"]),
    help="What to write beside adapter or weights; several times for several.",
)
@click.option(
    "--curve",
    metavar="N,N,...",
    help="Tune on the first so many rows, too: quality against examples (four sizes or more).",
)
@click.option("--items", type=int, default=40, show_default=True,
              help="Held-out items answered for the report; 0: no report.")  # fmt: skip
@click.option(
    "--forgetting",
    type=int,
    default=40,
    show_default=True,
    help="Instructions with checkable constraints answered before and after; 0: none.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    help="Also log there, through Accelerate.",
)
@click.option(
    "--teach-with",
    multiple=True,
    metavar="FILE",
    help="The name of a file that may teach although it holds test rows of a split.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
def tune(
    recipe: str,
    route: str | None,
    data: tuple[Path, ...],
    model: str | None,
    small: bool,
    settings: tuple[str, ...],
    out: Path | None,
    only_plan: bool,
    devices: str | None,
    exports: tuple[str, ...],
    curve: str | None,
    items: int,
    forgetting: int,
    trackers: tuple[str, ...],
    teach_with: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Tune a model by a recipe (dolly-v2, alpaca ..., a YAML file) or an app's fine-tuned route.

    Killed anywhere, the same command goes on where it was. Several processes: start it by
    `accelerate launch`. What comes out, in the folder --out: the weights or adapter, a model card,
    report.html with the base model beside the tuned one on the same items.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import UserError
    from hinlap.core.progress import Silent
    from hinlap.data.whole_file import write_whole
    from hinlap.tuning.recipe import read_recipe
    from hinlap.workflows.metric_file import check_folder
    from hinlap.workflows.tune import After, TuneOptions, changes_of
    from hinlap.workflows.tuning_report import report_json, report_lines

    if devices and not only_plan:
        raise UserError("--devices goes with --plan", hint="hinlap tune RECIPE --plan --devices …")
    if json_file is not None:
        check_folder(json_file)
    after = After(items, forgetting, _sizes(curve), exports)
    # of the processes that a launcher started, the first speaks
    with TerminalProgress() if _first() else nullcontext(Silent()) as progress:
        if _is_app(recipe):
            if data or model or small or settings or out or trackers or teach_with:
                raise UserError(
                    "an app says itself what teaches and how, and keeps it in its own folder",
                    where="--data, --model, --small, --set, --out, --tracker, --teach-with",
                    hint="change its route in app.yaml",
                )
            report = _tune_app(Path(recipe), route, after, only_plan, devices, progress)
        else:
            if route:
                raise UserError("a recipe has no routes", where="--route")
            changes = changes_of(settings)
            if model:
                changes["model"] = model
            read = read_recipe(recipe, small=small, changes=changes)
            options = TuneOptions(data, out or Path("tuned") / read.name, teach_with, trackers)
            report = _tune_recipe(read, options, after, only_plan, devices, progress)
    if report is None:
        return
    for line in report_lines(report):
        click.echo(line)
    if items:
        click.echo(f"{report.tuned.home / 'report.html'}")
    if json_file is not None:
        content = json.dumps(report_json(report), ensure_ascii=False, indent=1)
        write_whole(json_file, content.encode())


def _is_app(name: str) -> bool:
    path = Path(name)
    return path.name == "app.yaml" or (path / "app.yaml").is_file()


def _sizes(curve: str | None) -> tuple[int, ...]:
    from hinlap.core.errors import UserError

    if not curve:
        return ()
    try:
        sizes = tuple(sorted({int(part) for part in curve.split(",")}))
    except ValueError:
        sizes = ()
    if len(sizes) < 3 or sizes[0] < 1:
        raise UserError(
            "expected three sizes or more (all rows are one more), as 100,200,400,800",
            where=f"--curve {curve}",
        )
    return sizes


def _tune_recipe(
    recipe: Recipe,
    options: TuneOptions,
    after: After,
    only_plan: bool,
    devices: str | None,
    progress: Progress,
) -> TuningReport | None:
    from hinlap.workflows.tune import plan_recipe, report_rows, tune_recipe

    if only_plan:
        for line in plan_recipe(recipe, options, devices, progress):
            click.echo(line)
        return None
    tuned, sides = tune_recipe(recipe, options, after, progress)
    if not _first():
        return None
    return report_rows(tuned, sides, after, progress)


def _tune_app(
    folder: Path,
    route: str | None,
    after: After,
    only_plan: bool,
    devices: str | None,
    progress: Progress,
) -> TuningReport | None:
    from hinlap.workflows.answer import route_context
    from hinlap.workflows.load import load
    from hinlap.workflows.tune import plan_app, report_app, tune_app

    app = load(folder)
    with route_context(app, progress) as context:
        if only_plan:
            for line in plan_app(app, route, devices, context):
                click.echo(line)
            return None
        name, tuned = tune_app(app, route, after, context)
        return report_app(app, name, tuned, after, context) if _first() else None


def _first() -> bool:
    """Whether this is the process that reports, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"
