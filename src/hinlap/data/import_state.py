"""An import on its way: what is done stays done, whenever it is killed.

Beside the file to be, three hidden ones: the rows so far, the bad ones so far, and a state that
says how many bytes of each are sure and behind which record of which source they stop. After a
kill both are cut to what is sure, and reading goes on there: no row is lost or comes twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from hinlap.core.errors import InputError
from hinlap.data.containers import Place
from hinlap.data.whole_file import write_whole, writing_error

SAVED_EACH_BYTES = 16 << 20


@dataclass(slots=True)
class State:
    """job: names sources and options. source: which of them is being read, from 0.
    place: behind which of its records. whole: everything was read."""

    job: str
    source: int = 0
    place: Place = field(default_factory=Place)
    rows: int = 0
    bad: int = 0
    part_bytes: int = 0
    bad_bytes: int = 0
    formats: list[str] = field(default_factory=list)
    whole: bool = False


class Import:
    """The three files. Raises as ``whole_file`` when they cannot be written."""

    def __init__(self, out: Path, job: str) -> None:
        self.out = out
        self.part, self.bad_part, self._state_path = paths_beside(out)
        self.state = State(job)
        self.resumed = False
        self._unsaved = 0

    def open(self) -> None:
        """Takes up what an earlier run of the same job left, or begins anew."""
        found = self._earlier()
        if found is not None:
            self.state, self.resumed = found, True
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._rows = self._cut(self.part, self.state.part_bytes)
            self._bad = self._cut(self.bad_part, self.state.bad_bytes)
        except OSError as error:
            raise writing_error(self.out, error) from error

    def ids(self) -> Iterator[str]:
        """The ids of the rows that an earlier run wrote."""
        if self.state.rows:
            with self.part.open("rb") as file:
                for line in file:
                    yield orjson.loads(line)["id"]

    def row(self, line: bytes, place: Place) -> None:
        self._write(self._rows, line)
        self.state.rows += 1
        self._done(place, len(line))

    def bad(self, line: bytes, place: Place) -> None:
        self._write(self._bad, line)
        self.state.bad += 1
        self._done(place, len(line))

    def next_source(self) -> None:
        self.state.source += 1
        self.state.place = Place()
        self.save()

    def save(self) -> None:
        """All that was written is sure from here on."""
        try:
            for file, sure in (
                (self._rows, self.state.part_bytes),
                (self._bad, self.state.bad_bytes),
            ):
                file.flush()
                if file.tell() > sure:
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._full(error) from error
        self.state.part_bytes, self.state.bad_bytes = self._rows.tell(), self._bad.tell()
        self._unsaved = 0
        write_whole(self._state_path, json.dumps(asdict(self.state)).encode())

    def close(self) -> None:
        for file in (self._rows, self._bad):
            try:
                file.close()
            except OSError:
                file.close()  # a full disk: the second time there is nothing left to write

    def forget(self) -> None:
        """Nothing is on its way any more."""
        for path in (self.part, self.bad_part, self._state_path):
            path.unlink(missing_ok=True)

    def _earlier(self) -> State | None:
        try:
            raw = json.loads(self._state_path.read_bytes())
            place = Place(**raw.pop("place"))
            state = State(place=place, **raw)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if state.job != self.state.job:
            return None
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self.part, self.bad_part)]
        moved = state.whole and not self.part.exists()
        if moved or (sizes[0] >= state.part_bytes and sizes[1] >= state.bad_bytes):
            return state
        return None

    def _cut(self, path: Path, size: int) -> BinaryIO:
        if path.exists() and not self.state.whole:
            os.truncate(path, size)
        return path.open("ab")

    def _write(self, file: BinaryIO, line: bytes) -> None:
        try:
            file.write(line)
        except OSError as error:
            raise self._full(error) from error

    def _done(self, place: Place, size: int) -> None:
        self.state.place = place
        self._unsaved += size
        if self._unsaved >= SAVED_EACH_BYTES:
            self.save()

    def _full(self, error: OSError) -> Exception:
        failure = writing_error(self.out, error)
        failure.hint = "free some space and run the same command: it goes on where it stopped"
        return failure


def paths_beside(out: Path) -> tuple[Path, Path, Path]:
    """Where the rows, the bad rows and the state stand while ``out`` is made."""
    return (
        out.with_name(f".{out.name}.part"),
        out.with_name(f".{out.name}.part-bad"),
        out.with_name(f".{out.name}.part-state"),
    )


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raises InputError where ``out`` is in the way."""
    if out.exists() and not out.is_file():
        raise InputError("this is not a file", where=f"--out {out}", hint="name a file")
    if out.exists() and not overwrite:
        raise InputError("the file exists", where=f"--out {out}", hint="--overwrite replaces it")
