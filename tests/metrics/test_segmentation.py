"""Words of texts in any script: what is cut by which rule, and what compares equal."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from hinlap.core.errors import MissingExtraError, UserError
from hinlap.metrics.segmentation import (
    CHOICES,
    segmentation_signature,
    spaced,
    uses_latin_only,
    words,
)

THAI_NEWS = Path(__file__).parents[3] / "shared" / "data" / "thai-news"
TEXT = "ช้างตัวหนึ่งเดินข้ามถนน and 5 cars หยุดรอ"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's 2 hats", ["the", "cat", "s", "2", "hats"]),
        ("naïve Ａ", ["na", "ve", "ａ"]),
        ("รถไฟฟ้า BTS มาแล้ว", ["รถไฟฟ้า", "bts", "มา", "แล้ว"]),
        ("covid19ระบาด", ["covid19", "ระบาด"]),
        ("ราคา ๑๒๓ บาท", ["ราคา", "๑๒๓", "บาท"]),
        ("ພາສາ ນ້ຳ", ["ພ", "າ", "ສ", "າ", "ນ້ຳ"]),
        ("ភ្នំពេញ", ["ភ្នំ", "ពេ", "ញ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("他说：“你好”。", ["他", "说", "你", "好"]),
        ("カタカナの時代", ["カ", "タ", "カ", "ナ", "の", "時", "代"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("Привет, мир!", ["привет", "мир"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مرحبا ١٢", ["مرحبا", "١٢"]),
        ("\ud800 a\x00b 😀", ["a", "b"]),
        ("", []),
    ],
)
def test_each_script_is_cut_by_its_own_rule(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.characters(max_codepoint=0x36F)) | st.text())
def test_without_other_letters_auto_is_the_peers_rule(text: str) -> None:
    peer = DefaultTokenizer().tokenize(text)
    assert words(text, "rouge-score") == peer
    if uses_latin_only(text):
        assert words(text) == peer
        assert segmentation_signature([text]) == "rouge-score"
        assert spaced(text) == text


@given(st.text(), st.sampled_from(["auto", "newmm", "zh", "char", "rouge-score"]))
def test_any_text_has_words_in_any_choice(text: str, choice: str) -> None:
    found = words(text, choice)
    assert all(word and not any(map(str.isspace, word)) for word in found)
    assert spaced(text, choice) is not None
    if choice == "auto" and found:
        assert words(spaced(text)), "spacing out keeps words"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("text", [TEXT, "น้ำใจ ทำ กุ้ง พันธุ์", "ນ້ຳ", "Ёлка й", "각하", "がぎ"])
def test_normal_forms_of_a_text_are_the_same_words(form: str, text: str) -> None:
    other = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert words(other) == words(text)
    if not text.startswith("Ё") and text[0] != "각":  # spaced scripts stay as written
        assert spaced(other) == spaced(text)


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("น\u0e4d\u0e49\u0e32", "น้ำ"),  # nikhahit, tone, sara aa
        ("น\u0e49\u0e4d\u0e32", "น้ำ"),  # what NFKC makes of it
        ("น\u0e33\u0e49", "น้ำ"),  # sara am before its tone
        ("ท\u0e48\u0e35", "ที่"),  # tone before the vowel it stands on
        ("ก\u0e49\u0e38ง", "กุ้ง"),
        ("พันธ\u0e4c\u0e38", "พันธุ์"),
        ("\u0e40\u0e40มว", "แมว"),  # two sara e
        ("ນ\u0ecd\u0ec9\u0eb2", "ນ້ຳ"),
    ],
)
def test_spellings_that_look_alike_are_one_word(typed: str, word: str) -> None:
    assert words(typed) == words(word)
    assert spaced(typed) == spaced(word)


def test_spacing_out_keeps_what_is_already_spaced() -> None:
    assert spaced("Hello,  world!\n") == "Hello,  world!\n"
    assert spaced("Привет,  мир!") == "Привет,  мир!"
    assert spaced("OK: ช้างกินกล้วย! 你好。") == "OK: ช้าง กิน กล้วย ! 你 好 。"


def test_a_choice_rules_the_whole_text() -> None:
    assert words("Ab ไทย", "char") == ["a", "b", "ไ", "ท", "ย"]
    assert words("ไทย ok", "rouge-score") == ["ok"]
    assert spaced("他说。ok!", "zh") == TokenizerZh()("他说。ok!")
    assert words("JR 東日本。", "zh") == ["jr", "東", "日", "本"]


@pytest.mark.parametrize(("choice", "package"), [("ja-mecab", "ipadic"), ("ko-mecab", "mecab_ko")])
def test_mecab_works_or_names_its_extra(choice: str, package: str) -> None:
    text = {"ja-mecab": "東京は大きい", "ko-mecab": "한국어는 좋다"}[choice] + " \x00\ud800 a"
    if importlib.util.find_spec(package):
        assert len(words(text, choice)) > 2
        assert segmentation_signature([], choice).startswith(choice)
        return
    with pytest.raises(MissingExtraError, match=rf"hinlap\[{choice[:2]}\]"):
        words(text, choice)


def test_an_unknown_choice_is_named() -> None:
    for ask in (words, spaced):
        with pytest.raises(UserError, match=r"no segmentation 'deepcut'\n.*newmm"):
            ask("a", "deepcut")
    with pytest.raises(UserError, match="deepcut"):
        segmentation_signature([], "deepcut")


def test_the_signature_names_the_scripts_met_and_their_segmenters() -> None:
    met = segmentation_signature(["a", "ไทย ok", "ລາວ", "한국어", "中"], latin="13a")
    parts = [part.split(":")[0] for part in met.split("+")]
    assert parts == ["13a", "thai", "lao", "cjk", "spaced"]
    assert "thai:newmm-pythainlp-" in met
    assert segmentation_signature(["“Café”…", "x²"]) == "rouge-score"
    assert segmentation_signature(["a"], "newmm").startswith("newmm-pythainlp-")
    assert segmentation_signature(["ไทย"], "rouge-score") == "rouge-score"
    assert segmentation_signature([], "zh").startswith("zh-sacrebleu-")
    assert all(segmentation_signature([], c) for c in CHOICES if "mecab" not in c)


@pytest.mark.skipif(not THAI_NEWS.is_dir(), reason="the shared Thai news are not here")
def test_newmm_finds_the_published_word_ends_of_thai_news() -> None:
    with gzip.open(THAI_NEWS / "thaicrosssum_test_summaries.txt.gz", "rt", encoding="utf-8") as f:
        lines = f.read().split("\n")[:300]
    hit = ours = theirs = 0
    for line in lines:
        published = [word for word in line.split(" ") if word]
        found = words("".join(published))
        if "".join(found) != "".join(published).lower():
            continue  # punctuation: ends cannot be laid side by side
        a = set(itertools.accumulate(map(len, found)))
        b = set(itertools.accumulate(map(len, published)))
        hit, ours, theirs = hit + len(a & b), ours + len(a), theirs + len(b)
    assert theirs > 1000
    assert 2 * hit / (ours + theirs) > 0.9
