"""Exact match of two texts."""

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


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
