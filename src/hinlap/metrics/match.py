"""Exact match of two texts; and passing several yes-or-no measures at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from hinlap.metrics.scores import Scores, mean_scores


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """Share of predictions equal to their reference after NFC, case folding and trimming.

    Range: [0, 1]. Higher is better. Undefined: no items.
    """
    values = [float(_folded(p) == _folded(r)) for p, r in zip(predictions, references, strict=True)]
    return mean_scores("exact_match", values, "exact_match|nfc|casefold|trim|v1", share=True)


def passes_all(parts: Sequence[Scores], names: Sequence[str]) -> Scores:
    """Share of items that pass every one of some shares (1 where higher is better, else 0).

    parts: shares over the same items in the same order. Range: [0, 1]. Higher is better.
    Undefined: no items. Raises ValueError when a part is not a share or has other items.
    """
    if any(not part.share or part.n != parts[0].n for part in parts):
        raise ValueError("passes_all takes shares over the same items")
    values = [
        float(all((x == 1.0) == part.higher_is_better for x, part in zip(row, parts, strict=True)))
        for row in zip(*(part.items for part in parts), strict=True)
    ]
    signature = f"passes_all({'+'.join(names)})|v1"
    return mean_scores("passes_all", values, signature, share=True)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
