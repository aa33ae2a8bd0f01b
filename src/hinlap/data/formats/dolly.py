"""Dolly: {"instruction", "context", "response", "category"}, other columns kept as labels.

Source: Conover et al. (2023), databricks-dolly-15k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hinlap.core.rows import Row
from hinlap.data.formats.alpaca import refuse_more_than_a_turn
from hinlap.data.formats.record import id_of, make_row, optional_text, others, text_of

_FIELDS = frozenset(("id", "instruction", "context", "response"))


def recognise(fields: Mapping[str, Any]) -> bool:
    return "instruction" in fields and "response" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    return make_row(
        id_of(fields),
        text_of(fields, "instruction"),
        text_of(fields, "response"),
        input=optional_text(fields, "context"),
        labels=others(fields, _FIELDS),
    )


def write(row: Row) -> dict[str, Any]:
    """Raises Unfit for a conversation or a system prompt."""
    refuse_more_than_a_turn(row, "Dolly")
    return {
        "id": row.id,
        "instruction": row.instruction,
        "context": row.input,
        "response": row.output,
        **others(row.labels, _FIELDS),
    }
