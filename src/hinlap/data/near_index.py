"""Rows near a text that is just being written, from an index that changes with the rows."""

from __future__ import annotations

import math
from collections import defaultdict

from hinlap.data.near_duplicates import jaccard, shingles

THRESHOLD = 0.7


class NearIndex:
    """Texts by key, asked for those whose Jaccard similarity of `shingles` is 0.7 or more.

    As `near_duplicates` it leaves none out: of two sets that overlap so much, the first few by
    any one order of all shingles must already meet. Ordered by hash, so that a new text does not
    move the others.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._index: dict[int, set[str]] = defaultdict(set)

    def put(self, key: str, text: str) -> None:
        """Adds a text, or takes the place of the one before."""
        self.remove(key)
        self._texts[key] = text
        for item in _prefix(_hashed(text)):
            self._index[item].add(key)

    def remove(self, key: str) -> None:
        text = self._texts.pop(key, None)
        for item in _prefix(_hashed(text)) if text is not None else ():
            self._index[item].discard(key)

    def near(self, text: str, *, but: str = "") -> list[tuple[str, float]]:
        """(key, similarity) of all near texts except ``but``'s, the nearest first."""
        members = _hashed(text)
        candidates = {key for item in _prefix(members) for key in self._index.get(item, ())}
        found = []
        for key in candidates - {but}:
            similarity = jaccard(members, _hashed(self._texts[key]))
            if similarity >= THRESHOLD:
                found.append((key, similarity))
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def _hashed(text: str) -> frozenset[int]:
    return frozenset(map(hash, shingles(text)))


def _prefix(members: frozenset[int]) -> list[int]:
    if not members:
        return []
    return sorted(members)[: len(members) - math.ceil(THRESHOLD * len(members) - 1e-9) + 1]
