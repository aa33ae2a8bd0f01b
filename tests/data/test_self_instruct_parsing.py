"""Reading a model's answers: what models write around tasks, and what is cut."""

from __future__ import annotations

import pytest

from hinlap.data.self_instruct.filters import Instance
from hinlap.data.self_instruct.parsing import (
    read_example,
    read_instructions,
    read_labelled,
    read_sections,
    read_whole_tasks,
    read_yes,
)

LISTS = [
    ("9. Name a river.\n10. Sort these.", ["Name a river.", "Sort these."]),
    ("Sure, here you go!\n\n1) Name a river.\n2) Sort these.\n\nEnjoy!",
     ["Name a river.", "Sort these."]),
    ("- **Name a river.**\n* \"Sort these.\"", ["Name a river.", "Sort these."]),
    ("1. Task: Name a river.\n2. Instruction 2: Sort these.", ["Name a river.", "Sort these."]),
    ("1. Name a river\n   of Asia.", ["Name a river of Asia."]),
    ("๙. บอกชื่อแม่น้ำ\n๑๐. เรียงคำเหล่านี้", ["บอกชื่อแม่น้ำ", "เรียงคำเหล่านี้"]),
    ("I cannot think of any task.", []),
    ("", []),
    ("1. \n2. Sort these.", ["Sort these."]),
    ("1. Add 3.5 and 4. Then stop.", ["Add 3.5 and 4. Then stop."]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), LISTS)
def test_items_of_a_list(text: str, wanted: list[str]) -> None:
    assert read_instructions(text, cut=False) == wanted


def test_the_last_item_of_a_cut_list_is_left_out() -> None:
    assert read_instructions("1. Name a river.\n2. Sort th", cut=True) == ["Name a river."]
    assert read_instructions("1. Sort th", cut=True) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Yes", True), ("**No**", False), ("Answer: yes.", True), ("yesterday", None), ("", None),
     ("Nothing is one.", None), ("ใช่", True), ("ไม่", False), ("คำตอบ: ไม่ใช่", False)],
)  # fmt: skip
def test_yes_and_no(text: str, wanted: bool | None) -> None:
    assert read_yes(text) is wanted


EXAMPLES = [
    ("Input: 1, 2\nOutput: 3", Instance("1, 2", "3")),
    ("Output: 3", Instance("", "3")),
    ("**Input:** None.\n**Output:** 3", Instance("", "3")),
    ("Input: 1\n2\nOutput: a\n\nb", Instance("1\n2", "a\n\nb")),
    ("Output: Let us add.\nAnswer: 3", Instance("", "Let us add.\nAnswer: 3")),
    ("Input: 1\nOutput: 3\nInput: 4\nOutput: 5", Instance("1", "3")),
    ("Task: Add.\nInput: 1\nOutput: 3\n###\nTask: Next", Instance("1", "3")),
    ("ข้อมูล: ไม่มี\nผลลัพธ์: สาม", Instance("", "สาม")),
    ("Output:", Instance("", "")),
    ("Input: Input: 1\nOutput: Output: 3", Instance("1", "3")),
    ("Three.", None),
    ("Input: 1, 2", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), EXAMPLES)
def test_an_example(text: str, wanted: Instance | None) -> None:
    assert read_example(text, cut=False) == wanted


def test_a_cut_output_is_none_and_a_cut_next_example_does_no_harm() -> None:
    assert read_example("Input: 1\nOutput: thre", cut=True) is None
    assert read_example("Input: 1\nOutput: 3\nInput: 4", cut=True) == Instance("1", "3")


def test_labels_come_before_their_inputs() -> None:
    text = "Label: good\nInput: I liked it.\n\nLabel: bad\nInput: Never again."
    both = [Instance("I liked it.", "good"), Instance("Never again.", "bad")]
    assert read_labelled(text, cut=False) == both
    assert read_labelled(text, cut=True) == both[:1]
    assert read_labelled("Label: good\nLabel: bad\nInput: Never.", cut=False) == [
        Instance("Never.", "bad")
    ]
    assert read_labelled("It is good.", cut=False) == []


def test_whole_tasks_and_how_many_are_broken() -> None:
    text = (
        "Task: Add.\nInput: 1, 2\nOutput: 3\n###\n"
        "2. Instruction: Name a river.\n2. Input: <noinput>\n2. Output:\nThe Ping.\n###\n"
        "Task: Half of it"
    )
    tasks, broken = read_whole_tasks(text, cut=False)
    assert tasks == [
        ("Add.", Instance("1, 2", "3")),
        ("Name a river.", Instance("", "The Ping.")),
    ]
    assert broken == 1
    assert read_whole_tasks("Task: Add.\nInput: 1\nOutput: 3", cut=True) == ([], 1)
    assert read_whole_tasks("no task here", cut=False) == ([], 0)


def test_sections_of_a_variant() -> None:
    assert read_sections("Instruction: a\nInput: none\nOutput: b") == {
        "task": "a", "input": "", "output": "b",
    }  # fmt: skip
