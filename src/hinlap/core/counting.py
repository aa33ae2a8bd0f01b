"""Numbers with their nouns, as messages say them."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """``number`` and its noun in English; ``many`` where the plural is not ``one`` with an s.

    >>> counted(1, "item"), counted(2000, "item"), counted(0, "retry", "retries")
    ('1 item', '2,000 items', '0 retries')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
