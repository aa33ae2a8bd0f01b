"""Quality against the number of examples: would more of them pay?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hinlap.stats.bootstrap import Interval, Reduce, bootstrap_interval
from hinlap.stats.resampling import Array, resampled_sums

LEAST_SIZES = 4
Outcome = Literal["still rising", "enough", "flat", "falling", "cannot say"]

_RESAMPLES = 2_000
_POWERS = np.geomspace(0.05, 4.0, 60)  # 0.05 is near a logarithm, 4 near a single step
_FINER = np.linspace(-1.0, 1.0, 21)  # between neighbours of the grid, in its steps
_CHANCE = 0.05  # a trend that the sizes swapped show as often is none
_FARTHEST = 10.0  # times the largest size: beyond, a fit to so few points says nothing


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Figures of models that learnt from ever more examples, all measured on the same items, and
    y = a - b * n ** -c through them.

    figures:   one per size; their intervals are of the items.
    rise:      what the largest size gained over the smallest, along the fit.
    gain:      what doubling the largest size is expected to add, along the fit.
               Both in the metric's unit, above 0 where it is better, whichever way the metric goes.
    threshold: the gain under which doubling does not pay.
    trend_p:   how often the sizes, swapped at random within each item, show as much of a trend
               along the logarithm of the size; None where nothing was measured. Rising, enough and
               falling are said of a trend with less than 0.05 only: few items make narrow fits.
    outcome:   still rising: doubling adds something (its interval is above 0), and the threshold
               at least. enough: examples helped, doubling adds less than the threshold.
               flat: all of them together made less difference than the threshold.
               falling: more examples made it worse. cannot say: the intervals are too wide.
    enough_at: the smallest number of examples, no smaller than the smallest measured, whose
               doubling is expected to add less than the threshold, with its interval. None where
               nothing can be said, or where it lies over ten times beyond what was measured.
    deviation: standard deviation from one training to another, as far as the points stray from
               the fit by more than their items explain; the intervals of rise and gain hold it.
    """

    sizes: tuple[int, ...]
    figures: tuple[Interval, ...]
    a: float | None
    b: float | None
    c: float | None
    rise: Interval
    gain: Interval
    threshold: float
    trend_p: float | None
    outcome: Outcome
    enough_at: int | None
    enough_low: int | None
    enough_high: int | None
    deviation: float
    higher_is_better: bool

    def expected(self, examples: float) -> float | None:
        """The fit's figure for so many examples; None without a fit."""
        if self.a is None or self.b is None or self.c is None:
            return None
        return self.a - self.b * math.pow(examples, -self.c)


