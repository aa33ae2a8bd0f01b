"""N-grams that texts share, counted exactly, for many texts in one sort.

An n-gram is packed into one integer: its group, then its symbols, then which text of the group it
stands in. Once sorted, equal n-grams lie side by side, and so do their beginnings: one sort gives
the counts of every order. Nothing is hashed, so nothing can collide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_CHUNK_SYMBOLS = 1 << 16  # half a megabyte of keys: sorted inside the processor's cache
_KEY_BITS = 63  # of a non-negative int64


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as numbers, end to end.

    symbols: (sum of lengths,) at least 0; equal where the characters or tokens are equal.
    lengths: (texts,) symbols of each text.
    """

    symbols: Ints
    lengths: Ints


def of_characters(texts: Sequence[str]) -> Texts:
    """Each character is its code point; lone surrogates are characters as any other.

    >>> of_characters(["ab", "", "b"]).symbols.tolist()
    [97, 98, 98]
    """
    points = "".join(texts).encode("utf-32-le", "surrogatepass")
    return Texts(
        np.frombuffer(points, dtype="<u4").astype(np.int64),
        np.fromiter(map(len, texts), np.int64, len(texts)),
    )


def character_counts(texts: Sequence[str]) -> dict[str, int]:
    """How often each character stands in the texts, in the order of code points.

    >>> character_counts(["banana", "nab"])
    {'a': 4, 'b': 2, 'n': 3}
    """
    counts = np.bincount(of_characters(texts).symbols)
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}


def of_tokens(texts: Iterable[Sequence[str]]) -> Texts:
    """Each token is numbered when first seen. The texts are read once, one by one.

    >>> of_tokens([["to", "be"], ["be"]]).symbols.tolist()
    [0, 1, 1]
    """
    lengths: list[int] = []

    def noted() -> Iterator[Sequence[str]]:
        for text in texts:
            lengths.append(len(text))
            yield text

    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    symbols = np.fromiter(map(numbers.__getitem__, chain.from_iterable(noted())), np.int64)
    return Texts(symbols, np.array(lengths, dtype=np.int64))


def totals(lengths: Ints, order: int) -> Ints:
    """(texts, order) n-grams in texts of those lengths, for n from 1 to ``order``.

    >>> totals(np.array([3, 0]), 4).tolist()
    [[3, 2, 1, 0], [0, 0, 0, 0]]
    """
    return np.asarray(np.maximum(lengths[:, None] - np.arange(order), 0))


def matches(texts: Texts, sizes: Ints, order: int) -> Ints:
    """(groups, order) n-grams of each group's first text that its other texts have too.

    sizes: (groups,) how many of ``texts`` each group holds: a prediction, then its references.
    An n-gram counts as often as it stands in the prediction, at most as often as in the
    reference that has it most (clipped counts).
    Source: Papineni et al. (2002), section 2.1.

    >>> the = of_tokens(["the the the".split(), "the cat".split(), "the the dog".split()])
    >>> matches(the, np.array([3]), 2).tolist()
    [[2, 1]]
    """
    groups = len(sizes)
    text_at = np.concatenate([[0], np.cumsum(sizes)])  # (groups + 1,)
    symbol_at = np.concatenate([[0], np.cumsum(texts.lengths)])[text_at]  # (groups + 1,)
    found = np.zeros((groups, order), dtype=np.int64)
    start = 0
    while start < groups:
        full = np.searchsorted(symbol_at, symbol_at[start] + _CHUNK_SYMBOLS, side="right")
        stop = max(start + 1, int(full) - 1)
        part = Texts(
            texts.symbols[symbol_at[start] : symbol_at[stop]],
            texts.lengths[text_at[start] : text_at[stop]],
        )
        found[start:stop] = _matches(part, sizes[start:stop], order)
        start = stop
    return found


