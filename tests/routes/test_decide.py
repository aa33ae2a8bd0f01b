from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.app.declaration import LimitsSpec
from hinlap.routes.decide import Candidate, Decision, decide
from hinlap.stats.paired import Verdict
from hinlap.workflows.wording import sentence

Stands = Callable[[str, str], tuple[Verdict, int | None]]

GOOD = Candidate(
    name="a",
    measured=True,
    stand_in=False,
    usable_share=1.0,
    quality=0.5,
    low=0.4,
    chance=None,
    cost_per_1000_usd=1.0,
    p95_seconds=2.0,
    data_leaves_machine=False,
)


def tie(a: str, b: str) -> tuple[Verdict, int | None]:
    return "not decisive", 120


def better(a: str, b: str) -> tuple[Verdict, int | None]:
    return "better", None


def picked(
    candidates: Sequence[Candidate], verdict: Stands = tie, *, higher: bool = True, **limits: object
) -> Decision:
    bounds = LimitsSpec.model_validate(limits)
    return decide(candidates, bounds, higher_is_better=higher, verdict=verdict)


def keys(decision: Decision) -> list[str]:
    return [reason.key for reason in decision.reasons]


def test_the_only_route_is_taken() -> None:
    decision = picked([GOOD])
    assert (decision.route, keys(decision)) == ("a", ["only"])


def test_a_route_that_tests_better_wins_whatever_it_costs() -> None:
    dear = replace(GOOD, name="dear", quality=0.9, cost_per_1000_usd=100.0)
    decision = picked([GOOD, dear], better)
    assert (decision.route, keys(decision)) == ("dear", ["worse", "best"])


def test_a_tie_goes_to_the_cheaper() -> None:
    dear = replace(GOOD, name="dear", quality=0.9, cost_per_1000_usd=100.0)
    decision = picked([dear, GOOD])
    assert (decision.route, keys(decision)) == ("a", ["tie", "cheapest"])


def test_a_tie_says_how_many_items_would_decide() -> None:
    decision = picked([GOOD, replace(GOOD, name="b", quality=0.9)])
    assert "about 120 items would decide" in sentence(decision.reasons[0], "en")


def test_a_tie_of_quality_and_cost_goes_to_the_one_declared_first() -> None:
    assert picked([replace(GOOD, name="z"), GOOD]).route == "z"


def test_a_route_of_unknown_cost_loses_a_tie() -> None:
    unknown = replace(GOOD, name="unknown", cost_per_1000_usd=None, quality=0.9)
    assert picked([unknown, GOOD]).route == "a"


def test_where_lower_is_better_the_lowest_is_best() -> None:
    low = replace(GOOD, name="low", quality=0.1, cost_per_1000_usd=9.0)
    assert picked([GOOD, low], better, higher=False).route == "low"


def test_only_the_routes_that_tie_with_the_best_go_by_cost() -> None:
    best = replace(GOOD, name="best", quality=0.9, cost_per_1000_usd=9.0)
    close = replace(GOOD, name="close", quality=0.8, cost_per_1000_usd=5.0)
    free = replace(GOOD, name="free", quality=0.1, cost_per_1000_usd=0.0)

    def verdict(a: str, b: str) -> tuple[Verdict, int | None]:
        return ("better", None) if b == "free" else ("not decisive", None)

    assert picked([free, close, best], verdict).route == "close"


@pytest.mark.parametrize(
    ("change", "limits", "reason"),
    [
        ({"measured": False}, {}, "not_measured"),
        ({"stand_in": True}, {}, "stand_in"),
        ({"data_leaves_machine": True}, {"data_stays_on_machine": True}, "leaves"),
        ({"cost_per_1000_usd": 5.1}, {"cost_per_1000_usd": 5}, "cost"),
        ({"cost_per_1000_usd": None}, {"cost_per_1000_usd": 5}, "cost"),
        ({"p95_seconds": 3.1}, {"p95_seconds": 3}, "p95"),
        ({"p95_seconds": None}, {"p95_seconds": 3}, "p95"),
        ({"usable_share": 0.79}, {}, "usable"),
        ({"quality": None}, {}, "no_quality"),
    ],
)
def test_a_route_outside_the_limits_is_not_taken_however_good(
    change: dict[str, object], limits: dict[str, object], reason: str
) -> None:
    outside = replace(GOOD, **{"name": "outside", "quality": 1.0, **change})  # type: ignore[arg-type]
    decision = picked([outside, replace(GOOD, quality=0.01)], better, **limits)
    assert decision.route == "a"
    assert keys(decision)[0] == reason


