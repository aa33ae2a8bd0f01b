"""Alpaca: {"instruction", "input", "output"}, other columns kept as labels.

Source: Taori et al. (2023), github.com/tatsu-lab/stanford_alpaca. Columns "system" and "history"
are read as LLaMA-Factory writes them. What Alpaca's own readers would pass over (a system prompt,
earlier turns) is refused when writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hinlap.core.rows import Row
from hinlap.data.formats.own import history_of
from hinlap.data.formats.record import Unfit, id_of, make_row, optional_text, others, text_of

_FIELDS = frozenset(("id", "instruction", "input", "output", "system", "history"))


def recognise(fields: Mapping[str, Any]) -> bool:
    return "instruction" in fields and "output" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    return make_row(
        id_of(fields),
        text_of(fields, "instruction"),
        text_of(fields, "output"),
        input=optional_text(fields, "input"),
        system=optional_text(fields, "system"),
        history=history_of(fields) if "history" in fields else (),
        labels=others(fields, _FIELDS),
    )


def write(row: Row) -> dict[str, Any]:
    """Raises Unfit for a conversation or a system prompt."""
    refuse_more_than_a_turn(row, "Alpaca")
    return {
        "id": row.id,
        "instruction": row.instruction,
        "input": row.input,
        "output": row.output,
        **others(row.labels, _FIELDS),
    }


def refuse_more_than_a_turn(row: Row, format: str) -> None:
    """Raises Unfit where a format of one turn would leave out something that teaches."""
    if row.history:
        raise Unfit(f"a conversation: {format} has room for one turn")
    if row.system:
        raise Unfit(f"a system prompt: {format} has no place for it")
