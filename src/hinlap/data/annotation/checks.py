"""What can be said of an example while it is being written. Hints: none keeps it from being saved.

The gates of `hinlap data check` see more; these must answer between two keystrokes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hinlap.data.annotation.log import Fields
from hinlap.data.gates.personal import personal_spans
from hinlap.data.near_duplicates import normalised


class Kind(enum.StrEnum):
    NO_INSTRUCTION = "no-instruction"
    NO_ANSWER = "no-answer"
    PERSONAL = "personal"
    NEAR_COPY = "near-copy"
    SAME_AS_DRAFT = "same-as-draft"
    SAME_AS_QUESTION = "same-as-question"


@dataclass(frozen=True, slots=True)
class Check:
    """detail: the personal data found, or the row that this one is near.
    similarity: of a near copy, in [0.7, 1]."""

    kind: Kind
    detail: str = ""
    similarity: float = 1.0


def check_fields(fields: Fields, draft: str | None) -> list[Check]:
    """What the example shows by itself. draft: what the model proposed, None for nothing."""
    found = []
    if not fields.instruction.strip() and not fields.input.strip():
        found.append(Check(Kind.NO_INSTRUCTION))
    if not fields.output.strip():
        found.append(Check(Kind.NO_ANSWER))
    else:
        if draft is not None and draft.strip() == fields.output.strip():
            found.append(Check(Kind.SAME_AS_DRAFT))
        if normalised(fields.output) in (normalised(fields.instruction), normalised(fields.input)):
            found.append(Check(Kind.SAME_AS_QUESTION))
    text = f"{fields.instruction}\n{fields.input}\n{fields.output}"
    spans = personal_spans(text)
    found += [
        Check(Kind.PERSONAL, detail)
        for detail in dict.fromkeys(text[span.start : span.end] for span in spans)
    ]
    return found