def test_figures_on_the_limit_keep_it() -> None:
    exact = replace(GOOD, cost_per_1000_usd=5.0, p95_seconds=3.0, usable_share=0.8)
    assert picked([exact], cost_per_1000_usd=5, p95_seconds=3, usable_share=0.8).route == "a"


def test_when_no_route_keeps_the_limits_none_is_taken() -> None:
    far = [replace(GOOD, p95_seconds=9.0), replace(GOOD, name="b", measured=False)]
    decision = picked(far, p95_seconds=3)
    assert (decision.route, keys(decision)) == (None, ["p95", "not_measured", "no_route"])


def test_when_no_route_was_available_the_limits_are_not_blamed() -> None:
    decision = picked([replace(GOOD, stand_in=True), replace(GOOD, name="b", measured=False)])
    assert decision.route is None
    assert keys(decision) == ["stand_in", "not_measured", "none_available"]
    for language, words in (("en", "No route was available"), ("th", "ไม่มีเส้นทางใดพร้อมใช้งาน")):
        assert sentence(decision.reasons[-1], language).startswith(words)  # type: ignore[arg-type]


def test_without_candidates_none_is_taken() -> None:
    assert (picked([]).route, keys(picked([]))) == (None, ["none_available"])


def test_a_route_no_better_than_guessing_comes_with_a_warning() -> None:
    decision = picked([replace(GOOD, quality=0.12, low=0.05, chance=0.1)])
    assert (decision.route, keys(decision)) == ("a", ["only", "chance"])


def test_a_route_shown_to_beat_guessing_comes_without() -> None:
    assert keys(picked([replace(GOOD, low=0.11, chance=0.1)])) == ["only"]


@pytest.mark.parametrize("language", ["en", "th"])
def test_every_reason_has_a_sentence_that_names_its_route(language: str) -> None:
    every = [
        picked([replace(GOOD, name="route-x", **change)], cost_per_1000_usd=5, p95_seconds=3)  # type: ignore[arg-type]
        for change in (
            {},
            {"measured": False},
            {"stand_in": True},
            {"cost_per_1000_usd": 6.0},
            {"p95_seconds": None},
            {"usable_share": 0.1},
            {"quality": None},
            {"chance": 0.9},
        )
    ]
    for decision in every:
        for reason in decision.reasons:
            text = sentence(reason, language)  # type: ignore[arg-type]
            assert "route-x" in text or reason.key in ("no_route", "none_available")
            assert "{" not in text


candidates = st.builds(
    Candidate,
    name=st.uuids().map(str),
    measured=st.booleans(),
    stand_in=st.booleans(),
    usable_share=st.floats(0, 1),
    quality=st.none() | st.floats(-1, 1),
    low=st.none(),
    chance=st.none(),
    cost_per_1000_usd=st.none() | st.floats(0, 10),
    p95_seconds=st.none() | st.floats(0, 10),
    data_leaves_machine=st.booleans(),
)


@given(st.lists(candidates, max_size=5), st.sampled_from([tie, better]), st.booleans())
def test_what_is_taken_was_measured_is_no_stand_in_and_keeps_every_limit(
    declared: list[Candidate], verdict: Stands, higher: bool
) -> None:
    decision = picked(
        declared,
        verdict,
        higher=higher,
        cost_per_1000_usd=5,
        p95_seconds=5,
        data_stays_on_machine=True,
    )
    allowed = [
        c
        for c in declared
        if c.measured
        and not c.stand_in
        and c.usable_share >= 0.8
        and c.quality is not None
        and c.cost_per_1000_usd is not None
        and c.cost_per_1000_usd <= 5
        and c.p95_seconds is not None
        and c.p95_seconds <= 5
        and not c.data_leaves_machine
    ]
    if not allowed:
        assert decision.route is None
    elif verdict is tie:
        chosen = next(c for c in allowed if c.name == decision.route)
        assert chosen.cost_per_1000_usd == min(c.cost_per_1000_usd or 0.0 for c in allowed)
    else:
        chosen = next(c for c in allowed if c.name == decision.route)
        extreme = max if higher else min
        assert chosen.quality == extreme(c.quality or 0.0 for c in allowed)
