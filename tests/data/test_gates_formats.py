from __future__ import annotations

import pytest
from tests.data.gate_rows import ALPACA, asked, shared_rows

from hinlap.core.rows import Row
from hinlap.data.gates.formats import formats

LIST_OF_2 = "1. Bread\n2. Butter"


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("Give the data in JSON format.", "Name: Ann, age: 3", "json"),
        ("ตอบเป็น JSON", "ชื่อ แอน", "json"),
        ("Name three foods.", LIST_OF_2, "items"),
        ("List 5 tips for sleeping well.", "- a b\n- c d\n- e f", "items"),
        ("บอกอาหารมา ๓ ข้อ", LIST_OF_2, "items"),
        ("Describe it in one word.", "It is a very large house", "one_word"),
        ("Is it warm? Answer yes or no.", "The sun shines.", "yes_no"),
        ("ฝนตกไหม ตอบใช่หรือไม่ใช่", "ฝนตกหนักมาก", "yes_no"),
        ("Sum it up in one sentence.", "It rained. We left. It was over.", "sentences"),
        ("Tell it in 5 words or less.", "It rained the whole day and we left", "words"),
        ("Put the prices in a table.", "Bread costs two and butter three.", "table"),
        ("Write a Python function that adds.", "You add the first to the second.", "code"),
    ],
)
def test_contradictions(question: str, answer: str, kind: str) -> None:
    assert [f.kind for f in formats(asked((question, answer))).findings] == [kind]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Give the data in JSON format.", '{"name": "Ann"}'),
        ("Is an API that answers as JSON better?", "It depends."),
        ("Name three foods.", "1. Bread\n2. Butter\n3. Rice"),
        ("Name three foods.", "Bread, butter"),  # prose is not counted
        ("Name three foods.", "1. Bread\n   - white\n   - brown\n2. Butter\n3. Rice"),
        ("Name at least two foods.", "1. Bread\n2. Butter\n3. Rice"),
        ("Write a story of three paragraphs.", LIST_OF_2),
        ("Describe it in one word.", "Large"),
        ("Answer yes or no: is it warm?", "Yes, it is."),
        ("Explain it in 1 to 2 sentences.", "It rained."),
        ("Sum it up in one sentence.", "In the U.S. Dr. Wu found 3.5 kg of rice at St. Mary's."),
        ("Tell it in no less than 5 words.", "It rained the whole day and we left"),
        ("Name three elements in the periodic table.", "Iron, gold, neon"),
        ("Put the prices in a table.", "| bread | 2 |\n|---|---|"),
        ("Write a Python function that adds.", "def add(a, b):\n    return a + b"),
        ("สรุปข่าวใน 1 ประโยค", "ฝนตกหนักทั้งวัน"),
        ("", "x"),
        ("Name three foods.", ""),
        ("🎉", "🎉"),
    ],
)
def test_no_contradictions(question: str, answer: str) -> None:
    assert formats(asked((question, answer))).findings == ()


def test_no_rows() -> None:
    assert formats([]).findings == ()


def test_alpaca_by_eye() -> None:
    """Read row by row: lists of 7 where 3 were asked for, stories over their limit ..."""
    rows: list[Row] = shared_rows(ALPACA, "instruction", "input", "output")
    found = {kind: n for kind, n in formats(rows).counts.items() if n}
    assert found == {"items": 7, "sentences": 2, "words": 5}
