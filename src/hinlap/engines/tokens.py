"""Token counts where the tokenizer is not known (services do not tell before they answer)."""

from __future__ import annotations


def estimate_tokens(text: str) -> int:
    """An estimate from above: a token for every three UTF-8 bytes, rounded up.

    English runs at 4 to 5 bytes a token and Thai at 3 to 9 with present tokenizers, so budgets
    made with it err on the safe side.

    >>> estimate_tokens("hello"), estimate_tokens("สวัสดี"), estimate_tokens("")
    (2, 6, 0)
    """
    return (len(text.encode("utf-8", "replace")) + 2) // 3