def learning_curve(
    sizes: Sequence[int],
    stats: Sequence[Array],
    reduce: Reduce,
    *,
    threshold: float,
    seed: int,
    higher_is_better: bool = True,
    share: bool = False,
    resamples: int = _RESAMPLES,
) -> LearningCurve:
    """Fits the curve and says what it can bear.

    sizes:     numbers of examples, four or more, rising. stats: for each, the (n, k) statistics
               of the same n items in the same order.
    threshold: above 0, in the metric's unit. share: as for `bootstrap_interval`; where no item
               changes from size to size, up to 3 in n still might (the rule of three).
    Intervals are 95% percentile bootstrap over items, drawn together for all sizes; noise between
    trainings is added where the points show it. One training per size shows it poorly.
    Source:    the inverse power law of Cortes et al. (1994), "Learning Curves: Asymptotic Values
               and Rate of Convergence"; Figueroa et al. (2012), "Predicting sample size required
               for classification performance".
    Raises ValueError for fewer than four sizes, sizes that do not rise, a threshold that is not
    above 0, or other items at another size.
    """
    _check(sizes, stats, threshold)
    n, k = stats[0].shape
    sign = 1.0 if higher_is_better else -1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.array([float(reduce(s.sum(axis=0))) if n else math.nan for s in stats])
    if n < 2 or not np.isfinite(means).all():
        return _nothing(sizes, means, n, threshold, higher_is_better)
    sums = resampled_sums(np.hstack(stats), seed, resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.stack(
            [np.asarray(reduce(sums[:, k * i : k * (i + 1)])) for i in range(len(sizes))], axis=1
        )  # (resamples, sizes)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    if len(drawn) < 2:
        return _nothing(sizes, means, n, threshold, higher_is_better)
    figures = tuple(bootstrap_interval(s, reduce, seed=seed, share=share) for s in stats)
    x = np.asarray(sizes, dtype=np.float64) / sizes[-1]  # of the largest: powers stay moderate
    a, b, c, residue = _fit(x, means[None])
    deviation = _between_trainings(drawn, float(residue[0]))
    noise = deviation * _student(drawn.shape, len(sizes) - 3, seed)
    _, bs, cs, _ = _fit(x, drawn + noise)
    first = x[0]
    spare = 0.0
    if share and all(np.array_equal(s, stats[0]) for s in stats):
        spare = min(1.0, 3.0 / n) * float(reduce(np.ones(k)))
    gain = _interval(sign * _gain(b, c), sign * _gain(bs, cs), n, spare)
    rise = _interval(sign * b * (first**-c - 1), sign * bs * (first**-cs - 1), n, spare)
    trend_p = _trend_p(np.log(x), np.stack(stats), reduce, seed, resamples)
    outcome = _outcome(rise, gain, threshold, trend_p)
    at = low = high = None
    if outcome != "cannot say":
        point = _enough(sign * b, c, first, threshold)
        around = np.percentile(_enough(sign * bs, cs, first, threshold), [2.5, 97.5])
        at, low, high = (
            math.ceil(round(share_of * sizes[-1], 6)) if share_of <= _FARTHEST else None
            for share_of in (float(point[0]), *map(float, around))
        )
    power = float(c[0])
    return LearningCurve(
        sizes=tuple(sizes),
        figures=figures,
        a=float(a[0]),
        b=float(b[0]) * float(sizes[-1]) ** power,
        c=power,
        rise=rise,
        gain=gain,
        threshold=threshold,
        trend_p=trend_p,
        outcome=outcome,
        enough_at=at,
        enough_low=low,
        enough_high=high,
        deviation=deviation,
        higher_is_better=higher_is_better,
    )


def _check(sizes: Sequence[int], stats: Sequence[Array], threshold: float) -> None:
    if len(sizes) < LEAST_SIZES:
        raise ValueError(f"a curve needs {LEAST_SIZES} sizes, not {len(sizes)}")
    if sizes[0] < 1 or any(b <= a for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"sizes must rise from 1 on: {list(sizes)}")
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"the threshold must be above 0, not {threshold}")
    if len(stats) != len(sizes) or len({s.shape for s in stats}) != 1:
        raise ValueError(f"not the same items: {[s.shape for s in stats]} for {len(sizes)} sizes")


def _nothing(
    sizes: Sequence[int], means: Array, n: int, threshold: float, higher_is_better: bool
) -> LearningCurve:
    """Where there are too few items, or a figure that is no number."""
    figures = tuple(Interval(float(m) if math.isfinite(m) else None, None, None, n) for m in means)
    unknown = Interval(None, None, None, n)
    return LearningCurve(
        tuple(sizes), figures, None, None, None, unknown, unknown, threshold, None, "cannot say",
        None, None, None, 0.0, higher_is_better,
    )  # fmt: skip


