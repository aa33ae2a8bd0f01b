"""Which side of a split a row stands on: by a keyed hash of its group, and nothing else.

So a row stays where it is when others are added, and whoever has the key can tell its side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hinlap.core.errors import InputError
from hinlap.core.rows import Row
from hinlap.data.near_duplicates import fingerprint, near_duplicates

NEAR_COPY = 0.5
"""Jaccard similarity from which a row is a near copy: as in `leaks`."""

FIELD = "field:"


def side_of(group: str, key: str, shares: Mapping[str, float]) -> str:
    """The side of a group: BLAKE2b under ``key`` as a number in [0, 1), cut by the shares.

    >>> side_of("article 7", "k", {"train": 0.8, "test": 0.2})
    'train'
    """
    long_key = hashlib.blake2b(key.encode(), digest_size=32).digest()
    digest = hashlib.blake2b(group.encode("utf-8", "replace"), key=long_key, digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    edge = 0.0
    for side, share in shares.items():
        edge += share
        if place < edge:
            return side
    return list(shares)[-1]  # the sum was rounded to just below 1


def checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """``shares`` as they are. Raises InputError where they are no parts of 1, or of one side."""
    if len(shares) < 2:
        raise InputError(
            "a split has two sides or more", where="--shares", hint="train=0.8,test=0.2"
        )
    for side, share in shares.items():
        if not (side.isidentifier() and 0 < share < 1):
            raise InputError(
                f"{side}={share:g} is no side with a share between 0 and 1", where="--shares",
                hint="train=0.8,test=0.2",
            )  # fmt: skip
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
        raise InputError(
            f"the shares sum to {sum(shares.values()):g}, not 1", where="--shares",
            hint="train=0.8,test=0.2",
        )  # fmt: skip
    return dict(shares)


def group_of(row: Row, by: str) -> str:
    """What is hashed for a row that is derived from none.

    by: ``group`` (its group; where it has none, what it asks), ``content`` (what it asks, case,
    spaces and punctuation aside, so that two answers to one question stay together), or
    ``field:NAME`` (a label). Raises InputError where the label is not there.
    """
    if by == "group" and row.group:
        return f"group\0{row.group}"
    if by in ("group", "content"):
        asked = "\n".join([*(asked for asked, _ in row.history), row.asked()])
        return f"content\0{fingerprint(asked)}"
    if not by.startswith(FIELD):
        raise InputError(f"a split is by group, content or {FIELD}NAME, not {by!r}", where="--by")
    name = by.removeprefix(FIELD)
    if name not in row.labels:
        raise InputError(
            f"the row {row.id!r} has no {name!r} to split by", where="--by",
            hint=f"its labels are: {', '.join(row.labels) or 'none'}",
        )  # fmt: skip
    return f"{by}\0{row.labels[name]}"


@dataclass(frozen=True, slots=True)
class Sides:
    """sides: of each row, in order. groups: how many there are. orphans: derived rows whose parent
    is not in the set; those of one parent stay together, apart from where it may be."""

    sides: tuple[str, ...]
    groups: int
    orphans: int


def sides_of(
    rows: Iterable[Row],
    key: str,
    shares: Mapping[str, float],
    by: str = "group",
    near: Mapping[int, int] | None = None,
) -> Sides:
    """The side of every row; a derived one has its parent's, through any number of steps.

    near: by the place of a row, that of an earlier one it is near to (`near_parents`). A group
    takes the side of the group that its first row is near to; what its later rows are near to
    changes nothing, so that no row added later moves it.
    Memory: an id and a group for each row.
    """
    groups: list[str] = []
    parents: list[str] = []
    place_of: dict[str, int] = {}
    for place, row in enumerate(rows):
        groups.append("" if row.parent else group_of(row, by))
        parents.append(row.parent)
        place_of.setdefault(row.id, place)
    orphans = 0
    for place in range(len(groups)):
        root, seen = place, {place}
        while parents[root] and (above := place_of.get(parents[root])) is not None:
            if above in seen:
                break
            root = above
            seen.add(root)
        if parents[root]:
            orphans += 1
            groups[place] = f"parent\0{parents[root]}"
        elif root != place:
            groups[place] = groups[root]
    leader: dict[str, str] = {}  # of a group: the one whose side it takes
    for place, group in enumerate(groups):
        if group not in leader:
            earlier = (near or {}).get(place)
            leader[group] = group if earlier is None else leader[groups[earlier]]
    side = {group: side_of(leader[group], key, shares) for group in leader}
    return Sides(tuple(side[group] for group in groups), len(set(leader.values())), orphans)


def near_parents(rows: Sequence[Row], threshold: float = NEAR_COPY) -> dict[int, int]:
    """By the place of each near copy, that of the earliest row it is near to.

    Rows added at the end change nothing for those before them: a split stays frozen. One that is
    near two earlier rows goes with the first.
    """
    first: dict[int, int] = {}
    for later, earlier, _ in near_duplicates([row.asked() for row in rows], threshold=threshold):
        first[later] = min(first.get(later, earlier), earlier)
    return first


def near_across(
    rows: Sequence[Row], sides: Sequence[str], threshold: float = NEAR_COPY
) -> list[tuple[int, int, float]]:
    """Near copies on different sides: (later place, earlier place, Jaccard similarity)."""
    pairs = near_duplicates([row.asked() for row in rows], threshold=threshold)
    return [(i, j, alike) for i, j, alike in pairs if sides[i] != sides[j]]
