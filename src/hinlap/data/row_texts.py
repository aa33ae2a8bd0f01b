"""All the text of each row of a file, whatever its columns; or its lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.core.progress import Progress
from hinlap.data.containers import KINDS, read_lines, read_records

_TOLD_EVERY = 500


def row_texts(path: Path, progress: Progress) -> Iterator[tuple[int, list[str]]]:
    """(line, the texts of its row), row by row, so that a file may be larger than memory.

    A file with the ending of a container is read as `read_records` does; any other is one text a
    line. Texts are all that a record holds at any depth; names of columns are none. ``progress``
    counts bytes of the file.
    Raises InputError, with the line, at the first record that cannot be read: what was not looked
    at must not count as clean.
    """
    endings = [ending.lower() for ending in path.suffixes if ending.lower() != ".gz"]
    kept = endings and endings[-1] in KINDS
    seen = 0
    for number, record in enumerate(read_records(path) if kept else read_lines(path)):
        if number == 0:
            progress.start(f"reading {path.name}", path.stat().st_size)
        if record.reason:
            raise InputError(
                record.reason, where=record.where, hint="mend or remove it: all must be looked at"
            )
        if number % _TOLD_EVERY == 0:
            progress.advance(record.end - seen)
            seen = record.end
        yield record.line, _texts(record.fields)
    progress.finish()


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value, its objects' names left out; no recursion, so no depth is too
    deep."""
    found, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            left += reversed(each.values())
        elif isinstance(each, list):
            left += reversed(each)
    return found
