"""Two systems on the same items: is the difference real, and if not, how many items would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from hinlap.stats.bootstrap import RESAMPLES, Array, Reduce, resampled_figures

ALPHA = 0.05
Verdict = Literal["better", "worse", "not decisive"]


@dataclass(frozen=True, slots=True)
class Paired:
    """Figure of a minus figure of b on n common items.

    low, high:  95% interval of the difference (paired bootstrap); None under two items.
    p:          two-sided, by approximate randomisation; None when there are no items.
    deviation:  standard deviation of the difference over resamples.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    deviation: float | None
    n: int


def compare_paired(
    a: Array, b: Array, reduce: Reduce, *, seed: int, resamples: int = RESAMPLES
) -> Paired:
    """Compares (n, k) statistics of two systems, row i of both being the same item.

    The p-value swaps the two systems' answers item by item at random and counts how often the
    difference is at least as large (the observed arrangement counted in, so it is never 0).
    Source: Noreen (1989); Koehn (2004) for the paired bootstrap. Raises ValueError when the
    shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"not the same items: {a.shape} and {b.shape}")
    n = int(a.shape[0])
    if n == 0:
        return Paired(None, None, None, None, None, 0)
    observed = float(reduce(a.sum(axis=0)) - reduce(b.sum(axis=0)))
    if math.isnan(observed):
        return Paired(None, None, None, None, None, n)
    p = _randomisation_p(a, b, reduce, observed, seed, resamples)
    if n == 1:
        return Paired(observed, None, None, p, None, n)
    differences = resampled_figures(a, reduce, seed, resamples) - resampled_figures(
        b, reduce, seed, resamples
    )
    differences = differences[~np.isnan(differences)]
    low, high = np.percentile(differences, [2.5, 97.5])
    return Paired(observed, float(low), float(high), p, float(differences.std(ddof=1)), n)


def _randomisation_p(
    a: Array, b: Array, reduce: Reduce, observed: float, seed: int, resamples: int
) -> float:
    if np.array_equal(a, b):
        return 1.0
    n = a.shape[0]
    rng = np.random.default_rng(seed + 1)
    total, gap = (a + b).sum(axis=0), a - b
    at_least = 0
    step = max(1, 2_000_000 // n)
    for start in range(0, resamples, step):
        signs = rng.choice([-1.0, 1.0], size=(min(step, resamples - start), n))
        moved = signs @ gap
        differences = np.asarray(reduce((total + moved) / 2) - reduce((total - moved) / 2))
        at_least += int((np.abs(differences) >= abs(observed) - 1e-12).sum())
    return (at_least + 1) / (resamples + 1)


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
    z_needed = NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, comparisons)))
    return math.ceil(pair.n * (z_needed * pair.deviation / abs(pair.difference)) ** 2)
