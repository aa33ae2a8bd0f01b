"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum: google rouge-score's values, for all items at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hinlap.core.errors import UserError
from hinlap.metrics.ngrams import Texts, matches
from hinlap.metrics.pairs import check_pairs, number_of_references
from hinlap.metrics.scores import Array, Scores, mean
from hinlap.metrics.segmentation import (
    check_choice,
    latin_only,
    segmentation_signature,
    uses_latin_only,
)
from hinlap.metrics.union_lcs import Sentences, union_lcs_hits
from hinlap.metrics.word_numbers import Ints, NumberedWords, numbered_words

Variant = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
Flags = npt.NDArray[np.bool_]

_PEER = "rouge-score-0.1.2"
_WORDS_AT_ONCE = 1 << 17  # of a thread; the arrays for them stay in the processor's cache
_CODE_POINTS = 0x110000
_FIRST_CODE_POINT = 0x10000  # behind the surrogates, which are no characters


def rouge(
    variant: Variant,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    stem: bool,
    segmentation: str = "auto",
) -> Scores:
    """One variant of `rouges`.

    >>> rouge("rouge2", ["police kill the man"], [["police killed the man"]], stem=False).value
    0.3333333333333333
    """
    return rouges([variant], predictions, references, stem=stem, segmentation=segmentation)[variant]


def rouges(
    variants: Sequence[Variant],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    stem: bool,
    segmentation: str = "auto",
) -> dict[Variant, Scores]:
    """Mean F of shared words (rouge1), word pairs (rouge2), or the longest common subsequence, of
    the whole texts (rougeL) or sentence by sentence, one a line (rougeLsum).

    references:   one or more for each item; that with the best F counts, the first of equals.
    stem:         Latin words of more than three letters by their Porter stem.
    segmentation: what a word is, one of `segmentation.CHOICES`; "auto" goes by script, and where
                  an item's references are all Latin it is "rouge-score" for the prediction too.
                  The signature names the scripts of the references alone: two systems on the same
                  references have the same one, whatever they write.
    Statistics:   (F, 1, precision, recall) of each item, so their means need one sum.
    Range:        [0, 1]; 1 means the same words. Higher is better.
    Undefined:    no items. An item without a word in any reference, as there is nothing to recall:
                  None, left out of the mean and counted in the notes ("references without words");
                  with segmentation "rouge-score" it is the peer's 0, and counted too. Defined as 0
                  and counted: a prediction without words; for rouge2 a text of one word, which has
                  no word pair.
    Raises:       InputError for items that are not texts or lack references; UserError for an
                  unknown variant or segmentation; MissingExtraError.
    Source:       Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries".
    Peer:         rouge-score 0.1.2, equal to the last digit: RougeScorer.score_multi of any text
                  with segmentation "rouge-score", with "auto" where references are Latin and hold
                  a word (without one None instead of 0, see Undefined).
    """
    check_pairs(predictions, references)
    check_choice(segmentation)
    for variant in variants:
        if variant not in VARIANTS:
            raise UserError(f"no metric {variant!r}", hint=f"there are: {', '.join(VARIANTS)}")
    tokenizer = segmentation_signature((text for own in references for text in own), segmentation)
    if segmentation == "auto":
        predictions = [
            latin_only(p) if not p.isascii() and all(map(uses_latin_only, own)) else p
            for p, own in zip(predictions, references, strict=True)
        ]
    texts = [t for p, own in zip(predictions, references, strict=True) for t in (p, *own)]
    found = numbered_words(texts, stem=stem, segmentation=segmentation)
    sizes = np.fromiter(map(len, references), np.int64, len(references))
    pairs = _in_pairs(found, sizes)
    signature = (
        f"f-measure|mean|stem:{'porter' if stem else 'no'}|tok:{tokenizer}"
        f"|refs:{_references(references)}|{_PEER}|v2"
    )
    hits = _hits(variants, pairs)
    words = pairs.lengths.reshape(-1, 2)  # (pairs, 2): of the prediction, of the reference
    scores = {}
    for variant in variants:
        total = np.maximum(words - 1, 0) if variant == "rouge2" else words
        precision, recall, f = _best(_precision_recall_f(hits[variant], total), sizes)
        notes, undefined = _degenerate(words, sizes, variant)
        counts = ~undefined if segmentation != "rouge-score" else np.ones_like(undefined)
        stats = np.column_stack([f, counts, precision, recall]).astype(np.float64)
        items = [x if ok else None for x, ok in zip(f.tolist(), counts.tolist(), strict=True)]
        scores[variant] = Scores(
            variant, f"{variant}|{signature}", stats, mean, tuple(items), notes=notes
        )
    return scores


def mean_precision_and_recall(scores: Scores) -> tuple[float | None, float | None]:
    """Means of the precision and recall behind the F of `rouges`; None where F has none."""
    _, counted, precision, recall = scores.stats.sum(axis=0).tolist()
    return (precision / counted, recall / counted) if counted else (None, None)


def _in_pairs(found: NumberedWords, sizes: Ints) -> NumberedWords:
    """Each item's prediction before every one of its references, so that texts go by twos."""
    if (sizes == 1).all():
        return found
    first = np.cumsum(sizes + 1) - (sizes + 1)  # where each item's prediction stands
    references = np.delete(np.arange(len(found.lengths)), first)
    return _chosen(found, np.column_stack([np.repeat(first, sizes), references]).reshape(-1))


