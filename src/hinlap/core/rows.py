"""A row that teaches: what is asked, and what should be answered."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hinlap.core.messages import Message


class Origin(enum.StrEnum):
    """Who wrote a row. DERIVED: a machine, from another row (its ``parent``)."""

    HUMAN = "human"
    MACHINE = "machine"
    DERIVED = "derived"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """One solved task, perhaps the last turn of a conversation.

    id:          its own in its set; where the source names none, it comes from the content.
    instruction: what is asked. input: what it is asked about; "" for nothing. output: the answer.
    system:      stands before everything; "" for none.
    history:     earlier turns, oldest first: (asked, answered).
    group:       rows of one group (questions on one article) never straddle a split; "" for none.
    parent:      id of the row that a derived one was made from; "" for none.
    labels:      every other column (``category`` ...), as it was read, fit for JSON.
    """

    id: str
    instruction: str
    output: str
    input: str = ""
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
    origin: Origin = Origin.UNKNOWN
    parent: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)

    def asked(self) -> str:
        """Instruction and input as one text, a blank line between them."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def content(self) -> str:
        """All that teaches, as one text: what copies of the row share."""
        turns = [text for turn in self.history for text in turn]
        return "\n".join(part for part in (self.system, *turns, self.asked(), self.output) if part)

    def messages(self) -> tuple[Message, ...]:
        """The row as a conversation that ends with the answer."""
        said = [Message("system", self.system)] if self.system else []
        for asked, answered in self.history:
            said += [Message("user", asked), Message("assistant", answered)]
        return (*said, Message("user", self.asked()), Message("assistant", self.output))


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that is no row. where: file and line or row number. reason: one sentence."""

    where: str
    reason: str
