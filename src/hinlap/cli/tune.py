"""``hinlap tune``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hinlap.core.progress import Progress
    from hinlap.tuning.recipe import Recipe


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
    from hinlap.tuning.recipe import read_recipe
    from hinlap.workflows.metric_file import check_folder
    from hinlap.workflows.tune import changes_of

    if devices and not only_plan:
        raise UserError("--devices goes with --plan", hint="hinlap tune RECIPE --plan --devices …")
    if json_file is not None:
        check_folder(json_file)
