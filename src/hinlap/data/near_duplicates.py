"""Near-copies among texts: exact Jaccard similarity of shingles, fast by an inverted index."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from hinlap.core.errors import InputError

WORDS_PER_SHINGLE = 5
CHARACTERS_PER_SHINGLE = 12

# Scripts that put no spaces between words: Thai to Lao, Myanmar, Khmer, kana and Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class _Fold(dict[int, str]):
    """For str.translate: letters, marks and digits stay, invisible joiners go, else a space."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        if category == "Cf" or 0xFE00 <= code <= 0xFE0F:
            kept = ""
        else:
            kept = chr(code) if category[0] in "LMN" else " "
        self[code] = kept
        return kept


_FOLD = _Fold()


def normalised(text: str) -> str:
    """NFC, case folded, every run of spaces and punctuation one space.

    A text of nothing but signs (emoji, say) keeps them.

    >>> normalised("Hello,  WORLD!"), normalised("🎉 🎉")
    ('hello world', '🎉 🎉')
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(folded.translate(_FOLD).split()) or " ".join(folded.split())


def fingerprint(text: str) -> str:
    """32 hex digits, equal for texts that differ only in case, spacing and punctuation."""
    return hashlib.sha256(normalised(text).encode("utf-8", "replace")).hexdigest()[:32]


def is_unspaced(plain: str) -> bool:
    """Whether a text is mostly of scripts without spaces between words."""
    if plain.isascii():
        return False
    letters = plain.replace(" ", "")
    return len(_UNSPACED.findall(letters)) * 2 > len(letters)


def shingles(text: str) -> frozenset[str]:
    """Every run of 5 words; of 12 characters where the script mostly has no spaces between words
    (spaces left out, so segmented and plain Thai compare equal). A shorter text is one shingle,
    an empty one has none."""
    plain = normalised(text)
    if not plain:
        return frozenset()
    if is_unspaced(plain):
        letters = plain.replace(" ", "")
        n = CHARACTERS_PER_SHINGLE
        return frozenset(letters[i : i + n] for i in range(max(1, len(letters) - n + 1)))
    words, n = plain.split(), WORDS_PER_SHINGLE
    return frozenset(" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1)))


def jaccard(a: frozenset[object], b: frozenset[object]) -> float:
    """What two sets share, of what either has; undefined for two empty ones."""
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def near_duplicates(
    texts: Sequence[str], against: Sequence[str] | None = None, threshold: float = 0.7
) -> list[tuple[int, int, float]]:
    """All pairs whose Jaccard similarity of ``shingles`` is at least ``threshold``, in (0, 1].

    Alone:          (later index, earlier index, similarity) within ``texts``.
    With `against`: (index in ``texts``, index in ``against``, similarity).
    Ordered by the two indices. A text without shingles is near nothing.
    Source: prefix filter of Bayardo, Ma, Srikant (2007), "Scaling Up All Pairs Similarity
    Search": of two sets that overlap enough, the rarest few members must already meet. It leaves
    no pair out; the similarity itself is exact.
    Raises InputError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise InputError(f"a similarity threshold must be in (0, 1], not {threshold}")
    left = [frozenset(map(hash, shingles(text))) for text in texts]
    right = [frozenset(map(hash, shingles(text))) for text in against or ()]
    frequency = Counter(item for members in (*left, *right) for item in members)

    def prefix(members: frozenset[int]) -> list[int]:
        needed = math.ceil(threshold * len(members) - 1e-9)
        rarest_first = sorted(sorted(members), key=frequency.__getitem__)
        return rarest_first[: len(members) - needed + 1]

    index: dict[int, list[int]] = defaultdict(list)
    for j, members in enumerate(right):
        for item in prefix(members):
            index[item].append(j)
    pairs: list[tuple[int, int, float]] = []
    for i, members in enumerate(left):
        start = prefix(members)
        candidates = {j for item in start for j in index.get(item, ())}
        others = left if against is None else right
        for j in sorted(candidates):
            similarity = jaccard(members, others[j])
            if similarity >= threshold:
                pairs.append((i, j, similarity))
        if against is None:
            for item in start:
                index[item].append(i)
    return pairs
