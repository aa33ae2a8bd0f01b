from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.stats.agreement import Agreement, agreement, average_ranks

RATING = st.floats(0, 1)
FEW_VALUES = st.sampled_from([0.0, 0.25, 0.49, 0.5, 0.75, 1.0])  # many ties
PAIRS = st.lists(st.tuples(RATING | FEW_VALUES, RATING | FEW_VALUES), max_size=40)


@settings(deadline=None)  # the first example imports scikit-learn
@given(PAIRS)
def test_it_agrees_with_scikit_learn_and_scipy(pairs: list[tuple[float, float]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    ratings, truth = [r for r, _ in pairs], [t for _, t in pairs]
    found = agreement(ratings, truth)
    positive, called = [t >= 0.5 for t in truth], [r >= 0.5 for r in ratings]
    assert found.n == len(pairs)
    if 0 < sum(positive) < len(pairs):
        assert found.auc == pytest.approx(metrics.roc_auc_score(positive, ratings), abs=1e-12)
    else:
        assert found.auc is None
    if len(set(ratings)) > 1 and len(set(truth)) > 1:
        expected = float(stats.spearmanr(ratings, truth).statistic)
        assert found.spearman == pytest.approx(expected, abs=1e-10)
    else:
        assert found.spearman is None
    if any(called):
        assert found.precision == pytest.approx(metrics.precision_score(positive, called))
    else:
        assert found.precision is None
    if any(positive):
        assert found.recall == pytest.approx(metrics.recall_score(positive, called))
    else:
        assert found.recall is None


@given(PAIRS)
def test_only_the_order_of_ratings_matters_to_ranks(pairs: list[tuple[float, float]]) -> None:
    ratings, truth = [r for r, _ in pairs], [t for _, t in pairs]
    values = sorted(set(ratings))
    spread = [float(values.index(r)) for r in ratings]
    one, other = agreement(ratings, truth), agreement(spread, truth)
    assert (one.auc, one.spearman) == (other.auc, other.spearman)


def test_a_perfect_rater_and_its_opposite() -> None:
    truth = [0.0, 0.2, 0.6, 1.0]
    assert agreement(truth, truth) == Agreement(4, 1.0, 1.0, 1.0, 1.0)
    opposite = agreement([1 - t for t in truth], truth)
    assert (opposite.auc, opposite.spearman) == (0.0, -1.0)
    assert (opposite.precision, opposite.recall) == (0.0, 0.0)


def test_nothing_rated_is_undefined() -> None:
    assert agreement([], []) == Agreement(0, None, None, None, None)


def test_exactly_at_the_cut_is_positive() -> None:
    found = agreement([0.5, 0.4], [0.5, 0.4])
    assert (found.precision, found.recall) == (1.0, 1.0)


def test_another_cut_is_another_question() -> None:
    found = agreement([0.3, 0.8, 0.1], [0.25, 0.1, 0.0], cut=0.2)
    assert (found.precision, found.recall, found.auc) == (0.5, 1.0, 0.5)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 ratings of 2 items"):
        agreement([0.5], [0.5, 0.5])


def test_ranks_sum_to_what_they_must() -> None:
    ranks = average_ranks(np.array([0.2, 0.2, 0.2, 0.1]))
    assert ranks.tolist() == [3.0, 3.0, 3.0, 1.0]
    assert math.isclose(ranks.sum(), 10.0)