def _matches(texts: Texts, sizes: Ints, order: int) -> Ints:
    """As `matches`, of as many groups as fit into one sort; more are halved until they do."""
    groups = len(sizes)
    if not len(texts.symbols):
        return np.zeros((groups, order), dtype=np.int64)
    symbols, alphabet = _renumbered(texts.symbols)
    symbol_bits = alphabet.bit_length()
    text_bits = (int(sizes.max()) - 1).bit_length()
    if (groups - 1).bit_length() + order * symbol_bits + text_bits > _KEY_BITS:
        if groups == 1:
            return _matches_of_one(texts, order)
        half = groups // 2
        cut = int(sizes[:half].sum())
        at = int(texts.lengths[:cut].sum())
        left = Texts(texts.symbols[:at], texts.lengths[:cut])
        right = Texts(texts.symbols[at:], texts.lengths[cut:])
        return np.vstack(
            [_matches(left, sizes[:half], order), _matches(right, sizes[half:], order)]
        )
    keys = _packed(symbols, texts.lengths, sizes, order, symbol_bits, text_bits)
    keys.sort()
    return _counted(keys, groups, int(sizes.max()), order, symbol_bits, text_bits)


def _renumbered(symbols: Ints) -> tuple[Ints, int]:
    """The symbols as 1, 2, ... without gaps, and how many differ; 0 is kept for "no symbol"."""
    present = np.zeros(int(symbols.max()) + 1, dtype=bool)
    present[symbols] = True
    numbers = np.cumsum(present)
    return numbers[symbols], int(numbers[-1])


def _packed(
    symbols: Ints, lengths: Ints, sizes: Ints, order: int, symbol_bits: int, text_bits: int
) -> Ints:
    """(symbols,) for each place in a text: group, the next ``order`` symbols, text in its group.

    Past the end of its text a symbol is 0.
    """
    group_of_text = np.repeat(np.arange(len(sizes)), sizes)
    place_in_group = np.arange(len(lengths)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    text_of_symbol = np.repeat(np.arange(len(lengths)), lengths)
    gap = order - 1  # zeros behind each text
    at = np.arange(len(symbols)) + text_of_symbol * gap
    cells = len(symbols) + len(lengths) * gap
    spread = np.zeros(cells + gap, dtype=np.int64)
    spread[at] = symbols
    grams = spread[:cells]
    for ahead in range(1, order):
        grams = (grams << symbol_bits) | spread[ahead : ahead + cells]
    head = (group_of_text << (order * symbol_bits + text_bits)) | place_in_group
    return np.asarray((grams[at] << text_bits) | head[text_of_symbol])


def _counted(
    keys: Ints, groups: int, texts: int, order: int, symbol_bits: int, text_bits: int
) -> Ints:
    """(groups, order) clipped counts from sorted keys of groups of at most ``texts`` texts."""
    place = keys & ((1 << text_bits) - 1)
    # before[t][i]: how many of the first i keys belong to the t-th text of their group
    before = [np.concatenate([[0], np.cumsum(place == t)]) for t in range(texts)]
    change = keys[1:] ^ keys[:-1]
    found = np.zeros((groups, order), dtype=np.int64)
    for n in range(1, order + 1):
        shift = text_bits + (order - n) * symbol_bits
        first = np.concatenate([[0], np.flatnonzero(change >> shift) + 1])
        after = np.append(first[1:], len(keys))
        repeated = after - first > 1  # one that stands alone is in one text only
        first, after = first[repeated], after[repeated]
        grams = keys[first] >> shift
        whole = (grams & ((1 << symbol_bits) - 1)) != 0  # else the text ends before n symbols
        first, after, grams = first[whole], after[whole], grams[whole]
        wanted = np.zeros(len(first), dtype=np.int64)
        for seen in before[1:]:
            np.maximum(wanted, seen[after] - seen[first], out=wanted)
        shared = np.minimum(before[0][after] - before[0][first], wanted)
        of_group = np.bincount(grams >> (n * symbol_bits), weights=shared, minlength=groups)
        found[:, n - 1] = of_group
    return found


def _matches_of_one(texts: Texts, order: int) -> Ints:
    """One group with too many different symbols to pack, counted one n-gram after another."""
    parts = np.split(texts.symbols, np.cumsum(texts.lengths)[:-1])
    prediction, *references = [part.tolist() for part in parts]
    row = []
    for n in range(1, order + 1):
        wanted: Counter[tuple[int, ...]] = Counter()
        for reference in references:
            wanted |= _grams(reference, n)
        row.append((_grams(prediction, n) & wanted).total())
    return np.array([row], dtype=np.int64)


def _grams(symbols: list[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(symbols[i:] for i in range(n)), strict=False))
