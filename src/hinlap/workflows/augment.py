"""Variants of one's own rows, written by a model, each row known to be derived and from which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from hinlap.core.counting import counted
from hinlap.core.errors import BudgetError, EngineError, HinlapError, InputError, ServiceSetupError
from hinlap.core.messages import Finish, Sampling
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import BadRow, Row
from hinlap.data.augment.kinds import (
    REPEATED,
    Augmentation,
    ask_variant,
    augmentation_named,
    variant_of,
)
from hinlap.data.licences import licence_named
from hinlap.data.manifest import Manifest, file_sha256, parent_of, write_manifest
from hinlap.data.near_duplicates import normalised
from hinlap.data.row_files import OwnIds, RowWriter, check_row_file, read_rows
from hinlap.engines.cache import answer_each
from hinlap.engines.tokens import estimate_tokens
from hinlap.store.store import Store
from hinlap.workflows.data_engine import OpenWriter, Writer, open_writer, own_words
from hinlap.workflows.data_import import now

STORE = Path(".hinlap") / "store.db"
_ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class AugmentJob:
    """kinds: as `augmentation_named` reads them. draws: variants asked for of each row and kind.
    with_originals: the rows themselves stand before their variants, so that one split parts both.
    """

    file: Path
    out: Path
    kinds: tuple[str, ...]
    writer: Writer
    draws: int = 1
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0
    limit: int | None = None
    with_originals: bool = False
    licence: str = ""
    overwrite: bool = False
    command: str = ""
    store: Path = STORE


@dataclass(frozen=True)
class AugmentReport:
    """rows: variants written. yields: how many of what, by (kind, what). stopped: why not all rows
    were asked about; None where all were."""

    rows: int
    parents: int
    yields: Mapping[tuple[str, str], int]
    stopped: HinlapError | None
    spent_usd: float | None


def augment(job: AugmentJob, progress: Progress) -> AugmentReport:
    """Writes the variants of ``file``'s rows to ``out``, with a manifest beside it.

    Each answer is in the store before the next: killed, the same command asks for the rest only.
    Stopped early (money, the service), ``out`` holds the variants made by then; the same command
    with --overwrite goes on.
    Raises InputError for files and options, what `open_writer` and `Store` raise.
    """
    check_row_file(job.out)
    augmentations = [augmentation_named(kind) for kind in job.kinds]
    _check(job)
    store = Store(job.store)
    try:
        with open_writer(job.writer, progress) as writer:
            total = _look_over(job, augmentations, writer, progress)
            report = _augment(job, augmentations, writer, store, total, progress)
    finally:
        store.close()
    _write_manifest(job, report)
    return report


def _augment(
    job: AugmentJob,
    augmentations: list[Augmentation],
    writer: OpenWriter,
    store: Store,
    total: int,
    progress: Progress,
) -> AugmentReport:
    yields: Counter[tuple[str, str]] = Counter()
    ids = OwnIds()
    written = parents = 0
    stopped: HinlapError | None = None
    progress.start("augment, rows", total)
    rows = _rows(job)
    with RowWriter(job.out) as sink:
        while stopped is None and (part := list(islice(rows, _ROWS_AT_ONCE))):
            try:
                made = _variants(part, job, augmentations, writer, store, yields)
            except (BudgetError, ServiceSetupError) as error:
                stopped = own_words(error)
            except EngineError as error:
                stopped = error
            else:
                for row, variants in zip(part, made, strict=True):
                    for each in [row] * job.with_originals + variants:
                        sink.write(ids.own(each))
                    written += len(variants)
                parents += len(part)
                progress.advance(len(part))
        progress.finish()
        if not written:
            raise stopped or InputError(
                f"no variant of {counted(parents, 'row')} could be used: "
                + ", ".join(f"{number} {what}" for (_, what), number in yields.items()),
                where=str(job.file),
                hint="nothing was written; take a larger model",
            )
    return AugmentReport(
        written,
        parents,
        dict(sorted(yields.items(), key=lambda item: item[0][0])),
        stopped,
        None if writer.budget is None else writer.budget.spent_usd,
    )


def _variants(
    rows: list[Row],
    job: AugmentJob,
    augmentations: list[Augmentation],
    writer: OpenWriter,
    store: Store,
    yields: Counter[tuple[str, str]],
) -> list[list[Row]]:
    """Of each row those that can be used. Counts nothing when it raises."""
    samplings = [
        Sampling(
            max_tokens=job.max_tokens,
            temperature=job.temperature,
            top_p=job.top_p,
            seed=job.seed,
            repeat=draw,
        )
        for draw in range(job.draws)
    ]
    asked = [(row, a, sampling) for row in rows for a in augmentations for sampling in samplings]
    requests = [(ask_variant(row, a), sampling) for row, a, sampling in asked]
    answers = iter(answer_each(writer.engine, store, requests, Silent()))
    found: list[list[Row]] = []
    for row in rows:
        own: list[Row] = []
        seen: set[str] = set()
        for augmentation in augmentations:
            for _ in samplings:
                answer = next(answers)
                yields[augmentation.name, "asked"] += 1
                if answer.finish is Finish.LENGTH:
                    made: Row | str = "cut"
                elif answer.finish is not Finish.STOP:
                    made = answer.finish.value
                else:
                    made = variant_of(row, augmentation, answer.text)
                if isinstance(made, Row) and normalised(made.instruction) in seen:
                    made = REPEATED
                if isinstance(made, str):
                    yields[augmentation.name, made] += 1
                    continue
                yields[augmentation.name, "kept"] += 1
                seen.add(normalised(made.instruction))
                labels = {**made.labels, "model": writer.engine.name}
                own.append(replace(made, labels=labels))
        found.append(own)
    return found


def _rows(job: AugmentJob) -> Iterator[Row]:
    """The rows to vary. A conversation's last turn depends on those before: it is left out."""
    rows = (row for row in read_rows(job.file) if isinstance(row, Row) and not row.history)
    return islice(rows, job.limit)


