"""Correlation of a figure's means by group with something known of the groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from hinlap.metrics.scores import Array, Scores

_FEWEST_GROUPS = 3


def group_correlation(
    name: str,
    values: Sequence[float],
    groups: Sequence[int],
    known: Sequence[float],
    signature: str,
) -> Scores:
    """Pearson's correlation, over groups, of the mean value of a group's items with what is known
    of it; groups without an item are left out.

    groups: of each item, its place in ``known``.
    Range:  [-1, 1]. Undefined: fewer than three groups with items, or no variance.

    >>> s = group_correlation("r", [1, 3, 2, 4], [0, 0, 1, 2], [10.0, 10.0, 40.0], "")
    >>> round(s.value, 6)
    1.0
    """
    stats = np.zeros((len(values), 2 * len(known)))
    for row, (value, group) in enumerate(zip(values, groups, strict=True)):
        stats[row, 2 * group : 2 * group + 2] = value, 1.0
    reduce = partial(correlation_of_sums, known=tuple(known))
    return Scores(name, signature, stats, reduce, tuple(values), higher_is_better=False)


def correlation_of_sums(sums: Array, *, known: Sequence[float]) -> Array:
    """From sums (..., 2 * groups) of value and count, side by side."""
    total, count = sums[..., 0::2], sums[..., 1::2]
    there = count > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(there, total / np.where(there, count, 1.0), 0.0)
        x = np.where(there, np.asarray(known), 0.0)
        n = there.sum(axis=-1)
        means = np.where(there, means - (means.sum(-1) / n)[..., None], 0.0)
        x = np.where(there, x - (x.sum(-1) / n)[..., None], 0.0)
        below = np.sqrt((means**2).sum(-1) * (x**2).sum(-1))
        found = (means * x).sum(-1) / below
    return np.where((n >= _FEWEST_GROUPS) & (below > 1e-12), found, np.nan)
