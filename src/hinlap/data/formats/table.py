"""The formats known by name, in the order they are tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hinlap.core.errors import InputError
from hinlap.core.rows import Row
from hinlap.data.formats import alpaca, dolly, messages, own, prompt_completion, sharegpt


@dataclass(frozen=True, slots=True)
class Format:
    """recognise: by its columns alone. read, write: raise Unfit. columns: for a reader."""

    name: str
    columns: str
    recognise: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Row]
    write: Callable[[Row], dict[str, Any]]


FORMATS = {
    found.name: found
    for found in (
        Format("hinlap", "id, instruction, input, output, origin ...",
               own.recognise, own.read, own.write),
        Format("messages", "messages: role, content",
               messages.recognise, messages.read, messages.write),
        Format("sharegpt", "conversations: from, value",
               sharegpt.recognise, sharegpt.read, sharegpt.write),
        Format("alpaca", "instruction, input, output",
               alpaca.recognise, alpaca.read, alpaca.write),
        Format("dolly", "instruction, context, response, category",
               dolly.recognise, dolly.read, dolly.write),
        Format("prompt-completion", "prompt, completion",
               prompt_completion.recognise, prompt_completion.read, prompt_completion.write),
    )
}  # fmt: skip


def format_named(name: str, option: str = "--format") -> Format:
    """Raises InputError with the names there are."""
    if name not in FORMATS:
        raise InputError(f"no format {name!r}", where=option, hint=f"one of: {', '.join(FORMATS)}")
    return FORMATS[name]


def recognised(fields: Mapping[str, Any]) -> Format | None:
    """The first format that this record could be in."""
    return next((found for found in FORMATS.values() if found.recognise(fields)), None)


def format_of(records: Iterable[Mapping[str, Any]]) -> Format | None:
    """The format that most of ``records`` are in; None where none is in a known one."""
    votes = Counter(found.name for fields in records if (found := recognised(fields)))
    return FORMATS[votes.most_common(1)[0][0]] if votes else None
