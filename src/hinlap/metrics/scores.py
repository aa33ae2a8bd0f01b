"""What every metric returns: statistics per item first, the figure after.

Kept per item, one pass serves the figure, its interval and every paired test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One metric on n items.

    stats:     (n, k) sufficient statistics of each item.
    reduce:    from summed statistics (..., k) to figures (...): NaN where undefined.
    items:     the metric of each item alone, for showing; same unit as the figure. None where an
               item is undefined; its statistics are then 0 and move nothing.
    higher_is_better, share (items are 0 or 1), and the signature: all that decides the number.
    notes:     how many items are of a kind that a reader must know of: {"empty references": 2}.
    """

    name: str
    signature: str
    stats: Array
    reduce: Callable[[Array], Array]
    items: tuple[float | None, ...]
    higher_is_better: bool = True
    share: bool = False
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return int(self.stats.shape[0])

    @property
    def value(self) -> float | None:
        """The figure over all items; None when undefined (no items, nothing to divide by)."""
        if self.n == 0:
            return None
        figure = float(self.reduce(self.stats.sum(axis=0)))
        return None if np.isnan(figure) else figure

    def subset(self, indices: list[int]) -> Scores:
        """The same metric on some of the items, in the given order. The notes count all items,
        so they stay only where all are taken."""
        return Scores(
            self.name,
            self.signature,
            self.stats[indices],
            self.reduce,
            tuple(self.items[i] for i in indices),
            self.higher_is_better,
            self.share,
            dict(self.notes) if sorted(indices) == list(range(self.n)) else {},
        )


def mean_scores(
    name: str,
    values: list[float],
    signature: str,
    *,
    higher_is_better: bool = True,
    share: bool = False,
) -> Scores:
    """Scores whose figure is the mean of the items' values."""
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    stats = np.hstack([column, np.ones_like(column)])
    return Scores(name, signature, stats, mean, tuple(values), higher_is_better, share)


def defined_mean_scores(
    name: str,
    values: Sequence[float | None],
    signature: str,
    *,
    higher_is_better: bool = True,
    share: bool = False,
) -> Scores:
    """As `mean_scores`, over the items that have a value; the others move nothing."""
    stats = np.array(
        [[0.0, 0.0] if value is None else [value, 1.0] for value in values], dtype=np.float64
    ).reshape(-1, 2)
    return Scores(name, signature, stats, mean, tuple(values), higher_is_better, share)


def mean(sums: Array) -> Array:
    """Of statistics (value, weight, ...); NaN without weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def distance_from_half(sums: Array) -> Array:
    """How far the mean is from 0.5."""
    return np.abs(mean(sums) - 0.5)
