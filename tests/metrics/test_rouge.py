"""ROUGE against google's rouge-score, the official script's published values, and bad input."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from hinlap.core.errors import InputError, UserError
from hinlap.metrics.rouge import VARIANTS, Variant, mean_precision_and_recall, rouge, rouges
from hinlap.metrics.scores import Scores
from hinlap.metrics.segmentation import uses_latin_only, words

DATA = Path(__file__).parents[3] / "shared" / "data"
FIXTURES = DATA / "metric-fixtures"
XSUM = DATA / "xsum-outputs"
THAI_NEWS = DATA / "thai-news"

# words that meet again, with endings that stemmers treat; and what is no word at all
VOCABULARY = "the cat cats dog's runs running economy economic ties dying a İs K é 42 - \x00 \ud800"
TEXTS = st.one_of(
    st.lists(st.sampled_from([*VOCABULARY.split(" "), "\n"]), max_size=40).map(" ".join),
    st.text(),
)
ITEMS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4)
PEERS = {stem: RougeScorer(list(VARIANTS), use_stemmer=stem) for stem in (False, True)}


def rows(scores: Scores) -> list[tuple[float, ...]]:
    """(precision, recall, F) of each item, the peer's order."""
    return [(p, r, f) for f, _, p, r in scores.stats.tolist()]


def read(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        return stream.read().removesuffix("\n").split("\n")


@settings(deadline=None)
@given(ITEMS, st.booleans())
def test_equals_rouge_score_on_any_text(items: list[tuple[str, list[str]]], stem: bool) -> None:
    predictions, references = [p for p, _ in items], [own for _, own in items]
    scores = rouges(VARIANTS, predictions, references, stem=stem, segmentation="rouge-score")
    for i, (prediction, own) in enumerate(items):
        expected = PEERS[stem].score_multi(own, prediction)
        for variant in VARIANTS:
            assert rows(scores[variant])[i] == tuple(expected[variant])
            assert scores[variant].items[i] == expected[variant].fmeasure


@settings(deadline=None)
@given(TEXTS, st.lists(TEXTS.filter(uses_latin_only), min_size=1, max_size=2), st.booleans())
def test_auto_equals_rouge_score_where_references_are_latin(
    prediction: str, own: list[str], stem: bool
) -> None:
    expected = PEERS[stem].score_multi(own, prediction)
    for variant, scores in rouges(VARIANTS, [prediction], [own], stem=stem).items():
        assert "tok:rouge-score|" in scores.signature
        assert scores.items[0] in (expected[variant].fmeasure, None)
        assert (scores.items[0] is None) == (not any(words(text) for text in own))


def wide(words: int, lines: int, seed: int) -> str:
    drawn = np.random.default_rng(seed).integers(0, 40, words)
    return "\n".join(" ".join(f"w{n}" for n in part) for part in np.array_split(drawn, lines))


@pytest.mark.parametrize("lines", [(1, 1), (1, 4), (4, 1), (3, 5)])
@pytest.mark.parametrize("words", [80, 300])  # below and above what a 64-bit mask holds
def test_long_sentences_equal_rouge_score(words: int, lines: tuple[int, int]) -> None:
    texts = [(wide(words, lines[0], i), wide(words, lines[1], i + 50)) for i in range(5)]
    scores = rouge("rougeLsum", [p for p, _ in texts], [[r] for _, r in texts], stem=False)
    expected = [tuple(PEERS[False].score(r, p)["rougeLsum"]) for p, r in texts]
    assert rows(scores) == expected


def test_one_word_again_and_again_equals_rouge_score() -> None:
    text = ("the " * 90 + "\n") * 3
    scores = rouge("rougeLsum", [text], [[text + "cat"]], stem=False)
    assert rows(scores)[0] == tuple(PEERS[False].score(text + "cat", text)["rougeLsum"])


# Lin (2004), section 3.1: S1 "police killed the gunman", S2, S3; ROUGE-2 and -L recalls are given
@pytest.mark.parametrize(
    ("variant", "prediction", "reference", "value"),
    [
        ("rougeL", "police kill the gunman", "police killed the gunman", 1.0),  # stemmed
        ("rougeL", "the gunman kill police", "police killed the gunman", 0.5),
        ("rouge2", "police kill the gunman", "police ended the gunman", 1 / 3),
        ("rouge1", "a b c d", "a b e f", 0.5),
        ("rouge1", "The CAT.", "the cat", 1.0),
        # section 3.2: w1 to w5 against two sentences, whose union covers w1 w2 w3 w5
        ("rougeLsum", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 8 / 15),
    ],
)
def test_textbook_cases(variant: Variant, prediction: str, reference: str, value: float) -> None:
    scores = rouge(variant, [prediction], [[reference]], stem=True)
    assert scores.items[0] == pytest.approx(value)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the shared fixtures are not here")
@pytest.mark.parametrize("segmentation", ["auto", "rouge-score"])
def test_equals_the_official_perl_script_where_its_output_is_published(segmentation: str) -> None:
    published = json.loads((FIXTURES / "rouge155_reference_scores.json").read_text())
    targets = (FIXTURES / "rouge155_target.txt").read_text().split("\n")
    predictions = (FIXTURES / "rouge155_prediction.txt").read_text().split("\n")
    cases = [(predictions[c["line"]], targets[c["line"]], c) for c in published["lines"]]
    cases += [(c["prediction"], c["target"], c) for c in published["small"]]
    checked = 0
    for prediction, target, case in cases:
        for variant in set(VARIANTS) & set(case):
            scores = rouge(
                variant,
                [prediction],
                [[target]],
                stem=case.get("stemmer", False),
                segmentation=segmentation,
            )
            rounding = 6e-6 if "line" in case else 6e-5
            expected = case[variant]
            found = dict(zip(("precision", "recall", "f"), rows(scores)[0], strict=True))
            for part in expected:
                assert found[part] == pytest.approx(expected[part], abs=rounding), (variant, part)
                checked += 1
    assert checked > 30


@pytest.mark.skipif(not XSUM.is_dir(), reason="the shared XSum outputs are not here")
@pytest.mark.parametrize(
    ("system", "package"),  # rouge-score's figures for these files, as their note gives them
    [("ptgen", (29.34, 9.17, 23.04)), ("lead", (16.01, 1.58, 11.79))],
)
def test_the_published_rouge_of_xsum_systems(
    system: str, package: tuple[float, float, float]
) -> None:
    references = [[line] for line in read(XSUM / "gold.txt.gz")]
    variants: tuple[Variant, ...] = ("rouge1", "rouge2", "rougeL")
    scores = rouges(variants, read(XSUM / f"{system}.txt.gz"), references, stem=True)
    figures = [round(100 * (scores[v].value or 0), 2) for v in variants]
    assert figures == list(package)
    perl = json.loads((XSUM / "reference_scores.json").read_text())["scores"][system]
    for variant, figure in zip(variants, figures, strict=True):
        assert figure == pytest.approx(perl["f-score"][variant], abs=0.4)
        precision, recall = mean_precision_and_recall(scores[variant])
        assert 100 * (precision or 0) == pytest.approx(perl["precision"][variant], abs=0.6)
        assert 100 * (recall or 0) == pytest.approx(perl["recall"][variant], abs=0.6)


def test_the_best_of_several_references_counts() -> None:
    scores = rouge("rouge1", ["a b c"], [["x y z", "a b d", "a b c d e f"]], stem=False)
    assert rows(scores) == [(2 / 3, 2 / 3, 2 / 3)]
    assert "refs:3" in scores.signature
    assert "refs:various" in rouge("rouge1", ["a"] * 2, [["a"], ["a", "b"]], stem=False).signature


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "text",
    [
        "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า",
        "ພາສາລາວ",
        "ភ្នំពេញ",
        "မြန်မာစာ",
        "你好世界",
        "東京タワー",
        "한국어 단어",
        "Привет мир",
    ],
)
def test_an_identical_pair_in_any_script_scores_one(variant: Variant, text: str) -> None:
    assert rouge(variant, [text], [[text]], stem=True).value == 1.0


