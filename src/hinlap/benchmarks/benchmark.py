"""What a benchmark is: items to be weighed, and how their log-likelihoods become figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.messages import Continuation
from hinlap.metrics.scores import Scores


@dataclass(frozen=True, slots=True)
class About:
    """Where a benchmark comes from; ``peer`` gives the numbers that ours are equal to."""

    paper: str
    address: str
    licence: str
    peer: str


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    group:  what figures are broken down by (a category, a kind of bias).
    asked:  the texts to be weighed and what stands before them.
    labels: one a text: what it is ("true", "false", "stereotype" ...).
    """

    id: str
    group: str
    asked: tuple[Continuation, ...]
    labels: tuple[str, ...]


Measure = Callable[[Sequence[Item], Sequence[Sequence[float]]], list[Scores]]
"""From items and the log-likelihood (nats) of each of their texts to scores, in items' order.
Scores that are of some of the items only carry None for the others."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """file: where the original data stands below a data folder. groups: what ``Item.group`` is."""

    name: str
    title: str
    about: About
    file: str
    groups: str
    read: Callable[[Path], list[Item]]
    measure: Measure
