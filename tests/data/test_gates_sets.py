"""Lengths, languages, balance: gates that look at a set as a whole."""

from __future__ import annotations

import pytest
from tests.data.gate_rows import asked

from hinlap.core.rows import Origin, Row
from hinlap.data.gates.balance import balance, entropy
from hinlap.data.gates.languages import language_of, languages
from hinlap.data.gates.lengths import Tokens, lengths, words_of
from hinlap.data.gates.table import GATES, Given

ENGLISH = "The harbour town counted its boats on Monday and found one more than it had last year."
FRENCH = "Le port a compté ses bateaux lundi et en a trouvé un de plus que l'année précédente."
THAI = "เมืองท่านับเรือในวันจันทร์และพบว่ามีมากกว่าปีที่แล้วหนึ่งลำ"


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
@pytest.mark.parametrize(
    "rows",
    [[], asked(("", "")), asked(("Hi", "Hello")), asked(*[("🎉", "🎉")] * 3), asked((THAI, THAI))],
    ids=["none", "empty", "one", "emoji", "thai"],
)
def test_every_gate_takes_any_rows(gate: object, rows: list[Row]) -> None:
    report = gate.look(Given(rows))  # type: ignore[attr-defined]
    assert report.n == len(rows)
    assert set(report.counts) == set(gate.kinds)  # type: ignore[attr-defined]
    assert sum(report.counts.values()) == len(report.findings)
    assert all(0 <= f.row < len(rows) for f in report.findings)


def test_rows_over_the_window_are_found() -> None:
    report = lengths(asked(("a", "b"), ("c", "d")), Tokens("tiny", 10, [10, 11]))
    assert [(f.row, f.kind, f.removes) for f in report.findings] == [(1, "too_long", True)]


def test_thai_is_measured_in_letters() -> None:
    assert words_of("one two three") == 3
    assert words_of("ก" * 40) == 10
    assert words_of("") == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (FRENCH, "fr"),
        (THAI, "th"),
        ("今日は天気がいいので、港まで歩いて行きました。", "ja"),
        ("오늘은 날씨가 좋아서 항구까지 걸어갔습니다.", "ko"),
        ("Да.", "unknown"),
        ("Paris", "unknown"),
        ("", "unknown"),
        ("🎉🎉🎉", "unknown"),
        (
            "for (i = 0; i < n; i++) { total += values[i]; } return total; // the sum of them all",
            "unknown",
        ),
        ("```python\nprint('hello')\n```", "unknown"),
    ],
)
def test_languages_of_texts(text: str, language: str) -> None:
    assert language_of(text) == language


def test_an_answer_in_another_language_is_found_unless_it_was_asked_for() -> None:
    rows = asked(
        (ENGLISH, FRENCH),
        (THAI, ENGLISH),
        (f"Translate into French: {ENGLISH}", FRENCH),
        (f"แปลเป็นภาษาอังกฤษ: {THAI}", ENGLISH),
        (ENGLISH, "Oui."),
        (ENGLISH, ENGLISH),
    )
    assert [(f.row, f.detail) for f in languages(rows).findings] == [
        (0, "asked in en, answered in fr"),
        (1, "asked in th, answered in en"),
    ]


def test_entropy() -> None:
    assert entropy([5, 5, 5, 5]) == pytest.approx(1.0)
    assert entropy([3, 1]) == pytest.approx(0.8112781244591328)  # -(3/4)log2(3/4) - (1/4)log2(1/4)
    assert entropy([7]) is None
    assert entropy([]) is None


def test_tiny_classes_and_origins_are_counted() -> None:
    rows = [
        Row(str(i), "Write a poem", f"Text {i}", origin=Origin.HUMAN if i else Origin.MACHINE,
            labels={"category": "rare" if i < 2 else "common", "number": i})
        for i in range(20)
    ]  # fmt: skip
    report = balance(rows)
    assert [(f.row, f.kind) for f in report.findings] == [(0, "tiny_class"), (1, "tiny_class")]
    by_title = {
        figure.title: dict(zip(figure.labels, figure.counts, strict=True))
        for figure in report.figures
    }
    assert by_title["rows by category"] == {"common": 18, "rare": 2}
    assert by_title["rows by who wrote them"] == {"human": 19, "machine": 1}
    assert "rows by number" not in by_title


def test_answers_of_few_values_are_classes() -> None:
    rows = asked(*[(f"Is {i} even?", "yes" if i % 2 == 0 else "no") for i in range(30)])
    assert "answer: 2 classes, entropy 1.00 of 1" in balance(rows).notes[0]
