"""All the text of each row of a file, whatever its columns: JSONL, JSON, CSV, TSV or lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hinlap.core.errors import InputError
from hinlap.core.progress import Progress

_LONGEST_CELL = 16 * 2**20


def row_texts(path: Path, progress: Progress) -> Iterator[tuple[int, list[str]]]:
    """(line, the texts of its row), row by row, so that a file may be larger than memory; of a
    file that is one JSON list: (place in it from 1, texts), read whole.

    The ending says what it is: .jsonl, .ndjson, .json, .csv, .tsv, each also with .gz; any other
    file is one text a line. Texts are all that an object holds at any depth; names of columns
    are none. ``progress`` counts bytes of the file.
    Raises InputError, with the line, for what is not UTF-8, not JSON, or broken gzip.
    """
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), hint="name one file of rows")
    place = 0
    with path.open("rb") as raw:
        progress.start(f"reading {path.name}", path.stat().st_size)
        seen = 0
        try:
            for number, (place, texts) in enumerate(_rows(path, raw)):
                if number % 500 == 0:
                    progress.advance(raw.tell() - seen)
                    seen = raw.tell()
                yield place, texts
        except UnicodeDecodeError:
            raise InputError(
                "not UTF-8", where=f"{path}, after line {place}", hint="convert it to UTF-8"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise InputError(
                "the gzip data is broken", where=str(path), hint="fetch it again"
            ) from None
        progress.finish()


def _rows(path: Path, raw: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    zipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    data: IO[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
    endings = [ending.lower() for ending in path.suffixes if ending.lower() != ".gz"]
    kind = endings[-1] if endings else ""
    with io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as text:
        yield from _rows_of_kind(path, text, kind)


def _rows_of_kind(path: Path, text: IO[str], kind: str) -> Iterator[tuple[int, list[str]]]:
    if kind in (".csv", ".tsv"):
        yield from _cells(path, text, "\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        yield from _document(path, text)
    else:
        as_json = kind in (".jsonl", ".ndjson")
        for number, line in enumerate(text, 1):
            if line.strip():
                yield number, (_texts(_parsed(line, f"{path}:{number}")) if as_json else [line])


def _cells(path: Path, text: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    reader = csv.reader(text, delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"not CSV: {error}", where=f"{path}:{reader.line_num}") from None


def _document(path: Path, text: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """A JSON list, or, as some name it, JSONL with the ending of JSON."""
    whole = text.read()
    if whole.lstrip().startswith("["):
        for place, row in enumerate(_parsed(whole, str(path)), 1):
            yield place, _texts(row)
        return
    try:
        rows = [(1, json.loads(whole))]
    except (ValueError, RecursionError):
        lines = enumerate(whole.split("\n"), 1)
        rows = [(n, _parsed(line, f"{path}:{n}")) for n, line in lines if line.strip()]
    for number, row in rows:
        yield number, _texts(row)


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where, hint="one JSON value a line") from None


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value, its objects' names left out; no recursion, so no depth is too
    deep."""
    found, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            left += reversed(each.values())
        elif isinstance(each, list):
            left += reversed(each)
    return found
