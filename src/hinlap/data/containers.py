"""Records of any file, one at a time: JSONL, JSON, CSV, TSV, Parquet, gzipped or not.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one. Memory is bounded by the
largest record, and that by ``LARGEST_RECORD_BYTES``. What is no record is told with its place and
reason, and the next goes on; only a file that cannot be read at all raises.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.data.formats.record import Record
from hinlap.data.json_text import BrokenJson, JsonText, no_constant
from hinlap.data.text_file import kind_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_RECORD_BYTES = 64_000_000
CSV_RECORD_BYTES = 16_000_000
"""Smaller, since a quote that is never closed is read so far before it is known."""

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is how it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES = 1 << 20
_OF_ONE_RECORD = ("messages", "conversations", "prompt", "completion", "history", "instances")
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_BROKEN_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Place:
    """Behind the ``records``-th record of a file, which ended in ``line`` and at byte ``end``."""

    records: int = 0
    line: int = 0
    end: int = 0


def read_records(path: Path, behind: Place | None = None) -> Iterator[Record]:
    """The records of a file, good and bad, in its order; ``behind`` a place, those after it.

    Raises InputError where there is no such file, it is empty or of no known kind.
    """
    kind = container_of(path)
    behind = behind or Place()
    if kind == "parquet":
        from hinlap.data.parquet import read_parquet

        yield from read_parquet(path, behind.records)
        return
    with _Opened(path) as file:
        if kind == "jsonl" and file.plain and behind.end:
            file.bytes.seek(behind.end)
            yield from _jsonl(file, behind.line)
            return
        records = _READERS[kind](file)
        for _ in range(behind.records):
            next(records, None)
        yield from records


def read_lines(path: Path) -> Iterator[Record]:
    """The lines of a text that are not blank, each a record with the one field "text".

    Raises InputError where there is no such file; its encoding may be as in ``read_records``.
    """
    with _Opened(path) as file:
        number = 0
        try:
            for number, line in enumerate(file.bytes, 1):
                text, reason = "", ""
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    reason = _why_no_utf8(line, error)
                if text.strip() or reason:
                    fields = {} if reason else {"text": text}
                    yield Record(f"{path}:{number}", fields, number, file.read_bytes(), reason)
        except (*_BROKEN_GZIP, UnicodeError) as error:
            yield _broken_off(file, number + 1, error)


def container_of(path: Path) -> str:
    """jsonl, json, csv, tsv or parquet: by content where that says it, else by the name's end.

    Raises InputError where there is no such file, it is empty or of no known kind.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    with _Opened(path) as file:
        head = file.head()
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.lstrip()
    if not text:
        raise InputError("the file is empty", where=str(path), hint="it needs one record or more")
    if suffix in (".csv", ".tsv"):
        return suffix[1:]
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if _is_jsonl(text, suffix) else "json"
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"  # each line will say what is wrong with it
    if suffix in KINDS:
        raise InputError(
            f"not what its name says: it begins with {head[:20]!r}",
            where=str(path),
            hint=f"name it by what it holds: {' '.join(KINDS)}",
        )
    raise InputError(
        f"unknown kind of file {suffix or '(no ending)'!r}",
        where=str(path),
        hint=f"these are read: {' '.join(KINDS)}, each but the last also with .gz",
    )


def _is_jsonl(text: bytes, suffix: str) -> bool:
    """Whether a text that begins with a brace is one object a line, and not one over many."""
    line, ended, rest = text.partition(b"\n")
    if line.strip() == b"{":
        return False
    if suffix in (".jsonl", ".ndjson"):
        return True
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return rest.lstrip().startswith(b"{")
    return bool(ended and rest.strip())


