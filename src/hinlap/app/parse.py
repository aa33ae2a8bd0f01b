"""From a model's answer to a step's output: text, one of a list, or JSON by schema."""

from __future__ import annotations

import json
import re
import unicodedata

from hinlap.app.declaration import JsonParse, OneOfParse, StepSpec


class Unreadable(ValueError):
    """The answer is not what the step must give; the message says in what way."""


def parse_answer(text: str, step: StepSpec) -> str:
    """The output in its canonical form (JSON with sorted keys; the listed value as listed).

    Raises Unreadable: an empty answer, none or several of the list, no JSON, or JSON that does
    not fit the schema.
    """
    text = text.strip()
    if not text:
        raise Unreadable("the answer is empty")
    if isinstance(step.parse, OneOfParse):
        return _one_of(text, step.parse.one_of)
    if isinstance(step.parse, JsonParse):
        return _json(text, step.parse)
    return text


def _one_of(text: str, values: list[str]) -> str:
    folded = _fold(text)
    for value in values:
        if folded.strip(" .!?\"'`*:") == _fold(value):
            return value
    # a longer value is looked for first, and hidden once found: "not safe" holds "safe"
    found = []
    rest = folded
    for value in sorted(values, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(_fold(value))}(?!\w)"
        if re.search(pattern, rest):
            found.append(value)
            rest = re.sub(pattern, " ", rest)
    if len(found) == 1:
        return found[0]
    what = "none" if not found else "several"
    raise Unreadable(f"the answer names {what} of: {', '.join(values)}")


def _json(text: str, parse: JsonParse) -> str:
    import jsonschema

    value = _first_json(text)
    errors = sorted(jsonschema.Draft202012Validator(parse.json_schema).iter_errors(value), key=str)
    if errors:
        place = "/".join(str(part) for part in errors[0].absolute_path)
        raise Unreadable(f"the JSON does not fit the schema: {place or 'top'}: {errors[0].message}")
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _first_json(text: str) -> object:
    """The first JSON value that starts at a brace or bracket, or the whole text as one."""
    decoder = json.JSONDecoder()
    try:
        return decoder.decode(text)
    except (json.JSONDecodeError, RecursionError):
        pass
    for match in list(re.finditer(r"[{\[]", text))[:50]:  # bounded: answers can be all brackets
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        return value
    raise Unreadable("no JSON in the answer")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()


# "I can't be seen. What am I?" is a riddle: only certain verbs make it a refusal
_REFUSALS = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry|i apologi[sz]e|"
    r"i (can['’]?t|cannot|can not|won['’]?t|will not) (\w+ly )?(help|assist|provide|write|compl|"
    r"fulfil|answer|create|generate|summari|continue|discuss|engage|produce|offer|do (this|that))|"
    r"i['’]?m unable to|i am unable to|i['’]?m not able to|as an ai\b|unfortunately,? i\b|"
    r"ขออภัย|ขอโทษ|(ฉัน|ดิฉัน|ผม)ไม่สามารถ(ช่วย|ตอบ|ให้|เขียน|สร้าง|สรุป|ทำ|ดำเนินการ))",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether an answer opens as refusals do in English or Thai (a rule of thumb, not a judge)."""
    return bool(_REFUSALS.match(text))
