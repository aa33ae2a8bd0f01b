"""Finding a benchmark's original file, and refusing another."""

from __future__ import annotations

from pathlib import Path

from hinlap.core.errors import InputError


def original_file(path: Path) -> Path:
    """The file itself, or the same with .gz at its name's end. Raises InputError where there is
    neither."""
    packed = path.with_name(path.name + ".gz")
    for found in (path, packed):
        if found.is_file():
            return found
    raise InputError(
        "there is no such file",
        where=str(path),
        hint="--data takes a folder with the benchmark's original files, or one such file; "
        "`hinlap bench list` says where they come from",
    )


def no_benchmark_file(path: Path, what: str) -> InputError:
    return InputError(
        f"this is not {what}",
        where=str(path),
        hint="take the original file: `hinlap bench list` says where it comes from",
    )
