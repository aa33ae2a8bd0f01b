"""Bring the rows of any files into one, in Hinlap's own layout."""

from __future__ import annotations

import datetime
import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from hinlap.core.errors import InputError
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import BadRow, Row
from hinlap.data.containers import Place, read_records
from hinlap.data.formats import own
from hinlap.data.formats.record import Record, id_of, line_of
from hinlap.data.import_state import Import, refuse_existing
from hinlap.data.licences import licence_named, licence_of
from hinlap.data.manifest import Manifest, file_sha256, parent_of, write_manifest
from hinlap.data.row_files import (
    OwnIds,
    RowWriter,
    check_row_file,
    choose_format,
    parse_as,
)
from hinlap.data.sources.hub_set import PREFIX, HubSet, fetch_hub_set
from hinlap.data.whole_file import writing_error

_SHOWN = 20
_TOLD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import.

    format:  a name of ``FORMATS``; "" recognises it, for each file.
    columns: by a format's column, the file's column that stands for it.
    strict:  the first bad row stops it, and nothing is written.
    licence: of the rows; "" takes the one that the sources name, where it is one.
    group:   the column whose value makes rows a group; "" for none.
    """

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    licence: str = ""
    group: str = ""
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came of it. bad: how many; ``shown`` are the first. renamed: ids that came twice.

    bad_file: where all bad ones stand; None without any. resumed: an earlier run had begun it.
    """

    out: Path
    rows: int
    bad: int
    shown: tuple[BadRow, ...]
    bad_file: Path | None
    renamed: int
    formats: tuple[str, ...]
    licence: str
    resumed: bool


def import_rows(
    sources: Sequence[str],
    out: Path,
    options: ImportOptions,
    *,
    command: str = "",
    progress: Progress | None = None,
) -> ImportReport:
    """Writes the rows of ``sources`` to ``out``, with a manifest beside it.

    A source: a file, a pattern with *, or ``hf:owner/name@revision[:which]``.
    Bad rows go to ``OUT.bad.jsonl``. Killed, the same call goes on where it was.
    Raises InputError (a source that cannot be read, ``out`` in the way, a bad row under
    ``strict``; ``out`` is as it was), StorageError (the disk; what was read is kept).
    """
    progress = progress or Silent()
    check_row_file(out)
    hub = [fetch_hub_set(name, progress) for name in sources if name.startswith(PREFIX)]
    files = _files(sources, hub, out)
    work = Import(out, _job(files, options))
    work.open()
    try:
        if not work.resumed:
            refuse_existing(out, options.overwrite)
        elif not work.state.whole:
            progress.say(f"going on with an import of {work.state.rows:,} rows so far")
        with ThreadPoolExecutor(1) as beside:  # the sources' hashes, while they are read
            parents = [beside.submit(parent_of, file, out) for file in files]
            shown, renamed = _read_all(files, work, options, progress)
            made = [parent.result() for parent in parents]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            work.save()
        work.close()
        if isinstance(error, InputError) and not work.resumed:
            work.forget()
        raise
    work.close()
    by_card = {file: found.licence for found in hub for file in found.files}
    made = [
        replace(parent, licence=parent.licence or licence_named(by_card.get(file, "")))
        for file, parent in zip(files, made, strict=True)
    ]
    named = {parent.licence for parent in made}
    licence = options.licence or (named.pop() if len(named) == 1 else "")
    if licence and licence_of(licence) is None:
        progress.say(
            f"--licence {licence}: not in the table of licences, so a mix counts it unknown"
        )
    manifest = Manifest(
        sha256="",
        rows=work.state.rows,
        licence=licence_named(licence),
        source=", ".join(f"{PREFIX}{found.name}" for found in hub),
        revision=", ".join(found.revision for found in hub),
        parents=tuple(made),
        command=command,
        created=now(),
        counts={"bad_rows": work.state.bad, "renamed_ids": renamed},
    )
    bad_file = _into_place(work, manifest, progress)
    return ImportReport(
        out, work.state.rows, work.state.bad, tuple(shown), bad_file, renamed,
        tuple(dict.fromkeys(work.state.formats)), manifest.licence, work.resumed,
    )  # fmt: skip


