"""Write a file of rows in another format, and say what that format cannot hold."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from hinlap.core.errors import InputError
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import BadRow, Row
from hinlap.data.containers import read_records
from hinlap.data.formats.record import Unfit, line_of
from hinlap.data.formats.table import Format, format_named
from hinlap.data.import_state import refuse_existing
from hinlap.data.manifest import Manifest, file_sha256, parent_of, read_manifest, write_manifest
from hinlap.data.row_files import OwnIds, RowWriter, parse
from hinlap.data.whole_file import whole_file

_SHOWN = 20
_TOLD_BYTES = 1 << 20
ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """lost: by field, how many rows have something there that reading the file back would not
    give. bad: rows that could not be read, or that the format cannot hold; ``shown`` are the
    first."""

    out: Path
    rows: int
    lost: Mapping[str, int]
    bad: int
    shown: tuple[BadRow, ...]


def convert_rows(
    path: Path,
    out: Path,
    to: str,
    *,
    format: str = "",
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    command: str = "",
    created: str = "",
    progress: Progress | None = None,
) -> ConvertReport:
    """Writes the rows of ``path`` to ``out`` in the format ``to``, with a manifest beside it.

    ``out`` ends in .jsonl, .jsonl.gz, .csv (formats of flat columns) or .parquet (Hinlap's own
    layout). What is lost is found by reading each record back. A row whose lesson the format
    cannot hold (a conversation in Alpaca's) is left out, told and counted.
    Raises InputError and StorageError; ``out`` is as it was then.
    """
    target = format_named(to, "--to")
    _check(out, target)
    refuse_existing(out, overwrite)
    progress = progress or Silent()
    lost: Counter[str] = Counter()
    shown: list[BadRow] = []
    rows = bad = told = 0
    ids = OwnIds()
    if path.exists():
        progress.start("convert, bytes", path.stat().st_size)
    with _Sink(out, target) as sink:
        for record, found in parse(read_records(path), path, format, columns or {}):
            if record.end - told > _TOLD_BYTES:
                progress.advance(record.end - told)
                told = record.end
            if isinstance(found, Row):
                row = ids.own(found)
                try:
                    written = target.write(row)
                    sink.write(row, written)
                    rows += 1
                    if target.name != "hinlap":
                        lost.update(_lost(row, target.read(written)))
                    continue
                except Unfit as error:
                    found = BadRow(record.where, str(error))
            if strict:
                raise InputError(
                    found.reason, where=found.where, hint="without --strict it is left out"
                )
            bad += 1
            if len(shown) < _SHOWN:
                shown.append(found)
        progress.advance(max(0, path.stat().st_size - told))
        if not rows:
            why = f": {shown[0].where}: {shown[0].reason}" if shown else ""
            raise InputError(f"not one row could be written{why}", where=str(path))
    progress.finish()
    before = read_manifest(path)
    write_manifest(
        out,
        Manifest(
            file_sha256(out), rows,
            licence=before.licence if before else "",
            parents=(parent_of(path, out),),
            command=command, created=created,
            role=before.role if before else "",
            split=before.split if before else None,
            counts={"left_out": bad, **{f"lost_{name}": count for name, count in lost.items()}},
        ),
    )  # fmt: skip
    return ConvertReport(out, rows, dict(lost), bad, tuple(shown))


def _lost(row: Row, back: Row) -> list[str]:
    """The fields of ``row`` that reading it back does not give."""
    names = [
        name
        for name in ("id", "group", "parent", "origin", "labels", "system", "history", "output")
        if getattr(row, name) and getattr(row, name) != getattr(back, name)
    ]
    if (row.instruction, row.input) != (back.instruction, back.input):
        joined = row.asked() == back.asked()
        names.append("border of instruction and input" if joined else "instruction")
    return names


def _check(out: Path, target: Format) -> None:
    name = out.name.lower()
    if not name.endswith(ENDINGS):
        raise InputError(
            "files are written as " + ", ".join(ENDINGS), where=f"--out {out}",
            hint=f"{out.with_suffix('.jsonl')}, for example",
        )  # fmt: skip
    if name.endswith(".parquet") and target.name != "hinlap":
        raise InputError(
            "Parquet files are written in Hinlap's own layout only", where=f"--out {out}",
            hint="--to hinlap, or a file that ends in .jsonl",
        )  # fmt: skip
    if name.endswith(".csv") and target.name not in ("alpaca", "dolly", "prompt-completion"):
        flat = "alpaca, dolly, prompt-completion"
        raise InputError(
            f"{target.name} has more than flat columns, which CSV cannot hold",
            where=f"--out {out}", hint=f"--to one of {flat}, or a file that ends in .jsonl",
        )  # fmt: skip


class _Sink:
    """Records of one format, as the name's end says."""

    def __init__(self, out: Path, target: Format) -> None:
        self._out = out
        self._rows = RowWriter(out) if out.name.lower().endswith(".parquet") else None
        self._csv: Any = None
        self._names: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> _Sink:
        if self._rows is not None:
            self._stack.enter_context(self._rows)
            return self
        self._file: IO[bytes] = self._stack.enter_context(whole_file(self._out))
        if self._out.name.lower().endswith(".gz"):
            packed = gzip.GzipFile("", "wb", 6, self._file, mtime=0)
            self._file = cast(IO[bytes], self._stack.enter_context(packed))
        return self

    def write(self, row: Row, record: Mapping[str, Any]) -> None:
        """Raises Unfit where a CSV file's columns, which its first row names, do not hold it."""
        if self._rows is not None:
            self._rows.write(row)
        elif self._out.name.lower().endswith(".csv"):
            self._file.write(self._line(record))
        else:
            self._file.write(line_of(record))

    def _line(self, record: Mapping[str, Any]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._names:
            self._names = list(record)
            writer.writerow(self._names)
        unknown = [name for name in record if name not in self._names]
        if unknown:
            raise Unfit(f"a column {unknown[0]!r} that the first row of the CSV file has not")
        writer.writerow([_cell(record.get(name, "")) for name in self._names])
        return text.getvalue().encode("utf-8", "replace")

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
