"""Fast draws against the plain ones: the same distribution, item by item and sum by sum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.stats.paired import compare_paired
from hinlap.stats.resampling import Array, cluster_sums, resampled_sums, signed_sums


def mean(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


def plain_sums(stats: Array, seed: int, resamples: int) -> Array:
    """The definition: how often each item is drawn is multinomial."""
    n = len(stats)
    rng = np.random.default_rng(seed)
    return np.asarray(rng.multinomial(n, np.full(n, 1 / n), size=resamples) @ stats)


# under, at and above a whole group of 256; few columns are looked up, many are counted
@pytest.mark.parametrize("n", [65, 255, 256, 257, 700])
@pytest.mark.parametrize("columns", [1, 3, 4, 12])
def test_sums_have_the_distribution_of_plain_draws(n: int, columns: int) -> None:
    stats = np.random.default_rng(n).lognormal(size=(n, columns))
    fast, plain = resampled_sums(stats, 1, 4000), plain_sums(stats, 1, 4000)
    for found, known in zip(fast.T, plain.T, strict=True):
        assert largest_gap(found, known) < 1.95 * np.sqrt(2 / 4000)  # Kolmogorov-Smirnov, p 0.001
    expected = n * np.cov(stats.T, bias=True)
    assert np.cov(fast.T) == pytest.approx(expected, rel=0.35, abs=0.12 * expected.max())


def largest_gap(a: Array, b: Array) -> float:
    at = np.concatenate([a, b])
    below_a = np.searchsorted(np.sort(a), at, side="right") / len(a)
    below_b = np.searchsorted(np.sort(b), at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


@pytest.mark.parametrize("n", [100, 300, 512])
def test_every_item_is_drawn_as_often_as_any_other(n: int) -> None:
    counts = resampled_sums(np.eye(n), 5, 6000)
    assert (counts.sum(axis=1) == n).all()
    noise = 1 / np.sqrt(6000)
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=5 * noise)
    assert counts.var(axis=0) == pytest.approx(np.full(n, 1 - 1 / n), abs=10 * noise)
    apart = ~np.eye(n, dtype=bool)
    assert np.cov(counts.T)[apart].mean() == pytest.approx(-1 / n, rel=0.05)
    assert np.abs(np.cov(counts.T)[apart]).max() < 6 * noise


def test_few_different_rows_have_the_distribution_of_plain_draws() -> None:
    rng = np.random.default_rng(0)
    stats = np.column_stack([rng.random(500) < 0.2, rng.random(500) < 0.7, np.ones(500)]) * 1.0
    fast, plain = resampled_sums(stats, 1, 6000), plain_sums(stats, 2, 6000)
    assert (fast[:, 2] == 500).all()
    assert fast.mean(axis=0) == pytest.approx(plain.mean(axis=0), abs=0.6)
    assert fast.std(axis=0) == pytest.approx(plain.std(axis=0), rel=0.05)
    assert np.quantile(fast, [0.025, 0.975], axis=0) == pytest.approx(
        np.quantile(plain, [0.025, 0.975], axis=0), abs=1.5
    )


def test_the_number_of_threads_changes_nothing() -> None:
    stats = np.random.default_rng(0).random((600, 2))
    one, three = (resampled_sums(stats, 3, 2100, threads=t) for t in (1, 3))
    assert (one == three).all()


def test_more_columns_see_the_same_draws() -> None:
    """So two systems are paired, whether values are looked up or counted."""
    stats = np.random.default_rng(0).random((600, 5))
    assert resampled_sums(stats[:, :2], 3, 900) == pytest.approx(
        resampled_sums(stats, 3, 900)[:, :2], rel=1e-12
    )


def test_blocks_are_different_draws() -> None:
    sums = resampled_sums(np.random.default_rng(0).random((100, 1)), 0, 1500)
    assert len(np.unique(sums)) == 1500


def test_a_constant_column_is_summed_exactly() -> None:
    stats = np.column_stack([np.random.default_rng(0).random(100), np.full(100, 0.1)])
    assert (resampled_sums(stats, 0, 50)[:, 1] == 100 * 0.1).all()
    assert (resampled_sums(stats[:, 1:], 0, 50) == 100 * 0.1).all()


# 10 rows: all 1,024 choices of signs are known; 8 fill a table, 2 are left over
def test_random_signs_reach_every_choice_equally_often() -> None:
    gaps = np.array([2.0**i for i in range(10)])[:, None]
    sums = signed_sums(gaps, 0, 102_400)[:, 0]
    values, counts = np.unique(sums, return_counts=True)
    every = [float(np.dot(s, gaps[:, 0])) for s in itertools.product([1, -1], repeat=10)]
    assert values.tolist() == sorted(every)
    assert ((counts - 100) ** 2 / 100).sum() == pytest.approx(1023, abs=5 * np.sqrt(2 * 1023))


def test_rows_without_a_gap_take_no_part_in_the_swapping() -> None:
    gaps = np.random.default_rng(0).random((9, 2))
    padded = np.insert(gaps, [0, 3, 3, 9], 0.0, axis=0)
    assert (signed_sums(gaps, 1, 200) == signed_sums(padded, 1, 200)).all()


def test_the_p_value_is_that_of_all_swaps() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    rows = [np.column_stack([x, np.ones(12)]) for x in (a, b)]
    swaps = np.array(list(itertools.product([1, -1], repeat=12)))
    exact = float((np.abs(swaps @ (a - b)) >= abs((a - b).sum()) - 1e-12).mean())
    found = compare_paired(rows[0], rows[1], mean, seed=0, resamples=40_000)
    assert found.p == pytest.approx(exact, abs=0.01)


# -- clusters


def correlated(
    rng: np.random.Generator, clusters: int, items: int, shared: float
) -> tuple[Array, list[str]]:
    """Standard normal items, ``shared`` of whose variance is their cluster's."""
    common = np.repeat(rng.normal(size=clusters), items)
    own = rng.normal(size=clusters * items)
    values = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    names = [f"article {i // items}" for i in range(clusters * items)]
    return np.column_stack([values, np.ones(len(values))]), names


