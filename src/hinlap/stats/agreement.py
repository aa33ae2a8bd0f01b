"""How well one rater of items agrees with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hinlap.stats.resampling import Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of ``ratings`` with ``truth`` on n items; both call an item positive from the cut on.

    auc:       probability that a positive item is rated above a negative one (ties half).
    spearman:  rank correlation of the two.
    precision: share of those rated positive that are. recall: share of positives rated so.
    None where undefined: no positive or no negative item, no variance, none rated positive.
    """

    n: int
    auc: float | None
    spearman: float | None
    precision: float | None
    recall: float | None


def agreement(ratings: Sequence[float], truth: Sequence[float], cut: float = 0.5) -> Agreement:
    """Both lists in one order. Raises ValueError when their lengths differ.

    Peers: sklearn.metrics.roc_auc_score, scipy.stats.spearmanr.

    >>> agreement([0.1, 0.4, 0.6, 0.9], [0.0, 1.0, 0.2, 0.8])
    Agreement(n=4, auc=0.75, spearman=0.4, precision=0.5, recall=0.5)
    """
    if len(ratings) != len(truth):
        raise ValueError(f"{len(ratings)} ratings of {len(truth)} items")
    rated, true = np.asarray(ratings, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    n = len(rated)
    ranks = average_ranks(rated)
    positive, called = true >= cut, rated >= cut
    above, below = int(positive.sum()), int(n - positive.sum())
    auc = None
    if above and below:
        auc = float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))
    hits = int((positive & called).sum())
    return Agreement(
        n,
        auc,
        _correlation(ranks, average_ranks(true)),
        hits / int(called.sum()) if called.any() else None,
        hits / above if above else None,
    )


def average_ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs.

    >>> average_ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _correlation(a: Array, b: Array) -> float | None:
    if len(a) < 2 or not a.std() or not b.std():
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 12)
