"""How long the rows are: in tokens where a model is given, else in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Found, GateReport, Kind, histogram, report
from hinlap.data.near_duplicates import is_unspaced

KINDS = {"too_long": Kind("more tokens than the model's window", removes=True)}
_EDGES = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Tokens:
    """Of every row, in the set's order, whole as the model would see it. window: tokens that the
    model takes at once. model: its name."""

    model: str
    window: int
    whole: Sequence[int]


def lengths(rows: Sequence[Row], tokens: Tokens | None = None) -> GateReport:
    """Rows that do not fit the model's window; without a model only the distribution.

    Lengths are words; letters by four where the script has no spaces between words.
    """
    asked = [words_of(row.asked()) for row in rows]
    answered = [words_of(row.output) for row in rows]
    found = []
    figures = []
    notes = []
    if tokens is not None:
        found = [
            Found(index, "too_long", f"{count:,} tokens, the window has {tokens.window:,}")
            for index, count in enumerate(tokens.whole)
            if count > tokens.window
        ]
        edges = [*(edge for edge in _EDGES if edge < tokens.window), tokens.window]
        figures.append(histogram(f"rows by tokens of {tokens.model}", tokens.whole, edges))
        notes.append(f"tokens of {tokens.model}: {_summary(tokens.whole)}")
    if rows:
        figures.append(histogram("questions by words", asked, _EDGES[:10]))
        figures.append(histogram("answers by words", answered, _EDGES[:10]))
        notes.append(f"words of a question: {_summary(asked)}")
        notes.append(f"words of an answer: {_summary(answered)}")
    return report(
        "lengths", "Lengths", len(rows), found, KINDS, figures, notes, looked=tokens is not None
    )


def words_of(text: str) -> int:
    """Words, or a fourth of the letters where the script has no spaces between words."""
    return (len(text) + 3) // 4 if is_unspaced(text) else len(text.split())


def _summary(values: Sequence[int]) -> str:
    if not values:
        return "no rows"
    middle, high = np.percentile(values, [50, 95], method="higher").tolist()
    return f"median {middle:,}, 95% at most {high:,}, longest {max(values):,}"
