from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.app.declaration import StepSpec
from hinlap.app.parse import Unreadable, is_refusal, parse_answer

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def step(parse: Any = "text") -> StepSpec:
    return StepSpec.model_validate({"name": "s", "prompt": "p", "parse": parse})


def test_text_loses_only_its_outer_blank_space() -> None:
    assert parse_answer("  a\n b \n", step()) == "a\n b"


@pytest.mark.parametrize(
    "parse", ["text", {"one_of": ["a", "b"]}, {"json_schema": {}}], ids=["text", "list", "json"]
)
def test_an_empty_answer_is_unreadable(parse: Any) -> None:
    with pytest.raises(Unreadable, match="the answer is empty"):
        parse_answer(" \n", step(parse))


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("safe", "safe"),
        ("SAFE", "safe"),
        ('"Safe."', "safe"),
        ("**safe**", "safe"),
        ("The answer is safe.", "safe"),
        ("not safe", "not safe"),
        ("It is not safe at all", "not safe"),
        ("Category: ข่าวเด่น", "ข่าวเด่น"),
        ("หมวด: ข่าวเด่น", "ข่าวเด่น"),
        ("safe, safe, safe", "safe"),
    ],
)
def test_one_of_a_list_is_found_in_what_stands_around_it(answer: str, value: str) -> None:
    assert parse_answer(answer, step({"one_of": ["safe", "not safe", "ข่าวเด่น"]})) == value


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("unsafe", "none of: safe, not safe"),
        ("safety first", "none of"),
        ("maybe", "none of"),
        ("safe and then not safe", "several of"),
    ],
)
def test_none_or_several_of_a_list_is_unreadable(answer: str, what: str) -> None:
    with pytest.raises(Unreadable, match=f"the answer names {what}"):
        parse_answer(answer, step({"one_of": ["safe", "not safe"]}))


def test_signs_in_a_listed_value_are_signs() -> None:
    assert parse_answer("I say C++ (the language)", step({"one_of": ["C++", "C"]})) == "C++"


@pytest.mark.parametrize(
    "answer",
    [
        '{"age": 3, "name": "Mali"}',
        'Here it is:\n```json\n{"name": "Mali", "age": 3}\n```\nDone.',
        'I think {so} and [this]: {"name": "Mali", "age": 3} {"name": "Other"}',
    ],
)
def test_json_is_found_and_made_canonical(answer: str) -> None:
    if answer.startswith("I think"):
        answer = answer.replace("[this]", "(this)")
    assert parse_answer(answer, step({"json_schema": PERSON})) == '{"age": 3, "name": "Mali"}'


def test_thai_in_json_stays_readable() -> None:
    assert parse_answer('{"name": "มะลิ 🌸"}', step({"json_schema": PERSON})) == '{"name": "มะลิ 🌸"}'


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("no braces here", "no JSON in the answer"),
        ('{"name": "Mali"', "no JSON in the answer"),
        ("[" * 5000, "no JSON in the answer"),
        ('{"age": 3}', "top: 'name' is a required property"),
        ('{"name": "Mali", "age": "three"}', "age: 'three' is not of type 'integer'"),
        ('{"name": "Mali", "age": -1}', "age: -1 is less than the minimum of 0"),
        ('"Mali"', "top: 'Mali' is not of type 'object'"),
    ],
)
def test_json_that_does_not_fit_is_unreadable_and_says_where(answer: str, what: str) -> None:
    with pytest.raises(Unreadable, match=what):
        parse_answer(answer, step({"json_schema": PERSON}))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_canonical_json_is_read_as_itself(value: dict[str, int]) -> None:
    parsed = parse_answer(json.dumps(value), step({"json_schema": {"type": "object"}}))
    assert json.loads(parsed) == value
    assert parse_answer(parsed, step({"json_schema": {"type": "object"}})) == parsed


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m unable to do so.",
        "As an AI, I must not.",
        "ขออภัย ฉันไม่สามารถตอบได้",
        "“I cannot write this.”",
    ],
)
def test_a_refusal_is_known_by_its_opening(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The mayor said: I'm sorry for the delay.",
        "I can't be seen, but you can feel me. What am I?",
        "ฉันไม่สามารถบินได้ แต่ฉันมีปีก ฉันคืออะไร",
        "Unfortunately, it rained.",
        "",
    ],
)
def test_a_text_that_only_holds_such_words_is_no_refusal(answer: str) -> None:
    assert not is_refusal(answer)