def _fit(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """a, b, c and the sum of squared residues, each (rows,), of y = a - b * x ** -c by row.

    For a given c the rest is a straight line: the best c of a grid, then of a finer one around it.
    """
    rows = len(y)
    grid = np.log(_POWERS)
    coarse = np.broadcast_to(_POWERS, (rows, len(_POWERS)))
    best = _lines(x, y, coarse)[2]
    step = grid[1] - grid[0]
    finer = np.exp(np.clip(np.log(best)[:, None] + step * _FINER, grid[0], grid[-1]))  # (rows, 21)
    return _lines(x, y, finer)


def _lines(x: Array, y: Array, powers: Array) -> tuple[Array, Array, Array, Array]:
    """As `_fit`, with the best of (rows, g) ``powers``."""
    u = x ** -powers[..., None]  # (rows, g, sizes)
    u_mean, y_mean = u.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    du, dy = u - u_mean, y - y_mean
    slope = np.einsum("rgs,rs->rg", du, dy) / (du**2).sum(axis=-1)
    residue = ((dy[:, None] - slope[..., None] * du) ** 2).sum(axis=-1)  # (rows, g)
    place = residue.argmin(axis=1)[:, None]

    def at(values: Array) -> Array:
        return np.asarray(np.take_along_axis(values, place, axis=1)[:, 0])

    b = -at(slope)
    return y_mean[:, 0] + b * at(u_mean[..., 0]), b, at(powers), at(residue)


def _between_trainings(drawn: Array, residue: float) -> float:
    """What the residues of the fit hold beyond the noise of items, as a standard deviation."""
    sizes = drawn.shape[1]
    free = sizes - 3  # a, b, c
    unshared = drawn - drawn.mean(axis=1, keepdims=True)
    items = float(unshared.var(axis=0).sum()) / (sizes - 1)
    return math.sqrt(max(0.0, residue / free - items))


def _student(shape: tuple[int, ...], free: int, seed: int) -> Array:
    """Normal noise whose spread is known from ``free`` residues only: one doubt for each row."""
    rng = np.random.default_rng(seed)
    doubt = np.sqrt(rng.chisquare(free, (shape[0], 1)) / free)
    return np.asarray(rng.normal(0.0, 1.0, shape) / doubt)


def _gain(b: Array, c: Array) -> Array:
    """Of doubling the largest size, which is 1 here."""
    return b * (1 - 2.0**-c)


def _enough(b: Array, c: Array, first: float, threshold: float) -> Array:
    """Where doubling adds the threshold and no more, as a share of the largest size."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(_gain(b, c), 0.0) / threshold) / c
    return np.exp(np.clip(logs, math.log(first), 700.0))


def _interval(value: Array, drawn: Array, n: int, spare: float) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(value[0]), float(low) - spare, float(high) + spare, n)


def _trend_p(x: Array, stats: Array, reduce: Reduce, seed: int, resamples: int) -> float:
    """Two-sided, by randomisation; stats (sizes, n, k). A trend is the covariance with ``x``."""
    rng = np.random.default_rng(seed)
    sizes, n, k = stats.shape
    away = x - x.mean()
    by_item = stats.transpose(1, 0, 2)  # (n, sizes, k)
    sums = np.empty((resamples, sizes, k))
    for row in range(resamples):
        order = rng.random((n, sizes)).argsort(axis=1)
        sums[row] = np.take_along_axis(by_item, order[..., None], axis=1).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        swapped = np.abs(np.asarray(reduce(sums)) @ away)
        own = abs(float(np.asarray(reduce(stats.sum(axis=1))) @ away))
    as_much = int((swapped >= own * (1 - 1e-9)).sum())  # sums in another order round otherwise
    return (as_much + 1) / (resamples + 1)


def _outcome(rise: Interval, gain: Interval, threshold: float, trend_p: float) -> Outcome:
    if rise.low is None or rise.high is None or gain.low is None or gain.high is None:
        return "cannot say"
    if -threshold < rise.low and rise.high < threshold:
        return "flat"
    if trend_p >= _CHANCE:
        return "cannot say"
    if rise.high < 0:
        return "falling"
    if gain.low > 0 and gain.value is not None and gain.value >= threshold:
        return "still rising"
    if gain.high < threshold and rise.low > 0:
        return "enough"
    return "cannot say"
