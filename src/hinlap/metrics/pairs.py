"""Predictions and their references, one or more for each: what every metric of texts refuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hinlap.core.errors import InputError
from hinlap.metrics.segmentation import segmentation_signature


def check_pairs(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raises InputError unless every prediction is a text and has a list of one or more."""
    if len(predictions) != len(references):
        raise InputError(
            f"{len(predictions)} predictions and {len(references)} lists of references",
            hint="each prediction needs its own references, in the same order",
        )
    for index, (prediction, own) in enumerate(zip(predictions, references, strict=True)):
        if isinstance(own, str):
            raise InputError(
                "the references are one text where a list of texts is meant",
                where=f"item {index}",
                hint="give [text], also when there is only one",
            )
        if not own:
            raise InputError(
                "there is no reference",
                where=f"item {index}",
                hint="leave the item out, or give it one; an empty text counts as one",
            )
        if not isinstance(prediction, str) or not all(isinstance(text, str) for text in own):
            raise InputError("prediction and references must be texts", where=f"item {index}")


def count_empty(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many predictions, and how many items with a reference, are empty or only spaces.

    >>> count_empty(["a", " "], [["b", ""], ["c"]])
    {'empty predictions': 1, 'empty references': 1}
    """
    found = {
        "empty predictions": sum(not text.strip() for text in predictions),
        "empty references": sum(any(not text.strip() for text in own) for own in references),
    }
    return {what: n for what, n in found.items() if n}


def number_of_references(references: Sequence[Sequence[str]]) -> int:
    """As sacrebleu's signature counts them: -1 where items have different numbers.

    >>> number_of_references([["a", "b"], ["c", "d"]]), number_of_references([["a"], ["b", "c"]])
    (2, -1)
    """
    counts = {len(own) for own in references}
    return counts.pop() if len(counts) == 1 else -1


def unspaced_signature(characters: Iterable[str], *, latin: str) -> str:
    """What `segmentation.spaced` does to texts of these characters; ``latin`` where nothing.

    >>> unspaced_signature("aя", latin="13a"), unspaced_signature("a中", latin="13a")
    ('13a', '13a+cjk:char')
    """
    found = segmentation_signature(["".join(characters)], latin=latin)
    # words that are written apart are left to the metric's own tokeniser
    return "+".join(part for part in found.split("+") if not part.startswith("spaced:"))
