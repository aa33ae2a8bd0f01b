"""What makes a variant of a row, and what none: a copy, a lost number, another language."""

from __future__ import annotations

import pytest

from hinlap.core.errors import UserError
from hinlap.core.rows import Origin, Row
from hinlap.data.augment.kinds import (
    COPY,
    INPUT_LOST,
    NEAR,
    NUMBERS,
    SAME_ANSWER,
    UNREADABLE,
    WRONG_LANGUAGE,
    ask_variant,
    augmentation_named,
    variant_of,
)

ROW = Row(
    "r1",
    "Name 3 rivers of Asia that flow into the sea.",
    "The Mekong, the Ganges and the Indus.",
    group="rivers",
    origin=Origin.HUMAN,
    labels={"category": "geography"},
)
SUM = Row("r2", "Add the two numbers.", "The sum of both is 1234.", input="1,000 and 234")
PARAPHRASE, HARDER, THAI = map(augmentation_named, ("paraphrase", "harder", "translate:th"))


def test_a_paraphrase_keeps_the_answer_and_names_its_parent() -> None:
    made = variant_of(ROW, PARAPHRASE, "Instruction: Which 3 Asian rivers reach an ocean?")
    assert isinstance(made, Row)
    assert made.instruction == "Which 3 Asian rivers reach an ocean?"
    assert (made.output, made.input) == (ROW.output, ROW.input)
    assert (made.origin, made.parent, made.group) == (Origin.DERIVED, "r1", "rivers")
    assert made.id != ROW.id
    assert made.labels == {"category": "geography", "variant": "paraphrase"}


def test_a_translation_has_all_parts_in_the_other_language() -> None:
    made = variant_of(
        SUM, THAI, "Instruction: บวกเลขสองจำนวน\nInput: ๑,๐๐๐ กับ 234\nOutput: ผลรวมของทั้งสองคือ 1,234"
    )
    assert isinstance(made, Row)
    assert (made.instruction, made.input) == ("บวกเลขสองจำนวน", "๑,๐๐๐ กับ 234")
    assert made.labels["variant"] == "translate:th"


def test_a_harder_task_has_its_own_answer() -> None:
    made = variant_of(
        ROW, HARDER, "Instruction: Name the longest river of each continent.\nInput: none\n"
        "Output: The Nile, the Yangtze ...",
    )  # fmt: skip
    assert isinstance(made, Row)
    assert made.output == "The Nile, the Yangtze ..."
    assert made.input == ""


FALLS = [
    (ROW, PARAPHRASE, "I would rather not.", UNREADABLE),
    (ROW, PARAPHRASE, "Instruction: name 3 rivers of ASIA, that flow into the sea!", COPY),
    (ROW, PARAPHRASE, "Instruction: Name 3 rivers of Asia that flow into a sea.", NEAR),
    (ROW, PARAPHRASE, "Instruction: Which Asian rivers reach an ocean?", NUMBERS),
    (ROW, PARAPHRASE, "Instruction: แม่น้ำ 3 สายใดในเอเชียไหลลงทะเล", WRONG_LANGUAGE),
    (ROW, THAI, "Instruction: แม่น้ำ 3 สายในเอเชีย", UNREADABLE),
    (ROW, THAI, "Instruction: Three rivers, 3.\nOutput: แม่น้ำโขง คงคา สินธุ", WRONG_LANGUAGE),
    (ROW, THAI, "Instruction: บอกแม่น้ำ 3 สาย\nOutput: The Mekong, the Ganges.", WRONG_LANGUAGE),
    (ROW, THAI, "Instruction: บอกแม่น้ำ 3 สาย\nInput: เอเชีย\nOutput: โขง คงคา สินธุ", INPUT_LOST),
    (SUM, THAI, "Instruction: บวกเลขสองจำนวน\nOutput: ผลรวมคือ 1234", INPUT_LOST),
    (SUM, THAI, "Instruction: บวกเลข\nInput: 1000 กับ 234\nOutput: ผลรวมคือเท่าไร", NUMBERS),
    (ROW, HARDER, "Instruction: Name the ten longest rivers.", UNREADABLE),
    (ROW, HARDER, f"Instruction: Name longer ones.\nOutput: {ROW.output}", SAME_ANSWER),
]


@pytest.mark.parametrize(("row", "kind", "answer", "wanted"), FALLS)
def test_what_is_no_variant(row: Row, kind: object, answer: str, wanted: str) -> None:
    assert variant_of(row, kind, answer) == wanted  # type: ignore[arg-type]


def test_a_name_as_answer_may_stay_as_it_is() -> None:
    row = Row("r", "What is the capital of France?", "Paris")
    made = variant_of(row, THAI, "Instruction: เมืองหลวงของฝรั่งเศสคือเมืองใด\nOutput: Paris")
    assert isinstance(made, Row)


def test_the_prompt_holds_what_is_to_be_varied_in_the_row_s_language() -> None:
    assert "Output:" not in ask_variant(ROW, PARAPHRASE).messages[0].content.split("\n\n", 1)[1]
    text = ask_variant(SUM, THAI).messages[0].content
    assert "into Thai" in text
    assert "Input: 1,000 and 234\n\nOutput: The sum of both is 1234." in text
    thai = Row("t", "บอกชื่อแม่น้ำสามสาย", "ปิง วัง ยม")
    assert "ถ้อยคำอื่น" in ask_variant(thai, PARAPHRASE).messages[0].content


@pytest.mark.parametrize("name", ["", "translate", "translate:xx", "paraphrase:th", "easier"])
def test_an_unknown_kind_says_which_there_are(name: str) -> None:
    with pytest.raises(UserError, match="translate:th"):
        augmentation_named(name)
