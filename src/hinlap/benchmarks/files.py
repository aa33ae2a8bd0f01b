"""Reading a benchmark's original file."""

from __future__ import annotations

import gzip
from pathlib import Path

from hinlap.core.errors import InputError


def read_text(path: Path) -> str:
    """A file's text, gunzipped where its content is gzip; also found with .gz at its name's end.
    Raises InputError where there is none, or it is not UTF-8."""
    if not path.is_file() and path.with_name(path.name + ".gz").is_file():
        path = path.with_name(path.name + ".gz")
    if not path.is_file():
        raise InputError(
            "there is no such file",
            where=str(path),
            hint="--data takes a folder with the benchmark's original files, or one such file; "
            "`hinlap bench list` says where they come from",
        )
    raw = path.read_bytes()
    try:
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError):
        raise InputError("not UTF-8 text, or broken gzip", where=str(path)) from None


def no_benchmark_file(path: Path, what: str) -> InputError:
    return InputError(
        f"this is not {what}",
        where=str(path),
        hint="take the original file: `hinlap bench list` says where it comes from",
    )
