from __future__ import annotations

import math

import pytest

from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.table import reduction, settings_of

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


def test_scores_read_back_from_a_file_reduce_as_before() -> None:
    for scores in foresight([Foreseen(-3.0, 2, 1, 1, 4), Foreseen(-9.0, 4, 1, 3, 7)], ""):
        again = reduction(scores.name, settings_of(scores))
        assert float(again(scores.stats.sum(axis=0))) == scores.value
