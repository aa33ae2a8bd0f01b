"""Reading a benchmark's original file, and refusing another."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hinlap.core.errors import InputError
from hinlap.data.text_file import read_utf8


def no_benchmark_file(path: Path, what: str) -> InputError:
    return InputError(
        f"this is not {what}",
        where=str(path),
        hint="take the original file: `hinlap bench list` says where it comes from",
    )


def table_rows(
    path: Path, what: str, columns: Sequence[str], *, tabs: bool = False
) -> list[dict[str, str]]:
    """The rows of a CSV file, or one with tabs (then quotes are letters). Raises InputError that
    names the columns that are missing, or the line of a row with too few."""
    text = io.StringIO(read_utf8(path))
    if tabs:
        reader = csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(text)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise no_benchmark_file(path, f"{what}: it lacks the columns {', '.join(missing)}")
    rows = []
    for row in reader:
        if any(row[column] is None for column in columns):
            raise InputError("the row has too few columns", where=f"{path}:{reader.line_num}")
        rows.append(row)
    return rows
