"""``hinlap compare``"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), help="First N test items only.")
@click.option(
    "--test",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSONL or CSV of other items to measure on, in the place of examples.test.",
)
@click.option("--route", "routes", multiple=True, help="Only this route; repeat for more.")
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
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the HTML report goes. [default: report.html beside app.yaml]",
)
def compare(
    app: Path,
    limit: int | None,
    test: Path | None,
    routes: tuple[str, ...],
    latency_requests: int,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Measure every route of APP on the same items, and pick one.

    Answers that were made before are reused; a killed run goes on where it was.
    """
    from hinlap.cli.progress import TerminalProgress
    from hinlap.cli.table import print_comparison
    from hinlap.core.errors import InputError
    from hinlap.workflows.compare import CompareOptions, compare_routes
    from hinlap.workflows.load import load
    from hinlap.workflows.report import write_report

    loaded = load(app)
    target = report or loaded.folder / "report.html"
    for file in (json_file, target):
        if file is not None and not file.parent.is_dir():
            raise InputError(
                "there is no such folder to write to",
                where=str(file.parent),
                hint=f"make it: mkdir -p {file.parent}",
            )
    with TerminalProgress() as progress:
        options = CompareOptions(
            limit=limit, test=test, routes=routes, latency_requests=latency_requests
        )
        comparison = compare_routes(loaded, options, progress)
    write_report(comparison, loaded.spec, target)
    if json_file is not None:
        json_file.write_text(
            json.dumps(comparison.as_json(), ensure_ascii=False, indent=2), encoding="utf-8"
        )
    print_comparison(comparison, loaded.spec)
    click.echo(f"\nreport: {target}")
    if comparison.errors:  # told when they happened
        sys.exit(comparison.errors[0].exit_code)
