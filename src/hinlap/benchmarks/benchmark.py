"""What a benchmark is: items to be asked, and how what a model gives becomes figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hinlap.core.messages import Sampling
from hinlap.data.sources.pinned import Pinned
from hinlap.metrics.scores import Scores


@dataclass(frozen=True, slots=True)
class About:
    """Where a benchmark comes from; ``peer`` gives the numbers that ours are equal to."""

    paper: str
    address: str
    licence: str
    peer: str


@dataclass(frozen=True, slots=True)
class Shot:
    """A solved item. In plain text question and answer stand side by side, so the answer brings
    its leading space; a chat has them as two turns."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text to be weighed after ``question``; label: what it is ("true", "stereotype" ...)."""

    question: str
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    group:    what figures are broken down by (a category, a kind of bias).
    texts:    what is to be weighed.
    question: what is to be answered or continued; "" where nothing is.
    parts:    the question's parts by name, for the inputs of an app.
    facts:    what the measure and a reader need besides (right answers ...), fit for JSON.
    """

    id: str
    group: str = ""
    texts: tuple[Text, ...] = ()
    question: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """What a model gave for one item.

    nats:    log-likelihood of each of its texts. tokens: how many each has.
    answers: one a draw; None where the model failed (a prompt over its window, say).
    ratings: of each answer by the classifier, in [0, 1]; None where it failed or has no answer.
    """

    nats: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    answers: tuple[str | None, ...] = ()
    ratings: tuple[float | None, ...] = ()


Measure = Callable[[Sequence[Item], Sequence[Given]], list[Scores]]
"""From items and what was given for each to scores, in the items' order. Scores that are of some
of the items only carry None for the others, with statistics of 0. Each metric's name is its own
(``truthfulqa_mc1``): files of several benchmarks stand side by side."""


Explain = Callable[[Item, Given, Mapping[str, float | None]], str]
"""Why an item scored so, in one plain sentence: from the item, what was given for it, and its own
value of each metric by name."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """files:    the original data, as laid out below a data folder: ``read`` is given the first,
                 and finds the others beside it.
    groups:      what ``Item.group`` is; "" where there are none.
    sampling:    how answers are drawn; None where nothing is answered. draws: answers an item.
    instruction: stands before everything, in a chat as the system's message.
    preamble:    published solved examples; they stand before each question by default.
    solved:      an item as a shot; None where items cannot be.
    as_it_stands: texts are continued as they stand: no chat template, no shots.
    rated:       answers are rated by a classifier. rated_facts: of which facts a text and the data
                 set's own rating of it are, so that the classifier's agreement can be told.
    running:     the file is one running text, made of the file's by this; measured by windows.
    neutral:     metrics that are best at a value in between, and that value: how far a share is
                 from it is tested.
    own:         the data that it brings itself, with Hinlap or beside the user's declaration; a
                 file named by ``--data`` takes its place, a folder does not.
    explain:     why an item scored so, for the page.
    """

    name: str
    title: str
    about: About
    files: tuple[Pinned, ...]
    groups: str
    read: Callable[[Path], list[Item]]
    measure: Measure
    sampling: Sampling | None = None
    draws: int = 1
    instruction: str = ""
    preamble: tuple[Shot, ...] = ()
    solved: Callable[[Item], Shot] | None = None
    as_it_stands: bool = False
    rated: bool = False
    rated_facts: tuple[str, str] | None = None
    running: Callable[[str], str] | None = None
    neutral: Mapping[str, float] = field(default_factory=dict)
    own: Path | None = None
    explain: Explain | None = None
