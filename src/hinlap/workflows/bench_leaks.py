"""Which items of a benchmark stand in a training set: what was seen in training is not measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hinlap.benchmarks.benchmark import Benchmark, Item
from hinlap.core.counting import counted
from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Progress
from hinlap.data.overlap import LETTERS, WORDS, Overlap, OverlapIndex
from hinlap.data.row_texts import row_texts
from hinlap.workflows.bench import BenchOptions, read_benchmark

_SHOWN_ITEMS = 50
_SHOWN_LETTERS = 160


@dataclass(frozen=True, slots=True)
class Leak:
    """A part of an item that a training row has. part: its name ("question" ...). line: of the
    row that has the most of it (its place, in a JSON list). rows: how many have it."""

    item: str
    part: str
    line: int
    rows: int
    overlap: Overlap


@dataclass(frozen=True)
class LeakReport:
    """benchmark, training: names. items: how many were looked for. unchecked: ids of items too
    short to tell. rows: of training data that were read. leaks: by item, in the items' order."""

    benchmark: str
    training: str
    items: int
    unchecked: Sequence[str]
    rows: int
    leaks: Sequence[Leak]

    @property
    def leaked(self) -> list[str]:
        """The ids of items of which a part stands in the training set, each once."""
        return list(dict.fromkeys(leak.item for leak in self.leaks))

    def lines(self) -> Iterator[str]:
        """For people: counts, then item by item."""
        checked = self.items - len(self.unchecked)
        share = f" ({len(self.leaked) / checked:.1%})" if checked else ""
        yield (
            f"{self.benchmark}: {len(self.leaked):,} of {counted(checked, 'item')}{share} stand in "
            f"{self.training} ({counted(self.rows, 'row')})"
        )
        yield f"  runs of {WORDS} words ({LETTERS} letters of Thai and its kin), or near copies"
        if self.unchecked:
            yield f"  {counted(len(self.unchecked), 'item')} too short to tell"
        for leak in self.leaks[:_SHOWN_ITEMS]:
            near = leak.overlap.similarity
            how = "" if near is None else f", near copy ({near:.0%})"
            more = f" and {counted(leak.rows - 1, 'more row')}" if leak.rows > 1 else ""
            yield f"  item {leak.item}, {leak.part}: line {leak.line}{more}{how}"
            shared = leak.overlap.shared
            cut = "…" if len(shared) > _SHOWN_LETTERS else ""
            yield f"    {shared[:_SHOWN_LETTERS]}{cut}"
        if len(self.leaks) > _SHOWN_ITEMS:
            yield f"  … and {counted(len(self.leaks) - _SHOWN_ITEMS, 'more part')} of items"


def leaked_items(
    benchmark: Benchmark, options: BenchOptions, training: Path, progress: Progress
) -> LeakReport:
    """The items of which a part shares a run of 13 words with one text of a training row, or is a
    near copy of one (`data/overlap.py`).

    An item's parts are those it names (question, context ...), else its texts with what stands
    before them. Parts under 6 words are not looked for; an item of nothing else is not checked.
    Raises UserError for a running text, InputError for a training file that is empty or cannot be
    read, and as `read_benchmark`.
    """
    if benchmark.running:
        raise UserError(
            f"{benchmark.name} is one running text: there are no items to look for",
            where="--check-leaks",
        )
    _, _, items = read_benchmark(benchmark, options, progress)
    # many items may share a part, as questions do their passage: each text is looked for once
    texts = list(dict.fromkeys(text for item in items for _, text in parts_of(item)))
    index = OverlapIndex(texts)
    found: dict[int, _Found] = {}
    rows = 0
    for line, row in row_texts(training, progress):
        rows += 1
        here: dict[int, Overlap] = {}
        for text in row:
            for overlap in index.overlaps(text):
                here[overlap.known] = _stronger(here.get(overlap.known), overlap)
        for place, overlap in here.items():
            known = found.setdefault(place, _Found(line, 0, overlap))
            known.rows += 1
            if _stronger(known.overlap, overlap) is not known.overlap:
                known.line, known.overlap = line, overlap
    if not rows:
        raise InputError("there are no rows", where=str(training), hint="one row a line")
    by_text = {texts[place]: each for place, each in found.items()}
    short = {texts[place] for place in index.unchecked}
    return LeakReport(
        benchmark.name,
        str(training),
        len(items),
        [item.id for item in items if all(text in short for _, text in parts_of(item))],
        rows,
        [
            Leak(item.id, part, by_text[text].line, by_text[text].rows, by_text[text].overlap)
            for item in items
            for part, text in parts_of(item)
            if text in by_text
        ],
    )


@dataclass
class _Found:
    line: int
    rows: int
    overlap: Overlap


def parts_of(item: Item) -> list[tuple[str, str]]:
    """(name, text) of what an item consists of."""
    if item.parts:
        return list(item.parts.items())
    asked = [("question", item.question)] if item.question else []
    texts = [(f"{n} {t.label}".strip(), f"{t.question}{t.text}") for n, t in enumerate(item.texts)]
    return asked + texts


def _stronger(one: Overlap | None, other: Overlap) -> Overlap:
    """The nearer, then the longer of two; the first of equals."""
    if one is None:
        return other

    def weight(overlap: Overlap) -> tuple[float, int]:
        return (overlap.similarity or 0.0, overlap.length)

    return other if weight(other) > weight(one) else one
