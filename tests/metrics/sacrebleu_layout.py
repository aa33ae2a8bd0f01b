"""References as sacrebleu wants them, from references per item."""

from __future__ import annotations

from collections.abc import Sequence


def streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """One list for the first references, one for the second ...; None where an item has fewer."""
    most = max(map(len, references), default=0)
    return [[own[i] if i < len(own) else None for own in references] for i in range(most)]


def per_item(streams: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(own) for own in zip(*streams, strict=True)]
