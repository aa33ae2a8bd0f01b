from __future__ import annotations

import pytest
from tests.data.gate_rows import asked

from hinlap.core.rows import Row
from hinlap.data.gates.overlap import HeldOut, overlap

QUESTION = "What is the most popular sport in Japan?"
PASSAGE = (
    "The harbour town counted its boats on Monday and found one more than last year, so the "
    "mayor asked the fishermen to count again on Tuesday before the tide came in."
)
TESTS = [HeldOut("quiz", "q1", QUESTION, True), HeldOut("quiz", "p1", PASSAGE, False)]


def kinds(rows: list[Row], tests: list[HeldOut] = TESTS) -> list[tuple[int, str]]:
    return [(f.row, f.kind) for f in overlap(rows, tests).findings]


def test_a_test_question_is_found_whatever_its_case_and_punctuation() -> None:
    assert kinds(asked(("what is the most popular sport in japan", "Baseball"))) == [
        (0, "question")
    ]


def test_it_is_found_as_input_too() -> None:
    assert kinds([Row("a", "Answer the question.", "Baseball", QUESTION)]) == [(0, "question")]


def test_words_added_are_nearly_the_question() -> None:
    rows = asked((f"Please, {QUESTION[0].lower()}{QUESTION[1:]}", "Baseball"))
    assert kinds(rows) == [(0, "near_question")]


def test_another_country_is_another_question() -> None:
    assert kinds(asked((QUESTION.replace("Japan", "Canada"), "Ice hockey"))) == []


def test_another_number_is_another_question() -> None:
    tests = [HeldOut("sums", "1", "How many boats are 12 boats and 30 boats in the harbour?", True)]
    assert (
        kinds(asked(("How many boats are 12 boats and 31 boats in the harbour?", "43")), tests)
        == []
    )


def test_thirteen_words_of_a_passage_are_found_anywhere_and_twelve_are_not() -> None:
    words = PASSAGE.split()
    thirteen, twelve = " ".join(words[5:18]), " ".join(words[5:17])
    assert kinds(asked(("Go on.", f"They say: {thirteen}."))) == [(0, "passage")]
    assert kinds(asked(("Go on.", f"They say: {twelve} it ended."))) == []


def test_thai_passages() -> None:
    thai = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้าและรถทุกคันหยุดรอจนกว่าช้างจะเดินพ้นไปถึงอีกฝั่งของถนน"
    tests = [HeldOut("thai", "1", thai, False)]
    assert kinds(asked(("สรุป", f"ข่าววันนี้ {thai[5:60]} จบ")), tests) == [(0, "passage")]
    assert kinds(asked(("สรุป", f"ข่าววันนี้ {thai[5:30]} จบ")), tests) == []


def test_short_held_out_texts_flag_nothing() -> None:
    assert kinds(asked(("Yes.", "Why not?")), [HeldOut("quiz", "1", "Yes.", True)]) == []


@pytest.mark.parametrize("rows", [[], asked(("", "")), asked(("🎉", "🎉"))])
def test_nothing_in_nothing(rows: list[Row]) -> None:
    assert overlap(rows, TESTS).findings == ()
    assert overlap(rows, []).findings == ()


def test_each_test_set_is_said_with_its_items_and_rows() -> None:
    report = overlap(asked((QUESTION, "Baseball")), TESTS)
    assert report.notes == ("quiz, 2 items: in 1 row",)
