from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.core.errors import InputError
from hinlap.metrics.constraints import KINDS, Constraint, loose_readings, read_constraint
from hinlap.metrics.sentences import sentences

# made by lm-evaluation-harness 0.4.13, tasks/ifeval (langdetect with seed 0; sentences by nltk's
# Punkt with the parameters of its English model): test_instruction_following_strict and _loose
GOLDEN = [
    json.loads(line)
    for line in Path(__file__).with_name("ifeval_golden.jsonl").read_text("utf-8").splitlines()
]


def kept(name: str, text: str, **settings: Any) -> bool:
    return read_constraint(name, settings, "here").kept(text)


@pytest.mark.parametrize("name", sorted({row["id"] for row in GOLDEN}))
def test_every_constraint_of_the_peer_is_kept_where_the_peer_says_so(name: str) -> None:
    if KINDS[name].detects:
        pytest.importorskip("langdetect")
    for row in GOLDEN:
        if row["id"] == name:
            constraint = read_constraint(name, row["settings"], "here")
            found = constraint.kept(row["text"]), constraint.kept_loosely(row["text"])
            assert found == (row["strict"], row["loose"]), row


def test_the_golden_values_hold_both_outcomes_of_each_constraint_of_the_peer() -> None:
    for name in {row["id"] for row in GOLDEN}:
        assert {row["strict"] for row in GOLDEN if row["id"] == name} == {True, False}, name
    assert len({row["id"] for row in GOLDEN}) == 25


@given(st.text(alphabet="ab*\n ", max_size=40))
def test_what_is_kept_strictly_is_kept_loosely(text: str) -> None:
    for name, settings in (
        ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}),
        ("length_constraints:number_lines", {"num_lines": 2, "relation": "exactly"}),
        ("detectable_format:number_bullet_lists", {"num_bullets": 1}),
    ):
        constraint = Constraint(name, settings)
        assert constraint.kept_loosely(text) >= constraint.kept(text)
        assert loose_readings(text)[0] == text
        assert len(loose_readings(text)) == 8


@pytest.mark.parametrize("name", list(KINDS))
def test_an_empty_text_keeps_nothing(name: str) -> None:
    example = {"number": 0, "text": "a", "pattern": "a", "texts": ["a"], "patterns": ["a"],
               "relation": "at least"}  # fmt: skip
    settings = {field: example[kind] for field, kind in KINDS[name].fields.items()}
    assert not Constraint(name, settings).kept(" \n")


def test_thai_is_counted_by_words_and_forbidden_inside_lines_without_spaces() -> None:
    text = "ช้างกินกล้วย"
    words = "length_constraints:number_words"
    assert kept(words, text, num_words=3, relation="exactly")
    assert not kept("keywords:forbidden_words", text, forbidden_words=["กล้วย"])
    assert kept("keywords:forbidden_words", text, forbidden_words=["ส้ม"])
    assert kept("keywords:forbidden_words", "categories", forbidden_words=["cat"])


@pytest.mark.parametrize(
    ("word", "text", "times"),
    [
        ("วัด", "ไปวัดแล้วไปวัดอีก", 2),
        ("วัด", "จังหวัดเชียงใหม่", 0),
        ("เงา", "เงาะเป็นผลไม้", 0),
        ("ทะเล", "น้ำทะเลเค็ม", 1),  # a compound of two words
        ("น้ำ", "น\u0e4d\u0e49\u0e32ใส", 1),  # sara am spelt as two
        ("ดวงจันทร์", "", 0),
        ("เงา", "เงาๆ", 1),
        ("กรุงเทพ", "กรุงเทพฯ", 1),
        ("แอป Line", "ใช้แอป LINE", 1),
        ("นก", "คนกินข้าว", 0),  # over the border of two words
    ],
)
def test_a_thai_keyword_is_a_word_and_no_run_of_letters(word: str, text: str, times: int) -> None:
    exactly = {"keyword": word, "frequency": times, "relation": "exactly"}
    text += " 1"
    assert kept("keywords:frequency", text, **exactly)
    assert kept("keywords:existence", text, keywords=[word]) == bool(times)
    assert kept("keywords:forbidden_words", text, forbidden_words=[word]) == (not times)


