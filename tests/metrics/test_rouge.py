"""ROUGE against the reference implementation and the official script's published values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hinlap.metrics.rouge import Variant, rouge

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "metric-fixtures"


# Lin (2004), section 3.1: S1 "police killed the gunman", S2, S3; ROUGE-2 and -L recalls are given
@pytest.mark.parametrize(
    ("variant", "prediction", "reference", "value"),
    [
        ("rougeL", "police kill the gunman", "police killed the gunman", 1.0),  # stemmed
        ("rougeL", "the gunman kill police", "police killed the gunman", 0.5),
        ("rouge2", "police kill the gunman", "police ended the gunman", 1 / 3),
        ("rouge1", "a b c d", "a b e f", 0.5),
        ("rouge1", "The CAT.", "the cat", 1.0),
    ],
)
def test_textbook_cases(variant: Variant, prediction: str, reference: str, value: float) -> None:
    scores = rouge(variant, [prediction], [reference], language="en")
    assert scores.items[0] == pytest.approx(value)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the shared fixtures are not here")
# the script's rougeL is published without stems only, which this metric does not compute
@pytest.mark.parametrize("variant", ["rouge1", "rouge2"])
def test_equals_the_official_perl_script_where_its_output_is_published(variant: Variant) -> None:
    published = json.loads((FIXTURES / "rouge155_reference_scores.json").read_text())["lines"]
    targets = (FIXTURES / "rouge155_target.txt").read_text().split("\n")
    predictions = (FIXTURES / "rouge155_prediction.txt").read_text().split("\n")
    cases = [case for case in published if case["stemmer"] and variant in case]
    assert cases
    for case in cases:
        line = case["line"]
        scores = rouge(variant, [predictions[line]], [targets[line]], language="en")
        assert scores.items[0] == pytest.approx(case[variant]["f"], abs=5e-6)


def test_an_identical_thai_pair_scores_one() -> None:
    text = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า"
    assert rouge("rougeL", [text], [text], language="th").value == 1.0


def test_thai_is_cut_into_words_not_letters() -> None:
    scores = rouge("rouge1", ["ช้างกินกล้วย"], ["ช้างกินอ้อย"], language="th")
    assert scores.items[0] == pytest.approx(2 / 3)


def test_mixed_thai_and_english_counts_both() -> None:
    scores = rouge("rouge1", ["รถไฟฟ้า BTS"], ["รถไฟฟ้า MRT"], language="th")
    assert 0 < scores.items[0] < 1


def test_an_empty_prediction_scores_zero() -> None:
    assert rouge("rouge1", [""], ["a b"], language="en").value == 0.0


def test_no_items_is_undefined_not_zero() -> None:
    assert rouge("rouge1", [], [], language="en").value is None


def test_the_signature_names_tokenizer_and_stemmer() -> None:
    english = rouge("rougeL", ["a"], ["a"], language="en").signature
    thai = rouge("rougeL", ["ก"], ["ก"], language="th").signature
    assert "porter" in english
    assert "rouge-score-0.1.2" in english
    assert "newmm-pythainlp-" in thai
    assert "stem:no" in thai


def test_thai_in_an_english_app_is_not_zero() -> None:
    text = "ช้างตัวหนึ่งเดินข้ามถนน"
    assert rouge("rougeL", [text], [text], language="en").value == 1.0
