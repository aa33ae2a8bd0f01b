"""Answers that teach nothing good: empty, echoed, refused, repeating themselves, cut off."""

from __future__ import annotations

import functools
import itertools
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report
from hinlap.data.near_duplicates import is_unspaced, normalised

KINDS = {
    "empty": Kind("no answer, or a sign that stands for none", removes=True),
    "echo": Kind("the answer is the question", removes=True),
    "boilerplate": Kind("speaks of being a model, or refuses", removes=True),
    "loop": Kind("repeats itself over and over", removes=True),
    "cut": Kind("breaks off", removes=False),
}
_NOTHING = re.compile(
    r"<?\s*no\s?(?:out|in)put\s*>?|n\s?/\s?a|nan|todo|tbd|\[?(?:output|answer)\]?:?|[.…_\-–—\s]*",
    re.IGNORECASE,
)
_AI = r"(?:(?:an? )?(?:ai|artificial intelligence|(?:large )?language model|chatbot)\b(?!-))"
_BOILERPLATE = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bas {_AI}(?: (?:language )?(?:model|assistant|chatbot))?(?: \w+){{0,6}}, (?:i|my)\b",
        rf"\bi(?: am|['’]m) (?:just |only )?{_AI}",
        r"\bi (?:do not|don['’]t) have (?:any )?(?:personal|human) (?:opinions?|feelings|emotions|"
        r"beliefs|experiences?|preferences)\b",
        r"\bmy (?:knowledge cut-?off|training data)\b",
        r"^\W*(?:(?:i['’]m|i am) (?:very |so |really )?sorry|sorry|i apologi[sz]e)\b[^.\n]{0,30}?"
        r"\bi (?:can(?:not|['’]t| not)|am (?:unable|not able)|do not have access|don['’]t have "
        r"access|won['’]t)\b",
        r"^\W*i (?:can(?:not|['’]t)|am unable to|am not able to|['’]m unable to) "
        r"(?:provide|fulfil+|assist|answer|generate|create|help|comply|access|browse|complete|process)\b",
        "(?:ในฐานะ(?:ที่)?(?:เป็น)?|(?:ฉัน|ผม|ดิฉัน|เรา)(?:เป็น|คือ)(?:เพียง|แค่)?)\\s?"
        "(?:ปัญญาประดิษฐ์|โมเดลภาษา|แบบจำลองภาษา|ผู้ช่วย\\s?AI|AI\\b|เอไอ|แชทบอท|แชตบอต)",
        "^\\W*(?:ขออภัย|ขอโทษ)[^\\n]{0,40}?(?:ไม่สามารถ|ไม่อาจ)(?:ช่วย|ให้|ตอบ|ทำ|สร้าง|เข้าถึง|ดำเนิน)",
    )
]
_SMALL_WORDS = "a an the and or but nor because although whereas unless onto their its your our my"
_NEVER_LAST = frozenset(_SMALL_WORDS.split())
"""Words after which English prose does not end."""
_SELDOM_LAST = frozenset(("is", "are", "was", "were", "has", "of", "with"))
_MIDDLE_TH = ("และ", "เนื่องจาก", "เพราะว่า", "โดยที่", "ซึ่ง", "แต่ว่า", "รวมถึง")
_LEADING_VOWEL = re.compile("[\u0e40-\u0e44]$")
_TERMINAL = re.compile(r"[.!?…。！？\"'”’»)\]}>*`:;|~]$|\u0e2f$|\u0e46$|[^\w\s,&\-–(\[{]$")
_ITEM = re.compile(r"\s*(?:[-*•–+>#|]|\(?\w{1,3}[.):])\s*\S")
_CODE = re.compile(
    r"```|^\s{4,}\S|[{};]\s*$|</?\w+>|\w+\([^)]{0,80}\)\s*[:{;=]|[=<>]{1,2}\s*\w+\s*[;)]|\\\w+\{|"
    r"^\s*(?:def|class|import|return|SELECT|print)\b",
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_]+")
_LOOP_REPEATS = 4
_LOOP_WORDS = 20
_LOOP_LETTERS = 60


def answers(rows: Sequence[Row]) -> GateReport:
    """Each row with an answer that should not be learned; the first kind that fits.

    empty:       nothing, or <nooutput>, N/A, dots.
    echo:        equal to the instruction, or instruction and input (3 words or more).
    boilerplate: "As an AI language model, I ...", refusals that open an answer; Thai ones too.
    loop:        a unit of words repeated 4 times or more in a row, 20 words in all at least.
    cut:         an open code fence; a bracket opened in the last lines; a comma, a hyphen after a
                 letter or a word that ends no sentence ("and the"); a Thai vowel that waits for its
                 consonant; after whole sentences, a fragment that ends in the first letters of a
                 word of the set. Lists, code and short answers are let be, and so is a
                 missing full stop: Thai has none, and people leave them out.
    """
    found = []
    words = functools.cache(lambda: _Vocabulary(rows))
    for index, row in enumerate(rows):
        kind = _first_kind(row, words)
        if kind is not None:
            found.append(Found(index, *kind))
    lengths = Counter(_length(row.output) for row in rows)
    figure = Bars(
        "answers by words (Thai: by 4 letters)", _LENGTHS, tuple(lengths[i] for i in _LENGTHS)
    )
    return report("answers", "Answers", len(rows), found, KINDS, [figure] if rows else [])


_LENGTHS = ("0", "1", "2 – 9", "10 – 49", "50 – 199", "200 +")


def _length(text: str) -> str:
    count = len(text) // 4 if is_unspaced(text) else len(text.split())
    limits = zip((1, 2, 10, 50, 200), _LENGTHS, strict=False)
    return next((name for limit, name in limits if count < limit), _LENGTHS[-1])


