"""Prompt formats of published recipes, for models whose tokenizer brings no chat template.

A format is a chat template as transformers takes it: messages are mappings with role, content and,
where something is given to work on, ``input``. Put into a tokenizer's files it is served by the
same code as any other.

The originals know one instruction and its answer. More of a conversation is laid out so: the
intro stands once, at the top; earlier turns follow one another, each whole with its end; a system
message stands at the head of the instruction after it, a blank line between.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from hinlap.core.errors import ModelError

_BOS = "{{- bos_token -}}"


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """template: renders a prompt as a strict beginning of itself with the answer.

    end: text that ends an answer; "" for the tokenizer's ending token. before_end: what stands
    between an answer and its end, no part of either. special_tokens: what the recipe adds to the
    vocabulary, so that each is one token. source: where the format is defined.
    """

    name: str
    template: str
    end: str
    before_end: str
    special_tokens: tuple[str, ...]
    source: str


def _template(intro: str, paired: str, input_heading: str, response: str, ending: str) -> str:
    """intro: of an instruction alone; paired: of one with an input. ending: Jinja for what stands
    after an answer."""
    return (
        "{%- set turn = namespace(system='', before='', begun=false) -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' -%}"
        f"{{{{- turn.before + '{response}' + message['content'] -}}}}{ending}"
        "{%- set turn.before = '\\n\\n' -%}"
        # one that no instruction follows is an instruction itself
        "{%- elif message['role'] == 'system' and loop.nextitem is defined"
        " and loop.nextitem['role'] != 'assistant' -%}"
        "{%- set turn.system = turn.system + message['content'] + '\\n\\n' -%}"
        "{%- else -%}"
        "{{- turn.before -}}"
        "{%- if not turn.begun -%}"
        f"{{%- if message['input'] -%}}{{{{- '{paired}' -}}}}"
        f"{{%- else -%}}{{{{- '{intro}' -}}}}{{%- endif -%}}"
        "{%- endif -%}"
        "{{- '### Instruction:\\n' + turn.system + message['content'] + '\\n\\n' -}}"
        "{%- if message['input'] -%}"
        f"{{{{- '{input_heading}\\n' + message['input'] + '\\n\\n' -}}}}"
        "{%- endif -%}"
        "{%- set turn.system = '' -%}{%- set turn.before = '' -%}{%- set turn.begun = true -%}"
        "{%- endif -%}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{- turn.before + '{response}' -}}}}{{%- endif -%}}"
    )


_INTRO = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\\n\\n"
)
_PAIRED_INTRO = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\\n\\n"
)

FORMATS: dict[str, PromptFormat] = {
    each.name: each
    for each in (
        PromptFormat(
            name="alpaca",
            template=_template(
                _INTRO, _PAIRED_INTRO, "### Input:", "### Response:", "{{- eos_token -}}"
            ),
            end="",
            before_end="",
            special_tokens=(),
            source="https://github.com/tatsu-lab/stanford_alpaca/blob/"
            "761dc5bfbdeeffa89b8bff5d038781a4055f796a/train.py",
        ),
        PromptFormat(
            name="dolly",
            template=_template(
                _INTRO, _INTRO, "Input:", "### Response:\\n", "{{- '\\n\\n### End' -}}"
            ),
            end="### End",
            before_end="\n\n",
            special_tokens=("### End", "### Instruction:", "### Response:\n"),
            source="https://github.com/databrickslabs/dolly/blob/"
            "e2d664ddf06e0723d818dc56d6c522ead4bd881d/training/consts.py",
        ),
    )
}


def find_format(name: str) -> PromptFormat:
    """By name. Raises ModelError with the names that there are."""
    if name not in FORMATS:
        raise ModelError(
            f"there is no prompt format {name!r}",
            where="prompt format",
            hint=f"one of: {', '.join(FORMATS)}",
        )
    return FORMATS[name]


def use_format(tokenizer: Any, chosen: PromptFormat) -> None:
    """Makes it the tokenizer's chat template. The originals encode their text as any other: what
    the tokenizer puts at the beginning of a text (LLaMA's <s>) stands before the prompt, too."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    around = tokenizer("a", add_special_tokens=True)["input_ids"]
    begins = around[:1] != bare[:1] and around[:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = (_BOS if begins else "") + chosen.template


def format_of(tokenizer: Any) -> PromptFormat | None:
    """The format that a tokenizer's chat template is; None for any other, or none."""
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return None
    bare = template.removeprefix(_BOS)
    return next((each for each in FORMATS.values() if each.template == bare), None)


def end_token(tokenizer: Any, known: PromptFormat | None) -> int | None:
    """The id of the format's end, where that is one token of the vocabulary."""
    if known is None or not known.end:
        return None
    ids = tokenizer(known.end, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if len(ids) == 1 else None


@functools.cache
def takes_input(template: str) -> bool:
    """Whether a chat template has a place of its own for a message's ``input``. Where it has not,
    the input belongs into the content (`Row.asked`), or it would be lost."""
    if "input" not in template:
        return False
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    mark = "what-is-given"
    message = {"role": "user", "content": "what is asked", "input": mark}
    try:
        (rendered,), _ = render_jinja_template(
            conversations=[[message]],
            chat_template=template,
            add_generation_prompt=True,
            bos_token="",
            eos_token="",
        )
    except (TemplateError, TypeError, ValueError):  # it wants more than a plain message
        return False
    return mark in rendered
