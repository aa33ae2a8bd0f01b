"""Messages: {"messages": [{"role", "content"}, ...]}, as OpenAI's fine-tuning takes them.

A content is a text, or a list of text parts. What this row cannot hold (images, calls of tools and
their results) is refused with its reason. Written records hold nothing but messages: OpenAI's
check takes no other column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from hinlap.core.rows import Row
from hinlap.data.formats.conversation import Said, row_of
from hinlap.data.formats.record import Unfit, id_of, others
from hinlap.data.text_file import kind_of

_FIELDS = frozenset(("id", "messages"))
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def recognise(fields: Mapping[str, Any]) -> bool:
    return "messages" in fields


def read(fields: Mapping[str, Any]) -> Row:
    """Raises Unfit."""
    return row_of(
        said_in(fields.get("messages"), "messages"), id_of(fields), others(fields, _FIELDS)
    )


def write(row: Row) -> dict[str, Any]:
    """An input becomes part of the question; only what is said is kept."""
    return {
        "messages": [
            {"role": message.role, "content": message.content} for message in row.messages()
        ]
    }


def said_in(value: Any, name: str) -> list[Said]:
    """The turns of a list of messages, or of its JSON text. Raises Unfit."""
    if isinstance(value, str) and value.lstrip().startswith("["):  # a cell of a CSV file
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Unfit(f"{name!r} is a text that is no JSON") from None
    if not isinstance(value, list):
        raise Unfit(f"{name!r} is {kind_of(value)}, not a list of messages")
    return [_said(message, number) for number, message in enumerate(value, 1)]


def _said(message: Any, number: int) -> Said:
    if not isinstance(message, dict):
        raise Unfit(f"message {number} is {kind_of(message)}, not an object")
    role = message.get("role")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise Unfit(f"message {number} belongs to a call of a tool, which a row cannot hold")
    if not isinstance(role, str) or role not in _ROLES:
        raise Unfit(f"message {number} has the role {str(role)[:40]!r}")
    return _ROLES[role], _content(message.get("content"), number)


def _content(content: Any, number: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unfit(f"the content of message {number} is {kind_of(content)}, not a text")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else kind_of(part)
        text = part.get("text") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise Unfit(f"message {number} has a part that is no text ({str(kind)[:40]})")
        parts.append(text)
    return "\n".join(parts)
