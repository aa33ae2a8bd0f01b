"""Token counts where the tokenizer is not known (services do not tell before they answer)."""

from __future__ import annotations


def estimate_tokens(text: str) -> int:
    """A rough estimate: a token for every three UTF-8 bytes, rounded up.

    English runs at 4 to 5 bytes a token and Thai at 3 to 9 with the tokenizers of present
    services; digits and signs, and Thai with an English tokenizer (SmolLM2's), at 1 to 2. A cap
    needs the bound instead: a token a byte.

    >>> estimate_tokens("hello"), estimate_tokens("สวัสดี"), estimate_tokens("")
    (2, 6, 0)
    """
    return (len(text.encode("utf-8", "replace")) + 2) // 3
