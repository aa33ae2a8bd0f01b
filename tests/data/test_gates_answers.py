from __future__ import annotations

import pytest
from tests.data.gate_rows import ALPACA, asked, shared_rows

from hinlap.core.rows import Row
from hinlap.data.gates.answers import answers, repeated


def kind_of(answer: str, question: str = "Tell me about the town.") -> str | None:
    findings = answers(asked((question, answer))).findings
    return findings[0].kind if findings else None


@pytest.mark.parametrize(
    "answer", ["", "  \n", "<nooutput>", "<No output>", "N/A", "...", "Output:"]
)
def test_no_answer(answer: str) -> None:
    assert kind_of(answer) == "empty"


@pytest.mark.parametrize("answer", ["0", "No", "None", "null", "🎉", "x", "ไม่", "-1"])
def test_short_answers_are_answers(answer: str) -> None:
    assert kind_of(answer) is None


def test_the_question_as_answer_is_an_echo() -> None:
    assert kind_of("tell me about the TOWN", "Tell me about the town.") == "echo"


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI language model, I do not have opinions.",
        "As a large language model trained by a firm, I cannot say.",
        "I'm sorry, but I cannot help with that.",
        "I am unable to provide the weather.",
        "That is hard: I am an AI and have no body.",
        "ในฐานะปัญญาประดิษฐ์ ฉันไม่มีความเห็นส่วนตัว",
        "ขออภัยค่ะ ดิฉันไม่สามารถให้ข้อมูลนี้ได้",
        "ผมเป็นเพียงโมเดลภาษา จึงตอบไม่ได้",
    ],
)
def test_boilerplate(answer: str) -> None:
    assert kind_of(answer) == "boilerplate"


@pytest.mark.parametrize(
    "answer",
    [
        "An AI language model predicts the next word.",
        "She said: sorry, the shop is closed.",
        "As an AI-first company, they sell robots.",
        "Dear Sam, I'm sorry I missed your party. I had to work late.",
        "โมเดลภาษาคือระบบที่ทำนายคำถัดไป",
    ],
)
def test_speaking_of_models_or_being_sorry_is_no_boilerplate(answer: str) -> None:
    assert kind_of(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "The town has three schools, two markets and",
        "Here is the code you asked for:\n```python\nprint(1)\n",
        "The town was built in the year 1280 by the king (who came from",
        "It lies by the sea, near the old harbour, the new bridge, the mill,",
        "It was founded long ago by people who came over the sea and the govern-",
        "เมืองนี้ตั้งอยู่ริมทะเลและมีตลาดเก่าที่เปิดทุกเช้า นักท่องเที่ยวชอบมาเดินเล่นแ",
        "เมืองนี้ตั้งอยู่ริมทะเลและมีตลาดเก่าที่เปิดทุกเช้า นักท่องเที่ยวชอบมาเดินเล่นและ",
    ],
)
def test_answers_that_break_off(answer: str) -> None:
    assert kind_of(answer) == "cut"


@pytest.mark.parametrize(
    "answer",
    [
        "The town has three schools and two markets near the old harbour",  # no full stop
        "1. Schools\n2. Markets\n3. The harbour and the mill",
        "- bread and butter for the morning\n- tea for the afternoon,\n- rice",
        "def f(x):\n    return (x +\n        1)\nprint(f(2), f(3), f(4))",
        "Dear Sam,\n\nthank you for the long letter and the cake.\n\nWith kind regards,",
        "That is what this town, as far as I know, is famous for",
        "เมืองนี้ตั้งอยู่ริมทะเลและมีตลาดเก่าที่เปิดทุกเช้า นักท่องเที่ยวชอบมาเดินเล่นที่นี่",
        "It made everybody laugh for a very long time indeed :(",
        "Paris",
    ],
)
def test_answers_that_only_lack_a_full_stop_are_whole(answer: str) -> None:
    assert kind_of(answer) is None


def test_the_beginning_of_a_word_of_the_set_is_cut() -> None:
    others = asked(*[("Who rules?", f"The government of town {i} rules it.") for i in range(6)])
    cut = Row("cut", "Who?", "The town is old. It has long been ruled well by the local govern")
    assert [(f.row, f.kind) for f in answers([*others, cut]).findings] == [(6, "cut")]


@pytest.mark.parametrize(
    "answer",
    [
        "I like cake and tea. " * 8,
        "good " * 30,
        "สวัสดีตอนเช้า" * 9,
        "Begin well. " + "and so on " * 12,
    ],
)
def test_loops(answer: str) -> None:
    assert kind_of(answer) == "loop"


@pytest.mark.parametrize(
    "answer",
    [
        "Ha ha ha ha, that is a good one!",
        "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        "\n".join(f"{name},No" for name in "abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_laughter_zeros_and_tables_are_no_loops(answer: str) -> None:
    assert repeated(answer) is None


def test_no_rows() -> None:
    assert answers([]).findings == ()


def test_alpaca_by_eye() -> None:
    """What the gate flags of 3,000 rows was read row by row: three without an answer."""
    rows = shared_rows(ALPACA, "instruction", "input", "output")
    assert answers(rows).counts == {"empty": 3, "echo": 0, "boilerplate": 0, "loop": 0, "cut": 0}
