"""Corpus BLEU through sacrebleu, with its statistics kept per item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hinlap.metrics.scores import Array, Scores
from hinlap.metrics.words import has_thai, thai_tokenizer_signature, words

_ORDER = 4


def bleu(predictions: Sequence[str], references: Sequence[str], *, language: str) -> Scores:
    """Corpus BLEU-4 with exponential smoothing (sacrebleu's default), one reference each.

    language:  "en" tokenises by 13a; "th", or "en" where a reference holds Thai, by newmm words.
    Range:     [0, 100]. Higher is better. An item's own value is its sentence BLEU with
               effective order.
    Undefined: no items.
    Source:    Papineni et al. (2002); Post (2018), "A Call for Clarity in Reporting BLEU Scores".
    Peer:      sacrebleu, whose statistics these are; equal to its corpus_score by test.
    """
    from sacrebleu.metrics.bleu import BLEU

    thai = language == "th" or any(map(has_thai, references))
    scorer = BLEU(tokenize="none" if thai else "13a", effective_order=True)
    corpus = BLEU(tokenize="none" if thai else "13a")
    if thai:
        predictions = [" ".join(words(text, thai=True)) for text in predictions]
        references = [" ".join(words(text, thai=True)) for text in references]
    rows = []
    items = []
    for prediction, reference in zip(predictions, references, strict=True):
        score = scorer.sentence_score(prediction, [reference])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
        items.append(float(score.score))
    if rows:  # sacrebleu fills in its signature when it scores
        corpus.corpus_score([predictions[0]], [[references[0]]])
    signature = str(corpus.get_signature()) if rows else "BLEU"
    if thai:
        signature = signature.replace("tok:none", f"tok:{thai_tokenizer_signature()}")
    stats = np.asarray(rows, dtype=np.float64).reshape(-1, 2 + 2 * _ORDER)
    return Scores("bleu", signature, stats, _bleu_of_sums, tuple(items))


def _bleu_of_sums(sums: Array) -> Array:
    """BLEU from summed (sys_len, ref_len, matches 1-4, totals 1-4) in the last axis.

    As sacrebleu's compute_bleu with smooth_method exp: the k-th order without a match counts as
    1 / (2^k * total); an order that is impossible (total 0) makes the score 0.
    """
    length, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + _ORDER], sums[..., 2 + _ORDER :]
    with np.errstate(divide="ignore", invalid="ignore"):
        zeros = np.cumsum(matches == 0, axis=-1)
        smoothed = np.where(matches == 0, 1.0 / (2.0**zeros * totals), matches / totals)
        brevity = np.where(length < reference, np.exp(1.0 - reference / length), 1.0)
        score = 100.0 * brevity * np.exp(np.log(smoothed).mean(axis=-1))
    nothing = (totals == 0).any(axis=-1) | (matches == 0).all(axis=-1) | (length == 0)
    return np.where(nothing, 0.0, score)
