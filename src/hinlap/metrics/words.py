"""Words of a text, also where the script writes none apart."""

from __future__ import annotations

import re
import unicodedata
from importlib.metadata import version

_THAI = re.compile(r"[\u0e00-\u0e7f]+")
_MARKS_AND_DIGITS = re.compile(r"[^\W_]", re.UNICODE)


def has_thai(text: str) -> bool:
    return bool(_THAI.search(text))


def thai_tokenizer_signature() -> str:
    return f"newmm-pythainlp-{version('pythainlp')}"


def words(text: str, *, thai: bool) -> list[str]:
    """Lower-cased words for counting.

    thai False: runs of letters and digits by rouge-score's rule ([a-z0-9], the rest are spaces).
    thai True:  runs of Thai by pythainlp's newmm dictionary segmentation, other runs of letters
                and digits in any script as they stand; NFC, so that Thai stays what it is.

    >>> words("The cat's 2 hats", thai=False)
    ['the', 'cat', 's', '2', 'hats']
    """
    if not thai:
        return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()
    from pythainlp.tokenize import word_tokenize

    text = unicodedata.normalize("NFC", text).lower()
    tokens: list[str] = []
    for piece in word_tokenize(text, engine="newmm", keep_whitespace=False):
        if _MARKS_AND_DIGITS.search(piece):
            tokens.append(piece.strip())
    return tokens
