"""A prompt as plain text, for models without a chat template; messages as templates take them."""

from __future__ import annotations

from collections.abc import Sequence

from hinlap.core.messages import Message, Prompt


def render_plain(prompt: Prompt) -> str:
    """Messages one after the other with blank lines between; an assistant turn follows its user
    turn on a new line, and the text ends where the answer begins.

    A base model continues text: roles would be noise to it, and solved examples speak for
    themselves.
    """
    if prompt.raw:
        return prompt.messages[0].content
    text = ""
    for message in prompt.messages:
        if text:
            text += "\n" if message.role == "assistant" else "\n\n"
        text += message.text
    return text + "\n"


def as_dicts(messages: Sequence[Message], takes_input: bool) -> list[dict[str, str]]:
    """Messages as chat templates take them; an input by itself where the template has a place for
    it, else below the content."""
    said = []
    for message in messages:
        if takes_input and message.input:
            said.append({"role": message.role, "content": message.content, "input": message.input})
        else:
            said.append({"role": message.role, "content": message.text})
    return said
