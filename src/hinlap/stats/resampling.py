"""Random draws of items, done as sums: what a bootstrap and a randomisation test need, quickly.

20,000 items drawn 10,000 times are 2·10⁸ draws. Each costs one random byte here, and no list of
drawn items is ever made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_Bytes = npt.NDArray[np.uint8]

_GROUP = 256  # items that one random byte tells apart
_BLOCK = 400  # resamples of one random stream: part of what a seed means, as is _GROUP
_FEW = 64  # so many different rows at most: their numbers are drawn instead of items
_SMALL_PRODUCT = 200_000  # multiplications for which BLAS starts no threads of its own
_BY_COLUMN = 3  # above so many columns, counting the draws of each item is quicker
_WORTH_THREADS = 5_000_000


def resampled_sums(stats: Array, seed: int, resamples: int, *, threads: int | None = None) -> Array:
    """(resamples, k) sums of n rows drawn with replacement from (n, k) ``stats``.

    The distribution is exact, by one of two ways. Few different rows: how often each is drawn is
    multinomial. Otherwise items stand in groups of 256: how many draws fall into each group is
    multinomial, and within a group a byte picks the item.
    The numbers depend on ``stats``, ``seed`` and ``resamples``, never on ``threads`` (None: one
    for each core). Two systems are paired when their columns stand side by side in one call.
    """
    n = stats.shape[0]
    sums = np.empty((resamples, stats.shape[1]))
    moving = (stats != stats[:1]).any(axis=0)
    sums[:, ~moving] = n * stats[0, ~moving]
    columns = stats[:, moving]
    if columns.shape[1] == 0:
        return sums
    rows, counts = _different_rows(columns)
    if len(rows) <= _FEW:
        rng = _stream(seed, 0)
        sums[:, moving] = rng.multinomial(n, counts / n, size=resamples) @ rows
        return sums
    columns = np.asfortranarray(columns)
    found = np.zeros((resamples, columns.shape[1]))
    if threads is None:
        threads = _cores() if n * resamples >= _WORTH_THREADS else 1

    def work(first: int) -> None:
        room = _Room(np.empty(0, np.intp), np.empty(0))
        for block in range(first, -(-resamples // _BLOCK), threads):
            here = found[block * _BLOCK : (block + 1) * _BLOCK]
            _add_block(here, columns, _stream(seed, block), room)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    sums[:, moving] = found
    return sums


def _different_rows(columns: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Different rows and how often each occurs; one too many of them, unsorted, when not few."""
    head = np.unique(columns[: 4 * _FEW], axis=0)
    if len(head) > _FEW:  # sorting all would be for nothing
        return head, np.ones(len(head), dtype=np.int64)
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    return rows, counts.astype(np.int64)


