"""Packed n-gram counts against plain counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.metrics import ngrams
from hinlap.metrics.ngrams import character_counts, matches, of_characters, of_tokens, totals

texts = st.text(st.sampled_from("ab c\U0001f600\ud800\u0e01"), max_size=20)
groups = st.lists(st.lists(texts, min_size=1, max_size=4), max_size=6)


def counted(group: list[str], n: int) -> int:
    """Clipped matches of order n, the slow and obvious way."""
    grams = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in group]
    wanted: Counter[str] = Counter()
    for reference in grams[1:]:
        wanted |= reference
    return (grams[0] & wanted).total()


@given(groups, st.integers(1, 7), st.sampled_from([1, 30, 1 << 16]), st.sampled_from([12, 30, 63]))
def test_any_texts_in_any_chunks(
    given_groups: list[list[str]], order: int, chunk: int, bits: int
) -> None:
    """Few bits make the packing give up: groups are halved, then counted one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_CHUNK_SYMBOLS", chunk)
        patch.setattr(ngrams, "_KEY_BITS", bits)
        flat = [text for group in given_groups for text in group]
        sizes = np.array([len(group) for group in given_groups], dtype=np.int64)
        found = matches(of_characters(flat), sizes, order)
    expected = [[counted(group, n) for n in range(1, order + 1)] for group in given_groups]
    assert found.tolist() == expected


def test_more_symbols_than_a_key_can_hold() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))  # 13 bits each, six do not fit
    found = matches(of_characters([text, text[:2500] + text[2501:]]), np.array([2]), 6)
    assert found.tolist() == [[4999, 4997, 4995, 4993, 4991, 4989]]


def test_an_ngram_never_runs_into_the_next_text() -> None:
    tokens = of_tokens([["a", "b"], ["a"], ["b"], ["a", "b"]])
    assert matches(tokens, np.array([2, 2]), 2).tolist() == [[1, 0], [1, 0]]


def test_no_texts() -> None:
    assert matches(of_characters([]), np.array([], dtype=np.int64), 4).shape == (0, 4)
    assert totals(of_tokens([]).lengths, 4).shape == (0, 4)
    assert character_counts([]) == {}
