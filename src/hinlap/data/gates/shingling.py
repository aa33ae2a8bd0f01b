"""Texts as sets of hashed shingles, and which of very many sets are likely alike (MinHash, LSH).

Jaccard similarity of two of these sets is exact but for a collision of 64-bit hashes. LSH only
proposes pairs; who asks, verifies them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinlap.data.near_duplicates import is_unspaced, normalised

BANDS = 40
ROWS_PER_BAND = 4
"""Pairs of similarity s are proposed with probability 1 - (1 - s^4)^40: 0.99998 at 0.7."""
MOST_IN_A_BUCKET = 64
"""Of a larger bucket each set is paired with the first ones and the ones just before it."""
_SEED = 20261125
_CHUNK = 20_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class ShingleSets:
    """members: (total,), ascending and distinct within a set. starts: (n + 1,)."""

    members: Hashes
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def of(self, index: int) -> Hashes:
        return self.members[self.starts[index] : self.starts[index + 1]]

    def jaccard(self, i: int, j: int) -> float:
        """Exact similarity of two sets; 0.0 where one is empty."""
        return jaccard(self.of(i), self.of(j))


def jaccard(a: Hashes, b: Hashes) -> float:
    """Of two ascending arrays of distinct members; 0.0 where one is empty."""
    if not len(a) or not len(b):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


class Shingler:
    """Makes shingle sets; equal shingles get equal hashes in every call and every process.

    words:      words a shingle. characters: characters a shingle where the script has no spaces.
    A text of fewer is one shingle.
    """

    def __init__(self, words: int, characters: int) -> None:
        self._words = words
        self._characters = characters
        self._known: dict[str, int] = {}

    def sets(self, texts: Iterable[str]) -> ShingleSets:
        """One set a text, in their order; a text without a letter or sign has an empty one."""
        parts: list[Hashes] = []
        sizes: list[NDArray[np.int64]] = []
        for chunk in _chunks(texts):
            members, counts = self._chunk(chunk)
            parts.append(members)
            sizes.append(counts)
        if not parts:
            return ShingleSets(np.zeros(0, np.uint64), np.zeros(1, np.int64))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
        return ShingleSets(np.concatenate(parts), starts)

    def _chunk(self, texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
        tokens: dict[int, tuple[array[int], list[int], list[int]]] = {
            n: (array("Q"), [], []) for n in {self._words, self._characters}
        }
        known = self._known
        for index, text in enumerate(texts):
            plain = normalised(text)
            if is_unspaced(plain):
                n, pieces = self._characters, list(plain.replace(" ", ""))
            else:
                n, pieces = self._words, plain.split()
            if not pieces:
                continue
            flat, lengths, owners = tokens[n]
            for piece in pieces:
                number = known.get(piece)
                if number is None:
                    digest = hashlib.blake2b(piece.encode("utf-8", "replace"), digest_size=8)
                    number = known[piece] = int.from_bytes(digest.digest(), "big")
                flat.append(number)
            missing = n - len(pieces)
            if missing > 0:
                flat.extend([0] * missing)
            lengths.append(max(n, len(pieces)))
            owners.append(index)
        owned: list[NDArray[np.int64]] = []
        grams: list[Hashes] = []
        for n, (flat, lengths, owners) in tokens.items():
            if not owners:
                continue
            ids = np.frombuffer(flat, np.uint64)
            owner = np.repeat(np.array(owners, np.int64), lengths)
            count = len(ids) - n + 1
            whole = owner[:count] == owner[n - 1 :]
            gram = np.zeros(count, np.uint64)
            for step in range(n):
                gram = gram * _MULTIPLIER + ids[step : step + count]
            grams.append(_mixed(gram[whole]))
            owned.append(owner[:count][whole])
        if not grams:
            return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
        owner, gram = np.concatenate(owned), np.concatenate(grams)
        order = np.lexsort((gram, owner))
        owner, gram = owner[order], gram[order]
        fresh = np.ones(len(gram), bool)
        fresh[1:] = (gram[1:] != gram[:-1]) | (owner[1:] != owner[:-1])
        return gram[fresh], np.bincount(owner[fresh], minlength=len(texts)).astype(np.int64)


def _mixed(values: Hashes) -> Hashes:
    """Every bit depends on every other (the last steps of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def likely_pairs(
    sets: ShingleSets, threshold: float, *, between: int | None = None
) -> NDArray[np.int64]:
    """(pairs, 2): sets that are likely at least ``threshold`` alike, the earlier one first.

    between: only pairs of one of the first so many sets and one of the others.
    Ordered by the two indices. Left out are only pairs that LSH misses, those of large buckets
    (MOST_IN_A_BUCKET), and those whose sizes alone say that they are less alike.
    """
    bands = _band_hashes(sets)
    sizes = sets.sizes()
    filled = np.flatnonzero(sizes)
    found = np.zeros(0, np.uint64)
    n = np.uint64(max(1, len(sets)))
    for band in range(BANDS):
        keys = bands[band][filled]
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], filled[order]
        fresh = np.ones(len(keys), bool)
        fresh[1:] = keys[1:] != keys[:-1]
        begins = np.flatnonzero(fresh)
        group = np.cumsum(fresh) - 1
        place = np.arange(len(keys)) - begins[group]
        pairs = []
        for back in range(1, MOST_IN_A_BUCKET // 2 + 1):  # the ones just before
            later = np.flatnonzero(place >= back)
            if not len(later):
                break
            pairs.append((later - back, later))
        for ahead in range(MOST_IN_A_BUCKET // 2):  # the first ones
            later = np.flatnonzero(place > ahead + MOST_IN_A_BUCKET // 2)
            if not len(later):
                break
            pairs.append((begins[group[later]] + ahead, later))
        for earlier, later in pairs:
            i, j = rows[earlier], rows[later]
            small = np.minimum(sizes[i], sizes[j])
            alike = small >= threshold * np.maximum(sizes[i], sizes[j]) - 1e-9
            if between is not None:
                alike &= (i < between) & (j >= between)
            coded = i[alike].astype(np.uint64) * n + j[alike].astype(np.uint64)
            found = np.union1d(found, coded) if len(coded) else found
    return np.stack([found // n, found % n], axis=1).astype(np.int64)


def _band_hashes(sets: ShingleSets) -> NDArray[np.uint64]:
    """(BANDS, n): equal where two sets' MinHashes agree on all rows of a band."""
    from rensa import RMinHash

    n = len(sets)
    bands = np.empty((BANDS, n), np.uint64)
    for begin in range(0, n, _CHUNK):
        end = min(n, begin + _CHUNK)
        flat = sets.members[sets.starts[begin] : sets.starts[end]]
        offsets = (sets.starts[begin : end + 1] - sets.starts[begin]).astype(np.uint64)
        matrix: Any = RMinHash.digest_matrix_from_flat_token_hashes(
            flat, offsets, BANDS * ROWS_PER_BAND, _SEED
        )
        digests = np.array(matrix.to_rows(), np.uint64)  # (rows, BANDS * ROWS_PER_BAND)
        for band in range(BANDS):
            mixed = np.zeros(end - begin, np.uint64)
            for column in range(band * ROWS_PER_BAND, (band + 1) * ROWS_PER_BAND):
                mixed = _mixed(mixed * _MULTIPLIER + digests[:, column])
            bands[band, begin:end] = mixed
    return bands