class _Opened:
    """A file's bytes as UTF-8 without a mark, gunzipped where its content is gzip.

    plain: they are the file's own, so that a place in it can be gone to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text: io.TextIOWrapper | None = None
        if path.is_dir():
            raise InputError("it is a folder, not a file", where=str(path), hint="name a file")
        try:
            self._raw = path.open("rb")
        except FileNotFoundError:
            raise InputError(
                "there is no such file", where=str(path), hint="check the name"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror})", where=str(path), hint="check its permissions"
            ) from None
        try:
            self.bytes, self.plain = self._decoded()
        except BaseException:
            self._raw.close()
            raise

    def _decoded(self) -> tuple[io.BufferedReader[Any], bool]:
        packed = self._raw.peek(2)[:2] == b"\x1f\x8b"
        file: io.BufferedReader[Any] = self._raw
        if packed:
            file = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=self._raw)))
        try:
            head = file.peek(4)[:4]
        except _BROKEN_GZIP:
            raise InputError(
                "the gzip data is broken", where=str(self.path), hint="copy or fetch it again"
            ) from None
        if head.startswith(codecs.BOM_UTF8):
            file.read(3)
            return file, not packed
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                return io.BufferedReader(_Utf8(file, encoding), _CHUNK_BYTES), False
        if b"\0" in head[:2] and head.strip(b"\0"):
            raise InputError(
                "UTF-16 or UTF-32 without a byte order mark, or no text at all",
                where=str(self.path),
                hint=f"if it is text: iconv -f UTF-16LE -t UTF-8 {self.path} > NEW",
            )
        return file, not packed

    def head(self) -> bytes:
        """The first bytes, as many as can be read; the file is behind them then."""
        found = b""
        try:
            while len(found) < _CHUNK_BYTES and (part := self.bytes.read1(_CHUNK_BYTES)):
                found += part
        except (*_BROKEN_GZIP, UnicodeError):
            pass  # who reads on will come to it, and tell
        return found

    def text(self) -> IO[str]:
        """The same as characters; a byte that is no UTF-8 is a lone surrogate among them."""
        self._text = io.TextIOWrapper(self.bytes, "utf-8", errors="surrogateescape", newline="")
        return self._text

    def read_bytes(self) -> int:
        """How much of the file on disk was read."""
        return self._raw.tell()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *args: object) -> None:
        if self._text is not None:
            self._text.close()
        self._raw.close()


class _Utf8(io.RawIOBase):
    """Bytes of another encoding as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._left:
            chunk = self._file.read(_CHUNK_BYTES)
            self._left = self._decoder.decode(chunk, final=not chunk).encode()
            if not chunk:
                break
        taken = self._left[: len(view)]
        view[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def _jsonl(file: _Opened, line_number: int = 0) -> Iterator[Record]:
    path, handle, plain = str(file.path), file.bytes, file.plain
    end = handle.tell() if plain else 0
    number = line_number
    loads, largest = orjson.loads, LARGEST_RECORD_BYTES
    try:
        while line := handle.readline(largest):
            number += 1
            reason = ""
            if len(line) == largest and not line.endswith(b"\n"):
                line, length = b"", largest
                while part := handle.readline(_CHUNK_BYTES):
                    length += len(part)
                    if part.endswith(b"\n"):
                        break
                end += length
                reason = f"a line of {length:,} bytes; {largest:,} are the most"
            end = end + len(line) if plain else file.read_bytes()
            fields: Any = {}
            if not reason:
                try:
                    fields = loads(line)
                except orjson.JSONDecodeError:
                    if line.isspace():
                        continue
                    reason = _why_no_json(line)
                else:
                    if _LONG_NUMBER in line.translate(_DIGITS_AS_ZERO):
                        fields = json.loads(line)  # orjson rounds a whole number over 64 bits
                    if type(fields) is not dict:
                        reason = f"{kind_of(fields)}, where an object is meant"
                if reason:
                    fields = {}
            yield Record(f"{path}:{number}", fields, number, end, reason)
    except (*_BROKEN_GZIP, UnicodeError) as error:
        yield _broken_off(file, number + 1, error)


def _why_no_json(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return _why_no_utf8(line, error)
    if "\0" in text:
        return "NUL bytes among the text"
    try:
        json.loads(text, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        if not text.endswith("\n") and text.lstrip().startswith("{"):
            return "the file ends within this line: it was cut"
        return f"not JSON: {error.msg} (column {error.colno:,})"
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "JSON that is nested too deeply"
    if re.search(r"\\u[dD][89a-fA-F]", text):
        return "half a character (a lone surrogate): a text was cut within it"
    return "JSON with a number too large, or nested too deeply"


def _why_no_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte 0x{line[error.start]:02x}, byte {error.start + 1:,} of the line)"


def _json(file: _Opened) -> Iterator[Record]:
    """A list of objects; an object that holds one; or objects one after the other."""
    text = JsonText(
        file.text(),
        LARGEST_RECORD_BYTES,
    )
    try:
        if text.take("["):
            yield from _items(text, file)
        elif (whole := _to_its_list(text)) is None:
            yield from _items(text, file)
            return  # what the object says behind its list
        else:
            yield _record(whole, text, file, 1)
        while text.sign() == "{":
            line = text.line
            yield _record(text.value(), text, file, line)
        if text.sign():
            raise BrokenJson("text behind the end of the JSON")
    except BrokenJson as error:
        reason = f"{error.reason}; nothing behind it could be read"
        yield Record(f"{file.path}:{text.line}", {}, text.line, file.read_bytes(), reason)
    except (*_BROKEN_GZIP, UnicodeError) as error:
        yield _broken_off(file, text.line, error)


def _items(text: JsonText, file: _Opened) -> Iterator[Record]:
    if text.take("]"):
        return
    while True:
        text.sign()
        line = text.line
        yield _record(text.value(), text, file, line)
        if text.take("]"):
            return
        if not text.take(","):
            cut = "" if text.sign() else ": the file was cut"
            raise BrokenJson(f"neither a comma nor the end of the list{cut}")


def _to_its_list(text: JsonText) -> dict[str, Any] | None:
    """Goes to the first list of objects within an object, past its bracket, and gives None.

    Where there is no list, or it is one of turns, the object is a record: it is given.
    """
    text.take("{")
    fields: dict[str, Any] = {}
    while not text.take("}"):
        name = text.value()
        if not isinstance(name, str) or not text.take(":"):
            raise BrokenJson("broken JSON (a name and a colon are meant)")
        if text.sign() == "[" and name not in _OF_ONE_RECORD:
            text.take("[")
            if text.sign() == "{":
                return None
            fields[name] = []
            while not text.take("]"):
                fields[name].append(text.value())
                text.take(",")
        else:
            fields[name] = text.value()
        if not text.take(",") and text.sign() != "}":
            raise BrokenJson("broken JSON (a comma or a closing brace is meant)")
    return fields


def _record(value: Any, text: JsonText, file: _Opened, line: int) -> Record:
    where = f"{file.path}:{line}"
    if not isinstance(value, dict):
        reason = f"{kind_of(value)}, where an object is meant"
        return Record(where, {}, text.line, file.read_bytes(), reason)
    try:
        orjson.dumps(value)
    except TypeError as error:
        if "surrogates" in str(error):
            reason = "half a character (a lone surrogate): a text was cut within it"
            return Record(where, {}, text.line, file.read_bytes(), reason)
    return Record(where, value, text.line, file.read_bytes())


def _csv(file: _Opened) -> Iterator[Record]:
    path = str(file.path)
    lines = _Lines(file.text())
    csv.field_size_limit(max(csv.field_size_limit(), CSV_RECORD_BYTES))
    try:
        first = lines.peek()
        tabs = file.path.name.lower().removesuffix(".gz").endswith(".tsv")
        delimiter = "\t" if tabs else max(",;\t|", key=first.count)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            lines.begin()
            line, reason = lines.number + 1, ""
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells, reason = [], _why_no_csv(error, lines.too_long)
                lines.back_to_second()
            reason = reason or lines.too_long
            if not reason and not any(cells):
                continue
            if header is None:
                header = _header([cell.strip() for cell in cells], reason, f"{path}:{line}")
                continue
            reason = reason or _why_no_row(cells, header)
            fields: dict[str, Any] = {}
            if not reason:
                fields = {name: cell for name, cell in zip(header, cells, strict=False) if name}
            yield Record(f"{path}:{line}", fields, lines.number, file.read_bytes(), reason)
    except (*_BROKEN_GZIP, UnicodeError) as error:
        yield _broken_off(file, lines.number + 1, error)


class _Lines:
    """Lines for csv.reader, which can be given again where a record turned out to be none."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._waiting: list[str] = []  # to be given again, last first
        self._given: list[str] = []  # since the record began
        self._size = 0
        self.number = 0
        self.too_long = ""

    def begin(self) -> None:
        """A record begins with the next line."""
        self._given.clear()
        self._size, self.too_long = 0, ""

    def peek(self) -> str:
        line = next(self, "")
        self._waiting.append(line)
        self.number -= 1
        return line

    def back_to_second(self) -> None:
        """All lines of the record but its first are given again."""
        while len(self._given) > 1:
            self._waiting.append(self._given.pop())
            self.number -= 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._size > CSV_RECORD_BYTES:
            raise StopIteration  # csv.reader says that a quote was never closed
        line = self._waiting.pop() if self._waiting else self._file.readline(CSV_RECORD_BYTES)
        if not line:
            raise StopIteration
        if len(line) == CSV_RECORD_BYTES and not line.endswith("\n"):
            while (part := self._file.readline(_CHUNK_BYTES)) and not part.endswith("\n"):
                pass
            self.too_long = f"a line of more than {CSV_RECORD_BYTES:,} characters"
            line = "\n"
        self.number += 1
        self._size += len(line)
        self._given.append(line)
        return line


def _header(cells: list[str], reason: str, where: str) -> list[str]:
    """The names in the first line. Raises InputError: without them no row can be read."""
    if reason:
        raise InputError(f"the first line names no columns: {reason}", where=where)
    twice = [name for name, count in Counter(cells).items() if name and count > 1]
    if twice:
        raise InputError(
            f"two columns have the name {twice[0]!r}",
            where=where,
            hint="give each column a name of its own in the first line",
        )
    if not any(cells):
        raise InputError("the first line names no columns", where=where)
    return cells


def _why_no_csv(error: csv.Error, too_long: str) -> str:
    if too_long:
        return too_long
    if "unexpected end" in str(error):
        return "a quote that opens here is never closed"
    if "expected after" in str(error):
        return 'a quote within a quoted cell that is not doubled ("")'
    return f"broken CSV ({error})"


def _why_no_row(cells: list[str], header: list[str]) -> str:
    if len(cells) != len(header):
        return f"{counted(len(cells), 'cell')}, where the first line names {len(header)}"
    text = "".join(cells)
    if "\0" in text:
        return "NUL bytes among the text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"not UTF-8 (byte 0x{ord(text[error.start]) - 0xDC00:02x})"
    if any(cell and not name for name, cell in zip(header, cells, strict=True)):
        return "a cell in a column that the first line does not name"
    return ""


def _broken_off(file: _Opened, line: int, error: Exception) -> Record:
    if isinstance(error, UnicodeError):
        reason = "the encoding that the byte order mark names is broken"
    else:
        reason = "the gzip data is broken or was cut"
    end = file.read_bytes()
    return Record(
        f"{file.path}:{line}", {}, line, end, f"{reason}; nothing behind it could be read"
    )


_READERS: dict[str, Callable[[_Opened], Iterator[Record]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": _csv,
}
