"""Bootstrap intervals from per-item statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hinlap.stats.resampling import Array, cluster_sums, resampled_sums

Reduce = Callable[[Array], Array]

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval; None where undefined (no items; one item has no spread;
    no resample is a finite number).

    clusters: how many groups of items were drawn instead of items; None when items were.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int | None = None


def resampled_figures(stats: Array, reduce: Reduce, seed: int, resamples: int) -> Array:
    """(resamples,) figures of samples of n items drawn with replacement from (n, k) ``stats``."""
    return np.asarray(reduce(resampled_sums(stats, seed, resamples)), dtype=np.float64)


def bootstrap_interval(
    stats: Array,
    reduce: Reduce,
    *,
    seed: int,
    share: bool = False,
    resamples: int = RESAMPLES,
    clusters: Sequence[str] | None = None,
) -> Interval:
    """Percentile bootstrap, 95%.

    share: the rows are (0 or 1, 1). Where all agree no resample differs and a bootstrap would
    claim certainty; Wilson's score interval is given there instead, of as many trials as there
    are clusters.
    clusters: one name per item (the article of a question): whole clusters are drawn, because
    items of one cluster are alike and count for less than as many on their own.
    Source: Efron and Tibshirani (1993), chapter 13; Wilson (1927); for clusters Davison and
    Hinkley (1997), section 3.8, strategy 1. Raises ValueError when ``clusters`` has another length.
    """
    n = int(stats.shape[0])
    drawn = cluster_sums(stats, clusters)
    trials = int(drawn.shape[0])
    number = None if clusters is None else trials
    if n == 0:
        return Interval(None, None, None, 0, number)
    value = float(reduce(stats.sum(axis=0)))
    if not np.isfinite(value):
        return Interval(None, None, None, n, number)
    if share and stats[0, 0] == stats[:, 0].mean() and stats[0, 0] in (0.0, 1.0):
        low, high = wilson(round(float(stats[0, 0])) * trials, trials)
        unit = float(reduce(np.ones(stats.shape[1])))  # a share may be in percent
        return Interval(value, unit * low, unit * high, n, number)
    if trials == 1:
        return Interval(value, None, None, n, number)
    figures = resampled_figures(drawn, reduce, seed, resamples)
    figures = figures[np.isfinite(figures)]
    if not figures.size:
        return Interval(value, None, None, n, number)
    low, high = np.percentile(figures, [2.5, 97.5])
    return Interval(value, float(low), float(high), n, number)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a share.

    >>> [round(x, 4) for x in wilson(0, 10)]
    [0.0, 0.2775]
    """
    z = NormalDist().inv_cdf(0.975)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5)
    return max(0.0, centre - half), min(1.0, centre + half)
