"""BLEU from per-item statistics against sacrebleu's own corpus score."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from hinlap.metrics.bleu import bleu

WMT = Path(__file__).parents[3] / "shared" / "data" / "wmt17-en-de"

VOCABULARY = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", ".", ",", "far"]
words = st.lists(st.sampled_from(VOCABULARY), max_size=14)
corpora = st.lists(st.tuples(words, words), min_size=1, max_size=6)


@given(corpora)
def test_equals_sacrebleu_on_any_corpus(pairs: list[tuple[list[str], list[str]]]) -> None:
    predictions = [" ".join(a) for a, _ in pairs]
    references = [" ".join(b) for _, b in pairs]
    expected = BLEU().corpus_score(predictions, [references]).score
    assert bleu(predictions, references, language="en").value == pytest.approx(expected, abs=1e-9)


@given(corpora)
def test_a_resample_is_the_corpus_score_of_the_drawn_items(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    predictions = [" ".join(a) for a, _ in pairs]
    references = [" ".join(b) for _, b in pairs]
    scores = bleu(predictions, references, language="en")
    drawn = [0] * 2 + list(range(len(pairs)))
    expected = BLEU().corpus_score(
        [predictions[i] for i in drawn], [[references[i] for i in drawn]]
    )
    figure = float(scores.reduce(scores.stats[drawn].sum(axis=0)))
    assert figure == pytest.approx(expected.score, abs=1e-9)


@pytest.mark.skipif(not WMT.is_dir(), reason="the shared WMT files are not here")
@pytest.mark.parametrize(("system", "published"), [("FBK.4870", 26.33), ("online-F.0", 15.45)])
def test_equals_mteval_on_wmt17(system: str, published: float) -> None:
    def read(name: str) -> list[str]:
        with gzip.open(WMT / name, "rt", encoding="utf-8") as stream:
            return stream.read().rstrip("\n").split("\n")

    scores = bleu(read(f"system.{system}.de.txt.gz"), read("reference.de.txt.gz"), language="en")
    assert scores.value == pytest.approx(published, abs=0.005)
    assert json.dumps(scores.signature)


def test_thai_identity_is_a_hundred() -> None:
    text = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า และรถทุกคันหยุดรอ"
    assert bleu([text], [text], language="th").value == pytest.approx(100.0)


def test_no_items_is_undefined() -> None:
    assert bleu([], [], language="en").value is None


def test_nothing_in_common_is_zero() -> None:
    scores = bleu(["x y z w"], ["a b c d"], language="en")
    assert scores.value == 0.0
    assert np.isfinite(scores.items[0])


def test_the_signature_is_sacrebleus() -> None:
    assert "tok:13a" in bleu(["a b"], ["a b"], language="en").signature
    assert "newmm" in bleu(["ก"], ["ก"], language="th").signature