def _first_kind(row: Row, words: Callable[[], _Vocabulary]) -> tuple[str, str] | None:
    answer = row.output.strip()
    if _NOTHING.fullmatch(answer):
        return "empty", f"the answer is {answer!r}" if answer else "the answer is empty"
    plain = normalised(answer)
    if len(plain) >= 12 and plain in (normalised(row.instruction), normalised(row.asked())):
        return "echo", "the answer is what was asked"
    for pattern in _BOILERPLATE:
        if (match := pattern.search(answer)) is not None:
            return "boilerplate", f"“{match[0].strip()}”"
    if (loop := repeated(answer)) is not None:
        unit, times = loop
        return "loop", f"{times} times in a row: “{unit[:60]}”"
    if (why := _cut(answer, words)) is not None:
        return "cut", why
    return None


def repeated(text: str) -> tuple[str, int] | None:
    """A run of words that follows on itself 4 times or more, and how often; None where none does.

    >>> repeated("and so on " * 10)
    ('and so on', 10)
    """
    unspaced = is_unspaced(text)
    pieces = list(text.replace(" ", "")) if unspaced else text.split()
    least = _LOOP_LETTERS if unspaced else _LOOP_WORDS
    if len(pieces) < least:
        return None
    threes = len(pieces) - 2
    if threes - len(set(zip(pieces, pieces[1:], pieces[2:], strict=False))) < least // 2:
        return None  # a run of ``least`` repeats at least that many
    joined = "" if unspaced else " "
    longest = min(len(pieces) // _LOOP_REPEATS, 80 if unspaced else 40)
    for period in range(1, longest + 1):
        run = 0
        for at in range(period, len(pieces)):
            run = run + 1 if pieces[at] == pieces[at - period] else 0
            if run + period >= max(least, _LOOP_REPEATS * period):
                unit = pieces[at - run - period + 1 : at - run + 1]
                if not any(_WORD.search(piece) for piece in unit):
                    break  # rules, zeros, blanks of a table
                while at + 1 < len(pieces) and pieces[at + 1] == pieces[at + 1 - period]:
                    at, run = at + 1, run + 1
                return joined.join(unit), (run + period) // period
    return None


def _cut(answer: str, words: Callable[[], _Vocabulary]) -> str | None:
    """Why the answer seems to break off; None where it does not."""
    if answer.count("```") % 2:
        return "a code fence is never closed"
    if len(answer) < 40:
        return None
    last_line = answer.rsplit("\n", 1)[-1].strip()
    if _CODE.search(answer):
        return None
    if _LEADING_VOWEL.search(answer):
        return "ends in a vowel that waits for its consonant"
    ending = next((word for word in _MIDDLE_TH if answer.endswith(word)), None)
    if ending is not None:
        return f"ends in “{ending}”"
    if re.search(r"[^\W\d_][-–]$", answer):
        return "ends in a hyphen"
    if re.search(r"\w\s*,$", answer) and not _poem(answer) and not _signs_off(answer):
        return "ends in a comma"
    if re.search(r"(?<![:;=-])[(\[{]$", answer) or _open_bracket(answer):
        return "a bracket is never closed"
    if _TERMINAL.search(answer) or is_unspaced(last_line):
        return None
    spoken = _WORD.findall(last_line.lower())
    if len(set(spoken)) < 5 or not last_line[-1].isalpha():
        return None
    if spoken[-1] in _NEVER_LAST:
        return f"ends in “{spoken[-1]}”"
    whole = re.search(r"[a-z]{2}[.!?]\s+[A-Z]", answer) is not None
    if not whole or _ITEM.match(last_line):
        return None
    if spoken[-1] in _SELDOM_LAST:
        return f"ends in “{spoken[-1]}”"
    if last_line[-1].islower() and words().is_beginning(spoken[-1]):
        return f"ends in “{spoken[-1]}”, the beginning of a word"
    return None


def _open_bracket(answer: str) -> bool:
    """Whether the last bracket opened is not closed, with words behind it, none a smiley's."""
    at = answer.rfind("(")
    if at < 0 or ")" in answer[at:] or answer.count("(") <= answer.count(")"):
        return False
    behind = answer[at + 1 :]
    smiley = at > 0 and answer[at - 1] in ":;=-"
    return not smiley and "\n" not in behind and 0 < len(behind) < 300 and behind[-1] not in ".!?"


def _poem(answer: str) -> bool:
    """Most lines are short: a comma may end one."""
    lines = [line for line in answer.split("\n") if line.strip()]
    return len(lines) >= 4 and sum(len(line) for line in lines) < 60 * len(lines)


def _signs_off(answer: str) -> bool:
    """The last line is a letter's "Kind regards,"."""
    line = answer.rsplit("\n", 1)[-1]
    return "\n" in answer and len(line.split()) <= 4


class _Vocabulary:
    """How often each word stands in the set, and the words in order, to find those that begin
    alike."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.seen: Counter[str] = Counter()
        for row in rows:
            self.seen.update(_WORD.findall(f"{row.asked()} {row.output}".lower()))
        self.words = sorted(self.seen)

    def is_beginning(self, word: str) -> bool:
        """Whether it stands once, and longer words that begin with it five times or more."""
        if self.seen[word] != 1 or len(word) < 3:
            return False
        at = bisect_right(self.words, word)
        longer = itertools.takewhile(
            lambda other: other.startswith(word), itertools.islice(self.words, at, None)
        )
        return sum(self.seen[other] for other in longer) >= 5