def _chosen(found: NumberedWords, texts: Ints) -> NumberedWords:
    """Those of the texts, in that order."""
    lengths = found.lengths[texts]
    begins = (np.cumsum(found.lengths) - found.lengths)[texts]
    at = np.repeat(begins - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    return NumberedWords(found.symbols[at], lengths, found.lines[at])


def _texts_of(lengths: Ints) -> Ints:
    """(words,) the text each word stands in.

    >>> _texts_of(np.array([2, 0, 1])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(lengths)), lengths)


def _hits(variants: Sequence[Variant], pairs: NumberedWords) -> dict[Variant, Ints]:
    """(pairs,) what prediction and reference share, by variant."""
    hits: dict[Variant, Ints] = {}
    orders = [int(v[-1]) for v in variants if v in ("rouge1", "rouge2")]
    # numpy and rapidfuzz let go of the interpreter while they count, so threads use every core,
    # and no text is copied to another process
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        twos = np.full(len(pairs.lengths) // 2, 2, dtype=np.int64)
        texts = Texts(pairs.symbols, pairs.lengths)
        counting = pool.submit(matches, texts, twos, max(orders)) if orders else None
        if "rougeL" in variants:
            hits["rougeL"] = _lcs_lengths(pairs, np.ones(len(twos), dtype=bool))
        if "rougeLsum" in variants:
            hits["rougeLsum"] = _union_lcs_hits(pairs, hits.get("rougeL"), pool)
        if counting is not None:
            shared = counting.result()
            hits |= {"rouge1": shared[:, 0], "rouge2": shared[:, -1]}
    return hits


def _lcs_lengths(pairs: NumberedWords, wanted: Flags) -> Ints:
    """(pairs,) length of the longest common subsequence of words; 0 of pairs not wanted."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cpdist

    found = np.zeros(len(wanted), dtype=np.int64)
    ends = np.cumsum(pairs.lengths)
    both = np.column_stack([ends - pairs.lengths, ends]).reshape(-1, 4)[wanted]
    if not len(both):
        return found
    # rapidfuzz is quickest with strings: each word is one character of a long one
    whole: str | list[int]
    if int(pairs.symbols.max(initial=0)) < _CODE_POINTS - _FIRST_CODE_POINT:
        characters = (pairs.symbols + _FIRST_CODE_POINT).astype("<u4")
        whole = characters.tobytes().decode("utf-32-le")
    else:
        whole = pairs.symbols.tolist()
    predictions = [whole[a:b] for a, b, _, _ in both.tolist()]
    references = [whole[a:b] for _, _, a, b in both.tolist()]
    found[wanted] = cpdist(
        predictions, references, scorer=LCSseq.similarity, dtype=np.int32, workers=-1
    )
    return found


def _union_lcs_hits(pairs: NumberedWords, lcs_lengths: Ints | None, pool: Executor) -> Ints:
    """(pairs,) hits of rougeLsum; ``lcs_lengths`` of the whole texts where they are known."""
    ends = np.cumsum(pairs.lengths)
    filled = pairs.lengths > 0
    one_line = np.ones(len(pairs.lengths), dtype=bool)
    one_line[filled] = pairs.lines[(ends - pairs.lengths)[filled]] == pairs.lines[ends[filled] - 1]
    both = one_line[::2] & one_line[1::2]  # then the union is the LCS of the whole texts
    if lcs_lengths is None:
        lcs_lengths = _lcs_lengths(pairs, both)
    hits = np.where(both, lcs_lengths, 0)
    parts = np.array_split(np.flatnonzero(~both), 1 + len(pairs.symbols) // _WORDS_AT_ONCE)
    for part, found in zip(parts, pool.map(partial(_union_of, pairs), parts), strict=True):
        hits[part] = found
    return hits


def _union_of(pairs: NumberedWords, chosen: Ints) -> Ints:
    """(chosen,) hits of rougeLsum of those pairs."""
    predictions, references = (
        _sentences(_chosen(pairs, text)) for text in (2 * chosen, 2 * chosen + 1)
    )
    return union_lcs_hits(predictions, references, len(chosen))


def _sentences(found: NumberedWords) -> Sentences:
    pair = _texts_of(found.lengths)
    begins = np.ones(len(pair), dtype=bool)
    begins[1:] = (found.lines[1:] != found.lines[:-1]) | (pair[1:] != pair[:-1])
    return Sentences(found.symbols, pair, np.cumsum(begins) - 1)


def _precision_recall_f(hits: Ints, total: Ints) -> Array:
    """(3, pairs) as rouge-score divides and multiplies; 0 where there is nothing to divide by."""
    precision = hits / np.maximum(total[:, 0], 1)
    recall = hits / np.maximum(total[:, 1], 1)
    both = precision + recall
    f = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return np.stack([precision, recall, f])


def _best(of_pairs: Array, sizes: Ints) -> Array:
    """(3, items) of the reference with the best F, the first of equals."""
    first = np.cumsum(sizes) - sizes
    best = first.copy()
    for nth in range(1, int(sizes.max(initial=1))):
        more = sizes > nth
        other = first[more] + nth
        better = of_pairs[2, other] > of_pairs[2, best[more]]
        best[more] = np.where(better, other, best[more])
    return of_pairs[:, best]


def _degenerate(words: Ints, sizes: Ints, variant: Variant) -> tuple[dict[str, int], Flags]:
    """How many items are of each kind that has no plain figure; and (items,) the undefined."""
    if not len(sizes):
        return {}, np.zeros(0, dtype=bool)
    first = np.cumsum(sizes) - sizes
    predicted = words[first, 0]
    longest = np.maximum.reduceat(words[:, 1], first)
    kinds = {"references without words": longest == 0, "predictions without words": predicted == 0}
    if variant == "rouge2":
        kinds["texts of one word"] = (longest == 1) | (predicted == 1)
    notes = {kind: int(which.sum()) for kind, which in kinds.items() if which.any()}
    return notes, kinds["references without words"]


def _references(references: Sequence[Sequence[str]]) -> str:
    number = number_of_references(references) if references else 1
    return "various" if number < 0 else str(number)
