"""Bootstrap intervals from per-item statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Reduce = Callable[[Array], Array]

RESAMPLES = 10_000
_CHUNK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval; None where undefined (no items; one item has no spread)."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def resampled_figures(stats: Array, reduce: Reduce, seed: int, resamples: int) -> Array:
    """(resamples,) figures of samples of n items drawn with replacement from (n, k) ``stats``.

    The same seed and n draw the same items: two systems resampled so are paired.
    """
    n = stats.shape[0]
    rng = np.random.default_rng(seed)
    figures = []
    step = max(1, _CHUNK_CELLS // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = rng.multinomial(n, np.full(n, 1.0 / n), size=count)  # (count, n)
        figures.append(np.asarray(reduce(weights @ stats), dtype=np.float64))
    return np.concatenate(figures)


def bootstrap_interval(
    stats: Array, reduce: Reduce, *, seed: int, share: bool = False, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap, 95%.

    share: items are 0 or 1. Where all agree no resample differs and a bootstrap would claim
    certainty; Wilson's score interval is given there instead.
    Source: Efron and Tibshirani (1993), chapter 13; Wilson (1927).
    """
    n = int(stats.shape[0])
    if n == 0:
        return Interval(None, None, None, 0)
    value = float(reduce(stats.sum(axis=0)))
    if np.isnan(value):
        return Interval(None, None, None, n)
    if share and value in (0.0, 1.0):
        low, high = wilson(round(value * n), n)
        return Interval(value, low, high, n)
    if n == 1:
        return Interval(value, None, None, n)
    figures = resampled_figures(stats, reduce, seed, resamples)
    figures = figures[~np.isnan(figures)]
    low, high = np.percentile(figures, [2.5, 97.5])
    return Interval(value, float(low), float(high), n)


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
