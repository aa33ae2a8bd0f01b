"""Which of some known texts stand, in whole or in part, inside another text.

A text overlaps a known one when they share a run of 13 words, after Brown et al. (2020), "Language
Models are Few-Shot Learners", appendix C; a known text of 6 to 12 words when it stands there whole.
It is a near copy when their `shingles` have a Jaccard similarity of 0.7 or more. Scripts without
spaces are compared by letters: 31 stand for 13 words and 14 for 6, as 12 for 5 in `shingles`.
Case, punctuation and spacing are left aside (`normalised`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hinlap.data.near_duplicates import is_unspaced, normalised, shingles

WORDS, FEWEST_WORDS = 13, 6
LETTERS, FEWEST_LETTERS = 31, 14
NEAR_COPY = 0.7


@dataclass(frozen=True, slots=True)
class Overlap:
    """name: of the known text. shared: the longest run that both have, normalised. length: its
    words (letters where the script has no spaces). similarity: in [0, 1], where it is a near copy.
    """

    name: str
    shared: str
    length: int
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    """How texts are cut: runs are found by anchors of ``anchor`` units at every ``step``-th place,
    so that no run of ``step + anchor - 1`` is missed. That is at most ``fewest``, and at most the
    shortest run that a near copy must share: two shingles side by side."""

    run: int
    fewest: int
    anchor: int
    step: int
    joint: str


_BY_WORDS = _Unit(WORDS, FEWEST_WORDS, 4, 3, " ")
_BY_LETTERS = _Unit(LETTERS, FEWEST_LETTERS, 8, 6, "")


class OverlapIndex:
    """Known texts by name, small enough for memory; texts to be looked through may be any number.

    unchecked: names of texts too short to tell (under 6 words).
    A name may be given to several texts.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self.unchecked: list[str] = []
        self._known: list[tuple[str, Sequence[str], frozenset[str]]] = []
        # by anchor: (place among the known, where in it)
        self._anchors: dict[_Unit, dict[tuple[str, ...], list[tuple[int, int]]]] = {
            _BY_WORDS: defaultdict(list),
            _BY_LETTERS: defaultdict(list),
        }
        for name, text in texts:
            plain = normalised(text)
            unit = _BY_LETTERS if is_unspaced(plain) else _BY_WORDS
            units = _cut(plain, unit)
            if len(units) < unit.fewest:
                self.unchecked.append(name)
                continue
            place = len(self._known)
            self._known.append((name, units, shingles(text)))
            for at in range(len(units) - unit.anchor + 1):
                self._anchors[unit][tuple(units[at : at + unit.anchor])].append((place, at))

    def overlaps(self, text: str) -> list[Overlap]:
        """The known texts that overlap ``text`` or are near copies, by name, each once."""
        plain = normalised(text)
        found: dict[str, Overlap] = {}
        members: frozenset[str] | None = None
        for unit, anchors in self._anchors.items():
            if not anchors:
                continue
            units = _cut(plain, unit)
            longest: dict[int, tuple[int, int]] = {}
            for at in range(0, len(units) - unit.anchor + 1, unit.step):
                for place, there in anchors.get(tuple(units[at : at + unit.anchor]), ()):
                    begin, end = _stretched(units, at, self._known[place][1], there, unit.anchor)
                    if end - begin > longest.get(place, (0, 0))[0]:
                        longest[place] = (end - begin, begin)
            for place, (length, begin) in longest.items():
                name, known, shingled = self._known[place]
                if members is None:
                    members = shingles(text)
                similarity = _jaccard(members, shingled)
                near = similarity if similarity >= NEAR_COPY else None
                if length < min(unit.run, len(known)) and near is None:
                    continue
                shared = unit.joint.join(units[begin : begin + length])
                before = found.get(name)
                if before is None or length > before.length:
                    found[name] = Overlap(name, shared, length, near)
        return [found[name] for name in sorted(found)]


def _cut(plain: str, unit: _Unit) -> Sequence[str]:
    return plain.split() if unit is _BY_WORDS else plain.replace(" ", "")


def _stretched(
    a: Sequence[str], at: int, b: Sequence[str], there: int, length: int
) -> tuple[int, int]:
    """Begin and end in ``a`` of the longest run that holds the anchor in both."""
    before = 0
    while before < min(at, there) and a[at - before - 1] == b[there - before - 1]:
        before += 1
    most = min(len(a) - at, len(b) - there)
    while length < most and a[at + length] == b[there + length]:
        length += 1
    return at - before, at + length


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    if min(len(a), len(b)) < NEAR_COPY * max(len(a), len(b)):
        return 0.0  # too different in size to come near
    common = len(a & b)
    return common / (len(a) + len(b) - common)
