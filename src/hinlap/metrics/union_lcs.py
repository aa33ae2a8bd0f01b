"""Words of a reference that the union of its sentences' longest common subsequences reaches:
the counts behind ROUGE-Lsum, for many pairs of texts at once.

A reference sentence r and a predicted sentence c can have many longest common subsequences. Which
is taken decides the union, so rouge-score's way back through its table t is followed exactly: at
(i, j) it takes r[i] where r[i] == c[j]; else it goes to j - 1 where t[i][j - 1] > t[i - 1][j];
else to i - 1.

Row i of the table is held as one integer V, whose bit j - 1 is 0 where the row steps up
(t[i][j] = t[i][j - 1] + 1); the next row costs four operations (Hyyrö 2004, "Bit-Parallel
LCS-length Computation Revisited"). The sum of the first j bits of V[i - 1] ^ V[i], modulo 2, is
t[i][j] - t[i - 1][j]; so in row i the way back stops at the highest bit, not above j, of
``matches | ~sums``, and no cell of the table is ever looked at.

A row without a match equals the row before and is walked through at once, and neighbouring columns
without matches behave as one: both are left out, which keeps the integers short and few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Masks = npt.NDArray[np.uint64]

_MASK_BITS = 64
_KEY_BITS = 63  # of a non-negative int64
# A pair with more matches for each of its tokens is done alone: a long text of one repeated word
# has as many matches as its length squared.
_MATCHES_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Sentences:
    """One side of many pairs: its tokens as numbers, end to end.

    symbols: (tokens,) at least 0; equal where the words are equal.
    pair:    (tokens,) which pair each token belongs to; never falls.
    line:    (tokens,) which sentence, counted over all pairs; never falls.
    """

    symbols: Ints
    pair: Ints
    line: Ints


def union_lcs_hits(predictions: Sentences, references: Sentences, pairs: int) -> Ints:
    """(pairs,) words of the reference in the union of its sentences' LCS with the predicted ones.

    A word counts at most as often as it stands in the prediction.
    Source: Lin (2004), section 3.2, clipped as ROUGE-1.5.5 does.
    Peer:   rouge_score.rouge_scorer._summary_level_lcs, whose ``hits`` these are.

    >>> one, two = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
    >>> prediction = Sentences(np.array([1, 2, 3, 4]), one, one)
    >>> union_lcs_hits(prediction, Sentences(np.array([1, 3, 4, 2]), one, two), 1).tolist()
    [3]
    """
    if not len(predictions.symbols) or not len(references.symbols):
        return np.zeros(pairs, dtype=np.int64)
    words = _shared_words(predictions, references, pairs)
    if words is None:
        alone = np.ones(pairs, dtype=bool)
        return _each_alone(predictions, references, np.zeros(pairs, dtype=np.int64), alone)
    alone = _too_many_matches(predictions, references, words, pairs)
    reached = np.zeros(len(references.symbols), dtype=bool)
    matches = _matches(predictions, references, words, alone)
    if len(matches.token):
        alone[references.pair[matches.token[matches.width > _MASK_BITS]]] = True
        rows = _rows(predictions, references, matches)
        reached[rows.token[_taken(rows)]] = True
    counted = np.minimum(
        np.bincount(words.of_reference[reached], minlength=len(words.pair)), words.predicted
    )
    hits = np.bincount(words.pair, weights=counted, minlength=pairs).astype(np.int64)
    return _each_alone(predictions, references, hits, alone)


@dataclass(frozen=True, slots=True)
class _Words:
    """The different words of each pair (word: one entry for each pair it stands in).

    pair, predicted, shared: (words,) its pair; how often predicted; is it in both texts.
    place, first:            places of the predicted tokens, word by word; where a word's begin.
    of_prediction, of_reference: (tokens,) the word of each token.
    """

    pair: Ints
    predicted: Ints
    shared: Flags
    place: Ints
    first: Ints
    of_prediction: Ints
    of_reference: Ints


def _shared_words(predictions: Sentences, references: Sentences, pairs: int) -> _Words | None:
    """None where pair, symbol and place do not fit one integer."""
    split = len(predictions.symbols)
    symbols = np.concatenate([predictions.symbols, references.symbols])
    pair = np.concatenate([predictions.pair, references.pair])
    symbol_bits = int(symbols.max()).bit_length()
    place_bits = len(symbols).bit_length()
    if pairs.bit_length() + symbol_bits + place_bits > _KEY_BITS:
        return None
    keys = (((pair << symbol_bits) | symbols) << place_bits) | np.arange(len(symbols))
    keys.sort()  # within a word the predicted tokens come first: their places are lower
    place = keys & ((1 << place_bits) - 1)
    begins = np.append(True, (keys[1:] ^ keys[:-1]) >> place_bits != 0)
    first = np.flatnonzero(begins)
    is_prediction = place < split
    predicted = np.add.reduceat(is_prediction, first, dtype=np.int64)
    size = np.diff(np.append(first, len(keys)))
    word_at = np.empty(len(symbols), dtype=np.int64)
    word_at[place] = np.cumsum(begins) - 1
    return _Words(
        pair=keys[first] >> (symbol_bits + place_bits),
        predicted=predicted,
        shared=(predicted > 0) & (predicted < size),
        place=place[is_prediction],
        first=np.cumsum(predicted) - predicted,
        of_prediction=word_at[:split],
        of_reference=word_at[split:],
    )


def _too_many_matches(
    predictions: Sentences, references: Sentences, words: _Words, pairs: int
) -> Flags:
    """(pairs,) whose matches would take too much memory, or whose keys would not fit."""
    tokens = np.bincount(predictions.pair, minlength=pairs)
    tokens += np.bincount(references.pair, minlength=pairs)
    matches = np.bincount(
        references.pair, weights=words.predicted[words.of_reference], minlength=pairs
    )
    most = tokens * _MATCHES_PER_TOKEN
    places = max(len(predictions.symbols), int(predictions.line[-1]))
    bits = [int(most.sum()), int(references.line[-1]), places]
    return (matches > most) | (sum(map(int.bit_length, bits)) > _KEY_BITS)


@dataclass(frozen=True, slots=True)
class _Matches:
    """Equal tokens of a reference and its prediction, in the order of the reference's tokens,
    then of the prediction's.

    token, line:   (matches,) token of the references; line of the predictions.
    column, width: (matches,) column in the table of the two sentences, and its columns.
    """

    token: Ints
    line: Ints
    column: Ints
    width: Ints


def _matches(
    predictions: Sentences, references: Sentences, words: _Words, but_for: Flags
) -> _Matches:
    own = words.of_reference
    token = np.flatnonzero(words.shared[own] & ~but_for[references.pair])
    word = own[token]
    count = words.predicted[word]
    at = np.repeat(words.first[word] - (np.cumsum(count) - count), count)
    place = words.place[at + np.arange(len(at))]
    token = np.repeat(token, count)
    columns, widths = _columns_of_sentences(predictions, words)
    column, width = columns[place], widths[place]
    wide = np.flatnonzero(width > _MASK_BITS)
    if len(wide):
        column[wide], width[wide] = _columns_of_tables(
            references.line[token[wide]], place[wide], predictions.line
        )
    return _Matches(token, predictions.line[place], column, width)


def _columns_of_sentences(predictions: Sentences, words: _Words) -> tuple[Ints, Ints]:
    """(tokens,) the column of each predicted token, and the columns of its sentence. Neighbours
    that match no word of the reference share one."""
    matched = words.shared[words.of_prediction]
    begins = np.append(True, predictions.line[1:] != predictions.line[:-1])
    opens = matched | begins
    opens[1:] |= matched[:-1]
    opened = np.cumsum(opens)
    sentence = np.cumsum(begins) - 1
    before = opened[begins] - 1
    last = opened[np.append(begins[1:], True)]
    return opened - 1 - before[sentence], (last - before)[sentence]


def _columns_of_tables(table: Ints, place: Ints, line: Ints) -> tuple[Ints, Ints]:
    """(matches,) columns and widths as above, where neighbours that match no word of this one
    reference sentence share a column: fewer, for long predicted sentences.

    table: (matches,) the sentence of the reference; place: (matches,) token of the predictions;
    line:  (tokens,) the line of each predicted token.
    """
    index_bits = len(place).bit_length()
    place_bits = len(line).bit_length()
    keys = (((table << place_bits) | place) << index_bits) | np.arange(len(place))
    keys.sort()
    index = keys & ((1 << index_bits) - 1)
    keys >>= index_bits
    new = np.append(True, keys[1:] != keys[:-1])
    keys = keys[new]  # one for each column with a match
    place = keys & ((1 << place_bits) - 1)
    begins = np.append(
        True, (line[place[1:]] != line[place[:-1]]) | (np.diff(keys >> place_bits) != 0)
    )
    gap = np.append(False, np.diff(place) > 1)
    opened = np.cumsum(1 + (gap & ~begins))
    own = np.cumsum(begins) - 1
    ends = np.append(begins[1:], True)
    before = opened[begins] - 1
    more = np.append(line[1:] == line[:-1], False)[place[ends]]  # tokens behind the last match
    width = opened[ends] - before + more
    of_match = np.cumsum(new) - 1
    columns, widths = np.empty_like(index), np.empty_like(index)
    columns[index] = (opened - 1 - before[own])[of_match]
    widths[index] = width[own][of_match]
    return columns, widths


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with matches of every table (one for each two sentences of a pair), table by table.

    token, matches: (rows,) its token of the references; a bit for each column that equals it.
    first, count:   (tables,) where a table's rows begin, and how many; most rows first.
    columns:        (tables,) a bit for each column.
    """

    token: Ints
    matches: Masks
    first: Ints
    count: Ints
    columns: Masks


