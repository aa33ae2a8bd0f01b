"""Exactly what a model is given for one item of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from hinlap.benchmarks.benchmark import Benchmark
from hinlap.core.errors import UserError
from hinlap.core.messages import Prompt
from hinlap.core.progress import Progress
from hinlap.engines.pool import open_local
from hinlap.engines.rendering import render_plain
from hinlap.workflows.bench import BenchOptions, read_benchmark


@dataclass(frozen=True)
class ShownItem:
    """parts: (what it is, all that stands before, the text that is weighed or "")."""

    title: str
    parts: tuple[tuple[str, str, str], ...]


def shown_item(
    benchmark: Benchmark, number: int, model: str | None, options: BenchOptions, progress: Progress
) -> ShownItem:
    """Item ``number``, from 0, of those that are measured. A chat is shown by the template of
    ``model``. Raises UserError for a number or a chat without model, and as `read_benchmark`."""
    if benchmark.running:
        raise UserError(f"{benchmark.name} is one running text: there are no items to show")
    _, how, items = read_benchmark(benchmark, options, progress)
    if not 0 <= number < len(items):
        raise UserError(f"there is no item {number}", where="--item", hint=f"0 to {len(items) - 1}")
    if how.chat and model is None:
        raise UserError("whose chat template?", where="--model", hint="name the model")
    engine = open_local(model, progress, prompt_format=options.prompt_format) if model else None

    def rendered(prompt: Prompt) -> str:
        return engine.render(prompt) if engine else render_plain(prompt)

    item = items[number]
    parts = []
    if item.question:
        parts.append(("to be answered", f"{rendered(how.prompt(item.question))}\n", ""))
    for text in item.texts:
        pair = how.weighing(text.question, text.text)
        parts.append((text.label, rendered(pair.context), pair.text))
    title = f"item {item.id}{f' · {item.group}' if item.group else ''}"
    if how.chat and engine is not None and engine.prompt_format:
        title += f" · prompt format {engine.prompt_format}"
    return ShownItem(title, tuple(parts))
