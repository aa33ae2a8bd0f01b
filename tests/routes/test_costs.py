from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.routes.costs import CheapestFrom, Cost, cheapest_by_volume, own_machine_cost


def cost(per_request: float, fixed: float = 0.0) -> Cost:
    return Cost(per_request_usd=per_request, fixed_usd=fixed, volume=30_000)


def test_an_own_machine_is_paid_by_the_second_and_for_its_tuning() -> None:
    found = own_machine_cost(2.0, tuning_seconds=3600, usd_per_hour=0.5, volume=1000)
    assert found.per_request_usd == pytest.approx(2 * 0.5 / 3600)
    assert found.fixed_usd == pytest.approx(0.5)
    assert found.per_1000_usd == pytest.approx(1000 * 2 * 0.5 / 3600 + 0.5)


def test_a_tuning_weighs_less_the_more_requests_it_serves() -> None:
    few, many = Cost(0.001, 3.0, 1000), Cost(0.001, 3.0, 1_000_000)
    assert few.per_1000_usd == pytest.approx(4.0)
    assert many.per_1000_usd == pytest.approx(1.003)


def test_without_routes_none_is_the_cheapest() -> None:
    assert cheapest_by_volume({}) == []


def test_one_route_is_the_cheapest_from_the_start() -> None:
    assert cheapest_by_volume({"a": cost(1.0, 5.0)}) == [CheapestFrom(0.0, "a")]


def test_a_tuned_route_takes_over_where_its_tuning_is_paid_back() -> None:
    routes = {"tuned": cost(0.25, fixed=250.0), "service": cost(0.75)}
    assert cheapest_by_volume(routes) == [CheapestFrom(0.0, "service"), CheapestFrom(500, "tuned")]


def test_a_route_that_is_never_the_cheapest_does_not_appear() -> None:
    routes = {"a": cost(0.03), "b": cost(0.01, 10.0), "never": cost(0.02, 100.0)}
    assert "never" not in {step.route for step in cheapest_by_volume(routes)}


def test_of_two_equal_routes_one_appears() -> None:
    assert cheapest_by_volume({"b": cost(1.0, 1.0), "a": cost(1.0, 1.0)}) == [CheapestFrom(0, "a")]


def test_three_lines_through_one_point_hand_over_to_the_flattest() -> None:
    routes = {"a": cost(0.3), "b": cost(0.2, 0.1), "c": cost(0.1, 0.2)}
    assert [step.route for step in cheapest_by_volume(routes)][-1] == "c"
    assert len({step.requests for step in cheapest_by_volume(routes)}) == len(
        cheapest_by_volume(routes)
    )


def test_rounding_where_lines_nearly_meet_hides_no_route() -> None:
    routes = {
        "a": cost(0.00982638402175254, 5.135524762520222),
        "b": cost(0.006357065518208064, 5.3846875918137815),
        "c": cost(0.02407851503312664, 4.111951607553788),
        "d": cost(0.017717778188376908, 4.56877308041955),
    }
    assert cheapest_by_volume(routes)[-1].route == "b"


usd = st.floats(0, 1, allow_subnormal=False).map(lambda value: round(value, 4))


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(usd, usd), min_size=1),
    st.lists(st.floats(0, 1e6), max_size=20),
)
def test_at_every_volume_no_route_is_cheaper_than_the_one_named(
    lines: dict[str, tuple[float, float]], volumes: list[float]
) -> None:
    routes = {name: cost(slope, fixed) for name, (slope, fixed) in lines.items()}
    steps = cheapest_by_volume(routes)

    def total(name: str, volume: float) -> float:
        return routes[name].fixed_usd + routes[name].per_request_usd * volume

    for volume in [*volumes, *(step.requests for step in steps), 1e12]:
        named = [step for step in steps if step.requests <= volume][-1].route
        cheapest = min(total(name, volume) for name in routes)
        assert total(named, volume) == pytest.approx(cheapest, rel=1e-9, abs=1e-9)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(usd, usd), min_size=1))
def test_each_step_comes_later_and_costs_less_a_request(
    lines: dict[str, tuple[float, float]],
) -> None:
    routes = {name: cost(slope, fixed) for name, (slope, fixed) in lines.items()}
    steps = cheapest_by_volume(routes)
    for before, after in pairwise(steps):
        assert after.requests > before.requests
        assert routes[after.route].per_request_usd < routes[before.route].per_request_usd
