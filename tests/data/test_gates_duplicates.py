from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.data.gate_rows import ALPACA, DOLLY, RIDDLES, asked, shared_rows

from hinlap.core.rows import Row
from hinlap.data.gates.duplicates import NEAR, duplicates, near_pairs
from hinlap.data.gates.shingling import Shingler, likely_pairs
from hinlap.data.near_duplicates import normalised

LONG = (
    "Write about the harbour town that counted its boats on Monday",
    "The harbour town counted its boats on Monday and found one more than last year, so the "
    "mayor asked the fishermen to count again on Tuesday before the tide came in.",
)


def kinds(rows: Sequence[Row]) -> list[tuple[int, str, int | None]]:
    return [(f.row, f.kind, f.other) for f in duplicates(rows).findings]


def test_a_row_again_is_a_copy_whatever_its_case_and_spacing() -> None:
    rows = asked(("Name a fruit.", "Mango"), ("name  a FRUIT.", "mango\u200b\n"), ("Hi", "Hello"))
    assert kinds(rows) == [(1, "copy", 0)]


def test_another_answer_to_the_same_question_is_a_conflict_and_stays() -> None:
    report = duplicates(
        asked(("Capital of Australia?", "Canberra"), ("Capital of Australia?", "Perth"))
    )
    assert [(f.row, f.kind, f.removes) for f in report.findings] == [(1, "conflict", False)]


def test_one_word_changed_in_a_long_row_is_a_near_copy() -> None:
    rows = asked(LONG, (LONG[0], LONG[1].replace("mayor", "priest")))
    assert kinds(rows) == [(1, "near_copy", 0)]


def test_another_number_makes_no_near_copy() -> None:
    rows = asked(
        (LONG[0], LONG[1] + " It was the 12th time."), (LONG[0], LONG[1] + " It was the 13th time.")
    )
    assert kinds(rows) == [(1, "conflict", 0)]


def test_signs_count_in_sums() -> None:
    assert kinds(asked(("What is 5 + 3?", "8"), ("What is 5 - 3?", "2"))) == []


def test_two_questions_on_one_long_passage_are_no_copies() -> None:
    passage = LONG[1] * 3
    rows = [
        Row("a", "Who asked the fishermen to count?", "The mayor", passage),
        Row("b", "When did they find another boat?", "On Monday", passage),
    ]
    assert kinds(rows) == []


def test_of_three_like_rows_the_first_stays() -> None:
    rows = asked(LONG, (LONG[0], LONG[1].replace("mayor", "priest")), LONG)
    assert kinds(rows) == [(1, "near_copy", 0), (2, "copy", 0)]


def test_thai_near_copies_are_found_segmented_or_not() -> None:
    thai = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้าและรถทุกคันหยุดรอจนกว่าช้างจะเดินพ้นไปถึงอีกฝั่งของถนน"
    rows = asked(("เล่าเรื่องช้าง", thai), ("เล่าเรื่องช้าง", thai.replace("และ", " และ ") + "แล้ว"))
    assert kinds(rows) == [(1, "near_copy", 0)]


@pytest.mark.parametrize(
    "rows", [[], asked(("Hi", "Hello")), asked(("", ""), ("a", "b")), asked(("🎉", "🎉🎉"))]
)
def test_nothing_is_found_in_none_one_or_unlike_rows(rows: list[Row]) -> None:
    assert duplicates(rows).findings == ()


def test_all_equal_rows_leave_one() -> None:
    report = duplicates(asked(*[("Say hi", "Hi")] * 50))
    assert report.counts == {"copy": 49, "near_copy": 0, "conflict": 0}


def test_every_pair_reported_is_as_alike_as_said() -> None:
    """Against sets of shingles made in plain Python."""
    rows = shared_rows(RIDDLES, "question", "-", "answer")

    def plain_shingles(row: Row) -> set[tuple[str, ...]]:
        words = normalised(row.content()).split()
        return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}

    pairs = near_pairs(rows)
    assert pairs
    for (i, j), similarity in pairs.items():
        a, b = plain_shingles(rows[i]), plain_shingles(rows[j])
        assert similarity == pytest.approx(len(a & b) / len(a | b))
        assert similarity >= NEAR


def test_lsh_finds_what_all_pairs_find() -> None:
    """Recall on 1,500 real rows, each also with one word in twelve changed."""
    source = shared_rows(DOLLY, "instruction", "context", "response")[:750]
    source += shared_rows(ALPACA, "instruction", "input", "output")[:750]
    draw = random.Random(3)
    rows = list(source)
    for row in source:
        words = row.output.split()
        for _ in range(len(words) // 12):
            words[draw.randrange(len(words))] = "changed"
        rows.append(replace(row, output=" ".join(words)))
    sets = Shingler(3, 12).sets(row.content() for row in rows)
    members = [set(sets.of(at).tolist()) for at in range(len(sets))]
    holders: dict[int, list[int]] = {}
    exact = set()
    for j, shingles in enumerate(members):
        for i in {i for shingle in shingles for i in holders.get(shingle, ())}:
            common = len(shingles & members[i])
            if common >= NEAR * (len(shingles) + len(members[i]) - common):
                exact.add((i, j))
        for shingle in shingles:
            holders.setdefault(shingle, []).append(j)
    proposed = {(i, j) for i, j in likely_pairs(sets, NEAR).tolist()}
    assert len(exact) > 500
    assert len(exact & proposed) >= 0.999 * len(exact)


def test_hashes_do_not_depend_on_the_company() -> None:
    alone = Shingler(3, 12).sets(["the same words as ever"])
    among = Shingler(3, 12).sets(["some others before them", "the same words as ever"])
    assert alone.of(0).tolist() == among.of(1).tolist()
