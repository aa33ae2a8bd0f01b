"""Instructions that say what form the answer has, and answers that have another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report
from hinlap.data.near_duplicates import is_unspaced

KINDS = {
    "json": Kind("JSON is asked for, the answer is none", removes=False),
    "items": Kind("so many items are asked for, the list has others", removes=False),
    "one_word": Kind("one word is asked for, the answer has many", removes=False),
    "yes_no": Kind("yes or no is asked for, the answer says neither", removes=False),
    "sentences": Kind("so many sentences are asked for, the answer has others", removes=False),
    "words": Kind("at most so many words are asked for, the answer has more", removes=False),
    "table": Kind("a table is asked for, the answer has none", removes=False),
    "code": Kind("code is asked for, the answer has none", removes=False),
}  # fmt: skip
_NAMES = "one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {name: number for number, name in enumerate(_NAMES.split(), 1)}
_NUMBERS |= {"fifteen": 15, "twenty": 20, "a single": 1}
_N = r"(?P<n>\d{1,2}|" + "|".join(_NUMBERS) + ")"
_THAI_DIGITS = str.maketrans("๐๑๒๓๔๕๖๗๘๙", "0123456789")

_JSON = re.compile(
    r"(?<!that )(?<!which )\b(?:in|as|into|return|output|produce|valid)(?: an?| the| valid| only)* "
    r"json\b(?! (?:file|schema|parser|works|is))|\bjson (?:format|output|object|array)\b|"
    r"ตอบ(?:กลับ)?(?:เป็น|ในรูปแบบ|ด้วย)\s?JSON|(?:เป็น|ในรูปแบบ)\s?JSON",
    re.IGNORECASE,
)
_ASKS_ITEMS = re.compile(
    r"(?:^|[.!?:,\n]\s*|\bplease )(?:can you |could you )?(?:please )?"
    r"(?:list|name|give|provide|write|suggest|generate|state|identify|tell|create|come up with|"
    r"describe|find|recommend|outline)(?: me| us| out| down)?(?: the| a list of| exactly| at most)?"
    r"(?: top| best| first| main)? "
    + _N
    + r"(?!\s*(?:or|to|-|–|and|%|percent)\s)(?: [\w'’-]+){0,3}? "
    r"(?P<noun>[a-z]{3,}s|people|children|men|women|criteria|species)\b",
    re.IGNORECASE,
)
_COUNTED_OTHERWISE = (
    "words sentences paragraphs lines letters characters pages syllables minutes seconds "
    "hours days weeks months years stanzas verses points times digits lists pounds dollars "
    "steps columns rows tables stars pieces thousands hundreds"
)
_NO_ITEMS = frozenset(_COUNTED_OTHERWISE.split())
_THAI_ITEMS = re.compile(r"(?P<n>\d{1,2})\s?(?:ข้อ|ประการ|อย่าง|รายการ|ตัวอย่าง)(?!\s?ขึ้นไป|\s?หรือ)")
_ITEM = re.compile(r"^(?P<indent>\s*)(?:(?P<number>\d{1,2})\s?[.):]|(?P<mark>[-*•–]))\s*\S")
_ONE_WORD = re.compile(
    r"\b(?:in|with|using) (?:just |only |exactly )?(?:one|a single|1) word\b"
    r"(?! (?:for|or|per|each))|\bone[- ]word (?:answer|response|reply)\b|"
    r"(?:ตอบ|ใช้)(?:ด้วย|เพียง|แค่|เป็น)*\s?(?:คำเดียว|หนึ่งคำ|1 คำ)",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"\b(?:answer|respond|reply|say|return|output)(?: with| only| just| by| either| in| the "
    r"question| saying| me| a| simple)* [\"'“‘]?yes[\"'”’]?(?: ?/ ?| or | or with )[\"'“‘]?no\b|"
    r"ตอบ(?:ว่า|เพียง|แค่|ด้วย)*\s?[\"“]?ใช่[\"”]?\s?(?:หรือ|/)\s?[\"“]?ไม่ใช่",
    re.IGNORECASE,
)
_SAYS_YES_NO = re.compile(
    r"\b(?:yes|no|y|n|true|false|yep|nope|neither)\b|ใช่|ไม่|ได้|ถูก|ผิด", re.IGNORECASE
)
_SENTENCES = re.compile(
    r"(?<!\d )(?<!one )(?<!two )(?<!three )\b(?:in|using|with|write|to|into)"
    r"(?: just| only| exactly| a)? " + _N
    + r"(?!\s*(?:or|to|-|–)\s)(?: (?:complete|short|simple|full|concise|brief))?[ -]sentences?"
    r"(?! (?:or|per|each|for each|about each|using|with the|structures?))\b"
    r"|(?:ใน|ด้วย|เพียง|ภายใน|เป็น)\s?(?P<th>\d|หนึ่ง|สอง|สาม)\s?ประโยค",
    re.IGNORECASE,
)  # fmt: skip
_MOST_WORDS = re.compile(
    r"(?<!no )(?<!not )\b(?:in|under|within|at most|no more than|less than|fewer than|up to|"
    r"maximum(?: of)?)"
    r"(?: at most| under| no more than| less than| fewer than)? (?P<n>\d{1,4}) words"
    r"(?P<more>(?: or (?:less|fewer|under)| max(?:imum)?)?)",
    re.IGNORECASE,
)
_TABLE = re.compile(
    r"\b(?:in|as|into|using|create|make|produce|generate|build|draw)(?: me)? an?"
    r"(?: (?!periodic|dining|coffee|round|wooden)\w+){0,2}? table\b"
    r"(?! (?:of contents|top|cloth|tennis|setting|reservation|for|from|in|that|called|named|lamp))"
    r"|\b(?:markdown|html) table\b|(?:เป็น|ในรูปแบบ|สร้าง)ตาราง",
    re.IGNORECASE,
)
_CODE_WANTED = re.compile(
    r"\b(?:write|create|implement|generate|provide|give me|show me|develop|compose)"
    r"(?: me)?(?: an?| the| some)?(?: \w+){0,2}? "
    r"(?:python|javascript|java|c\+\+|c#|sql|html|css|php|ruby|rust|go|bash|shell|typescript|regex|r)"
    r"(?: \w+)? (?:function|program|script|code|query|class|snippet|statement|command|method)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"[{}();=<>`\[\]|\\^$]|SELECT|def |print", re.IGNORECASE)
_LOOSE = re.compile(
    r"\bat least\b|\beach\b|\bor (?:more|less|fewer)\b|\bparagraphs?\b", re.IGNORECASE
)
_FULL_STOP = re.compile(
    r"(?:[a-z0-9\)\"”’']{2}[.!?]+|[A-Z]{3,}[.!?])[\"”’)]*(?=\s+[\"“‘(]?[A-Z]|\s*\Z|\n)"
)


def formats(rows: Sequence[Row]) -> GateReport:
    """Rows whose instruction names a form that the answer plainly has not.

    Only what is plain is reported: a number of items against the lines of a numbered or bulleted
    list, never against prose; sentences by full stops before a capital letter; "about 50 words"
    is no limit. Asking for several things at once, or for a form "or" another, is let be.
    """
    found = []
    asked: Counter[str] = Counter()
    for index, row in enumerate(rows):
        instruction = row.instruction
        if len(instruction) > 1500 or not row.output.strip():
            continue
        for kind, rule in _RULES.items():
            result = rule(instruction, row)
            if result is None:
                continue
            asked[kind] += 1
            if result:
                found.append(Found(index, kind, result))
    figures = []
    if asked:
        names = [kind for kind in KINDS if asked[kind]]
        counts = tuple(asked[name] for name in names)
        figures = [Bars("instructions that name a form", tuple(names), counts)]
    return report("formats", "Formats", len(rows), found, KINDS, figures)


def _json(instruction: str, row: Row) -> str | None:
    if "?" in instruction or not _JSON.search(instruction):
        return None
    answer = row.output
    if re.search(r"[\[{]", answer) or _reads(answer):
        return ""
    return "the answer has no { and no ["


def _reads(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _items(instruction: str, row: Row) -> str | None:
    wanted = _wanted_items(instruction)
    if wanted is None:
        return None
    listed = _listed(row.output)
    if listed is None or listed == wanted:
        return ""
    return f"{wanted} asked for, {listed} listed"


def _wanted_items(instruction: str) -> int | None:
    matches = list(_ASKS_ITEMS.finditer(instruction))
    if len(matches) == 1:
        other_numbers = len(re.findall(r"\b\d{1,2}\b", instruction)) > 1
        if matches[0]["noun"].lower() in _NO_ITEMS or other_numbers:
            return None
        if re.search(
            r"\bat least\b|\bor more\b|\beach\b|\bper\b|\bfor every\b", instruction.lower()
        ):
            return None
        wanted = _number(matches[0]["n"])
        return wanted if wanted is not None and wanted > 1 else None
    if matches:
        return None
    thai = list(_THAI_ITEMS.finditer(instruction.translate(_THAI_DIGITS)))
    return int(thai[0]["n"]) if len(thai) == 1 and "อย่างน้อย" not in instruction else None


def _listed(answer: str) -> int | None:
    """Items of the answer's one list, at its outermost level; None where it has none, or two."""
    lines = [line for line in answer.split("\n") if line.strip()]
    found = [match for match in map(_ITEM.match, lines) if match is not None]
    if len(found) < 2 or _ITEM.match(lines[-1]) is None:
        return None  # one item may be a dash; words after the list may be items too
    least = min(len(match["indent"]) for match in found)
    outer = [match for match in found if len(match["indent"]) == least]
    numbered = [int(match["number"]) for match in outer if match["number"]]
    if numbered:
        return len(numbered) if numbered == list(range(1, len(numbered) + 1)) else None
    marks = {match["mark"] for match in outer}
    first = next(at for at, line in enumerate(lines) if _ITEM.match(line))
    whole = len(outer) == len(found) and len(found) == len(lines) - first
    return len(outer) if len(marks) == 1 and whole and first <= 1 else None


