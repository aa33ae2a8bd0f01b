"""Which sequences each step takes, at what learning rate, and how they are dealt out.

All of it follows from the recipe and the sequences' lengths, so every process and every resumed
run knows it without asking.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from hinlap.tuning.recipe import Recipe


def steps_of(count: int, recipe: Recipe) -> list[list[int]]:
    """Numbers of the sequences of each step: every epoch shuffles anew by seed; its last step may
    be small."""
    steps = []
    for epoch in range(recipe.epochs):
        order = list(range(count))
        random.Random(f"{recipe.seed}/{epoch}").shuffle(order)
        steps += [order[i : i + recipe.batch_size] for i in range(0, count, recipe.batch_size)]
    return steps


def steps_an_epoch(count: int, recipe: Recipe) -> int:
    return math.ceil(count / recipe.batch_size)


def warmup_steps(steps: int, recipe: Recipe) -> int:
    """As transformers rounds a ratio: upwards."""
    return recipe.warmup_steps or math.ceil(steps * recipe.warmup_ratio)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """At ``step`` (from 0) of ``steps``: up linearly over the warm-up, then by the schedule to 0.

    Peer: transformers' get_linear_schedule_with_warmup and get_cosine_schedule_with_warmup, whose
    first warm-up step has a rate of 0.
    """
    warmup = warmup_steps(steps, recipe)
    if step < warmup:
        return recipe.learning_rate * step / max(1, warmup)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1, steps - warmup)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    return recipe.learning_rate * max(0.0, 1 - done)


def dealt(lengths: Sequence[int], processes: int, most: int) -> list[list[list[int]]]:
    """A step's sequences (by place in ``lengths``) as forwards of each process.

    Longest first to the process with the fewest tokens so far; then first fit into forwards of at
    most ``most`` tokens (one longer than that goes alone). Every process gets equally many
    forwards: empty lists fill up.

    >>> dealt([5, 3, 3], 2, 6)
    [[[0]], [[1, 2]]]
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = loads.index(min(loads))
        shares[least].append(place)
        loads[least] += lengths[place]
    forwards = [_packed(share, lengths, most) for share in shares]
    equal = max(map(len, forwards))
    return [each + [[] for _ in range(equal - len(each))] for each in forwards]


def _packed(places: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    forwards: list[list[int]] = []
    room: list[int] = []
    for place in places:
        fits = next((i for i, left in enumerate(room) if left >= lengths[place]), None)
        if fits is None:
            forwards.append([place])
            room.append(most - lengths[place])
        else:
            forwards[fits].append(place)
            room[fits] -= lengths[place]
    return forwards