def _look_over(
    job: AugmentJob, augmentations: list[Augmentation], writer: OpenWriter, progress: Progress
) -> int:
    """Counts the rows, says what is left out, and what a paid service will cost at the most."""
    total = bad = talks = tokens_in = 0
    for row in read_rows(job.file):
        if isinstance(row, BadRow):
            bad += 1
            if bad <= 5:
                progress.say(f"{row.where}: left out: {row.reason}")
        elif row.history:
            talks += 1
        elif job.limit is None or total < job.limit:
            total += 1
            if writer.prices is not None:
                prompts = (ask_variant(row, a).messages[0].content for a in augmentations)
                tokens_in += sum(estimate_tokens(text) + 8 for text in prompts) * job.draws
    if bad > 5:
        progress.say(f"{counted(bad - 5, 'more bad row')} left out")
    if talks:
        progress.say(f"{counted(talks, 'conversation')} of several turns left out: not varied")
    if not total:
        raise InputError("there is no row to vary", where=str(job.file))
    if writer.prices is not None and writer.budget is not None:
        requests = total * len(augmentations) * job.draws
        tokens_out = requests * job.max_tokens
        usd = writer.prices.cost_usd(tokens_in, tokens_out)
        line = (
            f"{writer.engine.name}: {counted(requests, 'request')}, about {tokens_in:,} tokens in "
            f"and at most {tokens_out:,} out: about {usd:.4f} USD at the most; the cap is "
            f"{writer.budget.cap_usd:.4f} (cached answers cost nothing)"
        )
        progress.say(line + ("; it may stop there" if usd > writer.budget.cap_usd else ""))
    return total


def _check(job: AugmentJob) -> None:
    for flag, number in (("--draws", job.draws), ("--max-tokens", job.max_tokens),
                         ("--limit", 1 if job.limit is None else job.limit)):  # fmt: skip
        if number < 1:
            raise InputError(f"must be 1 or more, not {number}", where=flag)
    if job.temperature < 0 or not 0 < job.top_p <= 1:
        raise InputError(
            "temperature is 0 or more, top-p in (0, 1]", where="--temperature, --top-p"
        )
    if job.draws > 1 and job.temperature == 0:
        raise InputError(
            "without chance all draws are equal", where="--draws", hint="--temperature 0.7"
        )
    if job.out.exists() and not job.overwrite:
        raise InputError(
            "the file exists", where=f"--out {job.out}",
            hint="name another file, or --overwrite: what was answered is not asked again",
        )  # fmt: skip
    if job.out.exists() and job.file.exists() and job.out.samefile(job.file):
        raise InputError(
            "variants would replace the rows themselves", where=f"--out {job.out}",
            hint="name another file",
        )  # fmt: skip


def _write_manifest(job: AugmentJob, report: AugmentReport) -> None:
    parent = parent_of(job.file, job.out)
    rows = report.rows + report.parents * job.with_originals
    counts = {f"{kind}: {what}": number for (kind, what), number in report.yields.items()}
    write_manifest(
        job.out,
        Manifest(
            file_sha256(job.out), rows, licence=licence_named(job.licence or parent.licence),
            parents=(parent,), command=job.command, created=now(), counts=counts,
        ),
    )  # fmt: skip
