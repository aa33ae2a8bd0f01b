from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.metrics.bleu import bleu
from hinlap.metrics.scores import mean_scores
from hinlap.stats.paired import (
    Paired,
    compare_paired,
    holm,
    items_to_decide,
    smallest_detectable,
    verdict,
)

WMT = Path(__file__).parents[3] / "shared" / "data" / "wmt17-en-de"


def paired(a: list[float], b: list[float]) -> Paired:
    one, two = mean_scores("m", a, "s"), mean_scores("m", b, "s")
    return compare_paired(one.stats, two.stats, one.reduce, seed=0)


def test_a_system_against_itself_differs_by_nothing() -> None:
    found = paired([0.1, 0.5, 0.9], [0.1, 0.5, 0.9])
    assert (found.difference, found.p) == (0.0, 1.0)
    assert verdict(found, found.p, higher_is_better=True) == "not decisive"
    assert items_to_decide(found, 1) is None


def test_a_difference_of_rounding_only_is_decided_by_no_number() -> None:
    values = [float(x) for x in np.random.default_rng(0).random(40)]
    assert items_to_decide(paired(values, values[::-1]), 1) is None


def test_three_items_cannot_decide_however_clear() -> None:
    found = paired([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert found.p is not None
    assert found.p > 0.2
    assert verdict(found, found.p, higher_is_better=True) == "not decisive"


def test_a_clear_difference_on_thirty_items_is_decisive() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=30)
    found = paired([float(x) for x in base + 1 + rng.normal(0, 0.2, 30)], [float(x) for x in base])
    assert verdict(found, found.p, higher_is_better=True) == "better"
    assert verdict(found, found.p, higher_is_better=False) == "worse"


def test_pairing_sees_what_unpaired_intervals_would_miss() -> None:
    base = np.random.default_rng(1).normal(0, 10, size=40)
    found = paired(
        [float(x + 0.5 + 0.1 * (-1) ** i) for i, x in enumerate(base)], list(map(float, base))
    )
    assert verdict(found, found.p, higher_is_better=True) == "better"


def test_no_common_items_is_not_decisive() -> None:
    found = compare_paired(np.empty((0, 2)), np.empty((0, 2)), lambda s: s[..., 0], seed=0)
    assert found.n == 0
    assert verdict(found, None, higher_is_better=True) == "not decisive"


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same items"):
        compare_paired(np.ones((2, 2)), np.ones((3, 2)), lambda s: s[..., 0], seed=0)


def test_false_alarms_stay_near_five_in_a_hundred() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for seed in range(200):
        a, b = rng.normal(size=(2, 25))
        one = np.column_stack([a, np.ones(25)])
        two = np.column_stack([b, np.ones(25)])
        found = compare_paired(one, two, lambda s: s[..., 0] / s[..., 1], seed=seed, resamples=500)
        alarms += verdict(found, found.p, higher_is_better=True) != "not decisive"
    assert alarms <= 20


def test_the_number_of_items_that_would_decide_does_decide() -> None:
    rng = np.random.default_rng(3)

    def draw(n: int) -> Paired:
        base = rng.normal(size=n)
        return paired(
            [float(x) for x in base + 0.3 + rng.normal(0, 1, n)], [float(x) for x in base]
        )

    small = draw(20)
    needed = items_to_decide(small, 1)
    assert needed is not None
    large = draw(8 * needed)
    assert verdict(large, large.p, higher_is_better=True) == "better"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(c >= p for c, p in zip(corrected, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [corrected[i] for i in order] == sorted(corrected)


def test_holm_of_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.skipif(not WMT.is_dir(), reason="the shared WMT files are not here")
def test_p_values_on_wmt17_agree_with_sacrebleu() -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import PairedTest

    def read(name: str) -> list[str]:
        with gzip.open(WMT / name, "rt", encoding="utf-8") as stream:
            return stream.read().rstrip("\n").split("\n")

    reference = read("reference.de.txt.gz")
    names = ["LIUM-NMT.4900", "FBK.4870", "KIT.4950"]
    outputs = [read(f"system.{name}.de.txt.gz") for name in names]
    _, peer = PairedTest(
        list(zip(names, outputs, strict=True)),
        {"BLEU": BLEU()},
        references=[reference],
        test_type="ar",
        n_samples=2000,
    )()
    base = bleu(outputs[0], [[text] for text in reference])
    for index in (1, 2):
        other = bleu(outputs[index], [[text] for text in reference])
        found = compare_paired(other.stats, base.stats, base.reduce, seed=0, resamples=2000)
        assert found.p == pytest.approx(peer["BLEU"][index].p_value, abs=0.03)


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(7)
    scale = 1.0
    found = paired([float(x) for x in rng.normal(0, scale, 100)], [0.0] * 100)
    smallest = smallest_detectable(found, 1)
    assert smallest == pytest.approx(2.8016 * scale / 10, rel=0.15)
    hits = 0
    for seed in range(200):
        a = np.column_stack([rng.normal(2.8016 / 10, scale, 100), np.ones(100)])
        b = np.column_stack([np.zeros(100), np.ones(100)])
        again = compare_paired(a, b, lambda s: s[..., 0] / s[..., 1], seed=seed, resamples=400)
        hits += verdict(again, again.p, higher_is_better=True) == "better"
    assert hits / 200 == pytest.approx(0.8, abs=0.08)


def test_more_comparisons_need_a_larger_difference() -> None:
    found = paired([0.1, 0.5, 0.9, 0.3], [0.2, 0.3, 0.9, 0.1])
    one, three = smallest_detectable(found, 1), smallest_detectable(found, 3)
    assert one is not None
    assert three is not None
    assert three > one


def test_without_spread_no_difference_can_be_called_detectable() -> None:
    assert smallest_detectable(paired([0.1, 0.5], [0.1, 0.5]), 1) is None
    assert smallest_detectable(paired([], []), 1) is None