def _one_word(instruction: str, row: Row) -> str | None:
    if not _ONE_WORD.search(instruction) or "\n" in row.output.strip():
        return None
    many = len(row.output) > 30 if is_unspaced(row.output) else len(row.output.split()) > 4
    listing = row.output.count(",") >= 2 or re.search(r"\beach\b|\bevery\b", instruction)
    return f"{len(row.output.split())} words" if many and not listing else ""


def _yes_no(instruction: str, row: Row) -> str | None:
    if not _YES_NO.search(instruction):
        return None
    return "" if _SAYS_YES_NO.search(row.output) else "the answer says neither yes nor no"


def _sentences(instruction: str, row: Row) -> str | None:
    matches = list(_SENTENCES.finditer(instruction))
    if len(matches) != 1 or _LOOSE.search(instruction):
        return None
    match = matches[0]
    if match["th"] is not None:
        return None if is_unspaced(row.output) else ""  # Thai has no full stops to count
    wanted = _number(match["n"])
    if wanted is None or _ITEM.search(row.output) or is_unspaced(row.output):
        return None
    count = len(_FULL_STOP.findall(row.output.strip()))
    tail = row.output.strip()[-1:]
    count += tail not in ".!?\"”’')"
    return "" if count == wanted or count == 0 else f"{wanted} asked for, {count} found"


