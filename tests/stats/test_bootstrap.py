from __future__ import annotations

import numpy as np
import pytest

from hinlap.metrics.scores import mean_scores
from hinlap.stats.bootstrap import bootstrap_interval, wilson


def interval_of(values: list[float], *, share: bool = False, seed: int = 0) -> tuple[object, ...]:
    scores = mean_scores("m", values, "s", share=share)
    found = bootstrap_interval(scores.stats, scores.reduce, seed=seed, share=share)
    return found.value, found.low, found.high, found.n


def test_no_items_has_no_value_and_no_interval() -> None:
    assert interval_of([]) == (None, None, None, 0)


def test_one_item_has_a_value_but_no_interval() -> None:
    assert interval_of([0.7]) == (0.7, None, None, 1)


def test_same_seed_same_interval_other_seed_nearly() -> None:
    values = [float(x) for x in np.random.default_rng(1).normal(size=50)]
    assert interval_of(values, seed=3) == interval_of(values, seed=3)
    assert interval_of(values, seed=4)[1] == pytest.approx(interval_of(values, seed=3)[1], abs=0.03)


def test_agrees_with_the_normal_interval_of_a_large_sample() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    _, low, high, _ = interval_of([float(v) for v in values])
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        stats = np.column_stack([rng.exponential(1.0, size=60), np.ones(60)])
        found = bootstrap_interval(stats, lambda s: s[..., 0] / s[..., 1], seed=1, resamples=1000)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.0 <= found.high
    assert 180 <= hits <= 198


def test_a_share_where_all_agree_is_not_certain() -> None:
    assert interval_of([1.0] * 10, share=True)[1:3] == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert interval_of([0.0] * 10, share=True)[1:3] == pytest.approx((0.0, 0.2775), abs=1e-4)


# Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_the_published_table(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
