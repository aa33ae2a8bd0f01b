"""The batched 13a tokeniser against sacrebleu's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from hinlap.metrics.mteval import tokens_13a

line = st.lists(
    st.sampled_from([*"a5..,,-- \n\t(é\x85\u2028\ud800", "<skipped>", "&amp;", "&quot;", "&lt;"]),
    max_size=12,
).map("".join)


@given(st.lists(line | st.text(max_size=20), max_size=5))
def test_equals_sacrebleu_on_any_lines(lines: list[str]) -> None:
    peer = Tokenizer13a()
    assert list(tokens_13a(lines)) == [peer(text.rstrip()).split() for text in lines]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1,000.50 kg.", ["1,000.50", "kg", "."]),
        ("a..5", ["a", ".", ".5"]),  # the second dot was eaten by the rule that cut the first
        ("3-4 well-known", ["3", "-", "4", "well-known"]),
        ("it&quot;s &amp;lt;", ["it", '"', "s", "<"]),
        ("co-\noperate\nnow", ["cooperate", "now"]),
    ],
)
def test_rules(text: str, tokens: list[str]) -> None:
    assert list(tokens_13a([text])) == [tokens]


def test_more_lines_than_one_chunk() -> None:
    lines = [f"line {i}, of many." for i in range(1000)]
    expected = [["line", str(i), ",", "of", "many", "."] for i in range(1000)]
    assert list(tokens_13a(lines)) == expected
