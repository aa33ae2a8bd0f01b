"""BLEU against sacrebleu, its published cases and mteval's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from tests.metrics.sacrebleu_layout import (
    cases,
    needs_cases,
    needs_wmt,
    per_item,
    streams,
    systems,
    wmt,
)

from hinlap.core.errors import InputError, MissingExtraError, UserError
from hinlap.metrics.bleu import SMOOTHINGS, Smoothing, bleu
from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.stats.paired import compare_paired
from hinlap.stats.resampling import resampled_sums

# few different words, so that n-grams meet; and any text at all
near = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", ".", "5,0", "...", "แมว", "&amp;", "\ud800"]),
    max_size=12,
).map(" ".join)
text = near | st.text(max_size=20)
corpora = st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=5)


@given(
    corpora,
    st.sampled_from(["13a", "intl", "zh", "char", "none"]),
    st.booleans(),
    st.sampled_from(SMOOTHINGS),
    st.sampled_from([None, 0.5, 2]),
    st.integers(1, 6),
)
def test_equals_sacrebleu_on_any_corpus(
    pairs: list[tuple[str, list[str]]],
    tokenize: str,
    lowercase: bool,
    smooth: Smoothing,
    value: float | None,
    order: int,
) -> None:
    predictions, references = [p for p, _ in pairs], [own for _, own in pairs]
    ours = bleu(
        predictions,
        references,
        tokenize=tokenize,
        lowercase=lowercase,
        smooth=smooth,
        smooth_value=value,
        max_order=order,
    )

    def peer(effective_order: bool) -> BLEU:
        return BLEU(
            lowercase=lowercase,
            tokenize=tokenize,
            smooth_method=smooth,
            smooth_value=value,
            max_ngram_order=order,
            effective_order=effective_order,
        )

    corpus, sentence = peer(effective_order=False), peer(effective_order=True)
    expected = corpus.corpus_score(predictions, streams(references))
    assert ours.value == pytest.approx(expected.score, abs=1e-9)
    alone = [sentence.sentence_score(p, own).score for p, own in pairs]
    assert ours.items == pytest.approx(alone, abs=1e-9)
    assert ours.signature.startswith(f"BLEU|{corpus.get_signature()}")


@given(corpora)
def test_a_resample_is_the_corpus_score_of_the_drawn_items(
    pairs: list[tuple[str, list[str]]],
) -> None:
    scores = bleu([p for p, _ in pairs], [own for _, own in pairs], tokenize="13a")
    drawn = [0] * 2 + list(range(len(pairs)))
    predictions, references = [pairs[i][0] for i in drawn], [pairs[i][1] for i in drawn]
    expected = BLEU().corpus_score(predictions, streams(references))
    figure = float(scores.reduce(scores.stats[drawn].sum(axis=0)))
    assert figure == pytest.approx(expected.score, abs=1e-9)


@needs_cases
@pytest.mark.parametrize(
    "case", [*cases.get("corpus_bleu", ()), *cases.get("corpus_bleu_max_ngram_order", ())]
)
def test_sacrebleus_published_corpora(case: dict[str, Any]) -> None:
    options = case.get("options", {})
    scores = bleu(
        case["hypotheses"],
        per_item(case["references"]),
        tokenize=options.get("tokenize", "auto"),
        smooth=options.get("smooth_method", "exp"),
        max_order=case.get("max_ngram_order", 4),
    )
    places = 1e-6 if "max_ngram_order" not in case else 0.005
    assert scores.value == pytest.approx(case["score"], abs=places)


@needs_cases
@pytest.mark.parametrize(
    "case", [*cases.get("sentence_bleu", ()), *cases.get("sentence_bleu_zero", ())]
)
def test_sacrebleus_published_sentences(case: dict[str, Any]) -> None:
    assert case["use_effective_order"]
    scores = bleu(
        [case["hypothesis"]],
        [case["references"]],
        tokenize=case["tokenize"],
        lowercase=case["lowercase"],
        smooth=case["smooth_method"],
        smooth_value=case["smooth_value"],
    )
    assert scores.items[0] == pytest.approx(case["score"], abs=0.001)


@needs_wmt
@pytest.mark.parametrize("row", systems, ids=lambda row: row["system"])
def test_equals_mteval_and_sacrebleu_on_wmt17(row: dict[str, Any]) -> None:
    outputs, reference = wmt(f"system.{row['system']}"), wmt("reference")
    scores = bleu(outputs, [[text] for text in reference])
    assert scores.value == pytest.approx(row["bleu_mteval_v13a"], abs=0.005)
    assert scores.value == pytest.approx(BLEU().corpus_score(outputs, [reference]).score, abs=1e-9)
    if row["bleu_mteval_v14_intl"] is not None:
        scores = bleu(outputs, [[text] for text in reference], tokenize="intl")
        assert scores.value == pytest.approx(row["bleu_mteval_v14_intl"], abs=0.005)


@needs_wmt
def test_p_values_on_wmt17_agree_with_moses_and_multeval() -> None:
    """Official ones from 2,000 resamples, three runs averaged (Moses), and 10,000 (MultEval)."""
    references = [[text] for text in wmt("reference")]
    base = bleu(wmt("system.LIUM-NMT.4900"), references, tokenize="none")
    for row in systems:
        if row["p_value_vs_LIUM_bleu_moses_bootstrap"] is None:
            continue
        other = bleu(wmt(f"system.{row['system']}"), references, tokenize="none")
        found = compare_paired(other.stats, base.stats, base.reduce, seed=0)
        official = row["p_value_vs_LIUM_bleu_ter_multeval_ar"][0]
        assert found.p == pytest.approx(official, abs=4 * error(official, 10_000, 10_000))
        sums = resampled_sums(np.hstack([other.stats, base.stats]), 0, 10_000)
        columns = base.stats.shape[1]
        gaps = np.abs(base.reduce(sums[:, :columns]) - base.reduce(sums[:, columns:]))
        p = float((gaps - gaps.mean() > abs(found.difference or 0.0)).mean())  # as Moses counts
        official = row["p_value_vs_LIUM_bleu_moses_bootstrap"]
        assert p == pytest.approx(official, abs=4 * error(official, 10_000, 6_000))


def error(p: float, ours: int, theirs: int) -> float:
    """Standard error of the difference of two Monte-Carlo estimates of p."""
    return float(np.sqrt(max(p * (1 - p), 0.0005) * (1 / ours + 1 / theirs)))


@needs_wmt
def test_the_interval_on_wmt17_is_sacrebleus() -> None:
    outputs, reference = wmt("system.FBK.4870"), wmt("reference")
    peer = BLEU().corpus_score(outputs, [reference], n_bootstrap=1000)
    scores = bleu(outputs, [[text] for text in reference])
    ours = bootstrap_interval(scores.stats, scores.reduce, seed=0)
    assert ours.low == pytest.approx(peer._mean - peer._ci, abs=0.1)
    assert ours.high == pytest.approx(peer._mean + peer._ci, abs=0.1)


def test_the_length_of_the_nearest_reference_counts_and_of_two_the_shorter() -> None:
    scores = bleu(["a b c d"], [["a b c d e f", "a b c", "a b c d e", ""]])
    assert scores.stats[0, :2].tolist() == [4, 3]


def test_a_word_counts_as_often_as_one_reference_has_it() -> None:
    scores = bleu(["the the the"], [["the the a", "the cat"]])
    assert scores.stats[0, 2] == 2


def test_no_items_is_undefined() -> None:
    scores = bleu([], [])
    assert scores.value is None
    assert scores.items == ()


def test_nothing_in_common_is_zero() -> None:
    scores = bleu(["x y z w"], [["a b c d"]])
    assert (scores.value, scores.items, scores.notes) == (0.0, (0.0,), {})


def test_one_token_scores_alone_and_is_noted_in_the_corpus() -> None:
    scores = bleu(["cat"], [["cat"]])
    assert scores.items == pytest.approx((100.0,))
    assert scores.value == 0.0
    assert scores.notes == {"predictions under 4 tokens, so no corpus BLEU above 0": 1}


def test_empty_texts_are_counted() -> None:
    scores = bleu(["", "a b c d", "a b c d"], [["a b c d"], [" ", "a"], ["a b c d"]])
    assert scores.notes == {"empty predictions": 1, "empty references": 1}


def test_lone_surrogates_and_control_characters_are_tokens_like_others() -> None:
    odd = "a \ud800 \x00 b \x07 c"
    assert bleu([odd], [[odd]]).value == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("predictions", "references", "complaint"),
    [
        (["a", "b"], [["a"]], "2 predictions and 1 lists of references"),
        (["a"], [[]], "there is no reference"),
        (["a"], ["a"], "one text where a list of texts is meant"),
        ([None], [["a"]], "must be texts"),
        (["a"], [[None]], "must be texts"),
    ],
)
def test_what_is_not_a_pair_is_refused(predictions: Any, references: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        bleu(predictions, references)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(UserError, match="no tokeniser 'flores'"):
        bleu(["a"], [["a"]], tokenize="flores")
    with pytest.raises(UserError, match="no smoothing"):
        bleu(["a"], [["a"]], smooth="gauss")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="max_order"):
        bleu(["a"], [["a"]], max_order=0)


def test_the_signature_is_sacrebleus_and_tells_the_number_of_references() -> None:
    assert bleu(["a"], [["a", "b"]]).signature == str("BLEU|" + signature("2", "13a"))
    assert bleu(["a", "b"], [["a", "b"], ["c"]]).signature == "BLEU|" + signature("var", "13a")
    assert bleu(["a"], [["a"]], max_order=2).signature.endswith("|order:2")


def signature(references: str, tokenizer: str) -> str:
    peer = BLEU()
    peer.num_refs = references
    peer.tokenizer_signature = tokenizer
    return str(peer.get_signature())


def test_thai_words_count_and_the_signature_says_so() -> None:
    scores = bleu(["ช้างกินกล้วยในป่า (ok)."], [["ช้างกินอ้อยในป่า (ok)."]])
    assert 0 < scores.items[0] < 100
    assert "tok:13a+thai:newmm-pythainlp-" in scores.signature
    text = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า และรถทุกคันหยุดรอ"
    assert bleu([text], [[text]]).value == pytest.approx(100.0)


def test_two_spellings_of_one_thai_word_are_equal() -> None:
    composed, apart = "น้ำใสไหลเย็นในป่า", "นํ้าใสไหลเย็นในป่า"
    assert composed != apart
    assert bleu([apart], [[composed]]).items == pytest.approx((100.0,))


def test_chinese_is_cut_as_sacrebleu_cuts_it() -> None:
    predictions, references = ["我喜欢吃苹果和梨。"], [["我喜欢吃苹果和香蕉。", "我爱吃苹果"]]
    scores = bleu(predictions, references)
    peer = BLEU(tokenize="zh")
    assert scores.value == peer.corpus_score(predictions, streams(references)).score
    assert scores.signature == f"BLEU|{peer.get_signature()}"


@pytest.mark.parametrize(
    ("text", "language"),
    [("猫は魚を食べるのが好きです。", "ja"), ("고양이는 생선을 좋아한다.", "ko")],
)
def test_japanese_and_korean_are_cut_by_mecab_or_into_characters(text: str, language: str) -> None:
    scores = bleu([text], [[text]])
    assert scores.value == pytest.approx(100.0)
    try:
        bleu([text], [[text]], tokenize=f"{language}-mecab")
    except MissingExtraError:
        assert "tok:char" in scores.signature
        note = f"items cut into characters, as {language}-mecab is not installed"
        assert scores.notes == {note: 1}
    else:
        assert scores.notes == {}
        assert f"tok:{language}-mecab" in scores.signature


def test_a_chinese_name_in_english_text_leaves_the_rest_to_13a() -> None:
    scores = bleu(["He met 习近平 on Monday."], [["He met 习近平 on a Monday."]])
    assert "tok:13a+cjk:char" in scores.signature
    assert scores.stats[0, 0] == 8  # He met 习 近 平 on Monday .
