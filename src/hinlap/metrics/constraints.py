"""Constraints on an answer that a program can check: length, format, words, case, language.

Names before the line below are those of IFEval, with its rules; the others are Hinlap's own.
Each check takes the answer and the constraint's settings, and says whether it is kept.

Source: Zhou et al. (2023), "Instruction-Following Evaluation for Large Language Models".
Peer:   lm-evaluation-harness 0.4.13, task ifeval; equal by test. Known departures: a text with Thai
        is counted by Thai words, and a Thai keyword is found where a dictionary has it as a word,
        alone or in a compound; sentences by `sentences`; languages by langdetect with a fixed
        seed; a letter that is none of a to z is counted, where the peer draws another at random.
"""

from __future__ import annotations

import json
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hinlap.core.errors import InputError, MissingExtraError
from hinlap.metrics import segmentation
from hinlap.metrics.sentences import sentences, tokens

_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "less than": operator.lt,
    "at least": operator.ge,
    "at most": operator.le,
    "exactly": operator.eq,
}


def count_words(text: str) -> int:
    r"""Runs of letters, digits and _; by dictionary in a text that has Thai.

    >>> count_words("It's 5 o'clock."), count_words("ช้างกินกล้วย 2 ลูก")
    (5, 5)
    """
    if segmentation.has_thai(text):
        return len(segmentation.words(text))
    return len(re.findall(r"\w+", text))


def number_words(text: str, num_words: int, relation: str) -> bool:
    return _RELATIONS[relation](count_words(text), num_words)


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _RELATIONS[relation](len(sentences(text)), num_sentences)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Exactly so many, divided by ``***``."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if any(not part for part in parts[1:-1]):
        return False
    empty_ends = (not parts[0]) + (len(parts) > 1 and not parts[-1])
    return len(parts) - empty_ends == num_paragraphs


