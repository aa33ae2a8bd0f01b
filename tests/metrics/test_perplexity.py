from __future__ import annotations

import math

import numpy as np
import pytest

from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.scores import Array
from hinlap.metrics.table import reduction, settings_of
from hinlap.stats.bootstrap import bootstrap_interval

NAMES = [
    "loss",
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "token_accuracy",
]


def test_a_fair_coin_has_perplexity_two_and_one_bit_a_byte() -> None:
    fair = Foreseen(logprob=8 * math.log(0.5), tokens=8, hits=4, words=2, bytes=8)
    values = {s.name: s.value for s in foresight([fair], "")}
    assert list(values) == NAMES
    assert values["loss"] == pytest.approx(math.log(2))
    assert values["perplexity"] == pytest.approx(2)
    assert values["word_perplexity"] == pytest.approx(16)
    assert values["byte_perplexity"] == pytest.approx(2)
    assert values["bits_per_byte"] == pytest.approx(1)
    assert values["token_accuracy"] == 0.5


def test_the_figure_weighs_tokens_not_stretches() -> None:
    long, short = Foreseen(-30.0, 10, 0, 10, 10), Foreseen(0.0, 1, 1, 1, 1)
    figures = {s.name: s.value for s in foresight([long, short], "")}
    assert figures["loss"] == pytest.approx(30 / 11)
    assert figures["token_accuracy"] == pytest.approx(1 / 11)


def test_a_text_without_tokens_is_undefined_and_moves_nothing() -> None:
    weighed, empty = Foreseen(-3.0, 2, 1, 1, 4), Foreseen(0.0, 0, 0, 0, 0)
    for alone, both in zip(foresight([weighed], ""), foresight([weighed, empty], ""), strict=True):
        assert both.value == alone.value
        assert both.items[1] is None
    assert all(s.value is None for s in foresight([empty], ""))


def test_what_is_too_large_for_a_number_is_undefined_and_noted() -> None:
    thai, english = Foreseen(-2000.0, 500, 0, 1, 1500), Foreseen(-2.0, 1, 1, 1, 4)
    found = {s.name: s for s in foresight([thai, english, thai], "")}
    large = found.pop("word_perplexity")
    assert large.items == (None, pytest.approx(math.exp(2)), None)
    assert large.notes == {"items whose figure is too large for a number": 2}
    drawn = bootstrap_interval(large.stats, large.reduce, seed=0)
    assert (drawn.value, drawn.low, drawn.high) == (None, None, None)
    for scores in found.values():
        assert scores.value is not None
        assert scores.notes == {}


def test_where_no_resample_is_a_number_there_is_no_interval() -> None:
    def only_alone(sums: Array) -> Array:
        return np.where(sums.ndim == 1, sums[..., 0], np.nan)

    drawn = bootstrap_interval(np.ones((3, 2)), only_alone, seed=0)
    assert (drawn.value, drawn.low, drawn.high) == (3.0, None, None)


def test_scores_read_back_from_a_file_reduce_as_before() -> None:
    for scores in foresight([Foreseen(-3.0, 2, 1, 1, 4), Foreseen(-9.0, 4, 1, 3, 7)], ""):
        again = reduction(scores.name, settings_of(scores))
        assert float(again(scores.stats.sum(axis=0))) == scores.value
