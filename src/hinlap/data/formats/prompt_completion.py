"""Prompt and completion: {"prompt", "completion"}, two texts or two lists of messages.

Texts as OpenAI's first fine-tuning took them, lists as TRL takes them. A row with a system prompt
or earlier turns is written as lists. Texts are kept as they stand, spaces at their ends included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hinlap.core.rows import Row
from hinlap.data.formats.conversation import row_of
from hinlap.data.formats.messages import said_in
from hinlap.data.formats.record import Unfit, id_of, make_row, others, text_of

_FIELDS = frozenset(("id", "prompt", "completion"))


def recognise(fields: Mapping[str, Any]) -> bool:
    return "prompt" in fields and "completion" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    own_id, labels = id_of(fields), others(fields, _FIELDS)
    if isinstance(fields.get("prompt"), list):
        completion = fields.get("completion")
        said = said_in(completion, "completion")
        if len(said) != 1:
            raise Unfit(f"'completion' has {len(said)} messages, where one answer is meant")
        return row_of([*said_in(fields["prompt"], "prompt"), *said], own_id, labels)
    return make_row(own_id, text_of(fields, "prompt"), text_of(fields, "completion"), labels=labels)


def write(row: Row) -> dict[str, Any]:
    """An input becomes part of the prompt; only what is said is kept."""
    if not row.history and not row.system:
        return {"prompt": row.asked(), "completion": row.output}
    messages = [{"role": said.role, "content": said.content} for said in row.messages()]
    return {"prompt": messages[:-1], "completion": messages[-1:]}
