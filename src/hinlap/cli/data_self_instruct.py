"""``hinlap data self-instruct``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hinlap.cli.writer_options import writer_options

if TYPE_CHECKING:
    from hinlap.workflows.filter_rows import FilterReport
    from hinlap.workflows.self_instruct import FilterJob
    from hinlap.workflows.self_instruct_rounds import SelfInstructReport

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("self-instruct")
@click.option("--seeds", type=_FILE, help="Solved tasks by people, in any format of rows.")
@writer_options(required=False)
@click.option("--count", type=int, default=100, show_default=True, help="Rows wanted.")
@click.option("--out", type=_FILE, help="The .jsonl or .parquet to write.")
@click.option("--language", type=click.Choice(["en", "th"]), help="Default: the seeds'.")
@click.option("--way", type=click.Choice(["stages", "whole"]), default="stages",
              show_default=True, help="Instructions, then their answers (Self-Instruct); or whole "
              "tasks at once (Alpaca).")  # fmt: skip
@click.option("--human", type=int, help="Tasks by people in a prompt. Default: 6, whole 3.")
@click.option("--machine", type=int, help="Tasks by the model in a prompt. Default: 2, whole 0.")
@click.option("--tasks", type=int, default=8, show_default=True, help="Asked for in a prompt.")
@click.option("--requests", type=int, default=5, show_default=True, help="Prompts in a round.")
@click.option("--topics", type=_FILE, help="A topic a line; each prompt takes the next.")
@click.option("--personas", type=_FILE, help="Who would ask, one a line; likewise.")
@click.option("--draws", type=int, default=1, show_default=True,
              help="Answers to each instruction; the best is kept.")  # fmt: skip
@click.option("--best-by", type=click.Choice(["auto", "likelihood", "agreement"]), default="auto",
              show_default=True, help="Mean log-probability under the model, or mean ROUGE-L with "
              "the other draws.")  # fmt: skip
@click.option("--threshold", type=float, default=0.7, show_default=True,
              help="ROUGE-L above which an instruction is no news.")  # fmt: skip
@click.option("--ascii-start/--any-start", default=None,
              help="Drop instructions that begin outside ASCII. Default: for English.")  # fmt: skip
@click.option("--patience", type=int, default=5, show_default=True,
              help="Rounds in a row without a row, after which it ends.")  # fmt: skip
@click.option("--temperature", type=float, help="Default: 0.7, whole 1, as published.")
@click.option("--top-p", type=float, help="Default: 0.5, whole 1, as published.")
@click.option("--max-tokens", type=int, default=512, show_default=True, help="Of one answer.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--licence", default="", help="Of the result. Default: the seeds'.")
@click.option("--overwrite", is_flag=True, help="Begin anew.")
@click.option("--json", "json_file", type=_FILE, help="Write the table of yields here.")
@click.option("--only-filter", type=_FILE, metavar="FILE",
              help="Ask nobody: put the rows of FILE through the filters.")  # fmt: skip
def data_self_instruct(
    seeds: Path | None,
    model: str | None,
    count: int,
    out: Path | None,
    language: str | None,
    way: str,
    human: int | None,
    machine: int | None,
    tasks: int,
    requests: int,
    topics: Path | None,
    personas: Path | None,
    draws: int,
    best_by: str,
    threshold: float,
    ascii_start: bool | None,
    patience: int,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int,
    seed: int,
    key_env: str,
    usd_in: float | None,
    usd_out: float | None,
    budget_usd: float | None,
    licence: str,
    overwrite: bool,
    json_file: Path | None,
    only_filter: Path | None,
) -> None:
    """New tasks from seed tasks, written by a model and filtered as published.

    What the model says is kept in .hinlap here, each round beside OUT: a killed run goes on where
    it was. With --only-filter FILE nothing is asked; --out then takes the rows that are left.
    """
    from typing import cast

    from hinlap.cli.data_report import command_line
    from hinlap.cli.progress import TerminalProgress
    from hinlap.core.errors import UserError
    from hinlap.data.self_instruct.prompts import Language
    from hinlap.workflows.data_engine import Writer
    from hinlap.workflows.self_instruct import FilterJob, SelfInstructJob, lines_of
    from hinlap.workflows.self_instruct import self_instruct as work
    from hinlap.workflows.self_instruct_options import BestBy, SelfInstructOptions, Way

    if only_filter is not None:
        _only_filter(
            FilterJob(
                only_filter, seeds, out, threshold, ascii_start, licence, overwrite, command_line()
            ),
            json_file,
        )
        return
    for flag, value in (("--model", model), ("--out", out)):
        if value is None:
            raise UserError("this is needed", where=flag, hint="hinlap data self-instruct --help")
    assert model is not None
    assert out is not None
    options = SelfInstructOptions(
        count=count,
        way=cast(Way, way),
        human=human,
        machine=machine,
        wanted=tasks,
        requests=requests,
        draws=draws,
        best_by=cast(BestBy, best_by),
        topics=lines_of(topics, "--topics"),
        personas=lines_of(personas, "--personas"),
        threshold=threshold,
        ascii_start=ascii_start,
        patience=patience,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
    )
    job = SelfInstructJob(
        seeds=seeds,
        out=out,
        writer=Writer(model, key_env, usd_in, usd_out, budget_usd),
        options=options,
        language=cast("Language | None", language),
        licence=licence,
        overwrite=overwrite,
        command=command_line(),
    )
    with TerminalProgress() as progress:
        report = work(job, progress)
    _show(report, out)
    if json_file is not None:
        from hinlap.workflows.self_instruct import write_report

        write_report(report, json_file)
    if report.stopped is not None:
        raise report.stopped


def _show(report: SelfInstructReport, out: Path) -> None:
    from hinlap.core.counting import counted

    rows = counted(len(report.rows), "row")
    rounds = counted(report.rounds, "round")
    if report.rows:
        click.echo(f"{rows} of {report.wanted:,} wanted, written to {out} in {rounds}")
    else:
        click.echo(f"no row of {report.wanted:,} wanted in {rounds}; nothing was written")
    step = ""
    for (own, what), number in report.yields.items():
        if own != step:
            step = own
            click.secho(step, bold=True)
        click.echo(f"  {number:>8,}  {what}")
    if report.spent_usd is not None:
        click.echo(f"spent by this run: {report.spent_usd:.4f} USD")


def _only_filter(job: FilterJob, json_file: Path | None) -> None:
    from hinlap.cli.progress import TerminalProgress
    from hinlap.workflows.self_instruct import filter_file, write_filtered_yields

    with TerminalProgress() as progress:
        report = filter_file(job, progress)
    if json_file is not None:
        write_filtered_yields(report, json_file)
    _show_filtered(report, job.out)


def _show_filtered(report: FilterReport, out: Path | None) -> None:
    read = max(1, report.yields["read"])
    for what, number in report.yields.items():
        click.echo(f"  {number:>8,}  {number / read:>6.1%}  {what}")
    if out is not None:
        click.echo(f"written to {out}")
