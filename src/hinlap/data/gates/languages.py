"""Which languages questions and answers are in, and rows that are answered in another one."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report

KINDS = {"other_language": Kind("answered in another language than asked", removes=False)}
UNKNOWN = "unknown"
_LEAST_LETTERS = 60
_LEAST_WORDS = 10
_SURE = 0.99
_MOST_READ = 600
"""Letters of a text that are looked at: enough to tell."""
_SHOWN = 12
_SCRIPTS = {
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "my": "\u1000-\u109f",
    "km": "\u1780-\u17ff",
    "ko": "\uac00-\ud7af\u1100-\u11ff",
    "ja": "\u3040-\u30ff",
    "el": "\u0370-\u03ff",
    "he": "\u0590-\u05ff",
    "ka": "\u10a0-\u10ff",
    "hy": "\u0530-\u058f",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
}
"""Scripts that tell the language alone (Japanese: kana, among any number of Chinese signs)."""
_OF_SCRIPT = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_OTHER_SCRIPTS = {
    "zh": re.compile("[\u3400-\u9fff]"),
    "cyrillic": re.compile("[\u0400-\u04ff]"),
    "arabic": re.compile("[\u0600-\u06ff]"),
    "devanagari": re.compile("[\u0900-\u097f]"),
}
_LETTER = re.compile(r"[^\W\d_]")
_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|https?://\S+|[^\s@]{1,64}@\S{1,64}|[{}<>=\\|#$_/]+", re.DOTALL
)
_CODE = re.compile(r"[{};=<>]")
_TRANSLATES = re.compile(
    r"translat|\blanguages?\b|แปล|ภาษา|tradu|übersetz|翻译|翻訳|번역|перев[еo]д|"
    r"\b(?:in|into|to|from) (?:arabic|chinese|mandarin|dutch|english|french|german|greek|hebrew|"
    r"hindi|indonesian|italian|japanese|korean|lao|latin|malay|persian|polish|portuguese|russian|"
    r"spanish|swahili|swedish|thai|turkish|urdu|vietnamese)\b",
    re.IGNORECASE,
)


def languages(rows: Sequence[Row]) -> GateReport:
    """Rows whose answer is in another language than their instruction, though the instruction
    speaks of no language.

    A script that one language has tells it; else py3langid does, where the text is long enough
    (60 letters, 10 words) and it is sure (0.99); else a language is unknown, and no finding rests
    on it. Code is no language.
    """
    found = []
    asked_in: Counter[str] = Counter()
    answered_in: Counter[str] = Counter()
    for index, row in enumerate(rows):
        asked, answered = language_of(row.instruction), language_of(row.output)
        asked_in[asked] += 1
        answered_in[answered] += 1
        if asked == answered or UNKNOWN in (asked, answered):
            continue
        if not _TRANSLATES.search(f"{row.system}\n{row.instruction}"):
            found.append(
                Found(index, "other_language", f"asked in {asked}, answered in {answered}")
            )
    figures = [
        _bars("language of the questions", asked_in),
        _bars("language of the answers", answered_in),
    ]
    notes = []
    if rows:
        unknown = answered_in[UNKNOWN] / len(rows)
        notes.append(f"{unknown:.0%} of the answers are too short, or too mixed, to tell")
    return report("languages", "Languages", len(rows), found, KINDS, figures if rows else [], notes)


def language_of(text: str) -> str:
    """ISO 639-1 code of the text's language, or "unknown".

    >>> language_of("สวัสดีครับ ยินดีต้อนรับ"), language_of("Yes.")
    ('th', 'unknown')
    """
    prose = _NOT_PROSE.sub(" ", text[: 4 * _MOST_READ])[:_MOST_READ]
    letters = len(_LETTER.findall(prose))
    if letters < 10:
        return UNKNOWN
    others = False
    if not prose.isascii():
        scripts = {name: len(found.findall(prose)) for name, found in _OF_SCRIPT.items()}
        name = max(scripts, key=scripts.__getitem__)
        # Thai vowels and tones are marks, no letters to Python: they count for their script alone
        share = 0.2 if name == "ja" else 0.6
        if scripts[name] >= share * (letters + _marks(prose)):
            return name
        if scripts[name] >= 0.2 * letters:
            return UNKNOWN  # two scripts, side by side
        others = any(
            len(found.findall(prose)) >= 0.6 * letters for found in _OTHER_SCRIPTS.values()
        )
    if letters < (20 if others else _LEAST_LETTERS):
        return UNKNOWN
    if not others and (len(prose.split()) < _LEAST_WORDS or _is_code(text)):
        return UNKNOWN
    language, sure = _classifier().classify(prose)
    return str(language) if sure >= _SURE else UNKNOWN


def _marks(text: str) -> int:
    return len(re.findall("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]", text))


def _is_code(text: str) -> bool:
    return 40 * len(_CODE.findall(text[: 4 * _MOST_READ])) > len(text[: 4 * _MOST_READ])


@functools.cache
def _classifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _bars(title: str, counts: Counter[str]) -> Bars:
    known = [(name, n) for name, n in counts.most_common() if name != UNKNOWN]
    shown = known[:_SHOWN]
    rest = sum(n for _, n in known[_SHOWN:])
    shown += [("others", rest)] if rest else []
    shown += [(UNKNOWN, counts[UNKNOWN])] if counts[UNKNOWN] else []
    return Bars(title, tuple(name for name, _ in shown), tuple(n for _, n in shown))
