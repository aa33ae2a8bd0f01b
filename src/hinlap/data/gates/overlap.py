"""Test items that stand in a training set: the question itself, nearly, or a passage of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hinlap.core.counting import counted
from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report
from hinlap.data.gates.shingling import Shingler, likely_pairs
from hinlap.data.near_duplicates import is_unspaced, normalised
from hinlap.data.overlap import NEAR_COPY, OverlapIndex, same_words

KINDS = {
    "question": Kind("a test question, word for word", removes=True),
    "near_question": Kind("nearly a test question", removes=True),
    "passage": Kind("13 words in a row that a test item has, too", removes=True),
}
_LEAST_WORDS = 4
_LEAST_LETTERS = 15
_LONGEST_QUESTION = 150


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A text of a test item. test_set: its file's or benchmark's name. asks: it is what is asked,
    not a passage or an answer."""

    test_set: str
    item: str
    text: str
    asks: bool


def overlap(rows: Sequence[Row], tests: Sequence[HeldOut]) -> GateReport:
    """Rows in which a test item's text stands; the first kind that fits each.

    question:      instruction, input, or both together are a test question of 4 words or more,
                   case and punctuation aside.
    near_question: the same, with a Jaccard similarity of 3-word shingles of 0.7 or more and the
                   same words (`same_words`). Not of `OverlapIndex`'s 5 words: of those a question
                   of 8 words has 4, and one word added in its middle leaves none to find it by.
    passage:       a run (`OverlapIndex`) of a row and any text of a test item.
    """
    texts = list({(test.test_set, test.text): test for test in reversed(tests)}.values())[::-1]
    found = {**_passages(rows, texts), **_near(rows, texts), **_same(rows, texts)}
    per_set = Counter(texts[at].test_set for _, at in found.values())
    items = Counter(name for name, _ in {(test.test_set, test.item) for test in tests})
    notes = [
        f"{name}, {counted(number, 'item')}: in {counted(per_set[name], 'row')}"
        for name, number in sorted(items.items())
    ] or ["no test set was given: --against FILE, an app's folder, or a folder of benchmarks"]
    figures = []
    if per_set:
        figures.append(Bars("rows by test set", tuple(per_set), tuple(per_set.values())))
    return report(
        "overlap",
        "Overlap with tests",
        len(rows),
        [
            Found(
                row,
                kind,
                f"{texts[at].test_set}, item {texts[at].item}: “{_short(texts[at].text)}”",
            )
            for row, (kind, at) in found.items()
        ],
        KINDS,
        figures,
        notes,
        looked=bool(tests),
    )


Hits = dict[int, tuple[str, int]]
"""By row: the kind, and the index of a test's text."""


def _same(rows: Sequence[Row], tests: Sequence[HeldOut]) -> Hits:
    known: dict[str, int] = {}
    for at, test in enumerate(tests):
        if test.asks:
            plain = normalised(test.text)
            if _long_enough(plain):
                known.setdefault(plain, at)
    found: Hits = {}
    if known:
        for index, row in enumerate(rows):
            for text in _asked(row):
                same = known.get(normalised(text))
                if same is not None:
                    found[index] = ("question", same)
                    break
    return found


def _near(rows: Sequence[Row], tests: Sequence[HeldOut]) -> Hits:
    questions = [
        at
        for at, test in enumerate(tests)
        if test.asks and len(test.text.split()) <= _LONGEST_QUESTION and _long_enough(test.text)
    ]
    if not questions or not rows:
        return {}
    owners: list[int] = []
    texts = [tests[at].text for at in questions]
    for index, row in enumerate(rows):
        for text in _asked(row):
            if len(text.split()) <= 2 * _LONGEST_QUESTION:
                owners.append(index)
                texts.append(text)
    sets = Shingler(3, 12).sets(texts)
    found: Hits = {}
    for i, j in likely_pairs(sets, NEAR_COPY, between=len(questions)).tolist():
        row = owners[j - len(questions)]
        if row not in found and sets.jaccard(i, j) >= NEAR_COPY and same_words(texts[i], texts[j]):
            found[row] = ("near_question", questions[i])
    return found


def _passages(rows: Sequence[Row], tests: Sequence[HeldOut]) -> Hits:
    index = OverlapIndex((test.text for test in tests), short=False)
    found: Hits = {}
    for number, row in enumerate(rows):
        runs = index.runs(row.content())
        if runs:
            found[number] = ("passage", runs[0].known)
    return found


def _asked(row: Row) -> Iterator[str]:
    yield row.instruction
    if row.input:
        yield row.input
        yield row.asked()


def _long_enough(text: str) -> bool:
    return len(text) >= _LEAST_LETTERS and (is_unspaced(text) or len(text.split()) >= _LEAST_WORDS)


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 100 else plain[:99] + "…"
