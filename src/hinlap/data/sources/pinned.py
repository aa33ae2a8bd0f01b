"""Original data files from an address that cannot change: fetched once, known by their digest."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.errors import HinlapError, InputError
from hinlap.core.progress import Progress
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.whole_file import write_whole
from hinlap.engines.places import cache_folder

_LARGEST_BYTES = 200_000_000
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Pinned:
    """path: below a data folder. address: of the file at one revision; "" where it is not fetched
    (it comes with Hinlap or from the user). sha256: of its bytes as served there, before any
    gzip; "" where unknown. also: other paths that the same data may stand at."""

    path: str
    address: str = ""
    sha256: str = ""
    also: tuple[str, ...] = ()


def pinned_file(
    pinned: Pinned, folder: Path | None, progress: Progress, fetcher: Fetcher | None = None
) -> Path:
    """Where the file is: below ``folder``, also with .gz at its end; without a folder, in the
    cache, where it is fetched to when it is not there.

    Raises InputError where it is neither in the folder nor to be fetched, or where what is served
    is not the pinned revision; EngineError where the server fails. Both name what to do.
    """
    if folder is not None:
        places = [folder / path for path in (pinned.path, *pinned.also)]
        for place in places:
            for found in (place, place.with_name(place.name + ".gz")):
                if found.is_file():
                    return found
        raise InputError(
            "there is no such file",
            where=str(places[0]),
            hint="--data takes a folder with the benchmark's original files, or one such file; "
            "`hinlap bench list` says where they come from",
        )
    if not pinned.address or not pinned.sha256:
        raise InputError(
            "there is no address to fetch it from",
            where=pinned.path,
            hint="--data DIR, a folder with the original files: see `hinlap bench list`",
        )
    place = cache_folder() / "data" / pinned.sha256[:16] / Path(pinned.path).name
    if place.is_file():
        return place
    progress.say(f"fetching {pinned.address}")
    fetcher = fetcher or Fetcher(timeout_seconds=_TIMEOUT_SECONDS, max_bytes=_LARGEST_BYTES)
    try:
        body = fetcher.get(pinned.address).checked().body
    except HinlapError as error:
        raise type(error)(
            error.what, where=error.where, hint="fetch it by hand, and name its folder by --data"
        ) from error
    digest = hashlib.sha256(body).hexdigest()
    if digest != pinned.sha256:
        raise InputError(
            f"not the pinned revision: its SHA-256 is {digest[:16]}…, not {pinned.sha256[:16]}…",
            where=pinned.address,
            hint="upgrade hinlap, or name a file of your own by --data",
        )
    write_whole(place, body)
    return place


def beside(first: Path, other: Pinned) -> Path:
    """Another file of the same benchmark: in the folder of its first one, or fetched beside it.
    Raises InputError where it is not there."""
    names = [Path(path).name for path in (other.path, *other.also)]
    cached = cache_folder() / "data" / other.sha256[:16] / names[0]
    folder = [first.with_name(ending) for name in names for ending in (name, f"{name}.gz")]
    for place in [*folder, *([cached] if other.sha256 else [])]:
        if place.is_file():
            return place
    raise InputError("there is no such file", where=str(folder[0]), hint=f"it belongs to {first}")


def is_pinned(path: Path, pinned: Pinned) -> bool:
    """Whether a file, gunzipped where it is gzip, has the pinned digest."""
    body = path.read_bytes()
    if body.startswith(b"\x1f\x8b"):
        try:
            body = gzip.decompress(body)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False
    return hashlib.sha256(body).hexdigest() == pinned.sha256
