"""Turns of a conversation, and the row they make: the last answer with all that led to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hinlap.core.rows import Row
from hinlap.data.formats.record import Unfit, make_row

Said = tuple[str, str]
"""(who, what); who is system, user or assistant."""


def row_of(said: Sequence[Said], own_id: str, labels: Mapping[str, Any]) -> Row:
    """The row of a conversation: perhaps a system prompt, then user and assistant in turn.

    Raises Unfit, naming the turn, where the order is another, or the end is no answer.
    """
    system = ""
    turns = list(said)
    if turns and turns[0][0] == "system":
        system = turns[0][1]
        del turns[0]
    if not turns:
        raise Unfit("the conversation has no turn")
    for place, (who, _) in enumerate(turns):
        wanted = "assistant" if place % 2 else "user"
        if who != wanted:
            number = place + 1 + (len(said) - len(turns))
            raise Unfit(f"turn {number} is by {who}, where {wanted} is to speak")
    if len(turns) % 2:
        raise Unfit("the conversation does not end with an answer")
    history = [(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns) - 2, 2)]
    return make_row(
        own_id, turns[-2][1], turns[-1][1], system=system, history=history, labels=labels
    )
