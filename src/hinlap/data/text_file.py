"""Files of texts: one a line, or JSONL with the name of a field; either also gzipped."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError

STDIN = Path("-")


@dataclass(frozen=True)
class TextFile:
    """rows: the texts of each item, one or more. lines: the line each item stands on.

    ids, clusters: one for each item; None where the file names none.
    """

    path: Path
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    ids: tuple[str, ...] | None = None
    clusters: tuple[str, ...] | None = None


def read_text_file(
    path: Path,
    *,
    field: str | None = None,
    several: bool = False,
    ids: str | None = None,
    clusters: str | None = None,
    option: str = "--field",
) -> TextFile:
    """The texts of a file, in its order.

    field:         None: one text per line, ended by \\n or \\r\\n; an empty line is an empty text.
                   Else of one JSON object per line, which must hold a text there.
    several:       the field may also hold a list of texts.
    ids, clusters: fields, read where the first row has them; then every row must. An id of its
                   own for each row.
    option:        what the field is called on the command line, for messages.
    Raises InputError with file and line.
    """
    text = read_utf8(path)
    if not text:
        raise InputError("the file is empty", where=str(path), hint="it needs one text per line")
    lines = text.removesuffix("\n").split("\n")
    if field is None:
        _refuse_jsonl(path, lines[0], option)
        texts = tuple((line.removesuffix("\r"),) for line in lines)
        return TextFile(path, texts, tuple(range(1, len(texts) + 1)))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError("there are no rows", where=str(path), hint="one JSON object per line")
    rows = [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    numbers = tuple(range(1, len(rows) + 1))
    return TextFile(
        path,
        tuple(
            _texts(row, field, several, f"{path}:{number}", option)
            for number, row in zip(numbers, rows, strict=True)
        ),
        numbers,
        _unique(path, _names(path, rows, ids, "--ids")),
        _names(path, rows, clusters, "--clusters"),
    )


def read_utf8(path: Path) -> str:
    """A file's text, gunzipped where its content is gzip, without a byte order mark; "-" is
    standard input. Raises InputError, with the line, where it is not UTF-8."""
    if path == STDIN:
        raw = sys.stdin.buffer.read()
    elif path.is_dir():
        raise InputError("it is a folder, not a file", where=str(path), hint="name a file in it")
    elif not path.exists():
        raise InputError("there is no such file", where=str(path), hint="check the name")
    else:
        raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise InputError(
                "the gzip data is broken", where=str(path), hint="fetch it again"
            ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise InputError(
            f"not UTF-8: byte 0x{raw[error.start]:02x}",
            where=f"{path}:{line}",
            hint=f"convert it: iconv -f {'UTF-16' if utf16 else 'LATIN1'} -t UTF-8 {path}"
            + ("" if utf16 else ", if it is LATIN1"),
        ) from None


def _refuse_jsonl(path: Path, first: str, option: str) -> None:
    if not first.startswith("{"):
        return
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return
    if isinstance(row, dict):
        raise InputError(
            "it holds JSON objects, and no field is named",
            where=f"{path}:1",
            hint=f"{option} NAME, one of: {', '.join(map(repr, row)) or 'none'}",
        )


def _row(line: str, where: str) -> dict[str, Any]:
    if not line.strip():
        raise InputError("an empty line between rows", where=where, hint="take it out")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg} at column {error.colno}",
            where=where,
            hint="with a field named, each line is one JSON object; leave it out for plain text",
        ) from None
    except (ValueError, RecursionError):
        raise InputError("not JSON that can be read", where=where) from None
    if not isinstance(row, dict):
        raise InputError(
            f"{kind_of(row)} where a JSON object is meant",
            where=where,
            hint='{"field": "text", ...}',
        )
    return row


def _texts(
    row: dict[str, Any], field: str, several: bool, where: str, option: str
) -> tuple[str, ...]:
    if field not in row:
        raise InputError(
            f"there is no field {field!r}",
            where=where,
            hint=f"{option} is one of: {', '.join(map(repr, row)) or 'none'}",
        )
    value = row[field]
    if isinstance(value, str):
        return (value,)
    if several and isinstance(value, list):
        if value and all(isinstance(text, str) for text in value):
            return tuple(value)
        raise InputError(
            f"{field!r} is a list of no texts" if value else f"{field!r} is an empty list",
            where=where,
            hint="give one or more texts; an empty text counts as one",
        )
    raise InputError(
        f"{field!r} is {kind_of(value)}, not a text", where=where, hint='an empty text is ""'
    )


def _names(
    path: Path, rows: list[dict[str, Any]], field: str | None, option: str
) -> tuple[str, ...] | None:
    if field is None or field not in rows[0]:
        return None
    names = []
    for number, row in enumerate(rows, 1):
        value = row.get(field)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                f"{field!r} is {kind_of(value)}, not a name" if field in row else f"no {field!r}",
                where=f"{path}:{number}",
                hint=f"{option} needs a text or a whole number in every row",
            )
        names.append(str(value))
    return tuple(names)


def _unique(path: Path, ids: tuple[str, ...] | None) -> tuple[str, ...] | None:
    places: dict[str, int] = {}
    for number, name in enumerate(ids or (), 1):
        if name in places:
            raise InputError(
                f"the id {name!r} stands at line {places[name]} already",
                where=f"{path}:{number}",
                hint="each row needs an id of its own",
            )
        places[name] = number
    return ids


def kind_of(value: Any) -> str:
    """What JSON holds there, for a message."""
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), f"the value {str(value)[:40]}")
