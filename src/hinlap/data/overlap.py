"""Which of some known texts stand, in whole or in part, inside another text.

A text overlaps a known one when they share a run of 13 words, after Brown et al. (2020), "Language
Models are Few-Shot Learners", appendix C; a known text of 6 to 12 words when it stands there whole.
It is a near copy when their `shingles` have a Jaccard similarity of 0.7 or more and they differ by
few words and no number (`same_words`). Scripts without spaces are compared by letters: 40 stand for
13 words and 18 for 6; 31 letters are often no more than the name of a Thai ministry.
Case, punctuation and spacing are left aside (`normalised`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hinlap.data.near_duplicates import is_unspaced, jaccard, normalised, shingles

WORDS, FEWEST_WORDS = 13, 6
LETTERS, FEWEST_LETTERS = 40, 18
NEAR_COPY = 0.7
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """known: the place of the known text. shared: a run that both have, normalised, as far as it
    goes. length: its words (letters where the script has no spaces). similarity: in [0, 1], where
    it is a near copy."""

    known: int
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


@dataclass(frozen=True, slots=True)
class _Known:
    """enough: the shortest run that is an overlap."""

    text: str
    units: Sequence[str]
    enough: int


class OverlapIndex:
    """Known texts, small enough for memory; texts to be looked through may be any number.

    short:     whether a text under 13 words is looked for, too.
    unchecked: places of the texts that are too short to be looked for.
    """

    def __init__(self, texts: Iterable[str], *, short: bool = True) -> None:
        self.unchecked: list[int] = []
        self._known: dict[int, _Known] = {}
        self._shingles: dict[int, frozenset[str]] = {}  # of those that were asked for
        # by anchor: (place among the known, where in it)
        self._anchors: dict[_Unit, dict[Sequence[str], list[tuple[int, int]]]] = {
            _BY_WORDS: defaultdict(list),
            _BY_LETTERS: defaultdict(list),
        }
        for place, text in enumerate(texts):
            plain = normalised(text)
            unit = _BY_LETTERS if is_unspaced(plain) else _BY_WORDS
            units = _cut(plain, unit)
            if len(units) < (unit.fewest if short else unit.run):
                self.unchecked.append(place)
                continue
            self._known[place] = _Known(text, units, min(unit.run, len(units)))
            for at in range(len(units) - unit.anchor + 1):
                self._anchors[unit][units[at : at + unit.anchor]].append((place, at))

    def overlaps(self, text: str) -> list[Overlap]:
        """The known texts that overlap ``text`` or are near copies of it, each once, in order."""
        members: frozenset[str] | None = None
        found = []
        for shared in self._shared(text):
            known = self._known[shared.known]
            if members is None:
                members = shingles(text)
            others = self._shingles.get(shared.known)
            if others is None:
                others = self._shingles[shared.known] = shingles(known.text)
            similarity = None
            if min(len(members), len(others)) >= NEAR_COPY * max(len(members), len(others)):
                similarity = jaccard(members, others)
                if similarity < NEAR_COPY or not same_words(known.text, text):
                    similarity = None
            if shared.length >= known.enough or similarity is not None:
                found.append(Overlap(shared.known, shared.shared, shared.length, similarity))
        return sorted(found, key=lambda overlap: overlap.known)

    def runs(self, text: str) -> list[Overlap]:
        """As ``overlaps``, near copies aside."""
        found = [
            each for each in self._shared(text) if each.length >= self._known[each.known].enough
        ]
        return sorted(found, key=lambda overlap: overlap.known)

    def _shared(self, text: str) -> Iterator[Overlap]:
        """A run with each known text that shares one of ``step + anchor - 1``: the first that is
        enough for an overlap, else the longest."""
        plain = normalised(text)
        for unit, anchors in self._anchors.items():
            if not anchors:
                continue
            units = _cut(plain, unit)
            longest: dict[int, tuple[int, int]] = {}
            for at in range(0, len(units) - unit.anchor + 1, unit.step):
                for place, there in anchors.get(units[at : at + unit.anchor], ()):
                    known = self._known[place]
                    best = longest.get(place, (0, 0))[0]
                    if best >= known.enough:
                        continue  # a text that says one thing over and over would take for ever
                    begin, end = _stretched(units, at, known.units, there, unit.anchor)
                    if end - begin > best:
                        longest[place] = (end - begin, begin)
            for place, (length, begin) in longest.items():
                yield Overlap(place, unit.joint.join(units[begin : begin + length]), length)


def same_words(a: str, b: str) -> bool:
    """Whether two texts that look alike ask the same: all numbers are equal, no more than one word
    in five is added or left out, and one in twelve replaced. The most popular sport in Japan is
    not that in Canada. Of scripts without spaces only the numbers are compared."""
    if sorted(_NUMBER.findall(a)) != sorted(_NUMBER.findall(b)):
        return False
    one, other = normalised(a), normalised(b)
    if is_unspaced(one):
        return True
    mine, others = set(one.split()), set(other.split())
    lost, new, least = len(mine - others), len(others - mine), min(len(mine), len(others))
    return 5 * max(lost, new) <= least and 12 * min(lost, new) <= least


def _cut(plain: str, unit: _Unit) -> Sequence[str]:
    return tuple(plain.split()) if unit is _BY_WORDS else plain.replace(" ", "")


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