@dataclass
class _Room:
    """Memory that one thread fills again and again: fresh pages cost more than the arithmetic."""

    places: npt.NDArray[np.intp]
    values: Array

    def of(self, size: int) -> tuple[npt.NDArray[np.intp], Array]:
        if size > len(self.places):
            self.places, self.values = np.empty(size * 5 // 4, np.intp), np.empty(size * 5 // 4)
        return self.places[:size], self.values[:size]


def _add_block(sums: Array, columns: Array, rng: np.random.Generator, room: _Room) -> None:
    n, k = columns.shape
    sizes = np.diff(np.append(np.arange(0, n, _GROUP), n))
    draws = rng.multinomial(n, sizes / n, size=len(sums)).T.copy()  # (groups, resamples)
    add = _add_by_column if k <= _BY_COLUMN else _add_by_count
    for group, size in enumerate(sizes):
        items = columns[group * _GROUP : group * _GROUP + size]
        drawn = _picks(rng, int(size), int(draws[group].sum()))
        add(sums, items, drawn, draws[group], room)


def _add_by_column(
    sums: Array, items: Array, drawn: _Bytes, draws: npt.NDArray[np.int64], room: _Room
) -> None:
    """Looks up the value of every draw, and sums each resample's run of them."""
    hit = np.flatnonzero(draws)
    if not hit.size:
        return
    runs = (np.cumsum(draws) - draws)[hit]
    places, values = room.of(len(drawn))
    np.copyto(places, drawn)
    for column in range(items.shape[1]):
        items[:, column].take(places, mode="clip", out=values)
        sums[hit, column] += np.add.reduceat(values, runs)


def _add_by_count(
    sums: Array, items: Array, drawn: _Bytes, draws: npt.NDArray[np.int64], room: _Room
) -> None:
    """Counts how often each resample draws each item; then the sums are a matrix product."""
    size, k = items.shape
    hit = np.flatnonzero(draws)
    if not hit.size:
        return
    room.of(max(len(drawn), len(draws) * size))
    cells, _ = room.of(len(drawn))
    cells.fill(0)
    cells[(np.cumsum(draws) - draws)[hit]] = np.diff(hit, prepend=0) * size
    np.cumsum(cells, out=cells)  # where each draw's resample begins
    np.add(cells, drawn, out=cells)
    _, counts = room.of(len(draws) * size)
    counts.fill(0.0)
    np.add.at(counts, cells, 1.0)
    step = max(1, _SMALL_PRODUCT // (size * k))
    for start in range(0, len(draws), step):
        part = counts[start * size : (start + step) * size].reshape(-1, size)
        sums[start : start + step] += part @ items


def _picks(rng: np.random.Generator, size: int, number: int) -> _Bytes:
    """(number,) integers below ``size``, at most 256, all equally likely."""
    if size < _GROUP:
        return rng.integers(0, size, number, dtype=np.uint8)
    return _bytes(rng, number)


def _bytes(rng: np.random.Generator, number: int) -> _Bytes:
    words = rng.integers(0, 2**64 - 1, -(-number // 8), dtype=np.uint64, endpoint=True)
    return words.astype("<u8", copy=False).view(np.uint8)[:number]


def signed_sums(gaps: Array, seed: int, resamples: int) -> Array:
    """(resamples, k) sums of the rows of (n, k) ``gaps``, each row with a random sign.

    Eight rows at a time: their 256 possible sums are tabled and a random byte picks one.
    """
    sums = np.zeros((resamples, gaps.shape[1]))
    moving = gaps.any(axis=0)
    rows = gaps[gaps.any(axis=1)][:, moving]
    rng = _stream(seed, 0)
    found = np.zeros((resamples, rows.shape[1]))
    places, picked = np.empty(resamples, np.intp), np.empty_like(found)
    for table in _sign_tables(rows):
        np.copyto(places, _bytes(rng, resamples))
        found += table.take(places, axis=0, mode="clip", out=picked)
    sums[:, moving] = found
    return sums


def _sign_tables(rows: Array) -> Iterator[Array]:
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # (256, 8)
    signs = 1.0 - 2.0 * bits
    for start in range(0, len(rows), 8):
        eight = rows[start : start + 8]
        yield signs[:, : len(eight)] @ eight


def cluster_sums(stats: Array, clusters: Sequence[str] | None) -> Array:
    """(clusters, k) sums of ``stats`` over items of one cluster, in order of first sight.

    None: every item is a cluster of its own. Raises ValueError when the lengths differ.

    >>> cluster_sums(np.array([[1.0], [2.0], [4.0]]), ["a", "b", "a"]).tolist()
    [[5.0], [2.0]]
    """
    if clusters is None:
        return stats
    if len(clusters) != stats.shape[0]:
        raise ValueError(f"{stats.shape[0]} items have {len(clusters)} clusters")
    place: dict[str, int] = {}
    places = [place.setdefault(cluster, len(place)) for cluster in clusters]
    sums = np.zeros((len(place), stats.shape[1]))
    np.add.at(sums, places, stats)
    return sums


def _stream(seed: int, block: int) -> np.random.Generator:
    # SFC64: half the time of numpy's default on long runs of bytes
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(block,))))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
