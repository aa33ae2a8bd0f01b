"""The published filters, one by one; Thai beside them; seeds of every kind; whom draws agree on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hinlap.core.errors import InputError
from hinlap.data.novelty import NoveltyPool
from hinlap.data.self_instruct.choosing import agreement
from hinlap.data.self_instruct.filters import (
    COLON,
    CONTRADICTION,
    ECHO,
    NO_OUTPUT,
    REPEATED,
    Instance,
    usable_instances,
    why_dropped,
    why_no_news,
)
from hinlap.data.self_instruct.prompts import (
    Steer,
    ask_classification,
    ask_example,
    ask_instructions,
    ask_labelled,
    ask_whole_tasks,
)
from hinlap.data.self_instruct.seeds import SeedTask, read_seeds

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LENGTH = "fewer than 4 or more than 150 words"
KEYWORD = "keyword (image, file, video ...)"

PUBLISHED = [
    ("Name a river.", LENGTH),  # three words fall, four pass
    ("Name a long river.", ""),
    ("word " * 150, ""),
    ("word " * 151, LENGTH),
    ("", LENGTH),
    ("Describe the picture in two sentences.", KEYWORD),
    ("GO TO the kitchen and cook.", KEYWORD),
    ("Explain what a cartographer is.", ""),  # no word of the list, though it holds "graph"
    ("Profile the king of Siam.", ""),
    ("Write a program that adds numbers.", "begins with 'Write a program'"),
    ("Please write a program that adds.", ""),
    ("- name a long river", "begins with punctuation"),
    ("“Name” a long river now", "begins with punctuation"),
    ("Énumérez trois grands fleuves.", "begins with a non-ASCII letter"),
    ("บอกชื่อแม่น้ำสามสายในเอเชีย", "begins with a non-ASCII letter"),
]


@pytest.mark.parametrize(("instruction", "wanted"), PUBLISHED)
def test_each_published_filter(instruction: str, wanted: str) -> None:
    assert why_dropped(instruction.strip()) == wanted


@pytest.mark.parametrize(
    ("instruction", "wanted"),
    [
        ("บอกชื่อแม่น้ำสามสายในเอเชีย", ""),  # one run of letters, and more than three words
        ("แม่น้ำ", LENGTH),
        ("วาดรูปแมวหนึ่งตัวบนเสื่อ", KEYWORD),
        ("บอกวิธีดูแลสุขภาพสามข้อ", ""),  # health is written with the letters of "picture"
        ("เขียนโปรแกรมบวกเลขสองจำนวน", "begins with 'Write a program'"),
    ],
)
def test_thai_is_filtered_by_its_words(instruction: str, wanted: str) -> None:
    assert why_dropped(instruction, ascii_start=False) == wanted


def test_similarity_comes_last() -> None:
    pool = NoveltyPool(["Name three rivers of Asia."])
    assert why_no_news("Name three rivers of Asia.", pool) == ("ROUGE-L above 0.7 with the pool", 1)
    assert why_no_news("Asia.", pool) == (LENGTH, 0.0)
    reason, similarity = why_no_news("Name three lakes of Peru now.", pool)
    assert reason == ""
    assert 0 < similarity < 0.7


def test_instances_that_teach_nothing() -> None:
    kept, dropped = usable_instances(
        [Instance("a", "b"), Instance("a", "b"), Instance("x", "x"), Instance("c", ""),
         Instance("d", "so:"), Instance("", "e"), Instance("", "f")]
    )  # fmt: skip
    assert kept == [Instance("a", "b"), Instance("", "e"), Instance("", "f")]
    assert dropped == [REPEATED, ECHO, NO_OUTPUT, COLON]


def test_one_input_with_two_outputs_takes_all_instances_along() -> None:
    kept, dropped = usable_instances([Instance("a", "b"), Instance("a", "c"), Instance("d", "e")])
    assert kept == []
    assert dropped == [CONTRADICTION] * 3


def test_the_draw_in_the_middle_agrees_most() -> None:
    values = agreement(["Bangkok is the capital", "The capital is Bangkok", "Bangkok, the capital",
                        "I do not know"])  # fmt: skip
    assert max(values) == values[2]
    assert min(values) == values[3]
    assert agreement(["one"]) == [0.0]
    assert agreement(["a b", "a c"])[0] == agreement(["a b", "a c"])[1]


SEED = SeedTask("s", "Add the numbers.", (("1, 2", "3"),))


def test_prompts_number_on_and_hold_what_steers_them() -> None:
    prompt = ask_instructions(["Name a\nriver:", "Sort."], 3, "en", Steer("tea", "a nurse"))
    text = prompt.messages[0].content
    assert text.endswith("1. Name a river\n2. Sort.")
    assert "from 3 to 5" in text
    assert "tea" in text
    assert "a nurse" in text
    nothing = ask_instructions([], 3, "th").messages[0].content
    assert "1 ถึง 3" in nothing


def test_braces_of_a_user_do_no_harm() -> None:
    for prompt in (
        ask_instructions(["Fill {this} in."], 2, "en", Steer("{topic}", "{0}")),
        ask_example("Fill {this} in.", [SEED], "en"),
        ask_whole_tasks([SEED], 2, "en", Steer("{wanted}")),
    ):
        assert "{" in prompt.messages[0].content


def test_examples_by_people_stand_where_there_are_some() -> None:
    own = ask_example("Subtract.", [SEED], "en").messages[0].content
    assert "Task: Add the numbers.\nInput: 1, 2\nOutput: 3" in own
    assert own.rstrip().endswith("Task: Subtract.")
    built_in = ask_example("ลบเลข", [], "th").messages[0].content
    assert built_in.count("งาน:") == 3
    judged = SeedTask("c", "Good or bad?", (("I liked it.", "good"), ("", "bad")), True)
    labelled = ask_labelled("True or false?", [judged], "en").messages[0].content
    assert "Label: good\nInput: I liked it." in labelled
    assert "Answer: Yes" in ask_classification("Name a river.", "en").messages[0].content


def test_the_published_seeds_are_read() -> None:
    file = SHARED / "alpaca" / "seed_tasks.jsonl"
    if not file.is_file():
        pytest.skip("the shared data is not here")
    tasks, bad = read_seeds(file)
    assert (len(tasks), bad) == (175, [])
    assert sum(task.is_classification is True for task in tasks) == 26
    assert tasks[0].id == "seed_task_0"


def write(path: Path, *records: object) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


GOOD = {"instruction": "Add.", "instances": [{"input": "1, 2", "output": "3"}]}


def test_bad_seeds_are_told_and_the_good_ones_kept(tmp_path: Path) -> None:
    file = write(
        tmp_path / "seeds.jsonl.gz",
        GOOD,
        '{"instruction": "cut',
        {"instruction": "", "instances": []},
        {"instruction": "No answer.", "instances": [{"input": "x", "output": " "}]},
        {"instruction": "Not texts.", "instances": [{"input": 1, "output": "y"}]},
        ["a", "list"],
        {**GOOD, "id": "seed-1"},
    )
    tasks, bad = read_seeds(file)
    assert [task.id for task in tasks] == ["seed-1"]
    assert [row.where.rpartition(":")[2] for row in bad] == ["2", "3", "4", "5", "6", "7"]
    assert "stands above" in bad[-1].reason


def test_any_rows_are_seeds_and_those_of_one_instruction_one_task(tmp_path: Path) -> None:
    file = write(
        tmp_path / "seeds.jsonl",
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Add.", "input": "1, 3", "output": "4"},
        {"instruction": "Name a river.", "input": "", "output": "The Ping."},
        {"instruction": "No answer.", "input": "", "output": ""},
    )
    tasks, bad = read_seeds(file)
    assert [task.instances for task in tasks] == [
        (("1, 2", "3"), ("1, 3", "4")),
        (("", "The Ping."),),
    ]
    assert len(bad) == 1


@pytest.mark.parametrize("content", ["", "\n\n", '{"instances": []}\n'])
def test_a_file_without_a_seed_says_what_one_looks_like(tmp_path: Path, content: str) -> None:
    file = tmp_path / "seeds.jsonl"
    file.write_text(content)
    with pytest.raises(InputError, match=r"seeds\.jsonl"):
        read_seeds(file)
