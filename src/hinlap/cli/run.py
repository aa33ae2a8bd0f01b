"""``hinlap run``"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--route", required=True, help="Which of the app's routes answers.")
@click.option(
    "--input",
    "input_file",
    required=True,
    type=click.Path(path_type=Path),
    help="JSONL or CSV with the app's inputs, one item a row.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the answers as JSONL here. [default: standard output]",
)
def run(app: Path, route: str, input_file: Path, out: Path | None) -> None:
    """Answer the inputs in FILE by one route of APP, one JSON object a line.

    Answers that were made before are reused; a killed run goes on where it was.
    """
    from hinlap.app.chain import Status
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.counting import counted
    from hinlap.core.errors import InputError
    from hinlap.workflows.answer import answer_inputs
    from hinlap.workflows.load import load

    if out is not None and not out.parent.is_dir():
        raise InputError(
            "there is no such folder to write to",
            where=str(out.parent),
            hint=f"make it: mkdir -p {out.parent}",
        )
    loaded = load(app)
    examples = loaded.inputs_from(input_file)
    with TerminalProgress() as progress:
        answered = answer_inputs(loaded, route, examples, progress)
    items = answered.items
    lines = [
        json.dumps(
            {
                "id": item.example.id,
                "status": item.status.value,
                **item.outputs,
                **({"error": item.error} if item.error else {}),
            },
            ensure_ascii=False,
        )
        for item in items
    ]
    text = "".join(line + "\n" for line in lines)
    if out is None:
        click.echo(text, nl=False)  # flushed here: a full disk must not show at exit only
    else:
        out.write_text(text, encoding="utf-8")
    bad = [item for item in items if item.status is not Status.OK]
    if bad:
        click.echo(
            f"not ok: {len(bad)} of {counted(len(items), 'item')}; the first, {bad[0].example.id}: "
            f"{bad[0].status.value}: {bad[0].error}",
            err=True,
        )
    if answered.stopped is not None:
        raise answered.stopped
    if items and all(item.status is Status.FAILED for item in items):
        sys.exit(1)
