"""How well a model foresees a text: from log-probabilities to loss, perplexity, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hinlap.metrics.scores import Array, Scores


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One stretch of text as a model saw it.

    logprob: nats of all its weighed tokens together. tokens: how many. hits: of these, how many
    were the model's greedy choice. words, bytes: of the text those tokens stand for (words as
    runs between white space, bytes of UTF-8); they may be fractions where a stretch cuts a text.
    """

    logprob: float
    tokens: int
    hits: int
    words: float
    bytes: float


def foresight(
    stretches: Sequence[Foreseen], signature: str, *, per_token: str = ""
) -> list[Scores]:
    """loss, perplexity, word_perplexity, byte_perplexity, bits_per_byte, token_accuracy.

    loss is mean nats per token, perplexity its exponential; per word and per byte the same nats
    are divided by words or bytes, so models with different tokenizers can be compared.
    per_token: what the signatures of the figures that count tokens name besides.
    Range:     loss and bits per byte [0, inf), perplexities [1, inf): lower is better; accuracy
               [0, 1]: higher is better.
    Undefined: no tokens (or no words, or bytes) were weighed; a perplexity is too large for a
               float, as per word of a text without spaces, counted in the notes.
    Source:    Jelinek et al. (1977); bits per byte as in Gao et al. (2020), "The Pile".
    Peer:      transformers' documented recipe for perplexity; lm-evaluation-harness's
               word_perplexity, byte_perplexity and bits_per_byte.

    >>> a, b = Foreseen(-2.0, 4, 1, 2, 8), Foreseen(-6.0, 4, 3, 2, 8)
    >>> [round(s.value, 4) for s in foresight([a, b], "")]
    [1.0, 2.7183, 7.3891, 1.6487, 0.7213, 0.5]
    """
    rows = [[-s.logprob, s.tokens, s.words, s.bytes, s.hits] for s in stretches]
    stats = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
    kinds = (
        ("loss", loss, per_token, False),
        ("perplexity", perplexity, per_token, False),
        ("word_perplexity", word_perplexity, "", False),
        ("byte_perplexity", byte_perplexity, "", False),
        ("bits_per_byte", bits_per_byte, "", False),
        ("token_accuracy", token_accuracy, per_token, True),
    )
    scores = []
    for name, reduce, more, higher in kinds:
        items = tuple(None if np.isnan(x) else float(x) for x in reduce(stats))
        signed = "|".join(filter(None, (name, signature, more, "v2")))
        found = Scores(name, signed, stats, reduce, items, higher)
        if name in _DIVIDED_BY:
            large = sum(
                x is None and below > 0
                for x, below in zip(items, stats[:, _DIVIDED_BY[name]].tolist(), strict=True)
            )
            if large:
                found.notes["items whose figure is too large for a number"] = large
        scores.append(found)
    return scores


_DIVIDED_BY = {"perplexity": 1, "word_perplexity": 2, "byte_perplexity": 3}  # column of the rows


def loss(sums: Array) -> Array:
    return _ratio(sums[..., 0], sums[..., 1])


def perplexity(sums: Array) -> Array:
    return _exp(loss(sums))


def word_perplexity(sums: Array) -> Array:
    return _exp(_ratio(sums[..., 0], sums[..., 2]))


def byte_perplexity(sums: Array) -> Array:
    return _exp(_ratio(sums[..., 0], sums[..., 3]))


def bits_per_byte(sums: Array) -> Array:
    return np.asarray(_ratio(sums[..., 0], sums[..., 3]) / np.log(2.0))


def token_accuracy(sums: Array) -> Array:
    return _ratio(sums[..., 4], sums[..., 1])


def _exp(values: Array) -> Array:
    """NaN, as undefined, where the result is no finite number."""
    with np.errstate(over="ignore"):
        grown = np.exp(values)
    return np.where(np.isfinite(grown), grown, np.nan)


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan))