@pytest.mark.parametrize(
    ("text", "thai", "english"),
    [
        ("วันนี้ฝนตก", True, False),
        ("วันนี้ฝนตก at noon", True, False),
        ("It rains in the north and we are out.", False, True),
        ("IT RAINS IN THE NORTH.", False, True),
        ("Es regnet heute sehr stark, und wir bleiben lieber zu Hause.", False, False),
        ("Il pleut très fort et nous restons chez nous.", False, False),
        ("12 34 !", False, False),
    ],
)
def test_english_and_thai_are_told_apart(text: str, thai: bool, english: bool) -> None:
    assert kept("language:thai", text) == thai
    assert kept("language:english", text) == english


@pytest.mark.parametrize(
    ("name", "settings", "text", "expected"),
    [
        ("length_constraints:number_lines", {"num_lines": 2, "relation": "exactly"},
         "a\n\nb", True),
        ("length_constraints:number_characters", {"num_characters": 4, "relation": "at most"},
         " cafe\u0301 ", True),
        ("length_constraints:blank_line_paragraphs", {"num_paragraphs": 2, "relation": "exactly"},
         "a\nb\n \n\nc\n", True),
        ("startend:start_checker", {"start_phrase": "In short,"}, '"in short, yes"', True),
        ("startend:start_checker", {"start_phrase": "In short,"}, "Well, in short,", False),
        ("detectable_format:numbered_list", {"num_items": 2}, "Steps:\n1. a\n 2) b\n", True),
        ("detectable_format:numbered_list", {"num_items": 2}, "1. a\n3. b", False),
        ("detectable_format:numbered_list", {"num_items": 1}, "1.5 litres", False),
        ("detectable_format:json_keys", {"keys": ["a", "b"]},
         '```json\n{"b": 1, "a": 2}\n```', True),
        ("detectable_format:json_keys", {"keys": ["a", "b"]}, '{"a": 1}', False),
        ("detectable_format:json_keys", {"keys": ["a"]}, "[" * 100_000, False),
        ("change_case:all_capital", {}, "STOP 5!", True),
        ("change_case:all_lowercase", {}, "Stop", False),
        ("punctuation:no_digits", {}, "๕", False),
    ],
)  # fmt: skip
def test_constraints_of_our_own(
    name: str, settings: dict[str, Any], text: str, expected: bool
) -> None:
    assert kept(name, text, **settings) == expected


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("length:words", {}, "no constraint 'length:words'"),
        (["a"], {}, "no constraint"),
        ("punctuation:no_comma", {"n": 1}, "has the settings n"),
        ("startend:end_checker", {}, "has the settings none"),
        ("startend:end_checker", {"end_phrase": 5}, "5, not a text"),
        ("startend:end_checker", None, "no object"),
        ("keywords:existence", {"keywords": []}, "not a list of texts"),
        ("keywords:existence", {"keywords": ["("]}, "no regular expression"),
        ("detectable_format:number_bullet_lists", {"num_bullets": True}, "not a whole number"),
        ("detectable_format:number_bullet_lists", {"num_bullets": -1}, "not a whole number"),
        ("length_constraints:number_words", {"num_words": 5, "relation": "about"}, "not one of"),
    ],
)
def test_a_constraint_that_cannot_be_is_refused_in_words(
    name: Any, settings: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_constraint(name, settings, "items.jsonl:3")
    assert caught.value.where == "items.jsonl:3"


def test_settings_of_null_are_left_out_as_the_papers_file_has_them() -> None:
    found = read_constraint("punctuation:no_comma", {"num_words": None, "keyword": None}, "")
    assert found == Constraint("punctuation:no_comma", {})


def test_sentences_of_an_empty_text_and_of_one_without_ends() -> None:
    assert sentences("") == []
    assert len(sentences("no end here")) == 1
    assert len(sentences("Mr. A. Smith paid 3.5 million. Really?! Yes...")) == 3
