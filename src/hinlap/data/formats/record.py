"""What every format works on: a record as a container gave it, and the row it becomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hinlap.core.rows import Origin, Row
from hinlap.data.text_file import kind_of

Turns = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Record:
    """One record of a file.

    where:  file and line, or row.
    fields: by column; empty where ``reason`` says why there are none.
    line:   the number of its last line, or of its row, from 1.
    end:    bytes of the file that were read when the record was whole.
    """

    where: str
    fields: dict[str, Any]
    line: int = 0
    end: int = 0
    reason: str = ""


class Unfit(Exception):
    """A record that is no row of its format, or a row that a format cannot hold. One sentence."""


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """The text under ``name``. Raises Unfit."""
    value = fields.get(name)
    if type(value) is str:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # an answer of "42" loses its quotes in many tables
    raise Unfit(f"{name!r} is {kind_of(value)}, not a text" if name in fields else f"no {name!r}")


def optional_text(fields: Mapping[str, Any], name: str) -> str:
    """As ``text_of``; "" where there is none, or null. Raises Unfit."""
    value = fields.get(name)
    if type(value) is str:
        return value
    return "" if value is None else text_of(fields, name)


def id_of(fields: Mapping[str, Any], name: str = "id") -> str:
    """The record's own id as text; "" where it has none. Raises Unfit."""
    value = fields.get(name)
    if value is None or type(value) is str:
        return value or ""
    if isinstance(value, bool | list | dict):
        raise Unfit(f"{name!r} is {kind_of(value)}, not a name")
    return str(value)


def others(fields: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The columns of ``fields`` that its format does not name."""
    return {name: value for name, value in fields.items() if name not in known}


def make_row(
    own_id: str,
    instruction: str,
    output: str,
    *,
    input: str = "",
    system: str = "",
    history: Turns = (),
    group: str = "",
    origin: Origin = Origin.UNKNOWN,
    parent: str = "",
    labels: Mapping[str, Any],
) -> Row:
    """A row; where it has no id of its own, one from its content."""
    if not own_id:
        own_id = content_id(instruction, input, output, system, history)
    return Row(
        own_id, instruction, output, input, system, tuple(history), group, origin, parent, labels
    )


def content_id(instruction: str, input: str, output: str, system: str, history: Turns) -> str:
    """16 hex digits that name what a row teaches: equal for rows that teach the same."""
    turns = [text for turn in history for text in turn]
    whole = "\0".join((instruction, input, output, system, *turns))
    return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=8).hexdigest()


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON, its end included."""
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a whole number over 64 bits, half a character
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