def _words(instruction: str, row: Row) -> str | None:
    matches = list(_MOST_WORDS.finditer(instruction))
    if len(matches) != 1 or is_unspaced(row.output) or re.search(r"\beach\b|\bper\b", instruction):
        return None
    match = matches[0]
    plain_in = re.fullmatch(r"in \d+ words", match[0].lower()) is not None
    limit, count = int(match["n"]), len(row.output.split())
    if plain_in:
        return "" if count <= 1.5 * limit else f"{limit} words asked for, the answer has {count}"
    return "" if count <= 1.1 * limit + 1 else f"at most {limit} words, the answer has {count}"


def _table(instruction: str, row: Row) -> str | None:
    if not _TABLE.search(instruction) or re.search(r"\bsql\b|databas", instruction, re.IGNORECASE):
        return None
    lines = [line for line in row.output.split("\n") if line.strip()]
    table = re.search(r"\||\t|<t[drh]\b|\\begin\{|   ", row.output) or (
        sum("," in line or ":" in line or "-" in line for line in lines) * 2 > len(lines) > 1
    )
    return "" if table else "no columns in the answer"


def _code(instruction: str, row: Row) -> str | None:
    if not _CODE_WANTED.search(instruction):
        return None
    return "" if _CODE.search(row.output) else "nothing in the answer looks like code"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else _NUMBERS.get(text.lower())


_RULES: dict[str, Callable[[str, Row], str | None]] = {
    "json": _json,
    "items": _items,
    "one_word": _one_word,
    "yes_no": _yes_no,
    "sentences": _sentences,
    "words": _words,
    "table": _table,
    "code": _code,
}
"""None: the instruction names no such form. "": the answer has it. Else what is wrong."""