def nth_paragraph_first_word(
    text: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs, divided by blank lines; the nth, from 1, begins with the word."""
    parts = text.split("\n\n")
    number = sum(bool(part.strip()) for part in parts)
    if not 0 < nth_paragraph <= number or not parts[nth_paragraph - 1].strip():
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    found = re.split(r"[.,?!'\"]", word)[0].lower()
    return number == num_paragraphs and found == first_word.lower()


def keywords_exist(text: str, keywords: Sequence[str]) -> bool:
    """Each is there, in either case, also inside a word; a Thai one as `segmentation.count_thai`
    has it. A keyword is a regular expression."""
    return all(_times(word, text) for word in keywords)


def keyword_frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _RELATIONS[relation](_times(keyword.strip(), text), frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None is there as a whole word."""
    return not any(
        _times(word if segmentation.has_thai(word) else rf"\b{word}\b", text)
        for word in forbidden_words
    )


def _times(keyword: str, text: str) -> int:
    """A Thai keyword has no spaces around: its words are told by a dictionary."""
    if segmentation.has_thai(keyword) and re.escape(keyword) == keyword.replace(" ", r"\ "):
        return segmentation.count_thai(keyword, text)
    return len(re.findall(keyword, text, re.IGNORECASE))


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _RELATIONS[let_relation](text.lower().count(letter.lower()), let_frequency)


def response_language(text: str, language: str) -> bool:
    """language: ISO 639-1. A text that shows no language (digits, say) counts as kept."""
    return detected_language(text) in (language, None)


def number_placeholders(text: str, num_placeholders: int) -> bool:
    """At least so many [like this]."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    marker = postscript_marker.strip()
    pattern = patterns.get(marker, rf"\s*{marker.lower()}.*$")
    return re.search(pattern, text.lower(), re.MULTILINE) is not None


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with * or -."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def constrained_response(text: str) -> bool:
    options = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
    return any(option in text for option in options)


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    """At least so many *like this*; one in **two asterisks** counts once for each rule that it
    fits, as with the peer."""
    single = [found.strip("*").strip() for found in re.findall(r"\*[^\n\*]*\*", text)]
    double = [found[2:-2].strip() for found in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(map(bool, single + double)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headed by the word and a number ("Section 1")."""
    return len(re.findall(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)) >= num_sections


def json_format(text: str) -> bool:
    return _parsed_json(text) is not _NO_JSON


def title(text: str) -> bool:
    """Has one <<like this>>."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """Two that differ, divided by ******."""
    parts = [part.strip() for part in text.split("******")]
    if any(not part for part in parts[1:-1]):
        return False
    answers = [part for part in parts if part]
    return len(answers) == 2 and answers[0] != answers[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    """The whole of it in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    found = sum(token.isupper() for token in tokens(text))
    return _RELATIONS[capital_relation](found, capital_frequency)


def english_capital(text: str) -> bool:
    return text.isupper() and detected_language(text) in ("en", None)


def english_lowercase(text: str) -> bool:
    return text.islower() and detected_language(text) in ("en", None)


def no_comma(text: str) -> bool:
    return "," not in text


# --- Hinlap's own ---


def number_lines(text: str, num_lines: int, relation: str) -> bool:
    """Lines that are not blank."""
    return _RELATIONS[relation](sum(bool(x.strip()) for x in text.split("\n")), num_lines)


def number_characters(text: str, num_characters: int, relation: str) -> bool:
    """Code points in NFC, blank ends left out."""
    length = len(unicodedata.normalize("NFC", text).strip())
    return _RELATIONS[relation](length, num_characters)


def blank_line_paragraphs(text: str, num_paragraphs: int, relation: str) -> bool:
    """Paragraphs divided by blank lines."""
    found = sum(bool(part.strip()) for part in re.split(r"\n\s*\n", text))
    return _RELATIONS[relation](found, num_paragraphs)


def start_checker(text: str, start_phrase: str) -> bool:
    return text.strip().strip('"').lower().startswith(start_phrase.strip().lower())


def numbered_list(text: str, num_items: int) -> bool:
    """Exactly so many lines "1. ..." or "1) ...", numbered from 1 without a gap."""
    found = [int(n) for n in re.findall(r"^[ \t]*(\d{1,9})[.)][ \t]+\S", text, re.MULTILINE)]
    return found == list(range(1, num_items + 1))


def json_keys(text: str, keys: Sequence[str]) -> bool:
    """A JSON object with these keys and no others, in any order."""
    found = _parsed_json(text)
    return isinstance(found, dict) and set(found) == set(keys)


def all_capital(text: str) -> bool:
    return text.isupper()


def all_lowercase(text: str) -> bool:
    return text.islower()


def in_thai(text: str) -> bool:
    """More than half of its letters are Thai."""
    return _share(text, lambda c: "\u0e00" <= c <= "\u0e7f") > 0.5


def in_english(text: str) -> bool:
    """More than half of its letters are plain Latin, and of its words at least one in eight is
    among the commonest of English."""
    words = re.findall(r"[a-z']+", text.lower())
    common = sum(word in _COMMON.split() for word in words)
    return _share(text, str.isascii) > 0.5 and 8 * common >= len(words) > 0


def no_digits(text: str) -> bool:
    return not any(map(str.isdigit, text))


_COMMON = (
    "the of and to a in is it you that he was for on are with as i his they be at one have this "
    "from or had by but what some we can out other were all your when up use how said an each she "
    "which do their if will way about many then them would so these her him has more could no my "
    "than been who its now not our me there"
)


def _share(text: str, inside: Callable[[str], bool]) -> float:
    letters = [c for c in text if unicodedata.category(c)[0] in "LM"]
    return sum(map(inside, letters)) / len(letters) if letters else 0.0


_NO_JSON = object()


def _parsed_json(text: str) -> Any:
    """What the text holds, also within a fence of Markdown; ``_NO_JSON`` where it is none."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        return json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return _NO_JSON


def detected_language(text: str) -> str | None:
    """By langdetect with the seed 0; None where the text shows none. Raises MissingExtraError."""
    detectors, nothing_to_detect = _detectors()
    detector = detectors.create()
    detector.append(text)
    try:
        return str(detector.detect())
    except nothing_to_detect:
        return None


@cache
def _detectors() -> tuple[Any, type[Exception]]:
    """What makes detectors, and what they raise where a text shows no language."""
    try:
        from langdetect.detector_factory import (
            PROFILES_DIRECTORY,
            DetectorFactory,
        )
        from langdetect.lang_detect_exception import (
            LangDetectException,
        )
    except ImportError:
        raise MissingExtraError("langdetect", "ifeval") from None
    factory = DetectorFactory()  # one of our own: its seed is nobody else's
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory, LangDetectException


@dataclass(frozen=True, slots=True)
class Kind:
    """check: takes the text, then the settings in the order of ``fields``, which says what each
    is: a whole number, a text, a list of texts, a relation, a regular expression."""

    check: Callable[..., bool]
    fields: Mapping[str, str]
    detects: bool = False


def _kind(check: Callable[..., bool], detects: bool = False, **fields: str) -> Kind:
    return Kind(check, fields, detects)


KINDS: dict[str, Kind] = {
    "keywords:existence": _kind(keywords_exist, keywords="patterns"),
    "keywords:frequency": _kind(
        keyword_frequency, keyword="pattern", frequency="number", relation="relation"
    ),
    "keywords:forbidden_words": _kind(forbidden_words, forbidden_words="patterns"),
    "keywords:letter_frequency": _kind(
        letter_frequency, letter="text", let_frequency="number", let_relation="relation"
    ),
    "language:response_language": _kind(response_language, True, language="text"),
    "length_constraints:number_sentences": _kind(
        number_sentences, num_sentences="number", relation="relation"
    ),
    "length_constraints:number_paragraphs": _kind(number_paragraphs, num_paragraphs="number"),
    "length_constraints:number_words": _kind(number_words, num_words="number", relation="relation"),
    "length_constraints:nth_paragraph_first_word": _kind(
        nth_paragraph_first_word,
        num_paragraphs="number", nth_paragraph="number", first_word="text",
    ),
    "detectable_content:number_placeholders": _kind(number_placeholders, num_placeholders="number"),
    "detectable_content:postscript": _kind(postscript, postscript_marker="text"),
    "detectable_format:number_bullet_lists": _kind(number_bullet_lists, num_bullets="number"),
    "detectable_format:constrained_response": _kind(constrained_response),
    "detectable_format:number_highlighted_sections": _kind(
        number_highlighted_sections, num_highlights="number"
    ),
    "detectable_format:multiple_sections": _kind(
        multiple_sections, section_spliter="pattern", num_sections="number"
    ),
    "detectable_format:json_format": _kind(json_format),
    "detectable_format:title": _kind(title),
    "combination:two_responses": _kind(two_responses),
    "combination:repeat_prompt": _kind(repeat_prompt, prompt_to_repeat="text"),
    "startend:end_checker": _kind(end_checker, end_phrase="text"),
    "startend:quotation": _kind(quotation),
    "change_case:capital_word_frequency": _kind(
        capital_word_frequency, capital_frequency="number", capital_relation="relation"
    ),
    "change_case:english_capital": _kind(english_capital, True),
    "change_case:english_lowercase": _kind(english_lowercase, True),
    "punctuation:no_comma": _kind(no_comma),
    # Hinlap's own
    "length_constraints:number_lines": _kind(number_lines, num_lines="number", relation="relation"),
    "length_constraints:number_characters": _kind(
        number_characters, num_characters="number", relation="relation"
    ),
    "length_constraints:blank_line_paragraphs": _kind(
        blank_line_paragraphs, num_paragraphs="number", relation="relation"
    ),
    "startend:start_checker": _kind(start_checker, start_phrase="text"),
    "detectable_format:numbered_list": _kind(numbered_list, num_items="number"),
    "detectable_format:json_keys": _kind(json_keys, keys="texts"),
    "change_case:all_capital": _kind(all_capital),
    "change_case:all_lowercase": _kind(all_lowercase),
    "language:thai": _kind(in_thai),
    "language:english": _kind(in_english),
    "punctuation:no_digits": _kind(no_digits),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constraint:
    """id: a key of `KINDS`. settings: one for each of its fields."""

    id: str
    settings: Mapping[str, Any]

    def kept(self, text: str) -> bool:
        """Whether the text keeps it; an empty text keeps nothing."""
        kind = KINDS[self.id]
        return bool(text.strip()) and kind.check(text, *(self.settings[f] for f in kind.fields))

    def kept_loosely(self, text: str) -> bool:
        """Whether one of eight readings keeps it: whole, without its first line, its last, both;
        each with its asterisks and without."""
        return any(map(self.kept, loose_readings(text)))


def loose_readings(text: str) -> list[str]:
    """The paper's eight.

    >>> loose_readings("Sure!\\n*yes*\\nBye")[3:6]
    ['yes\\nBye', 'Sure!\\n*yes*', 'Sure!\\nyes']
    """
    lines = text.split("\n")
    parts = (lines[1:], lines[:-1], lines[1:-1])
    wholes = [text, *("\n".join(part).strip() for part in parts)]
    return [reading for whole in wholes for reading in (whole, whole.replace("*", ""))]


def read_constraint(name: object, settings: object, where: str) -> Constraint:
    """A constraint as a file declares it; fields of null are left out, as IFEval's file has them.

    Raises InputError, with the place, for an unknown name or settings that do not fit; and
    MissingExtraError where it needs a language detector that is not installed.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(name, str):
        raise InputError(
            f"there is no constraint {name!r}", where=where, hint=f"one of: {', '.join(KINDS)}"
        )
    if not isinstance(settings, dict):
        raise InputError(f"the settings of {name} are no object", where=where)
    given = {field: value for field, value in settings.items() if value is not None}
    if set(given) != set(kind.fields):
        raise InputError(
            f"{name} has the settings {', '.join(given) or 'none'}",
            where=where,
            hint=f"it takes: {', '.join(kind.fields) or 'none'}",
        )
    for field, what in kind.fields.items():
        problem = _problem(what, given[field])
        if problem:
            raise InputError(f"{field} of {name} is {problem}", where=where)
    if kind.detects:
        _detectors()
    return Constraint(name, given)


def _problem(what: str, value: Any) -> str:
    """Why a setting cannot be; "" where it can."""
    if what == "number":
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return "" if fits else f"{value!r}, not a whole number of 0 or more"
    if what == "relation":
        fits = isinstance(value, str) and value in _RELATIONS
        return "" if fits else f"{value!r}, not one of: {', '.join(_RELATIONS)}"
    values = value if what in ("texts", "patterns") else [value]
    if not isinstance(values, list) or not values:
        return f"{value!r}, not a list of texts"
    for each in values:
        if not isinstance(each, str) or not each.strip():
            return f"{each!r}, not a text"
        if what in ("pattern", "patterns"):
            try:
                re.compile(each)
            except re.error as error:
                return f"{each!r}, no regular expression: {error}"
    return ""
