"""Train equals serve: how prompts were made when a model was tuned, kept beside its weights.

``hinlap_prompt.json`` holds the chat template's digest and a probe: a conversation, its rendered
text and its token ids. Who opens the folder renders the probe anew and compares.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hinlap.core.errors import ModelError
from hinlap.core.messages import Message, Prompt
from hinlap.engines.prompt_formats import takes_input
from hinlap.engines.rendering import render_plain

RECORD = "hinlap_prompt.json"
_FORMAT = 1
_PROBE: tuple[Mapping[str, str], ...] = (
    {"role": "user", "content": "Name one animal.  สัตว์อะไรเดินข้ามถนน"},
    {"role": "assistant", "content": "ช้าง, an elephant."},
    {
        "role": "user",
        "content": "สรุปข่าวนี้เป็นหนึ่งประโยค\nIn one sentence, please:",
        "input": "The ferry turned back at 7:45.\n\nเรือข้ามฟากกลับเข้าท่า เพราะหมอกหนา",
    },
)
_DAY = "2026-01-01"
_NO_CLOCK = f"{{% macro strftime_now(format) %}}{_DAY}{{% endmacro %}}{{{{- '' }}}}"
"""Before a template that says today's date, so that its probe is the same tomorrow."""


def write_prompt_record(folder: Path, tokenizer: Any, format_name: str) -> None:
    """Keeps how ``tokenizer`` makes a prompt. format_name: as the recipe calls it."""
    text, ids = _rendered(tokenizer, _PROBE)
    content = {
        "format": _FORMAT,
        "prompt_format": format_name,
        "template_sha256": _template_digest(tokenizer),
        "probe": list(_PROBE),
        "text": text,
        "ids": ids,
        "tokens": [_token(tokenizer, token) for token in ids],
    }
    temporary = folder / f"{RECORD}.{os.getpid()}"
    temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    temporary.replace(folder / RECORD)


def check_prompt_record(folder: Path, tokenizer: Any) -> None:
    """Nothing where ``folder`` has no record. Raises ModelError, showing the first token that
    differs, where ``tokenizer`` makes other prompts than when the model was tuned."""
    file = folder / RECORD
    if not file.is_file():
        return
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        version, name = kept["format"], str(kept["prompt_format"])
        if version == _FORMAT:
            probe = [{str(k): str(v) for k, v in message.items()} for message in kept["probe"]]
            ids = [int(token) for token in kept["ids"]]
            tokens = [str(token) for token in kept["tokens"]]
            digest = str(kept["template_sha256"])
            if len(ids) != len(tokens):
                raise ValueError("its ids and tokens are not as many")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"cannot be read: {error}",
            where=str(file),
            hint="copy it from where the model was tuned, or delete it to go unchecked",
        ) from error
    if version != _FORMAT:
        raise ModelError(
            "it was written by another version of Hinlap",
            where=str(file),
            hint="install the newer Hinlap, or delete the file to go unchecked",
        )
    _, now = _rendered(tokenizer, probe)
    if now != ids:
        what = f"prompts are made otherwise than in tuning (prompt format {name}): "
        what += _first_difference(ids, tokens, now, tokenizer)
    elif _template_digest(tokenizer) != digest:
        what = f"the chat template is not the one of tuning (prompt format {name})"
    else:
        return
    raise ModelError(
        what,
        where=str(folder),
        hint="put back the tokenizer's files as tuning wrote them (tokenizer.json, "
        "tokenizer_config.json, chat_template.jinja), name no other prompt format, or tune again",
    )


def _rendered(tokenizer: Any, probe: Sequence[Mapping[str, str]]) -> tuple[str, list[int]]:
    """The probe as a prompt: its text and token ids, as a `LocalEngine` would make them."""
    if not tokenizer.chat_template:
        text = render_plain(Prompt(tuple(_joined(message) for message in probe)))
        return text, list(tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])
    template = str(tokenizer.get_chat_template())
    messages: list[Mapping[str, str]] = list(probe)
    if not takes_input(template):
        messages = [
            {"role": joined.role, "content": joined.content} for joined in map(_joined, probe)
        ]
    text = str(
        tokenizer.apply_chat_template(
            messages,
            chat_template=_NO_CLOCK + template if "strftime_now" in template else template,
            tokenize=False,
            add_generation_prompt=True,
            date_string=_DAY,  # as Llama 3 names it
        )
    )
    return text, list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _joined(message: Mapping[str, str]) -> Message:
    given = message.get("input")
    content = message["content"]
    return Message(
        "assistant" if message["role"] == "assistant" else "user",
        f"{content}\n\n{given}" if given else content,
    )


def _template_digest(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if not template:
        return ""
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _first_difference(
    ids: Sequence[int], tokens: Sequence[str], now: Sequence[int], tokenizer: Any
) -> str:
    pairs = enumerate(zip(ids, now, strict=False))
    shorter = min(len(ids), len(now))
    place = next((at for at, (a, b) in pairs if a != b), shorter)
    before = f"{tokens[place]!r} (id {ids[place]})" if place < len(ids) else "nothing"
    after = (
        f"{_token(tokenizer, now[place])!r} (id {now[place]})" if place < len(now) else "nothing"
    )
    return f"token {place} of the probe was {before}, now {after}"


def _token(tokenizer: Any, token: int) -> str:
    """A token's text; the vocabulary's own writing where it is part of a character."""
    text = str(tokenizer.decode([token]))
    return str(tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in text else text
