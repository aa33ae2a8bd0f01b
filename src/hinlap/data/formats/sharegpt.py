"""ShareGPT: {"id", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}, ...]}.

A system prompt is the first turn, or a column of its own. Other columns are labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hinlap.core.rows import Row
from hinlap.data.formats.conversation import Said, row_of
from hinlap.data.formats.record import Unfit, id_of, optional_text, others
from hinlap.data.text_file import kind_of

_FIELDS = frozenset(("id", "conversations", "system"))
_NAMES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
}
_WRITTEN = {"system": "system", "user": "human", "assistant": "gpt"}


def recognise(fields: Mapping[str, Any]) -> bool:
    return "conversations" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    turns = fields.get("conversations")
    if isinstance(turns, str) and turns.lstrip().startswith("["):  # a cell of a CSV file
        try:
            turns = orjson.loads(turns)
        except orjson.JSONDecodeError:
            raise Unfit("'conversations' is a text that is no JSON") from None
    if not isinstance(turns, list):
        raise Unfit(f"'conversations' is {kind_of(turns)}, not a list of turns")
    said = [_said(turn, number) for number, turn in enumerate(turns, 1)]
    system = optional_text(fields, "system")
    if system:
        if said and said[0][0] == "system":
            raise Unfit("a system prompt in its column and another as the first turn")
        said.insert(0, ("system", system))
    return row_of(said, id_of(fields), others(fields, _FIELDS))


def write(row: Row) -> dict[str, Any]:
    """An input becomes part of the question."""
    return {
        "id": row.id,
        "conversations": [
            {"from": _WRITTEN[message.role], "value": message.content} for message in row.messages()
        ],
        **others(row.labels, _FIELDS),
    }


def _said(turn: Any, number: int) -> Said:
    if not isinstance(turn, dict):
        raise Unfit(f"turn {number} is {kind_of(turn)}, not an object")
    who, what = turn.get("from"), turn.get("value")
    if not isinstance(who, str) or who.lower() not in _NAMES:
        raise Unfit(f"turn {number} is by {str(who)[:40]!r}, not one of {', '.join(_NAMES)}")
    if not isinstance(what, str):
        raise Unfit(f"the value of turn {number} is {kind_of(what)}, not a text")
    return _NAMES[who.lower()], what
