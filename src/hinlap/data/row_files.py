"""Files of rows: any format in, Hinlap's own layout out."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from hinlap.core.errors import InputError
from hinlap.core.rows import BadRow, Row
from hinlap.data.containers import read_records
from hinlap.data.formats import own
from hinlap.data.formats.record import Record, Unfit, line_of
from hinlap.data.formats.table import FORMATS, Format, format_named, format_of, recognised
from hinlap.data.parquet import ParquetSink
from hinlap.data.whole_file import whole_file

LOOKED_AT = 100
"""Records from which the format of a file is recognised."""

ROW_FILES = (".jsonl", ".jsonl.gz", ".parquet")


def read_rows(
    path: Path, *, format: str = "", columns: Mapping[str, str] | None = None
) -> Iterator[Row | BadRow]:
    """The rows of a file in its order, and beside them what is no row, with place and reason.

    format:  a name of ``FORMATS``; "" recognises it from the first records.
    columns: by a format's column, the file's column that stands for it (question for instruction).
    Each row has an id of its own: one that came before gets a number behind it.
    Raises InputError only where the file as a whole cannot be read: it is not there, empty, of no
    known kind, or in no known format. Nothing but ids (8 bytes each, and Python's own) is kept.
    """
    ids = OwnIds()
    for _, found in parse(read_records(path), path, format, columns or {}):
        yield ids.own(found) if isinstance(found, Row) else found


def parse(
    records: Iterator[Record], path: Path, format: str, columns: Mapping[str, str]
) -> Iterator[tuple[Record, Row | BadRow]]:
    """Each record and what it is; ids as they come. Raises InputError as ``read_rows``."""
    chosen, records = choose_format(records, path, format, columns)
    yield from parse_as(chosen.name, records, columns)


def parse_as(
    format: str, records: Iterator[Record], columns: Mapping[str, str]
) -> Iterator[tuple[Record, Row | BadRow]]:
    """As ``parse``, in a format that is settled."""
    chosen = format_named(format)
    swapped = {theirs: ours for ours, theirs in columns.items()}
    read = chosen.read
    for record in records:
        if record.reason:
            yield record, BadRow(record.where, record.reason)
            continue
        try:
            fields = renamed(record.fields, swapped) if swapped else record.fields
            yield record, read(fields)
        except Unfit as error:
            yield record, BadRow(record.where, _explained(str(error), record, chosen))


def choose_format(
    records: Iterator[Record], path: Path, format: str, columns: Mapping[str, str]
) -> tuple[Format, Iterator[Record]]:
    """The format named, or that most of the first records are in; and all the records.

    Raises InputError where it is none.
    """
    if format:
        return format_named(format), records
    head = list(islice(records, LOOKED_AT))
    swapped = {theirs: ours for ours, theirs in columns.items()}
    whole = [record for record in head if not record.reason]
    found = format_of(_tried(record.fields, swapped) for record in whole)
    if found is not None:
        return found, chain(head, records)
    if not whole:
        why = f"nothing in it could be read: {head[0].reason}" if head else "there is no record"
        raise InputError(why, where=head[0].where if head else str(path))
    names = ", ".join(map(repr, whole[0].fields))[:200] or "none"
    absent = [theirs for theirs in swapped if all(theirs not in r.fields for r in whole)]
    if absent:
        raise InputError(
            f"there is no column {absent[0]!r}; there are {names}",
            where=f"--map {swapped[absent[0]]}={absent[0]}",
            hint="FIELD=COLUMN: the column of the file comes behind",
        )
    raise InputError(
        f"in no known format; its columns are {names}",
        where=whole[0].where,
        hint="map them, as in --map instruction=question --map output=answer; known are: "
        + "; ".join(f"{known.name} ({known.columns})" for known in FORMATS.values()),
    )


def renamed(fields: Mapping[str, Any], swapped: Mapping[str, str]) -> dict[str, Any]:
    """``fields`` with each column that ``swapped`` names under its new name. Raises Unfit."""
    missing = [theirs for theirs in swapped if theirs not in fields]
    if missing:
        raise Unfit(f"no {missing[0]!r}, which is to be {swapped[missing[0]]!r}")
    found = {swapped.get(name, name): value for name, value in fields.items()}
    if len(found) < len(fields):
        both = next(new for old, new in swapped.items() if new in fields and new not in swapped)
        raise Unfit(f"a column {both!r} stands beside the one that is to be {both!r}")
    return found


def _tried(fields: Mapping[str, Any], swapped: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        return renamed(fields, swapped) if swapped else fields
    except Unfit:
        return {}


def _explained(reason: str, record: Record, chosen: Format) -> str:
    other = recognised(record.fields)
    if other is None or other is chosen or chosen.recognise(record.fields):
        return reason
    return f"{reason}: it looks like {other.name}, where the file is {chosen.name}"


class OwnIds:
    """Gives each row an id of its own. ``renamed`` counts those that had to change."""

    def __init__(self) -> None:
        self._taken: set[int] = set()  # of their hashes: a clash costs a needless number
        self._last: dict[str, int] = {}
        self.renamed = 0

    def own(self, row: Row) -> Row:
        """The row, or a copy with a number behind its id."""
        if self.take(row.id):
            return row
        self.renamed += 1
        number = self._last.get(row.id, 1) + 1
        while not self.take(f"{row.id}-{number}"):
            number += 1
        self._last[row.id] = number
        return Row(
            f"{row.id}-{number}", row.instruction, row.output, row.input, row.system, row.history,
            row.group, row.origin, row.parent, row.labels,
        )  # fmt: skip

    def take(self, name: str) -> bool:
        """Whether ``name`` was free; it is taken now."""
        before = len(self._taken)
        self._taken.add(hash(name))
        return len(self._taken) > before


class RowWriter:
    """Writes rows in Hinlap's own layout: JSONL, gzipped JSONL or Parquet, by the name's end.

    As a context: the file is in its place when the block ends well, and after an error ``path``
    is as it was. Raises InputError for another ending or a place where nothing may be written,
    StorageError when the disk is full, MissingExtraError for Parquet without pyarrow.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "rows.jsonl")
    >>> with RowWriter(path) as sink:
    ...     sink.write(Row("1", "Name a fruit.", "Mango."))
    >>> [row.output for row in read_rows(path)]
    ['Mango.']
    >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        check_row_file(path)
        self.path = path
        self.rows = 0
        self._stack = ExitStack()

    def __enter__(self) -> RowWriter:
        name = self.path.name.lower()
        sink = self._stack.enter_context(whole_file(self.path))
        try:
            self._parquet = ParquetSink(sink) if name.endswith(".parquet") else None
            self._packed = None
            if name.endswith(".gz"):
                # no name and no time within, so that equal rows make equal files
                self._packed = gzip.GzipFile("", "wb", 6, sink, mtime=0)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        self._sink = cast(BinaryIO, self._packed) if self._packed else sink
        return self

    def write(self, row: Row) -> None:
        if self._parquet is not None:
            self._parquet.write(own.write(row), row.labels)
        else:
            self._sink.write(line_of(own.write(row)))
        self.rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            if self._parquet is not None:
                self._parquet.abandon()
            if self._packed is not None:
                with suppress(OSError):  # a full disk says so once more
                    self._packed.close()
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._parquet is not None:
                self._parquet.close()
            if self._packed is not None:
                self._packed.close()


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes ``rows`` to a file of their own; how many. Raises as ``RowWriter``."""
    with RowWriter(path) as sink:
        for row in rows:
            sink.write(row)
    return sink.rows


def check_row_file(path: Path, option: str = "--out") -> None:
    """Raises InputError where the name says no layout that rows are written in."""
    if not path.name.lower().endswith(ROW_FILES):
        raise InputError(
            f"rows are written to files that end in {', '.join(ROW_FILES)}",
            where=f"{option} {path}",
            hint=f"{path.with_suffix('.jsonl')}, for example",
        )
