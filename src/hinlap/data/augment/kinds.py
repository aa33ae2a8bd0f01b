"""The kinds of variants: a paraphrase, a translation, a harder task. Each asks for a row's parts
in one answer and says what makes of it a row."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hinlap.core.errors import UserError
from hinlap.core.messages import Message, Prompt
from hinlap.core.rows import Origin, Row
from hinlap.data.formats.record import content_id
from hinlap.data.near_duplicates import normalised
from hinlap.data.novelty import NoveltyPool
from hinlap.data.self_instruct.parsing import read_sections

Kind = Literal["paraphrase", "translate", "harder"]
KINDS: tuple[Kind, ...] = ("paraphrase", "translate", "harder")
TARGETS = {"en": "English", "th": "Thai"}
_RUNNING_WORDS = 3
NEAR_COPY = 0.9
"""ROUGE-L with the parent's instruction from which a variant is no variant."""

UNREADABLE = "unreadable"
COPY = "same instruction as its parent"
NEAR = f"ROUGE-L from {NEAR_COPY:g} with its parent's instruction"
WRONG_LANGUAGE = "in another language"
NUMBERS = "numbers of its parent lost"
INPUT_LOST = "input lost or made up"
SAME_ANSWER = "answer of its parent unchanged"
REPEATED = "repeats another variant"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What variants are made. target: the language of a translation, "" for other kinds."""

    kind: Kind
    target: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.target}" if self.target else self.kind


def augmentation_named(name: str) -> Augmentation:
    """Of "paraphrase", "harder" or "translate:th". Raises UserError."""
    kind, _, target = name.partition(":")
    for known in KINDS:
        if kind == known and (target in TARGETS if kind == "translate" else not target):
            return Augmentation(known, target)
    raise UserError(
        f"no kind {name!r}",
        where="--kind",
        hint="one of: paraphrase, harder, " + ", ".join(f"translate:{t}" for t in TARGETS),
    )


def ask_variant(row: Row, augmentation: Augmentation) -> Prompt:
    """For one variant of a row, in the labelled form that `variant_of` reads."""
    thai = language_of(row.instruction) == "th"
    if augmentation.kind == "paraphrase":
        head = _PARAPHRASE["th" if thai else "en"]
        parts = {"Instruction": row.instruction}
    elif augmentation.kind == "translate":
        head = _TRANSLATE.format(language=TARGETS[augmentation.target])
        parts = _parts(row)
    else:
        head = _HARDER["th" if thai else "en"]
        parts = _parts(row)
    lines = [f"{label}: {text}" for label, text in parts.items()]
    return Prompt((Message("user", "\n\n".join([head, *lines])),))


_PARAPHRASE = {
    "en": "Say the instruction below in other words, so that it asks for exactly the same and its "
    "answer stays right. Keep names and numbers. Write one line that begins with "
    '"Instruction:", and nothing else.',
    "th": "เขียนคำสั่งข้างล่างใหม่ด้วยถ้อยคำอื่นเป็นภาษาไทย ให้ขอสิ่งเดิมทุกอย่างและคำตอบเดิมยังถูกต้อง คงชื่อและตัวเลขไว้ "
    'เขียนหนึ่งบรรทัดที่ขึ้นต้นด้วย "Instruction:" และไม่ต้องเขียนอย่างอื่น',
}
_TRANSLATE = (
    "Translate every part below into {language}, as a careful native speaker would write it. Keep "
    "names, numbers, code and line breaks. Keep the words Instruction, Input and Output before the "
    "parts, in English, and write nothing else."
)
_HARDER = {
    "en": "Make a harder task out of the one below: it needs more steps of thought or one more "
    "condition, is about the same subject, and can be answered with text alone. Then answer it "
    "rightly. Keep the form: Instruction, Input (none where there is none), Output, and write "
    "nothing else.",
    "th": "ทำงานข้างล่างให้ยากขึ้นเป็นภาษาไทย: ต้องคิดหลายขั้นขึ้นหรือมีเงื่อนไขเพิ่มหนึ่งข้อ อยู่ในเรื่องเดิม "
    "และตอบได้ด้วยข้อความล้วน แล้วตอบงานนั้นให้ถูกต้อง คงรูปแบบไว้: Instruction, "
    "Input (none ถ้าไม่มี), Output และไม่ต้องเขียนอย่างอื่น",
}


def _parts(row: Row) -> dict[str, str]:
    middle = {"Input": row.input} if row.input else {}
    return {"Instruction": row.instruction, **middle, "Output": row.output}


def variant_of(row: Row, augmentation: Augmentation, answer: str) -> Row | str:
    """The row that a model's answer makes of its parent, or why it makes none.

    A paraphrase keeps input and answer, a translation has all parts anew, a harder task has its
    own. A variant names its parent and has its group: a split keeps them on one side.
    """
    sections = read_sections(answer)
    made = _made(row, augmentation, sections)
    if isinstance(made, str):
        return made
    if normalised(made.instruction) == normalised(row.instruction):
        return COPY
    wanted = augmentation.target or language_of(row.instruction)
    if language_of(made.instruction) != wanted:
        return WRONG_LANGUAGE
    answers_alike = augmentation.kind != "paraphrase" and _runs_in(
        language_of(row.instruction), row.output
    )
    if answers_alike and language_of(made.output) not in (wanted, ""):
        return WRONG_LANGUAGE
    if augmentation.kind != "harder" and not _numbers(row.instruction) <= _numbers(
        made.instruction
    ):
        return NUMBERS
    if augmentation.kind == "translate" and not _numbers(row.output) <= _numbers(made.output):
        return NUMBERS
    if NoveltyPool([row.instruction]).nearest(made.instruction).similarity >= NEAR_COPY:
        return NEAR
    if augmentation.kind == "harder" and normalised(made.output) == normalised(row.output):
        return SAME_ANSWER
    return made


def _made(row: Row, augmentation: Augmentation, sections: Mapping[str, str]) -> Row | str:
    instruction = sections.get("task", "")
    if not instruction:
        return UNREADABLE
    if augmentation.kind == "paraphrase":
        return _derived(row, augmentation, " ".join(instruction.split()), row.input, row.output)
    output = sections.get("output", "")
    if not output:
        return UNREADABLE
    given = sections.get("input", "")
    if augmentation.kind == "translate" and bool(given) != bool(row.input):
        return INPUT_LOST
    return _derived(row, augmentation, instruction, given, output)


def _derived(
    row: Row, augmentation: Augmentation, instruction: str, given: str, output: str
) -> Row:
    return replace(
        row,
        id=content_id(instruction, given, output, row.system, row.history),
        instruction=instruction,
        input=given,
        output=output,
        origin=Origin.DERIVED,
        parent=row.id,
        labels={**row.labels, "variant": augmentation.name},
    )


def language_of(text: str) -> str:
    """ "th" or "en" by the script of most of its letters; "" where it has none, or they are of
    neither.

    >>> [language_of(text) for text in ("Name a river.", "บอกชื่อแม่น้ำ", "42", "東京")]
    ['en', 'th', '', '']
    """
    thai = len(re.findall(r"[\u0e01-\u0e2e]", text))
    latin = len(re.findall(r"[A-Za-z]", text))
    others = sum(c.isalpha() for c in text) - len(re.findall(r"[\u0e00-\u0e7fA-Za-z]", text))
    if max(thai, latin) == 0 or others > max(thai, latin):
        return ""
    # a Thai letter stands for about as much as two Latin ones
    return "th" if 2 * thai >= latin else "en"


def _runs_in(language: str, text: str) -> bool:
    """Whether it is running text in that language: no mere name, number or label."""
    long = len(text.split()) > _RUNNING_WORDS or language == "th"
    return long and language_of(text) == language


def _numbers(text: str) -> set[str]:
    """Runs of digits, Thai ones as others, without signs between thousands."""
    plain = "".join(
        str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text
    )
    return set(re.findall(r"\d+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)))