def test_thai_is_cut_into_words_not_letters() -> None:
    scores = rouge("rouge1", ["ช้างกินกล้วย"], [["ช้างกินอ้อย"]], stem=False)
    assert scores.items[0] == pytest.approx(2 / 3)


def test_mixed_thai_and_english_counts_both_and_stems_english() -> None:
    assert rouge("rouge1", ["รถไฟฟ้า BTS"], [["รถไฟฟ้า MRT"]], stem=False).items[0] == 0.5
    assert rouge("rouge1", ["ชอบ running"], [["ชอบ runs"]], stem=True).items[0] == 1.0


def test_an_items_score_does_not_depend_on_the_others() -> None:
    english = rouge("rougeLsum", ["the cat"], [["a cat"]], stem=True)
    mixed = rouge("rougeLsum", ["the cat", "ไทย"], [["a cat"], ["ไทย 中文"]], stem=True)
    assert mixed.items[0] == english.items[0]


class OurWords(Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return words(text)


def test_against_latin_references_auto_is_the_peer_whatever_is_predicted() -> None:
    predictions, reference = ["the cat 你好\nก่อน", "THE cat"], "the café\ncat"
    scores = rouges(VARIANTS, predictions, [[reference]] * 2, stem=True)
    for i, prediction in enumerate(predictions):
        for variant, expected in PEERS[True].score(reference, prediction).items():
            assert rows(scores[variant])[i] == tuple(expected)
    assert "tok:rouge-score|" in scores["rouge1"].signature


def test_two_systems_on_the_same_references_have_one_signature() -> None:
    references = [["ช้างกินกล้วย"], ["a cat"]]
    one = rouge("rouge1", ["ช้าง", "a"], references, stem=False)
    other = rouge("rouge1", ["中文 ช้าง", "кот"], references, stem=False)
    assert one.signature == other.signature
    assert rows(other)[0] == (1 / 3, 1 / 3, 1 / 3)  # what it wrote besides still counts as words


@pytest.mark.skipif(not THAI_NEWS.is_dir(), reason="the shared Thai news are not here")
def test_thai_news_summaries_with_and_without_segmentation() -> None:
    with gzip.open(THAI_NEWS / "thaisum_sample.jsonl.gz", "rt", encoding="utf-8") as stream:
        items: list[dict[str, Any]] = [json.loads(line) for line in stream]
    summaries = [item["summary"] for item in items]
    references = [[summary] for summary in summaries]
    peer = RougeScorer(list(VARIANTS), tokenizer=OurWords())
    outputs = [item["seallm_7b_v2_output"] for item in items]  # half of them refuse, in English
    leads = [item["text"][: len(item["summary"])] for item in items]
    for predictions in (outputs, leads):
        scores = rouges(VARIANTS, predictions, references, stem=False)
        expected = [peer.score(r, p) for r, p in zip(summaries, predictions, strict=True)]
        for variant in VARIANTS:
            assert rows(scores[variant]) == [tuple(e[variant]) for e in expected]
    cut = rouge("rougeL", leads, references, stem=False)
    uncut = rouge("rougeL", leads, references, stem=False, segmentation="rouge-score")
    assert "thai:newmm" in cut.signature
    assert (uncut.value or 0) < (cut.value or 0)  # only digits and Latin names are seen
    assert uncut.notes["references without words"] > 10


# --- degenerate input: a defined value or a counted case


def test_a_reference_without_words_is_undefined_counted_and_left_out() -> None:
    scores = rouge("rouge1", ["a b", "a", "!"], [["a b"], [""], ["...", "\x00\ud800"]], stem=True)
    assert scores.items == (1.0, None, None)
    assert scores.value == 1.0
    assert scores.notes == {"references without words": 2, "predictions without words": 1}
    assert rouge("rougeL", ["a"], [[""]], stem=True).value is None


def test_with_the_peers_segmentation_it_is_the_peers_zero_and_counted() -> None:
    scores = rouge("rouge1", ["a b", "a"], [["a b"], [""]], stem=True, segmentation="rouge-score")
    assert scores.items == (1.0, 0.0)
    assert scores.value == 0.5
    assert scores.notes == {"references without words": 1}


def test_one_reference_with_words_is_enough() -> None:
    scores = rouge("rouge1", ["a"], [["", "a"]], stem=True)
    assert scores.items == (1.0,)
    assert scores.notes == {}


def test_an_empty_prediction_scores_zero_and_is_counted() -> None:
    scores = rouge("rougeLsum", ["", "\n\n"], [["a b"], ["a b"]], stem=False)
    assert scores.value == 0.0
    assert scores.notes == {"predictions without words": 2}


def test_one_word_has_no_word_pair_which_is_counted() -> None:
    scores = rouges(VARIANTS, ["cat", "a cat"], [["cat"], ["cat"]], stem=False)
    assert scores["rouge1"].items[0] == scores["rougeLsum"].items[0] == 1.0
    assert scores["rouge2"].items == (0.0, 0.0)
    assert scores["rouge2"].notes == {"texts of one word": 2}


def test_empty_lines_and_controls_change_nothing() -> None:
    plain = rouge("rougeLsum", ["a b\nc d"], [["a c\nb d"]], stem=False)
    odd = rouge("rougeLsum", ["\n\na b\n\n\x00\nc d"], [["a\x07c\n\n\nb \ud800 d\n"]], stem=False)
    assert rows(odd) == rows(plain)


def test_no_items_is_undefined_not_zero() -> None:
    for variant, scores in rouges(VARIANTS, [], [], stem=True).items():
        assert scores.value is None
        assert scores.name == variant
        assert mean_precision_and_recall(scores) == (None, None)


def test_texts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="2 predictions and 1"):
        rouge("rouge1", ["a", "b"], [["a"]], stem=True)
    with pytest.raises(InputError, match="item 0"):
        rouge("rouge1", ["a"], [[]], stem=True)
    with pytest.raises(InputError, match="one text"):
        rouge("rouge1", ["a"], ["a"], stem=True)
    with pytest.raises(UserError, match="no metric 'rouge9'"):
        rouge("rouge9", ["a"], [["a"]], stem=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no segmentation 'words'"):
        rouge("rouge1", ["a"], [["a"]], stem=True, segmentation="words")


def test_the_signature_names_tokenizer_stemmer_and_peer() -> None:
    english = rouge("rougeL", ["a"], [["“a”"]], stem=True).signature
    assert (
        english == "rougeL|f-measure|mean|stem:porter|tok:rouge-score|refs:1|rouge-score-0.1.2|v2"
    )
    thai = rouge("rougeL", ["ก"], [["ก"]], stem=False).signature
    assert "tok:rouge-score+thai:newmm-pythainlp-" in thai
    assert "stem:no" in thai
    assert "tok:char" in rouge("rougeL", [""], [["a"]], stem=False, segmentation="char").signature


def test_statistics_are_enough_for_a_resample() -> None:
    scores = rouge("rouge1", ["a b", "a", "c"], [["a c"], [""], ["c"]], stem=False)
    drawn = scores.stats[[0, 0, 1, 2]].sum(axis=0)
    assert float(scores.reduce(drawn)) == pytest.approx((0.5 + 0.5 + 1.0) / 3)
