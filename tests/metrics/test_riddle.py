from __future__ import annotations

import json
from pathlib import Path

import pytest

from hinlap.metrics.match import exact_match
from hinlap.metrics.riddle import is_riddle, leaks_answer, solvable

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("text", "answer", "leaks"),
    [
        ("I shine for ships at night. What am I?", "lighthouse", 0.0),
        ("A lighthouse stands alone. What am I?", "lighthouse", 1.0),
        ("Many lighthouses stand. What am I?", "Lighthouse", 1.0),  # plural, case
        ("The bee makes honey. What am I?", "honeybees", 0.0),  # parts of a compound are no leak
        ("I ride the wind. What am I?", "wind turbine", 1.0),  # one content word is enough
        ("I am the one in the news. What am I?", "the map", 0.0),  # stop words do not leak
        ("ฉันตัวใหญ่ มีงวง ฉันคืออะไร", "ช้าง", 0.0),
        ("ช้างตัวใหญ่คืออะไร", "ช้าง", 1.0),
        ("ฉันไหลผ่านหมู่บ้าน นํ้าใส ฉันคืออะไร", "น้ำ", 1.0),  # sara am, composed or not
    ],
)
def test_leaks(text: str, answer: str, leaks: float) -> None:
    assert leaks_answer([text], [answer]).items == (leaks,)


@pytest.mark.parametrize(
    ("text", "riddle"),
    [
        ("I have hands but cannot clap, and a face but cannot smile. What am I?", 1.0),
        ("I have hands but cannot clap, and a face but cannot smile.", 0.0),
        ("What am I?", 0.0),  # too short
        ("What is it? " + "word " * 70, 0.0),  # too long
        ("The council will meet on Monday, will it really?", 0.0),  # no question word
        ("ฉันมีงวงยาวและหูใหญ่ เดินช้าในป่า ฉันคืออะไร", 1.0),
        ("ช้างเดินในป่าทุกเช้าและกินกล้วยเป็นอาหาร", 0.0),
    ],
)
def test_is_riddle(text: str, riddle: float) -> None:
    assert is_riddle([text]).items == (riddle,)


@pytest.mark.parametrize("app", ["news-riddles", "news-riddles-th"])
def test_the_premade_riddles_keep_their_answers_and_are_riddles(app: str) -> None:
    rows = [
        json.loads(line)
        for split in ("train", "test")
        for line in (EXAMPLES / app / "data" / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    riddles = [row["riddle"] for row in rows]
    assert leaks_answer(riddles, [row["answer"] for row in rows]).value == 0.0
    assert is_riddle(riddles).value == 1.0


def test_lower_is_better_for_leaks() -> None:
    assert not leaks_answer(["x"], ["y"]).higher_is_better


def test_solvable_is_a_share_with_its_rule_in_the_signature() -> None:
    scores = solvable([True, False, False, True], candidates=10, model="m", rule="r")
    assert scores.value == 0.5
    assert scores.signature == "solvable|candidates:10|r|m|v1"


def test_no_riddles_is_undefined() -> None:
    assert solvable([], candidates=10, model="m", rule="r").value is None
    assert is_riddle([]).value is None


def test_exact_match_folds_case_spaces_and_composition() -> None:
    assert exact_match(["Cafe\u0301  au lait"], [["tea", "café au Lait"]]).value == 1.0
    missed = exact_match([""], [["x"]])
    assert (missed.value, missed.notes) == (0.0, {"empty predictions": 1})
