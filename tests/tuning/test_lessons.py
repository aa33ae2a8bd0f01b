"""What is learnt of a row: ids exactly as served, answers only, nothing left out in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hinlap.core.messages import Message, Prompt
from hinlap.core.rows import Row
from hinlap.engines.local import LocalEngine
from hinlap.engines.prompt_formats import FORMATS, use_format
from hinlap.tuning.lessons import EMPTY, TOO_LONG, Lesson, encode_lessons, encode_texts, lesson_of


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def test_the_prompt_is_encoded_as_it_is_served(tiny_model: Path, tokenizer: Any) -> None:
    engine = LocalEngine("tiny", tiny_model)
    asked = (Message("system", "Be brief."), user("ช้างตัวหนึ่ง  walks"))
    [taken] = encode_lessons(
        [
            Lesson((*asked, assistant("yes"))),
        ],
        tokenizer,
        512,
    ).taken
    prompt = engine.encode_prompt(Prompt(asked))
    assert taken.ids[: len(prompt)].tolist() == prompt
    assert not taken.learnt[: len(prompt)].any()


def test_the_answer_is_learnt_up_to_and_with_its_end(tokenizer: Any) -> None:
    [taken] = encode_lessons([Lesson((user("a"), assistant(" a boat \n")))], tokenizer, 512).taken
    assert tokenizer.decode(taken.ids[taken.learnt]) == "a boat<|im_end|>"
    assert taken.ids[-1] == tokenizer.eos_token_id


def test_every_turn_of_a_conversation_teaches(tokenizer: Any) -> None:
    turns = (user("one"), assistant("first"), user("two"), assistant("second"))
    [taken] = encode_lessons([Lesson(turns)], tokenizer, 512).taken
    assert tokenizer.decode(taken.ids[taken.learnt]) == "first<|im_end|>second<|im_end|>"


def test_a_template_that_drops_earlier_turns_makes_a_sequence_of_each(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages[-2:] %}{{ m['content'] }}|{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    turns = (user("one"), assistant("first"), user("two"), assistant("second"))
    taken = encode_lessons([Lesson(turns)], tokenizer, 512).taken
    assert [tokenizer.decode(each.ids[each.learnt]) for each in taken] == [
        "first<|im_end|>",
        "second<|im_end|>",
    ]


def test_a_model_without_a_template_is_taught_plain_text(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    [taken] = encode_lessons([Lesson((user("asked"), assistant("said")))], tokenizer, 512).taken
    assert tokenizer.decode(taken.ids) == "asked\nsaid<|im_end|>"


@pytest.mark.parametrize("specials", [True, False])
def test_dolly_s_rows_end_with_its_end(tokenizer: Any, specials: bool) -> None:
    known = FORMATS["dolly"]
    use_format(tokenizer, known)
    if specials:
        tokenizer.add_special_tokens({"additional_special_tokens": list(known.special_tokens)})
    row = Row("1", "Name it.", "A boat.", input="It floats.")
    [taken] = encode_lessons([lesson_of(row)], tokenizer, 512).taken
    end = "### End" if specials else "### End<|im_end|>"
    assert tokenizer.decode(taken.ids[taken.learnt]) == f"A boat.\n\n{end}"
    before = tokenizer.decode(taken.ids[~taken.learnt])
    assert before.endswith("### Instruction:\nName it.\n\nInput:\nIt floats.\n\n### Response:\n")


def test_an_input_goes_below_the_instruction_where_a_format_has_no_place_for_it(
    tokenizer: Any,
) -> None:
    [taken] = encode_lessons(
        [lesson_of(Row("1", "Name it.", "x", input="It"))], tokenizer, 99
    ).taken
    assert "Name it.\n\nIt<|im_end|>" in tokenizer.decode(taken.ids)


def test_what_does_not_teach_is_counted_by_reason(tokenizer: Any) -> None:
    rows = [
        Lesson((user("a"), assistant("b"))),
        Lesson((user("a" * 900), assistant("b"))),
        Lesson((user("a"), assistant(" \n"))),
    ]
    encoded = encode_lessons(rows, tokenizer, 64)
    assert len(encoded.taken) == 1
    assert encoded.left_out == {TOO_LONG: 1, EMPTY: 1}


def test_running_text_is_all_learnt_but_its_first_token(tokenizer: Any) -> None:
    encoded = encode_texts(["The harbour town counted its boats.", ""], tokenizer, 6)
    ids = tokenizer("The harbour town counted its boats.")["input_ids"] + [tokenizer.eos_token_id]
    again = encoded.taken[0].ids.tolist()
    for each in encoded.taken[1:]:
        assert each.ids[0] == again[-1]  # what ended the one before is what this is told from
        again += each.ids[1:].tolist()
    assert again == ids
    assert sum(int(each.learnt.sum()) for each in encoded.taken) == len(ids) - 1
    assert encoded.left_out == {"empty texts": 1}


def test_a_digest_names_ids_and_what_is_learnt(tokenizer: Any) -> None:
    def digest(*turns: Message) -> str:
        return encode_lessons([Lesson(turns)], tokenizer, 99).digest()

    assert digest(user("a"), assistant("b")) == digest(user("a"), assistant("b"))
    assert digest(user("a"), assistant("b")) != digest(user("a"), assistant("c"))
