"""Prices and the cap that no run crosses."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.core.errors import BudgetError
from hinlap.engines.budget import Budget, Prices


def test_a_request_costs_its_tokens_times_price() -> None:
    assert Prices(2.5, 10.0, 1.25).cost_usd(1_000_000, 100_000) == pytest.approx(3.5)


def test_cached_tokens_are_a_part_of_the_input() -> None:
    assert Prices(2.0, 0.0, 0.5).cost_usd(1_000_000, 0, 1_000_000) == pytest.approx(0.5)


def test_nothing_asked_costs_nothing() -> None:
    assert Prices(2.5, 10.0, 1.25).cost_usd(0, 0) == 0


def test_what_is_spent_counts_against_the_cap() -> None:
    budget = Budget(1.0)
    budget.reserve(0.6)
    budget.settle(0.6, 0.6)
    with pytest.raises(BudgetError, match="budget_usd"):
        budget.reserve(0.6)


def test_a_reservation_waits_for_requests_that_may_leave_room() -> None:
    budget = Budget(1.0)
    budget.reserve(0.6)
    waiting = threading.Thread(target=budget.reserve, args=(0.6,), daemon=True)
    waiting.start()
    budget.settle(0.6, 0.1)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_reservation_that_fits_in_no_case_does_not_wait() -> None:
    budget = Budget(1.0)
    budget.reserve(0.1)
    with pytest.raises(BudgetError):
        budget.reserve(1.5)


def test_a_reservation_is_not_yet_spent() -> None:
    budget = Budget(1.0)
    budget.reserve(0.6)
    assert budget.spent_usd == 0


def test_settling_frees_what_was_not_used() -> None:
    budget = Budget(1.0)
    budget.reserve(0.6)
    budget.settle(0.6, 0.1)
    budget.reserve(0.9)
    assert budget.spent_usd == pytest.approx(0.1)


def test_a_request_that_cost_nothing_frees_all() -> None:
    budget = Budget(1.0)
    budget.reserve(1.0)
    budget.settle(1.0, 0.0)
    budget.reserve(1.0)


def test_a_request_without_an_answer_counts_as_its_worst_case_and_apart() -> None:
    budget = Budget(1.0)
    for settle in (lambda: budget.settle(0.4, 0.1), lambda: budget.settle_unanswered(0.4)):
        budget.reserve(0.4)
        settle()
    assert budget.spent_usd == pytest.approx(0.5)
    assert budget.unanswered == (1, 0.4)
    with pytest.raises(BudgetError):
        budget.reserve(0.6)


def test_the_cap_itself_may_be_spent() -> None:
    budget = Budget(0.3)
    for _ in range(3):
        budget.reserve(0.1)
        budget.settle(0.1, 0.1)
    assert budget.spent_usd == pytest.approx(0.3)


def test_a_cap_of_zero_lets_free_requests_through_only() -> None:
    budget = Budget(0.0)
    budget.reserve(0.0)
    with pytest.raises(BudgetError):
        budget.reserve(1e-6)


def test_a_refused_reservation_reserves_nothing() -> None:
    budget = Budget(1.0)
    with pytest.raises(BudgetError):
        budget.reserve(1.5)
    budget.reserve(1.0)


def test_many_threads_together_stay_under_the_cap() -> None:
    budget = Budget(1.0)
    start = threading.Barrier(8)

    def spend() -> None:
        start.wait()
        for _ in range(100):
            try:
                budget.reserve(0.009)
            except BudgetError:
                return
            budget.settle(0.009, 0.008)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.98 < budget.spent_usd <= 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30), st.floats(0, 3))
def test_spending_no_more_than_reserved_never_crosses_the_cap(
    requests: list[tuple[float, float]], cap: float
) -> None:
    budget = Budget(cap)
    for worst, share in requests:
        try:
            budget.reserve(worst)
        except BudgetError:
            continue
        budget.settle(worst, worst * share)
    assert budget.spent_usd <= cap + 1e-9
