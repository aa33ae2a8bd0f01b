"""Two systems on the same items: is the difference real, and if not, how many items would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from hinlap.stats.bootstrap import RESAMPLES, Reduce
from hinlap.stats.resampling import Array, cluster_sums, resampled_sums, signed_sums

ALPHA = 0.05
Verdict = Literal["better", "worse", "not decisive"]


@dataclass(frozen=True, slots=True)
class Paired:
    """Figure of a minus figure of b on n common items.

    low, high:  95% interval of the difference (paired bootstrap); None under two items.
    p:          two-sided, by approximate randomisation; None when there are no items.
    deviation:  standard deviation of the difference over resamples; None where it is no number.
    clusters:   how many groups of items were drawn and swapped whole; None when items were.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    deviation: float | None
    n: int
    clusters: int | None = None


def compare_paired(
    a: Array,
    b: Array,
    reduce: Reduce,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Sequence[str] | None = None,
) -> Paired:
    """Compares (n, k) statistics of two systems, row i of both being the same item.

    The p-value swaps the two systems' answers item by item at random and counts how often the
    difference is at least as large (the observed arrangement counted in, so it is never 0).
    clusters: one name per item; the items of a cluster are drawn, and swapped, together.
    Source: Noreen (1989); Koehn (2004) for the paired bootstrap. Raises ValueError when the
    shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"not the same items: {a.shape} and {b.shape}")
    n = int(a.shape[0])
    observed = float(reduce(a.sum(axis=0)) - reduce(b.sum(axis=0)))
    a, b = cluster_sums(a, clusters), cluster_sums(b, clusters)
    drawn = int(a.shape[0])
    number = None if clusters is None else drawn
    if n == 0:
        return Paired(None, None, None, None, None, 0, number)
    if not math.isfinite(observed):
        return Paired(None, None, None, None, None, n, number)
    p = _randomisation_p(a, b, reduce, observed, seed, resamples)
    if drawn == 1:
        return Paired(observed, None, None, p, None, n, number)
    k = a.shape[1]
    sums = resampled_sums(np.hstack([a, b]), seed, resamples)  # side by side: the same draws
    differences = np.asarray(reduce(sums[:, :k])) - np.asarray(reduce(sums[:, k:]))
    differences = differences[np.isfinite(differences)]
    if differences.size < 2:
        return Paired(observed, None, None, p, None, n, number)
    low, high = np.percentile(differences, [2.5, 97.5])
    with np.errstate(over="ignore", invalid="ignore"):  # squares of differences over 1e154
        spread = float(differences.std(ddof=1))
    deviation = spread if math.isfinite(spread) else None
    return Paired(observed, float(low), float(high), p, deviation, n, number)


def _randomisation_p(
    a: Array, b: Array, reduce: Reduce, observed: float, seed: int, resamples: int
) -> float:
    if np.array_equal(a, b):
        return 1.0
    total, moved = (a + b).sum(axis=0), signed_sums(a - b, seed + 1, resamples)
    differences = np.asarray(reduce((total + moved) / 2) - reduce((total - moved) / 2))
    # sums in another order differ in their last digits: an equal difference must count
    at_least = np.abs(differences) >= abs(observed) * (1 - 1e-9) - 1e-12
    return (int(at_least.sum()) + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): never smaller, at most 1.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def verdict(pair: Paired, corrected_p: float | None, *, higher_is_better: bool) -> Verdict:
    """Of a against b: decisive when the corrected p is under 0.05 and the interval excludes 0."""
    if pair.difference is None or pair.low is None or pair.high is None or corrected_p is None:
        return "not decisive"
    if corrected_p >= ALPHA or pair.low <= 0.0 <= pair.high:
        return "not decisive"
    return "better" if (pair.difference > 0) == higher_is_better else "worse"


def items_to_decide(pair: Paired, comparisons: int) -> int | None:
    """About how many items would make the difference decisive if it stays as it is.

    By the normal approximation at 0.05 shared among ``comparisons``. None when the difference is
    0 or has no spread: no number would do, or it cannot be told.
    """
    if not pair.difference or not pair.deviation:
        return None
    if abs(pair.difference) < 1e-9 * pair.deviation:  # 0 but for the order of the sums
        return None
    z_needed = NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, comparisons)))
    return math.ceil(pair.n * (z_needed * pair.deviation / abs(pair.difference)) ** 2)


def smallest_detectable(pair: Paired, comparisons: int, power: float = 0.8) -> float | None:
    """The smallest true difference that so many items would show as decisive in ``power`` of
    cases, two-sided at 0.05 shared among ``comparisons``, by the normal approximation.

    Range: above 0, in the metric's unit. None when the difference has no spread.
    Source: Bloom (1995), "Minimum Detectable Effects".

    >>> round(smallest_detectable(Paired(0.1, 0.0, 0.2, 0.05, 1.0, 100), comparisons=1), 4)
    2.8016
    """
    if not pair.deviation:
        return None
    normal = NormalDist()
    needed = normal.inv_cdf(1 - ALPHA / (2 * max(1, comparisons))) + normal.inv_cdf(power)
    return needed * pair.deviation
