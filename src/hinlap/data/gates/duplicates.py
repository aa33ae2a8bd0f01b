"""Copies: exact, near, and the same question with another answer, which is no copy."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Found, GateReport, Kind, histogram, report
from hinlap.data.gates.shingling import Shingler, ShingleSets, likely_pairs
from hinlap.data.near_duplicates import is_unspaced, normalised

KINDS = {
    "copy": Kind("the same row again: case and spacing aside", removes=True),
    "near_copy": Kind("nearly the same row again", removes=True),
    "conflict": Kind("the same question with another answer", removes=False),
}
NEAR = 0.7
"""Least Jaccard similarity, of 3-word shingles of the whole row, that makes a near copy."""
PART = 0.5
"""Least share of words that instruction, input and answer must each have in common."""
WORDS_PER_SHINGLE = 3
CHARACTERS_PER_SHINGLE = 12
_NUMBER = re.compile(r"\d+")
_HIDDEN = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD])


def duplicates(rows: Sequence[Row]) -> GateReport:
    """Each row that repeats an earlier one that stays.

    copy:      equal but for case, spacing and invisible characters.
    near_copy: the rows' 3-word shingles (12 characters where the script has no spaces) have a
               Jaccard similarity of NEAR or more; instruction, input and answer each share PART
               of their words; and the numbers are the same. So neither two questions on one
               long passage nor two sums of one form are copies. Verified pair by pair: nothing
               is reported on MinHash's word alone. What LSH misses is in the lab notes.
    conflict:  what is asked is equal, the answer is not. Right where many answers are (a poem).
    """
    found: list[Found] = []
    first: dict[bytes, int] = {}
    copies: Counter[int] = Counter()
    unique: list[int] = []
    for index, row in enumerate(rows):
        original = first.setdefault(_key(*_parts(row)), index)
        if original == index:
            unique.append(index)
        else:
            copies[original] += 1
            found.append(Found(index, "copy", "the same as an earlier row", original))
    near, similarities = _near_copies(rows, unique)
    for later, (earlier, similarity) in near.items():
        copies[earlier] += 1
        found.append(Found(later, "near_copy", f"{similarity:.0%} of it is shared", earlier))
    asked: dict[bytes, int] = {}
    for index in unique:
        row = rows[index]
        if index in near or not row.asked().strip():
            continue
        original = asked.setdefault(_key(*_parts(row)[:-1]), index)
        if original != index:
            found.append(
                Found(index, "conflict", "the same is asked, the answer differs", original)
            )
    sizes = [count + 1 for count in copies.values()]
    figures = []
    if sizes:
        figures.append(histogram("rows that are copies of one another", sizes, [2, 3, 4, 5, 10]))
    if similarities:
        shares = [int(similarity * 100) for similarity in similarities]
        figures.append(histogram("near copies by what is shared, %", shares, [70, 80, 90, 100]))
    return report("duplicates", "Copies", len(rows), found, KINDS, figures)


def near_pairs(rows: Sequence[Row]) -> dict[tuple[int, int], float]:
    """Every verified pair of near copies that LSH proposes, with its similarity."""
    sets = Shingler(WORDS_PER_SHINGLE, CHARACTERS_PER_SHINGLE).sets(row.content() for row in rows)
    pairs = {}
    for i, j in likely_pairs(sets, NEAR).tolist():
        similarity = _similarity(rows, sets, i, j)
        if similarity is not None:
            pairs[i, j] = similarity
    return pairs


def _near_copies(
    rows: Sequence[Row], unique: Sequence[int]
) -> tuple[dict[int, tuple[int, float]], list[float]]:
    """For each near copy the earliest row like it that is none itself."""
    pairs = near_pairs([rows[index] for index in unique])
    partners: defaultdict[int, list[int]] = defaultdict(list)
    for i, j in pairs:
        partners[j].append(i)
    near: dict[int, tuple[int, float]] = {}
    for j in sorted(partners):
        kept = [i for i in sorted(partners[j]) if unique[i] not in near]
        if kept:
            near[unique[j]] = (unique[kept[0]], pairs[kept[0], j])
    return near, list(pairs.values())


def _similarity(rows: Sequence[Row], sets: ShingleSets, i: int, j: int) -> float | None:
    """Of two rows that are near copies; None where they are not."""
    similarity = sets.jaccard(i, j)
    if similarity < NEAR:
        return None
    for a, b in zip(_parts(rows[i]), _parts(rows[j]), strict=True):
        if sorted(_NUMBER.findall(a)) != sorted(_NUMBER.findall(b)):
            return None
        mine, other = _words(a), _words(b)
        if len(mine & other) < PART * len(mine | other):
            return None
    return similarity


def _parts(row: Row) -> tuple[str, str, str, str]:
    """What stands before, instruction, input, answer."""
    before = "\n".join([row.system, *(text for turn in row.history for text in turn)])
    return before, row.instruction, row.input, row.output


def _words(text: str) -> set[str]:
    plain = normalised(text)
    if is_unspaced(plain):
        letters = plain.replace(" ", "")
        return {letters[at : at + 4] for at in range(max(1, len(letters) - 3))}
    return set(plain.split())


def _key(*parts: str) -> bytes:
    """Equal for texts equal but for case, spacing and invisible characters. Signs count: 5 + 3
    is not 5 - 3."""
    plain = (
        " ".join(unicodedata.normalize("NFC", part).translate(_HIDDEN).casefold().split())
        for part in parts
    )
    return hashlib.blake2b("\0".join(plain).encode("utf-8", "replace"), digest_size=16).digest()