def test_clusters_widen_the_interval_where_their_items_are_alike() -> None:
    stats, names = correlated(np.random.default_rng(0), 60, 10, 0.5)
    alone = bootstrap_interval(stats, mean, seed=0, resamples=2000)
    grouped = bootstrap_interval(stats, mean, seed=0, resamples=2000, clusters=names)
    assert grouped.value == alone.value
    assert (grouped.n, grouped.clusters, alone.clusters) == (600, 60, None)
    # the design effect: sqrt(1 + (10 - 1) * 0.5) = 2.3
    assert width(grouped) / width(alone) == pytest.approx(2.3, abs=0.4)


def width(interval: object) -> float:
    low, high = interval.low, interval.high  # type: ignore[attr-defined]
    return float(high - low)


def test_only_with_clusters_is_the_coverage_about_nominal() -> None:
    rng = np.random.default_rng(1)
    covered = {"items": 0, "clusters": 0}
    for _ in range(300):
        stats, names = correlated(rng, 50, 6, 0.5)
        for way, groups in (("items", None), ("clusters", names)):
            found = bootstrap_interval(stats, mean, seed=0, resamples=500, clusters=groups)
            assert found.low is not None
            assert found.high is not None
            covered[way] += found.low <= 0.0 <= found.high
    assert covered["clusters"] / 300 == pytest.approx(0.95, abs=0.035)
    assert covered["items"] / 300 < 0.8


def test_only_with_clusters_are_false_alarms_about_nominal() -> None:
    rng = np.random.default_rng(2)
    alarms = {"items": 0, "clusters": 0}
    for seed in range(300):
        a, names = correlated(rng, 40, 5, 0.6)
        b, _ = correlated(rng, 40, 5, 0.6)
        for way, groups in (("items", None), ("clusters", names)):
            found = compare_paired(a, b, mean, seed=seed, resamples=300, clusters=groups)
            assert found.p is not None
            alarms[way] += found.p < 0.05
    assert alarms["clusters"] / 300 == pytest.approx(0.05, abs=0.035)
    assert alarms["items"] / 300 > 0.15


def test_a_cluster_each_is_as_no_clusters() -> None:
    stats, _ = correlated(np.random.default_rng(0), 100, 1, 0.5)
    names = [str(i) for i in range(100)]
    alone = bootstrap_interval(stats, mean, seed=0)
    grouped = bootstrap_interval(stats, mean, seed=0, clusters=names)
    assert (grouped.low, grouped.high) == (alone.low, alone.high)


def test_one_cluster_has_no_interval() -> None:
    stats = np.column_stack([np.arange(5.0), np.ones(5)])
    found = bootstrap_interval(stats, mean, seed=0, clusters=["a"] * 5)
    assert (found.value, found.low, found.high, found.n) == (2.0, None, None, 5)
    pair = compare_paired(stats, stats * 2, mean, seed=0, clusters=["a"] * 5)
    assert (pair.low, pair.high, pair.clusters) == (None, None, 1)


def test_a_share_where_all_agree_counts_clusters_as_its_trials() -> None:
    stats = np.ones((20, 2))
    found = bootstrap_interval(stats, mean, seed=0, share=True, clusters=list("abcdefghij") * 2)
    assert (found.low, found.high) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_clusters_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="3 items have 2 clusters"):
        cluster_sums(np.ones((3, 1)), ["a", "b"])
