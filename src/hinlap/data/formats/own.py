"""Hinlap's own layout: Alpaca's three columns, and beside them what is known of the row.

{"id", "instruction", "input", "output", "origin"}, and where they are not empty "system",
"history" ([[asked, answered], ...], oldest first), "group" and "parent". Every other column is a
label. A label that has the name of one of these stands in "labels", an object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from hinlap.core.rows import Origin, Row
from hinlap.data.formats.record import Unfit, id_of, make_row, optional_text, others, text_of
from hinlap.data.text_file import kind_of

FIELDS = frozenset(
    ("id", "instruction", "input", "output", "system", "history", "group", "origin", "parent",
     "labels")
)  # fmt: skip
_ORIGINS = {origin.value: origin for origin in Origin}


def recognise(fields: Mapping[str, Any]) -> bool:
    """Whether a record is in this layout: Alpaca's columns and an origin."""
    return "instruction" in fields and "output" in fields and "origin" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    labels = others(fields, FIELDS)
    nested = fields.get("labels")
    if nested is not None:
        labels |= _object(nested)
    origin = fields.get("origin")
    known = _ORIGINS.get(origin or "unknown") if origin is None or type(origin) is str else None
    if known is None:
        raise Unfit(f"'origin' is {str(origin)[:40]!r}, not one of {', '.join(_ORIGINS)}")
    return make_row(
        id_of(fields),
        text_of(fields, "instruction"),
        text_of(fields, "output"),
        input=optional_text(fields, "input"),
        system=optional_text(fields, "system"),
        history=history_of(fields),
        group=id_of(fields, "group"),
        origin=known,
        parent=id_of(fields, "parent"),
        labels=labels,
    )


def write(row: Row) -> dict[str, Any]:
    """The record of any row: nothing is lost."""
    record: dict[str, Any] = {
        "id": row.id,
        "instruction": row.instruction,
        "input": row.input,
        "output": row.output,
    }
    if row.system:
        record["system"] = row.system
    if row.history:
        record["history"] = [list(turn) for turn in row.history]
    if row.group:
        record["group"] = row.group
    record["origin"] = row.origin.value
    if row.parent:
        record["parent"] = row.parent
    if row.labels:
        clash = {name: value for name, value in row.labels.items() if name in FIELDS}
        record.update(row.labels if not clash else others(row.labels, FIELDS))
        if clash:
            record["labels"] = clash
    return record


def history_of(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Earlier turns as pairs of texts, from a list or its JSON text. Raises Unfit."""
    value = fields.get("history")
    if not value:
        return ()
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Unfit("'history' is a text, not a list of [asked, answered]") from None
    if not isinstance(value, list):
        raise Unfit(f"'history' is {kind_of(value)}, not a list of [asked, answered]")
    turns = []
    for turn in value:
        if not (isinstance(turn, list) and len(turn) == 2 and all(type(t) is str for t in turn)):
            raise Unfit("'history' has a turn that is not [asked, answered]")
        turns.append((turn[0], turn[1]))
    return tuple(turns)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # a Parquet file holds it as JSON
        try:
            value = json.loads(value)  # orjson rounds a whole number over 64 bits
        except ValueError:
            raise Unfit("'labels' is a text, not an object") from None
    if not isinstance(value, dict):
        raise Unfit(f"'labels' is {kind_of(value)}, not an object")
    return value
