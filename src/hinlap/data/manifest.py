"""What is known of a data set, in ``FILE.manifest.json`` beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.core.version import __version__
from hinlap.data.whole_file import write_whole

SUFFIX = ".manifest.json"
TEST = "test"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Parent:
    """A file that a set was made from.

    path: as seen from the set's folder. sha256: of its bytes then. rows: 0 where not counted.
    """

    path: str
    sha256: str
    licence: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class SplitMark:
    """How a set was parted: by the same key and shares a row is on the same side again.

    shares: by side, in (0, 1], summing to 1. by: what a group is (see `splits`). of: the name that
    all sides share.
    """

    key: str
    shares: Mapping[str, float]
    by: str
    of: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of a data set.

    sha256:   of the file's bytes: what makes it this version.
    licence:  as named by who has it; "" for unknown.
    source, revision: where it came from outside, as ``hf:owner/name`` and a commit.
    parents:  the files it was made from.
    command:  that made it. created: ISO 8601, UTC. version: of Hinlap.
    role:     the side of a split (``test``: its rows never teach); "" for a whole set.
    counts:   what else was counted while making it (bad rows, renamed ids ...).
    """

    sha256: str
    rows: int
    licence: str = ""
    source: str = ""
    revision: str = ""
    parents: tuple[Parent, ...] = ()
    command: str = ""
    created: str = ""
    version: str = __version__
    role: str = ""
    split: SplitMark | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def manifest_path(path: Path) -> Path:
    """Where the manifest of the set at ``path`` stands."""
    return path.with_name(path.name + SUFFIX)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises InputError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), hint="check the name"
        ) from None
    return digest.hexdigest()


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes it beside the set at ``path``. Raises as ``whole_file``."""
    text = json.dumps(asdict(manifest), ensure_ascii=False, indent=2)
    write_whole(manifest_path(path), text.encode() + b"\n")


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the set at ``path``; None where there is none. Raises InputError."""
    place = manifest_path(path)
    try:
        raw = json.loads(place.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"the manifest cannot be read ({str(error)[:100]})",
            where=str(place),
            hint="take it back from where you keep versions, or delete it to have none",
        ) from None
    try:
        return _manifest(raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"not a manifest of a data set ({error})",
            where=str(place),
            hint="take it back from where you keep versions, or delete it to have none",
        ) from None


def verified(path: Path) -> Manifest | None:
    """As ``read_manifest``. Raises InputError where the file is not the one it speaks of."""
    manifest = read_manifest(path)
    if manifest is not None and (found := file_sha256(path)) != manifest.sha256:
        raise InputError(
            f"the file was changed after its manifest was written: its hash is {found[:12]}, "
            f"the manifest says {manifest.sha256[:12]}",
            where=str(path),
            hint=f"bring the file back, or delete {manifest_path(path)} and import it anew",
        )
    return manifest


def parent_of(path: Path, child: Path, rows: int = 0) -> Parent:
    """``path`` as a parent of the set at ``child``. Raises InputError where it was changed."""
    manifest = verified(path)
    seen = os.path.relpath(path.resolve(), child.resolve().parent)
    if manifest is None:
        return Parent(seen, file_sha256(path), rows=rows)
    return Parent(seen, manifest.sha256, manifest.licence, manifest.rows)


def _manifest(raw: Any) -> Manifest:
    split = raw.get("split")
    known = {name: raw[name] for name in Manifest.__slots__ if name in raw}
    known["parents"] = tuple(Parent(**parent) for parent in raw.get("parents", ()))
    known["split"] = None if split is None else SplitMark(**split)
    if not (isinstance(raw["sha256"], str) and isinstance(raw["rows"], int)):
        raise TypeError("sha256 and rows")
    return Manifest(**known)