def _rows(predictions: Sentences, references: Sentences, found: _Matches) -> _Rows:
    begins = np.append(True, found.token[1:] != found.token[:-1])
    begins[1:] |= found.line[1:] != found.line[:-1]
    first = np.flatnonzero(begins)
    column = np.minimum(found.column, _MASK_BITS - 1)  # wider ones are done alone
    matches = np.bitwise_or.reduceat(np.uint64(1) << column.astype(np.uint64), first)
    token, line = found.token[first], found.line[first]
    # from (token, predicted line) to (reference line, predicted line, token)
    row_bits = len(first).bit_length()
    line_bits = int(predictions.line[-1]).bit_length()
    keys = (references.line[token] << line_bits) | line
    keys = (keys << row_bits) | np.arange(len(first))
    keys.sort()
    order = keys & ((1 << row_bits) - 1)
    keys >>= row_bits
    table = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    rows = np.diff(np.append(table, len(keys)))
    longest = np.argsort(-rows, kind="stable")
    width = np.minimum(found.width[first[order[table[longest]]]], _MASK_BITS)
    columns = ~np.uint64(0) >> (_MASK_BITS - width).astype(np.uint64)
    return _Rows(token[order], matches[order], table[longest], rows[longest], columns)


def _taken(rows: _Rows) -> Ints:
    """The rows whose token rouge-score's way back takes into the subsequence."""
    steps = int(rows.count[0])
    alive = len(rows.count) - np.searchsorted(rows.count[::-1], np.arange(steps), side="right")
    one = np.uint64(1)
    table = np.full(len(rows.count), ~np.uint64(0))  # V, one for each table
    stops = []
    for step, tables in enumerate(alive):
        matches = rows.matches[rows.first[:tables] + step]
        before = table[:tables]
        both = before & matches
        after = (before + both) | (before - both)
        sums = before ^ after
        for shift in (1, 2, 4, 8, 16, 32):
            sums ^= sums << np.uint64(shift)
        stops.append(matches | ~sums)
        table[:tables] = after
    taken = []
    reach = rows.columns.copy()  # those not yet walked past
    for step in reversed(range(steps)):
        tables = alive[step]
        row = rows.first[:tables] + step
        below = stops[step] & reach[:tables]
        for shift in (1, 2, 4, 8, 16, 32):
            below |= below >> np.uint64(shift)
        half = below >> one
        takes = ((below ^ half) & rows.matches[row]) != 0
        taken.append(row[takes])
        reach[:tables] = np.where(takes, half, below)
    return np.concatenate(taken)


