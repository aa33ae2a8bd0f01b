"""A prompt as plain text, for models without a chat template."""

from __future__ import annotations

from hinlap.core.messages import Prompt


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
        text += message.content
    return text + "\n"
