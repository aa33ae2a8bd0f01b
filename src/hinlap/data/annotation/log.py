"""The log of what annotators did: one JSON object a line, on disk before it counts as saved.

It stands beside the set (`FILE.annotations.jsonl`) and is only ever appended to. Several
processes may write one log: a lock on the file orders them, and each reads what the others wrote.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError, StorageError

SUFFIX = ".annotations.jsonl"


class Action(enum.StrEnum):
    """What was done to a row. WRITTEN: an answer where none was. CORRECTED: what stood there, or
    the draft, was changed. ACCEPTED: the draft as it was. KEPT: the row as it was. UNDONE takes
    one of these back. FINISHED concerns the set: it was rewritten up to here."""

    WRITTEN = "written"
    CORRECTED = "corrected"
    ACCEPTED = "accepted"
    KEPT = "kept"
    SKIPPED = "skipped"
    FLAGGED = "flagged"
    UNDONE = "undone"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Fields:
    """What an annotator can change of a row. category: "" for none."""

    instruction: str
    input: str
    output: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log.

    number:         from 1 in the log's order; the number of a row's last entry is its version.
    row:            the row's key; "" where the entry concerns the set.
    started_at, ended_at: UTC, by the writing machine's clock.
    seconds:        of work on the row, as the form counted them: less than between the two where
                    the page was not looked at.
    fields:         what the row says now; None where the entry leaves it alone.
    new:            the row was written from nothing.
    draft:          the text shown beside, None where there was none. draft_by: the model's name.
    draft_distance: Levenshtein distance in characters from the draft to the answer saved.
    reason:         of a flag.
    undoes:         number of the entry taken back; 0 for none.
    digest:         of FINISHED: SHA-256 of the set's file.
    """

    number: int
    action: Action
    row: str
    annotator: str
    started_at: str
    ended_at: str
    seconds: float = 0.0
    fields: Fields | None = None
    new: bool = False
    draft: str | None = None
    draft_by: str = ""
    draft_distance: int | None = None
    reason: str = ""
    undoes: int = 0
    digest: str = ""


class AnnotationLog:
    """The log of one set. repaired: what was cut off its end, "" for nothing.

    Raises InputError with file and line for a line that is no entry, StorageError where the disk
    does not take an entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0  # bytes
        self._lines = 0
        existed = path.exists()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _storage_error(path, error) from error
        if not existed:
            _sync_folder(path)
        self.repaired = ""
        with self.locked():
            pass

    def close(self) -> None:
        os.close(self._file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes meanwhile. An end that another left broken is cut off first."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self.repaired += self._repair()
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def read_new(self) -> list[Entry]:
        """The entries since the last call, whoever wrote them."""
        whole, size = b"", os.fstat(self._file).st_size
        if size > self._read:
            whole = os.pread(self._file, size - self._read, self._read)
            whole = whole[: whole.rfind(b"\n") + 1]
        entries = []
        for line in whole.splitlines():
            self._lines += 1
            entries.append(_entry(line, f"{self.path}:{self._lines}", self._lines))
        self._read += len(whole)
        return entries

    def append(self, entry: Entry) -> None:
        """Durable when it returns. To be called while `locked`, with all entries read."""
        size = os.fstat(self._file).st_size
        raw = json.dumps(_sparse(entry), ensure_ascii=False).encode() + b"\n"
        try:
            left = memoryview(raw)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise _storage_error(self.path, error) from error

    @property
    def next_number(self) -> int:
        return self._lines + 1

    def _repair(self) -> str:
        """Cuts off a last line that a crash left unfinished: it was never called saved."""
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, size - self._read, self._read)
        broken = tail[tail.rfind(b"\n") + 1 :]
        if broken:
            os.ftruncate(self._file, size - len(broken))
            os.fsync(self._file)
        return broken.decode("utf-8", "replace")


def log_path(path: Path) -> Path:
    """Where the log of a set stands."""
    return path.with_name(path.name + SUFFIX)


def _sparse(entry: Entry) -> dict[str, Any]:
    """Without fields at rest: a line says only what happened."""
    at_rest = {field.name: field.default for field in dataclasses.fields(entry)}
    return {k: v for k, v in asdict(entry).items() if v != at_rest[k]}


def _entry(line: bytes, where: str, number: int) -> Entry:
    try:
        said = json.loads(line)
        fields = said.pop("fields", None)
        said["action"] = Action(said["action"])
        for field, default in (("row", ""), ("annotator", "")):
            said.setdefault(field, default)
        entry = Entry(fields=Fields(**fields) if fields is not None else None, **said)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            "not an entry of an annotation log",
            where=where,
            hint="mend or take out this line, then run the same command again",
        ) from None
    if entry.number != number or not all(isinstance(v, str) for v in _texts(entry)):
        raise InputError(
            f"the entry says number {entry.number}",
            where=where,
            hint="lines were taken out or moved: put the log back as it was, or start a new one "
            "by moving it away",
        )
    return entry


def _texts(entry: Entry) -> list[Any]:
    texts: list[Any] = [entry.row, entry.annotator, entry.draft or "", entry.reason]
    return texts + (list(asdict(entry.fields).values()) if entry.fields else [])


def _sync_folder(path: Path) -> None:
    """So that the file's name, too, outlives a crash of the machine."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"the annotation cannot be kept: {error.strerror or error}",
        where=str(path),
        hint="free some space or check the permissions; what was saved before is whole",
    )
