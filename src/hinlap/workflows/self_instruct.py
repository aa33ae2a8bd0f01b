"""From a file of seed tasks to a file of new ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.core.progress import Progress
from hinlap.core.rows import BadRow
from hinlap.data.licences import licence_named
from hinlap.data.manifest import Manifest, file_sha256, parent_of, write_manifest
from hinlap.data.novelty import THRESHOLD
from hinlap.data.row_files import check_row_file, read_rows, write_rows
from hinlap.data.self_instruct.prompts import Language
from hinlap.data.self_instruct.seeds import SeedTask, read_seeds
from hinlap.data.text_file import read_utf8
from hinlap.data.whole_file import write_whole
from hinlap.metrics.segmentation import has_thai
from hinlap.store.store import Store
from hinlap.workflows.data_engine import Writer, open_writer
from hinlap.workflows.data_import import now
from hinlap.workflows.filter_rows import FilterReport, filter_rows
from hinlap.workflows.round_journal import RoundJournal, journal_path
from hinlap.workflows.self_instruct_options import SelfInstructOptions, check_options
from hinlap.workflows.self_instruct_rounds import SelfInstructReport, say_plan, write_tasks

STORE = Path(".hinlap") / "store.db"


@dataclass(frozen=True, slots=True)
class SelfInstructJob:
    """seeds: None to begin from topics alone. language: "" takes the seeds'. licence: "" takes the
    seeds' manifest's. overwrite: begins anew. command: what made it, for the manifest."""

    seeds: Path | None
    out: Path
    writer: Writer
    options: SelfInstructOptions
    language: Language | None = None
    licence: str = ""
    overwrite: bool = False
    command: str = ""
    store: Path = STORE


def self_instruct(job: SelfInstructJob, progress: Progress) -> SelfInstructReport:
    """Writes new tasks to ``out``, with a manifest beside it.

    Killed, the same command goes on; stopped early (patience, money, the service), ``out`` holds
    what was kept, the reason is in the report, and the same command goes on, too.
    Raises UserError for options that do not go together, InputError for files, what `open_writer`
    and `Store` raise.
    """
    check_row_file(job.out)
    seeds, bad = read_seeds(job.seeds) if job.seeds else ([], [])
    _say_bad(bad, progress)
    options = replace(job.options, language=job.language or language_of(seeds))
    check_options(options, seeds)
    begun = journal_path(job.out)
    if job.overwrite:
        begun.unlink(missing_ok=True)
    elif job.out.exists() and not begun.exists():
        raise InputError(
            "the file exists",
            where=f"--out {job.out}",
            hint="name another file, or --overwrite: answers that are in the store are not asked "
            "again",
        )
    store = Store(job.store)
    try:
        with open_writer(job.writer, progress) as writer:
            say_plan(seeds, options, writer, progress)
            content = [
                writer.engine.digest,
                [asdict(seed) for seed in seeds],
                options.decides(),
            ]
            run = hashlib.sha256(json.dumps(content).encode()).hexdigest()
            journal = RoundJournal(job.out, run)
            try:
                report = write_tasks(seeds, options, writer, store, journal, progress)
                if report.rows:
                    write_rows(job.out, report.rows)
                    _write_manifest(job, report)
                if report.stopped is None or not journal.rounds:
                    journal.remove()
                else:
                    journal.close()
            except BaseException:
                journal.close()
                raise
    finally:
        store.close()
    return report


@dataclass(frozen=True, slots=True)
class FilterJob:
    """file: any file of rows. seeds: what it is also held against. out: None to count only."""

    file: Path
    seeds: Path | None
    out: Path | None
    threshold: float = THRESHOLD
    ascii_start: bool | None = None
    licence: str = ""
    overwrite: bool = False
    command: str = ""


def filter_file(job: FilterJob, progress: Progress) -> FilterReport:
    """The rows of a file through the pipeline's own filters, and those left to ``out``, with a
    manifest. Raises InputError."""
    if job.out is not None:
        check_row_file(job.out)
        if job.out.exists() and not job.overwrite:
            raise InputError(
                "the file exists", where=f"--out {job.out}", hint="another name, or --overwrite"
            )
    seeds, bad = read_seeds(job.seeds) if job.seeds else ([], [])
    _say_bad(bad, progress)
    english = language_of(seeds) == "en"
    report = filter_rows(
        read_rows(job.file),
        seeds,
        threshold=job.threshold,
        ascii_start=english if job.ascii_start is None else job.ascii_start,
    )
    if job.out is not None:
        parent = parent_of(job.file, job.out)  # before the set may take its own place
        write_rows(job.out, report.kept)
        write_manifest(
            job.out,
            Manifest(
                file_sha256(job.out),
                len(report.kept),
                licence=licence_named(job.licence or parent.licence),
                parents=(parent,),
                command=job.command,
                created=now(),
                counts=report.yields,
            ),
        )
    return report


def language_of(seeds: Sequence[SeedTask]) -> Language:
    """Thai where half of the instructions or more hold Thai letters."""
    thai = sum(has_thai(seed.instruction) for seed in seeds)
    return "th" if seeds and 2 * thai >= len(seeds) else "en"


def _say_bad(bad: Sequence[BadRow], progress: Progress) -> None:
    for row in bad[:5]:
        progress.say(f"{row.where}: left out: {row.reason}")
    if len(bad) > 5:
        progress.say(f"{counted(len(bad) - 5, 'more seed', 'more seeds')} left out")


def _write_manifest(job: SelfInstructJob, report: SelfInstructReport) -> None:
    parents = (parent_of(job.seeds, job.out),) if job.seeds else ()
    licence = job.licence or (parents[0].licence if parents else "")
    write_manifest(
        job.out,
        Manifest(
            file_sha256(job.out),
            len(report.rows),
            licence=licence_named(licence),
            parents=parents,
            command=job.command,
            created=now(),
            counts={f"{step}: {what}": count for (step, what), count in report.yields.items()},
        ),
    )


def lines_of(path: Path | None, option: str) -> tuple[str, ...]:
    """The lines of a file of topics or personas that hold something. Raises InputError."""
    if path is None:
        return ()
    lines = tuple(filter(None, (line.strip() for line in read_utf8(path).splitlines())))
    if not lines:
        raise InputError("the file is empty", where=f"{option} {path}", hint="one a line")
    return lines


def write_report(report: SelfInstructReport, path: Path) -> None:
    """The table of yields and how it ended, as JSON."""
    content = {
        "rows": len(report.rows),
        "wanted": report.wanted,
        "rounds": report.rounds,
        "stopped": None if report.stopped is None else str(report.stopped),
        "spent_usd": report.spent_usd,
        "yields": [
            {"step": step, "what": what, "count": number}
            for (step, what), number in report.yields.items()
        ],
    }
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n")


def write_filtered_yields(report: FilterReport, path: Path) -> None:
    """How many rows fell by each filter, as JSON."""
    content = json.dumps(dict(report.yields), ensure_ascii=False, indent=2)
    write_whole(path, content.encode() + b"\n")
