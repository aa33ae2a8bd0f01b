"""Which sequences a step takes, at what rate, and how they are dealt out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.tuning.recipe import Recipe
from hinlap.tuning.steps import dealt, learning_rate, steps_of


def recipe(**fields: Any) -> Recipe:
    return Recipe(name="x", **fields)


def test_every_sequence_is_seen_once_an_epoch_in_another_order() -> None:
    steps = steps_of(10, recipe(epochs=2, batch_size=4))
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([i for step in part for i in step] for part in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        ("linear", {"warmup_steps": 3}),
        ("cosine", {"warmup_ratio": 0.25}),
        ("cosine", {}),
        ("constant", {"warmup_steps": 2}),
    ],
)
def test_the_rate_is_that_of_transformers(schedule: str, fields: dict[str, Any]) -> None:
    import torch
    from transformers import get_scheduler

    from hinlap.tuning.steps import warmup_steps

    made = recipe(schedule=schedule, learning_rate=0.5, **fields)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    peer = get_scheduler(name, optimizer, warmup_steps(10, made), 10)
    for step in range(10):
        assert learning_rate(step, 10, made) == pytest.approx(peer.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        peer.step()


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 4), st.integers(1, 100)
)
def test_dealing_loses_nothing(lengths: list[int], processes: int, most: int) -> None:
    forwards = dealt(lengths, processes, most)
    assert len(forwards) == processes
    assert len({len(each) for each in forwards}) == 1
    places = [place for each in forwards for one in each for place in one]
    assert sorted(places) == list(range(len(lengths)))
    for each in forwards:
        for one in each:
            assert len(one) <= 1 or sum(lengths[place] for place in one) <= most


def test_processes_get_about_equally_many_tokens() -> None:
    shares = dealt([9, 8, 7, 6, 5, 5], 2, 100)
    assert [sum([9, 8, 7, 6, 5, 5][i] for one in each for i in one) for each in shares] == [20, 20]
