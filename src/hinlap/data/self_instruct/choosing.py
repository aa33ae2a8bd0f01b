"""Which of several answers to one question is taken, where no model weighs them."""

from __future__ import annotations

from collections.abc import Sequence

from hinlap.metrics.rouge import rouge


def agreement(texts: Sequence[str]) -> list[float]:
    """For each text its mean ROUGE-L F with the others, in [0, 1]: the one in the middle has the
    greatest. Two texts agree equally with each other, so three are needed to tell.

    Source: minimum Bayes risk decoding with ROUGE-L as its gain (Kumar and Byrne 2004), each
    answer standing for its draw.

    >>> [round(value, 3) for value in agreement(["a red fox", "the red fox", "no idea"])]
    [0.333, 0.333, 0.0]
    """
    pairs = [(i, j) for i in range(len(texts)) for j in range(len(texts)) if i != j]
    if not pairs:
        return [0.0] * len(texts)
    scores = rouge("rougeL", [texts[i] for i, _ in pairs], [[texts[j]] for _, j in pairs],
                   stem=False)  # fmt: skip
    sums = [0.0] * len(texts)
    for (i, _), value in zip(pairs, scores.items, strict=True):
        sums[i] += value or 0.0  # undefined where neither text has a word
    return [total / (len(texts) - 1) for total in sums]
