from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.metrics.scores import Array, mean
from hinlap.stats.learning_curve import LearningCurve, learning_curve

SIZES = (50, 100, 200, 400, 800)


def measured(
    curve: Callable[[int], float],
    *,
    items: int = 300,
    spread: float = 0.2,
    between_trainings: float = 0.0,
    seed: int = 0,
    sizes: Sequence[int] = SIZES,
) -> list[Array]:
    """Items of different difficulty, the same at all sizes, with noise of their own at each."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, spread, items)
    hard -= hard.mean() if items else 0.0
    rows = []
    for size in sizes:
        level = curve(size) + rng.normal(0, 1) * between_trainings
        values = level + hard + rng.normal(0, spread / 2, items)
        rows.append(np.stack([values, np.ones(items)], axis=1))
    return rows


def fitted(rows: Sequence[Array], *, threshold: float = 0.02, **more: object) -> LearningCurve:
    settings = {"seed": 0, "resamples": 400} | more
    return learning_curve(SIZES, rows, mean, threshold=threshold, **settings)  # type: ignore[arg-type]


def rising(size: int) -> float:
    return 0.8 - 1.5 * size**-0.5


def steep(size: int) -> float:
    return 0.9 - 1.2 * size**-0.25


def saturating(size: int) -> float:
    return 0.7 - 20 * size**-1.2


def flat(size: int) -> float:
    return 0.4


def falling(size: int) -> float:
    return 0.3 + 0.8 * size**-0.4


def test_a_curve_without_noise_is_found_again() -> None:
    found = fitted(measured(rising, spread=0.0))
    assert (found.a, found.b, found.c) == pytest.approx((0.8, 1.5, 0.5), rel=1e-3)
    assert found.expected(1600) == pytest.approx(rising(1600), abs=1e-5)
    assert found.gain.value == pytest.approx(rising(1600) - rising(800), abs=1e-5)
    assert found.rise.value == pytest.approx(rising(800) - rising(50), abs=1e-4)
    # b (1 - 2^-c) n^-c = threshold, solved by hand
    assert found.enough_at == pytest.approx((1.5 * (1 - 2**-0.5) / 0.02) ** 2, rel=0.005)
    assert found.outcome == "enough"


def test_the_smallest_size_is_the_least_that_can_be_enough() -> None:
    found = fitted(measured(saturating, spread=0.0), threshold=0.5)
    assert found.enough_at == 50


def test_a_size_far_beyond_the_measured_is_not_named() -> None:
    found = fitted(measured(steep, spread=0.0), threshold=0.001)
    assert found.outcome == "still rising"
    assert found.enough_at is None


@pytest.mark.parametrize(
    ("curve", "outcome"),
    [(steep, "still rising"), (saturating, "enough"), (flat, "flat"), (falling, "falling")],
)
def test_what_is_said_of_each_kind_of_curve(curve: Callable[[int], float], outcome: str) -> None:
    said = Counter(
        fitted(measured(curve, items=1000, seed=seed), seed=seed).outcome for seed in range(20)
    )
    assert said[outcome] >= 10
    assert said[outcome] + said["cannot say"] >= 19  # hardly ever something false


def test_few_noisy_items_cannot_say() -> None:
    found = fitted(measured(steep, items=6, spread=1.0, seed=1))
    assert found.outcome == "cannot say"
    assert found.enough_at is None


def test_two_of_twelve_items_are_no_rise() -> None:
    """None, one, one and two right of twelve: any fit rises, and chance does as much."""
    rows = [np.zeros((12, 1)) for _ in range(4)]
    for row, right in zip(rows, [(), (3,), (7,), (1, 9)], strict=True):
        row[list(right)] = 1.0
    rows = [np.hstack([row, np.ones((12, 1))]) for row in rows]
    found = learning_curve((6, 12, 18, 24), rows, mean, threshold=0.02, seed=0, share=True)
    assert found.outcome == "cannot say"
    # four successes, each as likely at any size: 62 of the 256 ways trend as much
    assert found.trend_p == pytest.approx(62 / 256, abs=0.03)
    none = found.figures[0]
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.2425, abs=1e-3)  # Wilson's, of 0 in 12


def test_a_trend_s_p_is_as_seldom_small_as_it_says() -> None:
    p = [fitted(measured(flat, items=40, seed=seed), seed=seed).trend_p for seed in range(100)]
    assert sum((each or 0) < 0.05 for each in p) <= 12


@pytest.mark.parametrize("between_trainings", [0.0, 0.01])
def test_the_interval_of_the_gain_holds_the_true_one(between_trainings: float) -> None:
    true = rising(1600) - rising(800)
    held = 0
    for seed in range(60):
        rows = measured(rising, between_trainings=between_trainings, seed=seed)
        gain = fitted(rows, seed=seed).gain
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= true <= gain.high
    assert held >= 51


def test_noise_between_trainings_is_not_taken_for_an_effect() -> None:
    said = Counter(
        fitted(measured(flat, between_trainings=0.02, seed=seed), seed=seed).outcome
        for seed in range(60)
    )
    assert said["still rising"] + said["enough"] + said["falling"] <= 9


def test_noise_between_trainings_is_seen() -> None:
    quiet = [fitted(measured(rising, seed=seed)).deviation for seed in range(20)]
    loud = [
        fitted(measured(rising, seed=seed, between_trainings=0.05)).deviation for seed in range(20)
    ]
    assert np.mean(quiet) < 0.005
    assert 0.02 < np.mean(loud) < 0.08


def test_where_less_is_better_a_gain_is_a_fall() -> None:
    rows = measured(steep, items=100)
    turned = [row * [-1.0, 1.0] for row in rows]
    up, down = fitted(rows), fitted(turned, higher_is_better=False)
    assert down.outcome == up.outcome
    assert down.gain.value == pytest.approx(up.gain.value)
    assert down.b == pytest.approx(-(up.b or 0))
    assert fitted(turned).outcome == "falling"


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-100, 100), st.integers(0, 5))
def test_units_change_nothing(factor: float, shift: float, seed: int) -> None:
    rows = measured(rising, items=60, seed=seed)
    other = [row * [factor, 1.0] + [shift * factor, 0.0] for row in rows]
    one = fitted(rows, threshold=0.03)
    two = fitted(other, threshold=0.03 * factor)
    assert one.outcome == two.outcome
    assert two.gain.value == pytest.approx(
        (one.gain.value or 0) * factor, rel=0.01, abs=1e-4 * factor
    )


def test_shares_that_never_change_are_flat_only_with_items_enough() -> None:
    def zeros(items: int) -> list[Array]:
        return [np.stack([np.zeros(items), np.ones(items)], axis=1)] * len(SIZES)

    assert fitted(zeros(20), threshold=0.05, share=True).outcome == "cannot say"
    assert fitted(zeros(2000), threshold=0.05, share=True).outcome == "flat"


@pytest.mark.parametrize("items", [0, 1])
def test_no_spread_no_interval_nothing_said(items: int) -> None:
    found = fitted(measured(rising, items=items))
    assert found.outcome == "cannot say"
    assert found.gain.low is None


def test_a_figure_that_is_no_number_says_nothing() -> None:
    rows = measured(rising)
    rows[2] = np.zeros_like(rows[2])  # no item has a value there
    found = fitted(rows)
    assert found.outcome == "cannot say"
    assert found.figures[2].value is None
    assert found.expected(100) is None


@pytest.mark.parametrize(
    ("sizes", "threshold", "message"),
    [
        ((50, 100, 200), 0.1, "needs 4 sizes"),
        ((50, 100, 100, 200), 0.1, "must rise"),
        ((0, 100, 150, 200), 0.1, "must rise"),
        ((50, 100, 200, 400), 0.0, "above 0"),
        ((50, 100, 200, 400), float("nan"), "above 0"),
    ],
)
def test_what_is_refused(sizes: tuple[int, ...], threshold: float, message: str) -> None:
    rows = measured(flat, sizes=sizes)
    with pytest.raises(ValueError, match=message):
        learning_curve(sizes, rows, mean, threshold=threshold, seed=0)


def test_other_items_at_another_size_are_refused() -> None:
    rows = measured(flat)
    rows[1] = rows[1][:-1]
    with pytest.raises(ValueError, match="not the same items"):
        fitted(rows)


def test_the_same_seed_gives_the_same_curve() -> None:
    rows = measured(rising, items=50)
    assert fitted(rows, seed=3) == fitted(rows, seed=3)
