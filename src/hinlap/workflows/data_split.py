"""Part a set, for good: the sides are files of their own, and their manifests hold how."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from hinlap.core.errors import InputError
from hinlap.core.progress import Progress, Silent
from hinlap.core.rows import Row
from hinlap.data.manifest import (
    Manifest,
    SplitMark,
    file_sha256,
    parent_of,
    read_manifest,
    verified,
    write_manifest,
)
from hinlap.data.row_files import ROW_FILES, RowWriter, read_rows
from hinlap.data.splits import checked_shares, near_across, near_parents, sides_of

DEFAULT_KEY = "hinlap"
NEAR_ROWS = 200_000
"""Above so many rows near copies are not looked for here: `hinlap data check` does it."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """files: by side. rows: by side. across: near copies on different sides as (id, side, id,
    side, Jaccard similarity); None where they were not looked for."""

    files: Mapping[str, Path]
    rows: Mapping[str, int]
    groups: int
    orphans: int
    across: tuple[tuple[str, str, str, str, float], ...] | None
    split: SplitMark


def split_rows(
    path: Path,
    shares: Mapping[str, float],
    *,
    key: str = "",
    by: str = "group",
    together: bool = False,
    folder: Path | None = None,
    resplit: str = "",
    command: str = "",
    created: str = "",
    progress: Progress | None = None,
) -> SplitReport:
    """Writes ``NAME.SIDE.jsonl`` for each side, in ``folder`` or beside ``path``.

    key:      "" takes the key of an earlier split of that name, or Hinlap's own.
    together: near copies take the side of the earliest of them.
    resplit:  the name of the set whose earlier split, by other shares, is given up.
    Raises InputError where the set was already split another way, where a file was changed since
    its manifest, or where a row is bad (import it first); nothing is written then.
    """
    shares = checked_shares(shares)
    progress = progress or Silent()
    name, ending = _name_and_ending(path)
    folder = folder or path.parent
    files = {side: folder / f"{name}.{side}{ending}" for side in shares}
    earlier = _earlier(path, folder, name, ending)
    by_text = f"{by}, near copies together" if together else by
    if earlier is not None and resplit != name:
        _refuse_other(earlier, shares, key, by_text, name, path)
        key = earlier.key
    mark = SplitMark(key or DEFAULT_KEY, shares, by_text, name)
    rows = _whole_rows(path)
    progress.say(f"{len(rows):,} rows in {path}")
    near = near_parents(rows) if together else None
    found = sides_of(rows, mark.key, shares, by, near)
    across = None
    if len(rows) <= NEAR_ROWS:
        across = tuple(
            (rows[i].id, found.sides[i], rows[j].id, found.sides[j], alike)
            for i, j, alike in near_across(rows, found.sides)
        )
    missing = [side for side in shares if side not in found.sides]
    if missing:
        raise InputError(
            f"no row falls on the side {missing[0]!r}: there are {found.groups:,} groups only",
            where=str(path),
            hint="add rows, or give it a larger share",
        )
    counts = dict.fromkeys(shares, 0)
    with ExitStack() as stack:
        sinks = {side: stack.enter_context(RowWriter(file)) for side, file in files.items()}
        for row, side in zip(rows, found.sides, strict=True):
            sinks[side].write(row)
            counts[side] += 1
    parent = parent_of(path, files[next(iter(files))], len(rows))
    before = read_manifest(path)
    for side, file in files.items():
        write_manifest(
            file,
            Manifest(
                file_sha256(file), counts[side],
                licence=parent.licence, parents=(parent,), command=command, created=created,
                role=side, split=mark,
            ),
        )  # fmt: skip
    whole = before or Manifest(parent.sha256, len(rows), command=command, created=created)
    write_manifest(path, replace(whole, split=mark))
    return SplitReport(files, counts, found.groups, found.orphans, across, mark)


def _whole_rows(path: Path) -> list[Row]:
    rows = []
    for found in read_rows(path):
        if not isinstance(found, Row):
            raise InputError(
                f"a record that is no row: {found.reason}", where=found.where,
                hint=f"hinlap data import {path} --out CLEAN.jsonl puts such ones aside",
            )  # fmt: skip
        rows.append(found)
    return rows


def _name_and_ending(path: Path) -> tuple[str, str]:
    for ending in sorted(ROW_FILES, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)], ending
    return path.name.split(".")[0], ".jsonl"


def _earlier(path: Path, folder: Path, name: str, ending: str) -> SplitMark | None:
    """How the set, or files of its sides that are there, were split. Raises InputError where
    one of them was changed by hand."""
    for file in sorted(folder.glob(f"{name}.*{ending}")):
        manifest = read_manifest(file)
        if manifest is not None and manifest.split is not None and manifest.split.of == name:
            verified(file)
            return manifest.split
    whole = read_manifest(path)
    return whole.split if whole is not None and not whole.role else None


def _refuse_other(
    earlier: SplitMark, shares: Mapping[str, float], key: str, by: str, name: str, path: Path
) -> None:
    same = dict(earlier.shares) == dict(shares) and list(earlier.shares) == list(shares)
    if same and earlier.by == by and key in ("", earlier.key):
        return
    was = ",".join(f"{side}={share:g}" for side, share in earlier.shares.items())
    raise InputError(
        f"it is split already: {was}, by {earlier.by}; another split would move test rows into "
        "training",
        where=str(path),
        hint=f"use the same shares and key; --resplit {name} gives the earlier split up",
    )
