"""How even a set is: its labels, who wrote it, what its instructions ask for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from hinlap.core.counting import counted
from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report
from hinlap.data.near_duplicates import is_unspaced

KINDS = {
    "tiny_class": Kind("of a class with fewer than 5 rows", removes=False),
}
TINY = 5
_MOST_CLASSES = 50
_SHOWN = 15
_MOST_COMMON_FIRST = 15
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SMALL_WORDS = (
    "a an the this that these those my your our his her their its some any all each every me "
    "us you it them one two three four five six seven eight nine ten of for to in on at by "
    "from with about into and or following given below above short brief simple new good best "
    "top list different please more most very is are was were be do does did can could would "
    "should will has have had if there"
)
_NOT_NOUNS = frozenset(_SMALL_WORDS.split())


def balance(rows: Sequence[Row]) -> GateReport:
    """Classes are the values of any label with 2 to 50 of them, and the answers where they are as
    few. Entropy is in shares of the largest possible (1: all classes alike).

    Instructions are summed up by their first word and the first word after it that can be a noun:
    a rough count, for languages with spaces between words.
    """
    found = []
    figures = []
    notes = []
    for name, values in _classes(rows):
        sizes = Counter(value for value in values if value is not None)
        figures.append(_bars(f"rows by {name}", sizes.most_common()))
        notes.append(_described(name, sizes, len(rows)))
        tiny = {value for value, size in sizes.items() if size < TINY}
        found += [
            Found(index, "tiny_class", f"{name} {value!r}: {counted(sizes[value], 'row')}")
            for index, value in enumerate(values)
            if value in tiny and value is not None
        ]
    if rows:
        origins = Counter(row.origin.value for row in rows)
        if set(origins) != {"unknown"}:
            figures.append(_bars("rows by who wrote them", origins.most_common()))
        asked = Counter(filter(None, (_asks(row.instruction) for row in rows)))
        if 2 * asked.total() >= len(rows):
            figures.append(_bars("what is asked for most", asked.most_common(_MOST_COMMON_FIRST)))
            share = sum(n for _, n in asked.most_common(10)) / asked.total()
            notes.append(
                f"instructions begin in {counted(len(asked), 'way')} (first word and noun); "
                f"the ten commonest make {share:.0%}"
            )
        if len({row.instruction for row in rows}) == 1 and len(rows) > 1:
            notes.append("every row has the same instruction")
    return report("balance", "Balance", len(rows), found, KINDS, figures, notes)


def entropy(sizes: Iterable[int]) -> float | None:
    """Of classes of these sizes, as a share of the largest possible: 0 … 1.

    Undefined: fewer than two classes.

    >>> entropy([10, 10]), entropy([5])
    (1.0, None)
    """
    counts = [size for size in sizes if size]
    if len(counts) < 2:
        return None
    total = sum(counts)
    bits = -sum(size / total * math.log2(size / total) for size in counts)
    return bits / math.log2(len(counts))


def _classes(rows: Sequence[Row]) -> list[tuple[str, list[str | None]]]:
    """Label names, and each row's value; what has as many values as rows is no class."""
    names = dict.fromkeys(name for row in rows for name in row.labels)
    found: list[tuple[str, list[str | None]]] = []
    for name in names:
        values = [_value(row.labels.get(name)) for row in rows]
        if _few({value for value in values if value is not None}, len(rows)):
            found.append((name, values))
    answers: list[str | None] = [row.output.strip() for row in rows]
    if _few(set(answers), len(rows)) and all(len(text or "") < 60 for text in answers):
        found.append(("answer", answers))
    return found


def _few(values: set[str | None] | set[str], n: int) -> bool:
    return 2 <= len(values) <= _MOST_CLASSES and 2 * len(values) <= n


def _value(label: object) -> str | None:
    if isinstance(label, bool | int | str) and len(str(label)) < 60:
        return str(label)
    return None


def _described(name: str, sizes: Counter[str], n: int) -> str:
    even = entropy(sizes.values())
    (most, largest), (least, smallest) = sizes.most_common()[0], sizes.most_common()[-1]
    without = n - sizes.total()
    missing = f"; {counted(without, 'row')} without" if without else ""
    return (
        f"{name}: {counted(len(sizes), 'class', 'classes')}, entropy {even:.2f} of 1; largest "
        f"{most!r} {largest / n:.0%}, smallest {least!r} {smallest / n:.1%}{missing}"
    )


def _asks(instruction: str) -> str | None:
    """First word and first possible noun, lower case; None where words have no spaces."""
    opening = instruction[:200]
    if is_unspaced(opening):
        return None
    words = [word.lower() for word in _WORD.findall(opening)[:12]]
    if not words:
        return None
    nouns = (word for word in words[1:] if word not in _NOT_NOUNS)
    return " ".join([words[0], next(nouns, "")]).strip()


def _bars(title: str, sizes: Sequence[tuple[str, int]]) -> Bars:
    shown = list(sizes[:_SHOWN])
    rest = sum(size for _, size in sizes[_SHOWN:])
    shown += [("others", rest)] if rest else []
    return Bars(title, tuple(name or "(empty)" for name, _ in shown), tuple(n for _, n in shown))