def now() -> str:
    """This moment in UTC, as manifests hold it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _files(sources: Sequence[str], hub: Sequence[HubSet], out: Path) -> list[Path]:
    files: list[Path] = []
    fetched = iter(hub)
    for source in sources:
        if source.startswith(PREFIX):
            files += next(fetched).files
        elif not Path(source).exists() and glob.has_magic(source):
            found = sorted(glob.glob(source, recursive=True))
            if not found:
                raise InputError("no file goes by this pattern", where=source)
            files += [Path(name) for name in found if Path(name).is_file()]
        else:
            files.append(Path(source))
    for file in files:
        if not file.is_file():
            what = "it is a folder" if file.is_dir() else "there is no such file"
            raise InputError(what, where=str(file), hint="name files, or a pattern as 'DIR/*.json'")
        if out.exists() and file.samefile(out):
            raise InputError(
                "the file to write is one of the sources", where=f"--out {out}",
                hint="give it another name",
            )  # fmt: skip
    return files


def _job(files: Sequence[Path], options: ImportOptions) -> str:
    """Names an import: the same files, unchanged, by the same options."""
    stats = [(str(file.resolve()), *_size_and_time(file)) for file in files]
    told = asdict(options) | {"licence": "", "overwrite": False}
    return hashlib.sha256(json.dumps([stats, told], sort_keys=True).encode()).hexdigest()


def _size_and_time(file: Path) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns


def _read_all(
    files: Sequence[Path], work: Import, options: ImportOptions, progress: Progress
) -> tuple[list[BadRow], int]:
    """Reads on from where ``work`` is to the end of the last file."""
    ids, shown, state = OwnIds(), list[BadRow](), work.state
    for name in work.ids():
        ids.take(name)
    if state.whole:
        return shown, ids.renamed
    sizes = [file.stat().st_size for file in files]
    progress.start("import, bytes", sum(sizes))
    progress.advance(sum(sizes[: state.source]) + state.place.end)
    while state.source < len(files):
        path, told = files[state.source], state.place.end
        records = read_records(path, state.place if state.place.records else None)
        if state.source == len(state.formats):
            chosen, records = choose_format(records, path, options.format, options.columns)
            state.formats.append(chosen.name)
        count = state.place.records
        for record, found in parse_as(state.formats[-1], records, options.columns):
            count += 1
            place = Place(count, record.line, record.end)
            if isinstance(found, Row) and options.group:
                found = _grouped(found, record, options.group)
            if isinstance(found, Row):
                work.row(line_of(own.write(ids.own(found))), place)
            else:
                if options.strict:
                    raise InputError(
                        found.reason, where=found.where,
                        hint="mend it, or leave --strict away: bad rows are put aside then",
                    )  # fmt: skip
                if len(shown) < _SHOWN:
                    shown.append(found)
                work.bad(_bad_line(found, record), place)
            if record.end - told > _TOLD_BYTES:
                progress.advance(record.end - told)
                told = record.end
        progress.advance(max(0, sizes[state.source] - told))
        work.next_source()
    if not state.rows:
        first = f" The first of {state.bad:,}: {shown[0].where}: {shown[0].reason}" if shown else ""
        raise InputError(
            "not one row could be read." + first, where=", ".join(map(str, files))[:300],
            hint="--format and --map say how records are to be read",
        )  # fmt: skip
    state.whole = True
    work.save()
    progress.finish()
    return shown, ids.renamed


def _grouped(row: Row, record: Record, column: str) -> Row | BadRow:
    value = record.fields.get(column, row.labels.get(column))
    if value is None or isinstance(value, list | dict):
        return BadRow(record.where, f"no {column!r} to group it by")
    return replace(row, group=id_of({column: str(value)}, column))


def _bad_line(bad: BadRow, record: Record) -> bytes:
    told: dict[str, Any] = {"where": bad.where, "reason": bad.reason}
    if record.fields:
        told["record"] = record.fields
    return line_of(told)


def _into_place(work: Import, manifest: Manifest, progress: Progress) -> Path | None:
    """The files at their names, the manifest last; killed within, the next run does the rest."""
    out = work.out
    bad_file = out.with_name(f"{out.name}.bad.jsonl")
    try:
        if work.bad_part.exists():
            if work.state.bad:
                os.replace(work.bad_part, bad_file)
            else:
                bad_file.unlink(missing_ok=True)
        if work.part.exists():
            if out.name.lower().endswith(".jsonl"):
                os.replace(work.part, out)
            else:
                progress.say(f"writing {out}")
                with RowWriter(out) as sink, work.part.open("rb") as lines:
                    for line in lines:
                        sink.write(own.read(orjson.loads(line)))
    except OSError as error:
        raise writing_error(out, error) from error
    write_manifest(out, replace(manifest, sha256=file_sha256(out)))
    work.forget()
    return bad_file if work.state.bad else None
