"""The rounds of a long job, each durable before the next: one JSON line a round, beside the file
that will be written in the end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.errors import UserError
from hinlap.core.rows import Row
from hinlap.data.formats import own
from hinlap.data.formats.record import line_of
from hinlap.data.whole_file import writing_error


@dataclass(frozen=True, slots=True)
class Round:
    """What a round gave. instructions: those that are new, also without an answer.
    yields: how many of what, by (step, what)."""

    number: int
    instructions: tuple[str, ...]
    rows: tuple[Row, ...]
    yields: Mapping[tuple[str, str], int]


class RoundJournal:
    """The journal of one job.

    run: names all that decides what the rounds give; a journal of another job is refused.
    """

    def __init__(self, out: Path, run: str) -> None:
        self.path = journal_path(out)
        self.rounds: list[Round] = []
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]  # a line cut by a kill was never there
            lines = whole.splitlines()
            if lines and json.loads(lines[0]) != {"run": run}:
                raise UserError(
                    "a run with other seeds, model or options was begun for this file and is not "
                    "over",
                    where=f"--out {out}",
                    hint=f"repeat its command, name another file, or begin anew: --overwrite "
                    f"(its rounds are in {self.path})",
                )
            self.rounds = [_read(line) for line in lines[1:]]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if content else "w+b")
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
            if not lines:
                self._write({"run": run})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                "it is no journal of this command",
                where=str(self.path),
                hint="move it away and run the same command again",
            ) from error
        except OSError as error:
            raise writing_error(self.path, error) from error

    def append(self, done: Round) -> None:
        """On the disk when this returns. Raises StorageError."""
        record = {
            "round": done.number,
            "instructions": done.instructions,
            "rows": [own.write(row) for row in done.rows],
            "yields": [[*key, number] for key, number in done.yields.items()],
        }
        try:
            self._write(record)
        except OSError as error:
            raise writing_error(self.path, error) from error
        self.rounds.append(done)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Closes it and takes it away: the job is over."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, record: Mapping[str, object]) -> None:
        self._file.write(line_of(record))
        self._file.flush()
        os.fsync(self._file.fileno())


def journal_path(out: Path) -> Path:
    return out.with_name(f".{out.name}.rounds")


def _read(line: bytes) -> Round:
    record = json.loads(line)
    return Round(
        number=record["round"],
        instructions=tuple(record["instructions"]),
        rows=tuple(own.read(row) for row in record["rows"]),
        yields={(step, what): number for step, what, number in record["yields"]},
    )
