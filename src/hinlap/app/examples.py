"""Reading premade examples and inputs (JSONL or CSV)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from hinlap.core.errors import HinlapError, InputError
from hinlap.core.examples import Example, Split


def read_rows(
    path: Path, error: type[HinlapError] = InputError
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a JSONL or CSV file as (file:line, fields), blank lines left out.

    Raises ``error``, naming file and line, for a file that is missing, not UTF-8, of another
    kind, or has a row that is not an object of texts and numbers.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise error(
            f"cannot be read: {problem.strerror or problem}",
            where=str(path),
            hint="check the path; it is relative to the folder of app.yaml or to where you stand",
        ) from problem
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise error(
            f"not UTF-8 (byte 0x{raw[problem.start]:02x})",
            where=f"{path}:{line}",
            hint="save it as UTF-8, for example: iconv -f WINDOWS-874 -t UTF-8 FILE > NEW",
        ) from problem
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl_rows(path, text, error)
    if suffix == ".csv":
        return _csv_rows(path, text, error)
    raise error(
        f"unknown kind of file {suffix or '(no ending)'!r}",
        where=str(path),
        hint="use .jsonl (one JSON object a line) or .csv (first line: column names)",
    )


def _jsonl_rows(
    path: Path, text: str, error: type[HinlapError]
) -> list[tuple[str, dict[str, str]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # texts may hold other line separators
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise error(
                f"not JSON: {problem.msg} (column {problem.colno})",
                where=where,
                hint="each line must be one JSON object",
            ) from problem
        except (ValueError, RecursionError) as problem:  # a number of 5,000 digits, 1,000 brackets
            raise error(
                f"cannot be read: {problem}", where=where, hint="put texts into double quotes"
            ) from problem
        if not isinstance(row, dict):
            raise error("expected a JSON object", where=where, hint='like {"text": "..."}')
        fields = {}
        for name, value in row.items():
            if value is None:
                continue
            if isinstance(value, (dict, list)):
                value = json.dumps(value, ensure_ascii=False)
            fields[name] = _clean(str(value))
        rows.append((where, fields))
    return rows


def _csv_rows(path: Path, text: str, error: type[HinlapError]) -> list[tuple[str, dict[str, str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), 16 * 2**20))  # 1 MB articles
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row:
                raise error(
                    "more cells than the first line has names",
                    where=where,
                    hint='put texts that hold commas into double quotes ("")',
                )
            rows.append((where, {name: _clean(cell) for name, cell in row.items() if cell}))
    except csv.Error as problem:
        raise error(
            f"not CSV: {problem}",
            where=f"{path}:{reader.line_num}",
            hint='put texts that hold commas or line ends into double quotes ("")',
        ) from problem
    return rows


def _clean(text: str) -> str:
    # a lone surrogate (from "\\ud800" in JSON) can be neither printed nor stored
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def make_examples(
    rows: Sequence[tuple[str, dict[str, str]]],
    *,
    inputs: Sequence[str],
    steps: Iterable[str],
    split: Split,
    error: type[HinlapError] = InputError,
) -> list[Example]:
    """Rows as examples: inputs by name, wanted outputs by step name, the rest as labels.

    A row without ``id`` gets one from its content. Raises ``error`` when an input is missing or
    empty, when an id comes twice, or when two rows have the very same inputs.
    """
    step_names = set(steps)
    examples: list[Example] = []
    seen_ids: dict[str, str] = {}
    seen_inputs: dict[tuple[str, ...], str] = {}
    for where, row in rows:
        for name in inputs:
            if not row.get(name, "").strip():
                present = ", ".join(row) or "nothing"
                raise error(
                    f"the input {name!r} is {'empty' if name in row else 'missing'}",
                    where=where,
                    hint=f"this row has: {present}",
                )
        values = tuple(row[name] for name in inputs)
        if values in seen_inputs:
            raise error(
                f"the same inputs as {seen_inputs[values]}", where=where, hint="remove one of them"
            )
        seen_inputs[values] = where
        identity = row.get("id") or hashlib.sha256("\0".join(values).encode()).hexdigest()[:12]
        if identity in seen_ids:
            raise error(
                f"the id {identity!r} stands already at {seen_ids[identity]}",
                where=where,
                hint="give each row an id of its own",
            )
        seen_ids[identity] = where
        examples.append(
            Example(
                id=identity,
                inputs={name: row[name] for name in inputs},
                split=split,
                wanted={n: v for n, v in row.items() if n in step_names and v.strip()},
                labels={n: v for n, v in row.items() if n not in step_names and n != "id"},
                where=where,
            )
        )
    return examples