def _each_alone(predictions: Sentences, references: Sentences, hits: Ints, alone: Flags) -> Ints:
    """``hits`` with those of the pairs ``alone`` filled in, one after another."""
    for pair in np.flatnonzero(alone).tolist():
        hits[pair] = _hits_of_one(_sentences(predictions, pair), _sentences(references, pair))
    return hits


def _sentences(side: Sentences, pair: int) -> list[list[int]]:
    start, stop = np.searchsorted(side.pair, [pair, pair + 1])
    breaks = np.flatnonzero(np.diff(side.line[start:stop])) + 1
    return [part.tolist() for part in np.split(side.symbols[start:stop], breaks)]


def _hits_of_one(prediction: Sequence[Sequence[int]], reference: Sequence[Sequence[int]]) -> int:
    """As `union_lcs_hits`, for one pair of any size, with Python's integers of any length."""
    predicted = Counter(token for sentence in prediction for token in sentence)
    tables = []
    for sentence in prediction:
        bits: dict[int, int] = {}
        for j, token in enumerate(sentence):
            bits[token] = bits.get(token, 0) | (1 << j)
        tables.append((bits, (1 << len(sentence)) - 1))
    hits = 0
    for sentence in reference:
        union: set[int] = set()
        for bits, full in tables:
            union.update(_taken_of_one(sentence, bits, full))
        for i in union:
            if predicted[sentence[i]] > 0:
                predicted[sentence[i]] -= 1
                hits += 1
    return hits


def _taken_of_one(sentence: Sequence[int], bits: dict[int, int], full: int) -> list[int]:
    rows = []
    table = full
    for i, token in enumerate(sentence):
        matches = bits.get(token)
        if matches is None:
            continue
        both = table & matches
        after = ((table + both) | (table - both)) & full
        rows.append((i, matches, table ^ after))
        table = after
    taken = []
    reach = full
    for i, matches, sums in reversed(rows):
        if not reach:
            break
        shift = 1
        while shift < full.bit_length():
            sums ^= sums << shift
            shift *= 2
        stop = ((matches | ~sums) & reach).bit_length()
        reach = (1 << stop) - 1
        if stop and matches >> (stop - 1) & 1:
            taken.append(i)
            reach >>= 1
    return taken
