"""chrF and chrF++ against sacrebleu, its published cases and chrF++.py's figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF
from tests.metrics.sacrebleu_layout import (
    cases,
    needs_cases,
    needs_wmt,
    per_item,
    streams,
    systems,
    wmt,
)

from hinlap.core.errors import InputError, UserError
from hinlap.metrics.chrf import chrf

near = st.text(st.sampled_from("aAb (.,é ช้\u2028\ud800"), max_size=16)
text = near | st.text(max_size=20)
corpora = st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=5)


@given(
    corpora,
    st.integers(1, 7),
    st.integers(0, 3),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equals_sacrebleu_on_any_corpus(
    pairs: list[tuple[str, list[str]]],
    char_order: int,
    word_order: int,
    beta: int,
    lowercase: bool,
    whitespace: bool,
    eps_smoothing: bool,
) -> None:
    predictions, references = [p for p, _ in pairs], [own for _, own in pairs]
    ours = chrf(
        predictions,
        references,
        char_order=char_order,
        word_order=word_order,
        beta=beta,
        lowercase=lowercase,
        whitespace=whitespace,
        eps_smoothing=eps_smoothing,
    )
    peer = CHRF(char_order, word_order, beta, lowercase, whitespace, eps_smoothing)
    expected = peer.corpus_score(predictions, streams(references))
    assert ours.signature == f"{expected.name}|{peer.get_signature()}"
    assert ours.value == pytest.approx(expected.score, abs=1e-9)
    alone = [peer.sentence_score(p, own).score for p, own in pairs]
    assert ours.items == pytest.approx(alone, abs=1e-9)


@needs_cases
@pytest.mark.parametrize(
    ("case", "eps_smoothing", "whitespace"),
    [
        *((c, False, False) for c in cases.get("corpus_chrf_effective_order", ())),
        *((c, True, False) for c in cases.get("corpus_chrf_eps_smoothing", ())),
        *((c, False, True) for c in cases.get("corpus_chrf_keep_whitespace", ())),
    ],
)
def test_sacrebleus_published_corpora(
    case: dict[str, Any], eps_smoothing: bool, whitespace: bool
) -> None:
    scores = chrf(
        case["hypotheses"],
        per_item(case["references"]),
        char_order=case["char_order"],
        word_order=case["word_order"],
        beta=case["beta"],
        eps_smoothing=eps_smoothing,
        whitespace=whitespace,
    )
    assert scores.value == pytest.approx(case["score"], abs=5e-5)


@needs_cases
@pytest.mark.parametrize("case", cases.get("sentence_chrf", ()))
def test_sacrebleus_published_sentences(case: dict[str, Any]) -> None:
    options = {k: case[k] for k in ("char_order", "word_order", "beta", "eps_smoothing")}
    scores = chrf([case["hypothesis"]], [case["references"]], **options)
    assert scores.items[0] == pytest.approx(case["score"], abs=1e-7)


@needs_wmt
def test_equals_the_official_script_on_wmt17() -> None:
    row = next(row for row in systems if row["chrf"] is not None)
    outputs, references = wmt(f"system.{row['system']}"), [[text] for text in wmt("reference")]
    plain = chrf(outputs, references, eps_smoothing=True)
    assert plain.value == pytest.approx(row["chrf"], abs=5e-5)
    plus = chrf(outputs, references, word_order=2, eps_smoothing=True)
    assert plus.value == pytest.approx(row["chrf_plus_plus"], abs=5e-5)


@needs_wmt
@pytest.mark.parametrize("number", range(len(systems)))
def test_equals_sacrebleu_on_wmt17(number: int) -> None:
    """A third of the lines of each system, another third for the next: the peer takes its time."""
    outputs, reference = wmt(f"system.{systems[number]['system']}"), wmt("reference")
    ours = chrf(outputs, [[text] for text in reference], word_order=2)
    third = slice(number % 3, None, 3)
    peer = CHRF(word_order=2)
    expected = peer.corpus_score(outputs[third], [reference[third]]).score
    figure = float(ours.reduce(ours.stats[third].sum(axis=0)))
    assert figure == pytest.approx(expected, abs=1e-9)
    for i in range(number, len(outputs), 100):
        alone = peer.sentence_score(outputs[i], [reference[i]]).score
        assert ours.items[i] == pytest.approx(alone, abs=1e-9)


def test_the_best_reference_counts() -> None:
    alone = chrf(["abcdef"], [["abcdef"]])
    assert chrf(["abcdef"], [["xyz", "abcdef", "abc"]]).items == alone.items


def test_no_items_is_undefined() -> None:
    scores = chrf([], [])
    assert scores.value is None
    assert scores.items == ()


def test_one_character_is_enough() -> None:
    assert chrf(["a"], [["a"]]).items == (100.0,)


def test_empty_texts_score_zero_and_are_counted() -> None:
    scores = chrf(["", "a", " "], [["a"], [""], ["\n"]])
    assert scores.items == (0.0, 0.0, 0.0)
    assert scores.notes == {"empty predictions": 2, "empty references": 2}


def test_an_identical_pair_is_a_hundred_in_any_script() -> None:
    for text in ("ช้างเดินข้ามถนน", "我喜欢吃苹果", "\ud800\x00\x07", "ភ្នំពេញ", "a b"):
        assert chrf([text], [[text]]).value == pytest.approx(100.0)


def test_what_is_not_a_pair_is_refused() -> None:
    with pytest.raises(InputError, match="there is no reference"):
        chrf(["a"], [[]])


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(UserError, match="char_order"):
        chrf(["a"], [["a"]], char_order=0)
