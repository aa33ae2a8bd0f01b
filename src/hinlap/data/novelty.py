"""Is an instruction new? Its ROUGE-L with every instruction of a pool, exactly, and fast.

Alpaca and Self-Instruct keep an instruction when its ROUGE-L F with none of the pool is above 0.7,
and compute the whole table of the longest common subsequence for each of the pool. Here an inverted
index counts the words that two instructions share, which bounds their subsequence from above; only
entries whose bound reaches the best value found so far are computed, the most promising first.
Nothing is estimated: what is left out could not have been the maximum.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hinlap.core.errors import InputError
from hinlap.metrics.segmentation import Choice, words

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

THRESHOLD = 0.7
"""Of Alpaca and Self-Instruct: an instruction above it is no news."""
_FIRST = 128
_MOST_WORDS = 0x110000
"""A pool's words are spelled as single characters, which rapidfuzz compares fastest."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """similarity: the greatest ROUGE-L F in [0, 1] with the pool. index: the first entry that has
    it; None where nothing shares a word, so that nothing was compared."""

    similarity: float
    index: int | None


class NoveltyPool:
    """Instructions that a new one is held against; grows one by one.

    threshold: an instruction is new when its similarity is not above.
    choice:    what a word is (`hinlap.metrics.segmentation`). "auto" reads Thai and other scripts;
               "rouge-score" is the peer's [a-z0-9]+ in every text. They agree on every text whose
               letters are Latin. Of other texts the peer sees only digits and Latin words, or
               nothing at all: it then takes every one for new.
    Peer:      `rouge_scorer._score_lcs` on each entry, as in Alpaca's generate_instruction.py: the
               same maxima to the last bit, the same decisions.

    >>> pool = NoveltyPool(["Name three animals that can fly."])
    >>> pool.nearest("Name three animals that can swim.")
    Nearest(similarity=0.8333333333333334, index=0)
    >>> pool.is_new("Name three animals that can swim."), pool.is_new("Sort these words.")
    (False, True)
    """

    def __init__(
        self,
        instructions: Iterable[str] = (),
        *,
        threshold: float = THRESHOLD,
        choice: Choice = "auto",
    ) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"a similarity threshold must be in (0, 1], not {threshold}")
        self.threshold = threshold
        self._choice: Choice = choice
        self._ids: dict[str, int] = {}
        # entries that hold a word (by its id) a first time, a second time ...
        self._holders: dict[tuple[int, int], array[int]] = {}
        self._lengths = array("q")
        self._spelled: list[str] = []
        for instruction in instructions:
            self.add(instruction)

    def __len__(self) -> int:
        return len(self._spelled)

    def add(self, instruction: str) -> None:
        """Raises InputError when the pool would hold over 1,114,112 different words."""
        found = words(instruction, self._choice)
        ids = [self._ids.setdefault(word, len(self._ids)) for word in found]
        if len(self._ids) > _MOST_WORDS:
            raise InputError(
                f"the pool holds more than {_MOST_WORDS:,} different words",
                hint="compare with a part of it",
            )
        place = len(self._spelled)
        for key in _numbered(ids):
            self._holders.setdefault(key, array("q")).append(place)
        self._lengths.append(len(ids))
        self._spelled.append("".join(map(chr, ids)))

    def is_new(self, instruction: str) -> bool:
        """Whether nothing in the pool is nearer than the threshold. An instruction without any
        word is new by this alone: there is nothing to compare."""
        return self.nearest(instruction).similarity <= self.threshold

    def nearest(self, instruction: str) -> Nearest:
        found = words(instruction, self._choice)
        ids = [self._ids[word] for word in found if word in self._ids]  # others match nothing
        shared = np.zeros(len(self._spelled), dtype=np.int32)
        for key in _numbered(ids):
            holders = self._holders.get(key)
            if holders is not None:
                shared[np.frombuffer(holders, dtype=np.int64)] += 1
        places = np.flatnonzero(shared)
        if not len(places):
            return Nearest(0.0, None)
        lengths = np.frombuffer(self._lengths, dtype=np.int64)[places]
        bounds = _f_measures(shared[places], lengths, len(found))
        spelled = "".join(map(chr, ids))
        best, first = 0.0, -1
        for part in _most_promising(bounds):
            part = part[bounds[part] >= best]
            if not len(part):
                break
            lcs = self._subsequences(spelled, places[part])
            values = _f_measures(lcs, lengths[part], len(found))
            top = float(values.max())
            place = int(places[part[values == top]].min())
            if top > best or (top == best and place < first):
                best, first = top, place
        return Nearest(best, first)

    def _subsequences(self, spelled: str, places: Ints) -> Ints:
        """(places,) lengths of the longest common subsequences."""
        from rapidfuzz import process
        from rapidfuzz.distance import LCSseq

        entries = [self._spelled[place] for place in places.tolist()]
        found = process.cdist([spelled], entries, scorer=LCSseq.similarity, dtype=np.int64)
        return np.asarray(found[0], dtype=np.int64)


def _numbered(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Each id with how often it stood before: two lists share so many of these as they have words
    in common, repeated ones counted as often as in both."""
    if len(set(ids)) == len(ids):
        return [(i, 0) for i in ids]
    times: dict[int, int] = {}
    numbered = []
    for i in ids:
        times[i] = times.get(i, -1) + 1
        numbered.append((i, times[i]))
    return numbered


def _f_measures(common: npt.NDArray[np.integer], lengths: Ints, length: int) -> Floats:
    """(entries,) ROUGE-L F, in the order of operations of rouge-score: the same bits. ``common``
    is above 0."""
    precision = common / lengths
    recall = common / length
    return np.asarray(2 * precision * recall / (precision + recall))


def _most_promising(bounds: Floats) -> Iterator[Ints]:
    """All indices in two parts, those of the greatest bounds first."""
    if len(bounds) <= _FIRST:
        yield np.arange(len(bounds))
        return
    order = np.argpartition(-bounds, _FIRST)
    yield order[:_FIRST]
    yield order[_FIRST:]
