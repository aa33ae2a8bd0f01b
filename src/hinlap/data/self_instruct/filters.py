"""The filters of Self-Instruct and Alpaca, one by one, each by its name in a table of yields.

Source: Wang et al. (2022), "Self-Instruct", section 2.2 and appendix A; Alpaca's
generate_instruction.py (its keywords, its bounds on length). The similarity filter is
`hinlap.data.novelty`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hinlap.data.novelty import NoveltyPool
from hinlap.metrics.segmentation import uses_latin_only, words

FEWEST_WORDS, MOST_WORDS = 4, 150
KEYWORDS = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
    "draw", "plot", "go to", "video", "audio", "music", "flowchart", "diagram",
)  # fmt: skip
"""What a model of texts cannot make or see (Alpaca's list; the paper's ends at "go to")."""
THAI_KEYWORDS = (
    "รูปภาพ", "ภาพ", "รูป", "ภาพถ่าย", "กราฟ", "แผนที่", "ไฟล์", "วาด", "วาดภาพ", "วาดรูป", "วิดีโอ",
    "คลิป", "เพลง", "ดนตรี", "แผนภูมิ", "แผนภาพ", "แผนผัง", "ผังงาน",
)  # fmt: skip
"""The same in Thai, as whole words: ภาพ is no word of สุขภาพ (health)."""

_KEYWORD = re.compile(rf"\b(?:{'|'.join(KEYWORDS)})\b", re.IGNORECASE)
_PROGRAM = ("Write a program", "เขียนโปรแกรม")


def _wrong_length(text: str) -> bool:
    # scripts without spaces are cut into words; the published rule splits at spaces
    count = len(text.split()) if uses_latin_only(text) else len(words(text))
    return not FEWEST_WORDS <= count <= MOST_WORDS


def _has_keyword(text: str) -> bool:
    if _KEYWORD.search(text):
        return True
    return not text.isascii() and not set(THAI_KEYWORDS).isdisjoint(words(text))


def _wants_program(text: str) -> bool:
    return text.startswith(_PROGRAM)


def _starts_with_sign(text: str) -> bool:
    return text[0] in string.punctuation or unicodedata.category(text[0])[0] == "P"


def _starts_outside_ascii(text: str) -> bool:
    return not text[0].isascii()


INSTRUCTION_FILTERS: dict[str, Callable[[str], bool]] = {
    "fewer than 4 or more than 150 words": _wrong_length,
    "keyword (image, file, video ...)": _has_keyword,
    "begins with 'Write a program'": _wants_program,
    "begins with punctuation": _starts_with_sign,
    "begins with a non-ASCII letter": _starts_outside_ascii,
}
"""In the order of the published scripts; True: it falls."""
NON_ASCII = "begins with a non-ASCII letter"


def why_dropped(instruction: str, *, ascii_start: bool = True) -> str:
    """The first filter that an instruction falls by; "" where it passes all.

    ascii_start: off for Thai and other scripts, where the published rule would leave nothing.

    >>> why_dropped("Draw a cat on a mat."), why_dropped("Name three rivers of Asia.")
    ('keyword (image, file, video ...)', '')
    """
    for name, falls in INSTRUCTION_FILTERS.items():
        if name == NON_ASCII and not ascii_start:
            continue
        if falls(instruction):
            return name
    return ""


def why_no_news(
    instruction: str, pool: NoveltyPool, *, ascii_start: bool = True
) -> tuple[str, float]:
    """The first filter that an instruction falls by, similarity last, "" where it passes all; and
    its similarity with the pool, 0 where it fell before."""
    reason = why_dropped(instruction, ascii_start=ascii_start)
    if reason:
        return reason, 0.0
    similarity = pool.nearest(instruction).similarity
    if similarity > pool.threshold:
        return f"ROUGE-L above {pool.threshold:g} with the pool", similarity
    return "", similarity


@dataclass(frozen=True, slots=True)
class Instance:
    """An input, "" for none, and its output."""

    input: str
    output: str


NO_OUTPUT = "no output"
ECHO = "input equals output"
COLON = "ends with a colon"
REPEATED = "repeated input and output"
CONTRADICTION = "one input with different outputs"


def usable_instances(instances: Sequence[Instance]) -> tuple[list[Instance], list[str]]:
    """Those instances of one instruction that can be kept, in their order, and why each of the
    others falls.

    An input that has two different outputs makes all of the instruction's instances fall: which
    of them is right is not known.
    """
    kept: list[Instance] = []
    dropped: list[str] = []
    for instance in instances:
        reason = _why_unusable(instance) or (REPEATED if instance in kept else "")
        if reason:
            dropped.append(reason)
        else:
            kept.append(instance)
    inputs = [instance.input for instance in kept if instance.input]
    if len(set(inputs)) < len(inputs):
        return [], dropped + [CONTRADICTION] * len(kept)
    return kept, dropped


def _why_unusable(instance: Instance) -> str:
    if not instance.output:
        return NO_OUTPUT
    if instance.input == instance.output:
        return ECHO
    if instance.input.endswith(":") or instance.output.endswith(":"):
        return COLON
    return ""
