"""TER through sacrebleu, with its statistics kept per item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from hinlap.core.errors import UserError
from hinlap.metrics.ngrams import character_counts
from hinlap.metrics.pairs import (
    check_pairs,
    count_empty,
    number_of_references,
    unspaced_signature,
)
from hinlap.metrics.scores import Array, Scores
from hinlap.metrics.segmentation import spaced


def ter(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    segmentation: Literal["auto", "none"] = "auto",
    normalized: bool = False,
    no_punct: bool = False,
    asian_support: bool = False,
    case_sensitive: bool = False,
) -> Scores:
    """Translation edit rate: edits and moved word runs per word of the reference, in percent.

    references:    one or more for each item: the fewest edits against any, over their mean length.
    segmentation:  "auto" first sets apart runs in scripts without spaces, where a reference holds
                   any (Thai by newmm words; `segmentation.spaced`); "none" never does.
    normalized:    cut punctuation off words and read XML entities first; otherwise words are what
                   spaces separate.
    asian_support: with ``normalized``, Chinese and Japanese characters stand alone.
    Range:         [0, inf). Lower is better. An item's own value is its sentence TER.
    Undefined:     no items. References without words: 100 if anything was said, else 0, as in
                   sacrebleu; both are counted in the notes.
    Raises:        InputError for items that are not texts or lack references; UserError for an
                   unknown segmentation.
    Slow:          some 100 times slower than BLEU; a long pair may take a second.
    Source:        Snover et al. (2006), "A Study of Translation Edit Rate".
    Peer:          sacrebleu 2 (after tercom 0.7.25), which computes it here.

    >>> ter(["d e f g h a b c"], [["a b c d e f g h"]]).value
    12.5
    """
    from sacrebleu.metrics.ter import TER

    check_pairs(predictions, references)
    if segmentation not in ("auto", "none"):
        raise UserError(f"no segmentation {segmentation!r} for TER", hint="it is auto or none")
    scorer = TER(
        normalized=normalized,
        no_punct=no_punct,
        asian_support=asian_support,
        case_sensitive=case_sensitive,
    )
    if segmentation == "auto":
        characters = character_counts([text for own in references for text in own])
        signature = unspaced_signature(characters, latin=scorer.tokenizer_signature)
        if signature != scorer.tokenizer_signature:
            scorer.tokenizer_signature = signature
            predictions = [spaced(text) for text in predictions]
            references = [[spaced(text) for text in own] for own in references]
    found = [scorer.sentence_score(p, own) for p, own in zip(predictions, references, strict=True)]
    scorer.num_refs = number_of_references(references)  # which the signature names
    stats = np.array([[s.num_edits, s.ref_length] for s in found], dtype=np.float64)
    return Scores(
        "ter",
        f"TER|{scorer.get_signature()}",
        stats.reshape(-1, 2),
        _ter_of_sums,
        tuple(float(s.score) for s in found),
        higher_is_better=False,
        notes=count_empty(predictions, references),
    )


def _ter_of_sums(sums: Array) -> Array:
    """TER from summed (edits, words of the references) in the last axis."""
    edits, length = sums[..., 0], sums[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100.0 * np.where(length > 0, edits / length, np.where(edits > 0, 1.0, 0.0))
