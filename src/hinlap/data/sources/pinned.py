"""Original data files from an address that cannot change: fetched once, known by their digest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pinned:
    """path: below a data folder. address: of the file at one revision; "" where it is not fetched
    (it comes with Hinlap or from the user). sha256: of its bytes as served there, before any
    gzip; "" where unknown."""

    path: str
    address: str = ""
    sha256: str = ""
