"""Choosing the solved examples that stand before an item, and making them fit."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from hinlap.app.app import App, prompt_with_examples
from hinlap.app.declaration import StepSpec
from hinlap.core.counting import counted
from hinlap.core.errors import AppError
from hinlap.core.examples import Example
from hinlap.core.messages import Prompt
from hinlap.core.progress import Progress
from hinlap.data.leaks import refuse_leaks, refuse_test_sets
from hinlap.metrics.segmentation import has_thai, words

Select = Literal["fixed", "random", "similar"]
Solved = dict[str, str]


def shots_prompt(
    name: str,
    app: App,
    *,
    k: int,
    select: Select,
    seed: int,
    window: Callable[[], int],
    count_tokens: Callable[[Prompt], int],
    progress: Progress,
) -> Callable[[StepSpec, Mapping[str, str]], Prompt]:
    """A maker of prompts with ``k`` solved train examples before the item.

    select: the first k, k drawn by seed (the same for all items), or the k most similar to the
    item by BM25 over the inputs, the most similar last.
    window: the model's window in tokens (0: not known). Examples that do not fit are dropped, the
    least similar (or last) first, with one message a step; none is ever cut.
    Raises AppError when the train file has too few solved examples, LeakError when it holds a
    test item.
    """
    refuse_leaks(app.train, app.test)
    refuse_test_sets(app)
    told: set[str] = set()

    pools: dict[str, tuple[list[Solved], Callable[[str], list[int]]]] = {}

    def make(step: StepSpec, fields: Mapping[str, str]) -> Prompt:
        if step.name not in pools:
            solved, texts = _solved(app, step)
            if len(solved) < k:
                raise AppError(
                    f"the route {name!r} shows {counted(k, 'example')}, but the train file has "
                    f"only {len(solved)} with an output for the step {step.name!r}",
                    where=str(app.folder / (app.spec.examples.train or "app.yaml")),
                    hint="add examples, or lower k in app.yaml",
                )
            pools[step.name] = (solved, _chooser(texts, k, select, seed))
        solved, choose = pools[step.name]
        query = "\n".join(fields[i] for i in app.spec.inputs)
        shots = [solved[index] for index in choose(query)]
        prompt = prompt_with_examples(step, fields, shots)
        room = window()
        if room:
            room -= step.max_tokens
            # a token is at least one byte: count only what could be too long
            while shots and _bytes(prompt) > room and count_tokens(prompt) > room:
                shots = shots[1:] if select == "similar" else shots[:-1]
                prompt = prompt_with_examples(step, fields, shots)
                if step.name not in told:
                    told.add(step.name)
                    progress.say(
                        f"{name}: examples dropped before step {step.name!r} of at least one item: "
                        f"they do not fit the window of {window():,} tokens"
                    )
        return prompt

    return make


def _bytes(prompt: Prompt) -> int:
    """Upper bound of the tokens of byte-level tokenizers, with room for a chat template."""
    return 64 + sum(len(m.text.encode()) + 16 for m in prompt.messages)


def _solved(app: App, step: StepSpec) -> tuple[list[Solved], list[str]]:
    """Train rows with all that the step sees and gives, and their inputs as text for search."""
    needed = [s.name for s in app.spec.steps]
    needed = needed[: needed.index(step.name) + 1]
    rows: list[Example] = [e for e in app.train if all(name in e.wanted for name in needed)]
    solved = [{**e.inputs, **{n: e.wanted[n] for n in needed}} for e in rows]
    return solved, ["\n".join(e.inputs[i] for i in app.spec.inputs) for e in rows]


def _chooser(texts: Sequence[str], k: int, select: Select, seed: int) -> Callable[[str], list[int]]:
    if select == "fixed":
        return lambda query: list(range(k))
    if select == "random":
        drawn = random.Random(seed).sample(range(len(texts)), k)
        return lambda query: drawn
    import bm25s

    index = bm25s.BM25()
    index.index([_terms(text) for text in texts], show_progress=False)

    def most_similar(query: str) -> list[int]:
        terms = _terms(query)
        if not terms:
            return list(range(k))
        scores = index.get_scores(terms)
        best = sorted(range(len(texts)), key=lambda i: (-float(scores[i]), i))[:k]
        return best[::-1]

    return most_similar


def _terms(text: str) -> list[str]:
    if has_thai(text):
        return words(text)
    return re.findall(r"\w+", text.casefold())
