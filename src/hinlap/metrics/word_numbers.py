"""Many texts as numbers: equal words are equal numbers, and each word knows its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hinlap.metrics.segmentation import uses_latin_only, words

Ints = npt.NDArray[np.int64]

_TEXTS_AT_ONCE = 4096  # bounds the memory their words take as objects
_LINE_END = ord("\n")
# ASCII letters in lower case, digits and line ends stay; the rest of [^a-z0-9] becomes a space
_LATIN_WORDS = bytes(
    code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789\n" else ord(" ")
    for code in bytes(range(256)).lower()
)


@dataclass(frozen=True, slots=True)
class NumberedWords:
    """Words of texts, end to end.

    symbols: (words,) from 0; equal where the words, or their stems, are equal.
    lengths: (texts,) words of each text.
    lines:   (words,) the line each stands in, counted over all texts, empty lines too.
    """

    symbols: Ints
    lengths: Ints
    lines: Ints


def numbered_words(
    texts: Sequence[str], *, stem: bool = False, segmentation: str = "auto"
) -> NumberedWords:
    r"""Words of all texts by `segmentation.words`, numbered in the order they are first met.

    stem: words of [a-z0-9] with more than three letters count by their Porter stem, as
          rouge-score does; other words as they stand.
    Lines end at "\n" only.
    Peer: rouge_score.tokenizers.DefaultTokenizer, where segmentation is "rouge-score".

    >>> found = numbered_words(["The cats sat.\nA cat", "cat"], stem=True)
    >>> found.symbols.tolist(), found.lengths.tolist(), found.lines.tolist()
    ([0, 1, 2, 3, 1, 1], [5, 1], [0, 0, 0, 1, 1, 2])
    """
    numbers = _Numbers(stem)
    parts = []
    line = 0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        buffer, ends = _buffer(texts[start : start + _TEXTS_AT_ONCE], segmentation)
        characters = np.frombuffer(buffer, dtype=np.uint8)
        word = characters > ord(" ")
        begins = np.flatnonzero(word & ~np.append(False, word[:-1]))
        line_ends = np.flatnonzero(characters == _LINE_END)
        symbols = np.fromiter(map(numbers.__getitem__, buffer.split()), np.int64, len(begins))
        lengths = np.diff(np.searchsorted(begins, ends), prepend=0)
        parts.append((symbols, lengths, np.searchsorted(line_ends, begins) + line))
        line += len(line_ends)
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return NumberedWords(nothing, nothing, nothing)
    return NumberedWords(*map(np.concatenate, zip(*parts, strict=True)))


def _buffer(texts: Sequence[str], segmentation: str) -> tuple[bytes, Ints]:
    """Words with spaces between and a line end behind each text; (texts,) where each text ends."""
    joined = "\n".join([*texts, ""])
    if segmentation in ("auto", "rouge-score") and joined.isascii():
        sizes = map(len, texts)
        buffer = joined.encode("ascii").translate(_LATIN_WORDS)
    else:
        pieces = [_piece(text, segmentation) for text in texts]
        sizes = map(len, pieces)
        buffer = b"\n".join([*pieces, b""])
    return buffer, np.cumsum(np.fromiter(sizes, np.int64, len(texts)) + 1)


def _piece(text: str, segmentation: str) -> bytes:
    if segmentation == "rouge-score" or (segmentation == "auto" and uses_latin_only(text)):
        return text.lower().encode("ascii", "replace").translate(_LATIN_WORDS)
    lines = (" ".join(words(line, segmentation)) for line in text.split("\n"))
    return "\n".join(lines).encode("utf-8")


class _Numbers(dict[bytes, int]):
    """Word to number; the work for a new word is done once."""

    def __init__(self, stem: bool) -> None:
        super().__init__()
        self.stem = stem
        self.of_stem: dict[bytes, int] = {}

    def __missing__(self, word: bytes) -> int:
        key = stemmed(word) if self.stem and len(word) > 3 else word
        self[word] = number = self.of_stem.setdefault(key, len(self.of_stem))
        return number


@lru_cache(maxsize=2**18)  # a stem takes some 20 microseconds, a text has its words again and again
def stemmed(word: bytes) -> bytes:
    """The Porter stem of a word of [a-z0-9]; other words as they stand.

    >>> stemmed(b"segmentation"), stemmed("кошки".encode()).decode()
    (b'segment', 'кошки')
    """
    if not word.isascii() or not word.isalnum():
        return word
    stem: str = _porter().stem(word.decode("ascii"))
    return stem.encode("ascii")


@cache
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
