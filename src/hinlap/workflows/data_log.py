"""Where a set came from, through its parents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hinlap.core.errors import InputError
from hinlap.data.manifest import Manifest, file_sha256, read_manifest


@dataclass(frozen=True, slots=True)
class Step:
    """One set of a lineage. depth: 0 for the set itself. manifest: None where it has none.

    state: "" where the file is the one that is meant; else what is the matter.
    """

    path: Path
    depth: int
    manifest: Manifest | None
    state: str


def lineage(path: Path) -> list[Step]:
    """The set and its parents, parents of parents ..., each behind its child.

    A parent that was changed since, or is not there, is told; its own parents are not followed
    then, as they may be another version's. Raises InputError where ``path`` has no manifest.
    """
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(
            "there is no manifest beside it", where=str(path),
            hint="hinlap data import writes one; a file without has no history",
        )  # fmt: skip
    found = file_sha256(path)
    state = "" if found == manifest.sha256 else "changed since its manifest was written"
    steps = [Step(path, 0, manifest, state)]
    _follow(path, manifest, 1, steps, {manifest.sha256})
    return steps


def _follow(path: Path, manifest: Manifest, depth: int, steps: list[Step], seen: set[str]) -> None:
    for parent in manifest.parents:
        place = path.parent / parent.path
        above = None
        if not place.is_file():
            state = "not there any more"
        elif file_sha256(place) != parent.sha256:
            state = f"changed since: {parent.sha256[:12]} is meant"
        else:
            state, above = "", read_manifest(place)
        steps.append(Step(place, depth, above, state))
        if above is not None and parent.sha256 not in seen:
            _follow(place, above, depth + 1, steps, seen | {parent.sha256})
