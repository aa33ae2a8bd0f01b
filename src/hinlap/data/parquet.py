"""Rows in Parquet files. Needs pyarrow, of the extra ``data``."""

from __future__ import annotations

import base64
import datetime
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from hinlap.core.errors import InputError, MissingExtraError
from hinlap.data.formats.record import Record, line_of

_BATCH_ROWS = 1_000
_GROUP_ROWS = 10_000
_TEXTS = ("id", "instruction", "input", "output", "system", "group", "origin", "parent")


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    return pyarrow


def read_parquet(path: Path, passed: int = 0) -> Iterator[Record]:
    """The rows of a file after the first ``passed``, as values fit for JSON.

    Dates become ISO texts, decimals texts, bytes base64 texts, a number that is none null.
    Raises InputError where it is no Parquet file, MissingExtraError without pyarrow.
    """
    pyarrow = _pyarrow()
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            f"no Parquet file that can be read ({str(error).splitlines()[0][:200]})",
            where=str(path),
            hint="copy or fetch it again: a Parquet file that was cut is lost",
        ) from None
    number = passed
    with file:
        names = file.schema_arrow.names
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(
                f"two columns have the name {twice[0]!r}",
                where=str(path),
                hint="give each column a name of its own",
            )
        size, total = path.stat().st_size, max(1, file.metadata.num_rows)
        try:
            left = passed
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                if left >= batch.num_rows:
                    left -= batch.num_rows
                    continue
                for fields in batch.slice(left).to_pylist():
                    number += 1
                    end = size * number // total
                    where = f"{path}: row {number}"
                    yield Record(where, {n: _plain(v) for n, v in fields.items()}, number, end)
                left = 0
        except (pyarrow.ArrowException, OSError) as error:
            reason = f"broken Parquet ({str(error).splitlines()[0][:200]})"
            reason += "; nothing behind it could be read"
            yield Record(f"{path}: row {number + 1}", {}, number + 1, size, reason)


def _plain(value: Any) -> Any:
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.date() | datetime.time():  # a datetime is a date
            return value.isoformat()
        case Decimal() | datetime.timedelta():
            return str(value)
        case _:
            return str(value)


class ParquetSink:
    """Writes records of rows in Hinlap's own layout.

    Columns are the same in every file: texts, "history" as a list of [asked, answered], and
    "labels" as the JSON text of an object, since the labels of two rows may differ in kind.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._pyarrow = _pyarrow()
        text = self._pyarrow.string()
        self._schema = self._pyarrow.schema(
            [
                *((name, text) for name in _TEXTS),
                ("history", self._pyarrow.list_(self._pyarrow.list_(text))),
                ("labels", text),
            ]
        )
        self._writer = self._pyarrow.parquet.ParquetWriter(sink, self._schema, compression="zstd")
        self._waiting: list[Mapping[str, Any]] = []

    def write(self, record: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
        known = {name: record.get(name, "") for name in _TEXTS}
        known["history"] = record.get("history", [])
        known["labels"] = line_of(labels).decode().rstrip("\n") if labels else "{}"
        self._waiting.append(known)
        if len(self._waiting) == _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
            self._writer.close()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """After an error: nothing more is written, not even the end that would fail again."""
        self._writer.is_open = False

    def _flush(self) -> None:
        if self._waiting:
            rows: Sequence[Mapping[str, Any]] = self._waiting
            self._writer.write_table(self._pyarrow.Table.from_pylist(rows, schema=self._schema))
            self._waiting = []
