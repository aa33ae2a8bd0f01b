"""chrF and chrF++ with statistics kept per item: sacrebleu's values, counted for all at once."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import partial

import numpy as np

from hinlap.core.errors import UserError
from hinlap.metrics.ngrams import Ints, Texts, matches, of_characters, of_tokens, totals
from hinlap.metrics.pairs import check_pairs, count_empty, number_of_references
from hinlap.metrics.scores import Array, Scores

_PUNCTUATION = frozenset(string.punctuation)


def chrf(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: int = 2,
    lowercase: bool = False,
    whitespace: bool = False,
    eps_smoothing: bool = False,
) -> Scores:
    """F-score of character n-grams (chrF), and of words too with ``word_order`` 2 (chrF++).

    references:    one or more for each item, of which the one with the best F-score counts; their
                   number may differ. No segmentation is needed in any script.
    beta:          how many times as much recall weighs as precision.
    whitespace:    whether spaces are characters too.
    eps_smoothing: as chrF++.py, Moses and NLTK do; else orders that a text is too short for are
                   left out (sacrebleu's default).
    Range:         [0, 100]. Higher is better. An item's own value is its sentence chrF.
    Undefined:     no items. Nothing to compare (an empty text) scores 0 and is counted in the
                   notes.
    Raises:        InputError for items that are not texts or lack references; UserError for an
                   order below 1.
    Source:        Popović (2015), "chrF"; Popović (2017), "chrF++".
    Peer:          sacrebleu 2: equal to its corpus_score and sentence_score by test.

    >>> round(chrf(["the cat sat"], [["the cats sat", "a dog"]]).value, 4)
    68.6606
    """
    check_pairs(predictions, references)
    if char_order < 1 or word_order < 0 or beta < 0:
        raise UserError("char_order must be 1 or more, word_order and beta not below 0")
    numbers = np.fromiter(map(len, references), np.int64, len(references))
    # each reference is measured against its prediction as if it were the only one
    texts = [t for p, own in zip(predictions, references, strict=True) for r in own for t in (p, r)]
    if lowercase:
        texts = [text.lower() for text in texts]
    characters = texts if whitespace else ["".join(text.split()) for text in texts]
    parts = [_counts(of_characters(characters), char_order)]
    if word_order:
        parts.append(_counts(of_tokens(map(_words, texts)), word_order))
    pairs = np.hstack(parts).astype(np.float64)
    settings = partial(_chrf_of_sums, beta=beta, eps_smoothing=eps_smoothing)
    best = _first_best(settings(pairs), numbers)
    stats = pairs[best]
    name = f"chrF{beta}{'+' * word_order}"
    signature = _signature(
        char_order,
        word_order,
        lowercase,
        whitespace,
        eps_smoothing,
        number_of_references(references),
    )
    return Scores(
        "chrf" + "+" * word_order,
        f"{name}|{signature}",
        stats,
        settings,
        tuple(settings(stats).tolist()),
        notes=count_empty(predictions, references),
    )


def _counts(texts: Texts, order: int) -> Ints:
    """(pairs, 3 * order) n-grams in the prediction, the reference, and both, of each order."""
    pairs = len(texts.lengths) // 2
    found = matches(texts, np.full(pairs, 2), order)
    predicted = totals(texts.lengths[0::2], order)
    wanted = totals(texts.lengths[1::2], order)
    predicted[wanted == 0] = 0  # the peer's rule: no reference for an order, no misses either
    return np.stack([predicted, wanted, found], axis=-1).reshape(pairs, 3 * order)


def _first_best(values: Array, numbers: Ints) -> Ints:
    """(items,) where each item's best value stands; ``numbers`` of values belong to each item."""
    if not len(numbers):
        return numbers
    first = np.cumsum(numbers) - numbers
    best = np.repeat(np.maximum.reduceat(values, first), numbers)
    places = np.where(values == best, np.arange(len(values)), len(values))
    return np.asarray(np.minimum.reduceat(places, first))


def _chrf_of_sums(sums: Array, *, beta: int, eps_smoothing: bool) -> Array:
    """chrF from summed (predicted, wanted, found) of each order in turn, in the last axis.

    As sacrebleu's _compute_f_score, in the same order of operations.
    """
    tiny, factor = 1e-16, beta**2
    orders = sums.shape[-1] // 3
    score = np.zeros(sums.shape[:-1])
    precisions, recalls, used = score.copy(), score.copy(), score.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        for order in range(orders):
            predicted, wanted, found = (sums[..., 3 * order + i] for i in range(3))
            precision = np.where(predicted > 0, found / predicted, tiny)
            recall = np.where(wanted > 0, found / wanted, tiny)
            below = factor * precision + recall
            score += np.where(below > 0, (1 + factor) * precision * recall / below, tiny)
            both = (predicted > 0) & (wanted > 0)
            precisions += np.where(both, precision, 0.0)
            recalls += np.where(both, recall, 0.0)
            used += both
        if eps_smoothing:
            return np.asarray(100 * score / orders)
        precision = np.where(used > 0, precisions / used, 0.0)
        recall = np.where(used > 0, recalls / used, 0.0)
        score = (1 + factor) * precision * recall / (factor * precision + recall)
    return np.where(precision + recall > 0, 100 * score, 0.0)


def _words(text: str) -> list[str]:
    """Words with one mark of punctuation cut off, at the end or else at the beginning.

    >>> _words("(hi) 'tis -")
    ['(hi', ')', "'", 'tis', '-']
    """
    found = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            found += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            found += [word[0], word[1:]]
        else:
            found.append(word)
    return found


def _signature(
    char_order: int,
    word_order: int,
    lowercase: bool,
    whitespace: bool,
    eps_smoothing: bool,
    references: int,
) -> str:
    from sacrebleu.metrics.chrf import CHRFSignature

    settings = {
        "num_refs": references,
        "lowercase": lowercase,
        "eps_smoothing": eps_smoothing,
        "char_order": char_order,
        "word_order": word_order,
        "whitespace": whitespace,
    }
    return str(CHRFSignature(settings))
