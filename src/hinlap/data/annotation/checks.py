"""What can be said of an example while it is being written. Hints: none keeps it from being saved.

The gates of `hinlap data check` look closer; these must answer between two keystrokes.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from hinlap.data.annotation.log import Fields
from hinlap.data.near_duplicates import normalised

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# +66 81 234 5678, 081-234-5678, (02) 123 4567, ๐๘๑ ..., 555-123-4567; no years, no ranges of them
_PHONE = re.compile(
    r"(?<![\w.,/-])(?:\+\d{1,3}[ .-]?(?:\(\d+\)[ .-]?)?|\(?[0๐]\d{1,2}\)?[ .-]?)"
    r"\d(?:[ .-]?\d){5,10}(?![\w/])"
    r"|(?<![\w.,/-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w/-])"
)


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
    found += [
        Check(Kind.PERSONAL, detail)
        for detail in personal_data(f"{fields.instruction}\n{fields.input}\n{fields.output}")
    ]
    return found


def personal_data(text: str) -> list[str]:
    """E-mail addresses and telephone numbers in a text, each once, in its order.

    >>> personal_data("Write to a.b@example.org or 081-234-5678, open 1990-2000, 2024-05-06.")
    ['a.b@example.org', '081-234-5678']
    """
    matches = [*_EMAIL.finditer(text), *_PHONE.finditer(text)]
    in_order = sorted(matches, key=lambda match: match.start())
    return list(dict.fromkeys(match.group().strip() for match in in_order))
