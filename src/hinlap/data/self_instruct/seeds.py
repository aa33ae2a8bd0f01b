"""Seed tasks: the examples by people that a model is shown, in the layout of Self-Instruct or as
any file of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.core.rows import BadRow
from hinlap.data.row_files import read_rows
from hinlap.data.text_file import kind_of, read_utf8


@dataclass(frozen=True, slots=True)
class SeedTask:
    """instances: (input, output), at least one; an input may be "".
    is_classification: None where the source does not say."""

    id: str
    instruction: str
    instances: tuple[tuple[str, str], ...]
    is_classification: bool | None = None


def read_seeds(path: Path) -> tuple[list[SeedTask], list[BadRow]]:
    """The tasks of a file and what in it is none.

    One JSON object per line with ``instruction``, ``instances`` (objects with ``input`` and
    ``output``) and perhaps ``is_classification``, as seed_tasks.jsonl of Self-Instruct has them;
    else whatever `read_rows` reads: rows of one instruction become one task.
    Raises InputError when the file cannot be read, or holds no task at all.
    """
    tasks, bad = _seed_layout(path) if _has_instances(path) else _from_rows(path)
    if not tasks:
        reason = f" ({bad[0].where}: {bad[0].reason})" if bad else ""
        raise InputError(
            f"there is no seed task in it{reason}",
            where=str(path),
            hint='one JSON object per line: {"instruction": "...", "input": "", "output": "..."}; '
            "one task works, six or more make the new ones differ",
        )
    return tasks, bad


def _has_instances(path: Path) -> bool:
    if path.name.removesuffix(".gz").rpartition(".")[2] not in ("jsonl", "json"):
        return False
    for line in read_utf8(path).split("\n"):
        if line.strip():
            try:
                first = json.loads(line)
            except (ValueError, RecursionError):
                continue
            return isinstance(first, dict) and "instances" in first
    return False


def _seed_layout(path: Path) -> tuple[list[SeedTask], list[BadRow]]:
    tasks: list[SeedTask] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            bad.append(BadRow(where, "not JSON that can be read: a line may have been cut"))
            continue
        found = _task(record, f"seed-{number}")
        if isinstance(found, str):
            bad.append(BadRow(where, found))
        elif found.id in seen:
            bad.append(BadRow(where, f"the id {found.id!r} stands above already"))
        else:
            seen.add(found.id)
            tasks.append(found)
    return tasks, bad


def _task(record: object, default_id: str) -> SeedTask | str:
    """The task, or why it is none."""
    if not isinstance(record, dict):
        return f"{kind_of(record)} where a JSON object is meant"
    instruction = record.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        return "no text in 'instruction'"
    parts = record.get("instances")
    if not isinstance(parts, list) or not parts:
        return "no list in 'instances'"
    instances = []
    for part in parts:
        pair = _pair(part)
        if pair is None:
            return "an instance without 'input' and 'output' as texts, or without an answer"
        instances.append(pair)
    says = record.get("is_classification")
    return SeedTask(
        id=str(record.get("id") or default_id),
        instruction=instruction.strip(),
        instances=tuple(instances),
        is_classification=says if isinstance(says, bool) else None,
    )


def _pair(part: object) -> tuple[str, str] | None:
    if not isinstance(part, Mapping):
        return None
    texts: list[Any] = [part.get("input", ""), part.get("output")]
    if not all(isinstance(text, str) for text in texts) or not texts[1].strip():
        return None
    return texts[0].strip(), texts[1].strip()


def _from_rows(path: Path) -> tuple[list[SeedTask], list[BadRow]]:
    bad: list[BadRow] = []
    firsts: dict[str, tuple[str, bool | None]] = {}
    instances: dict[str, list[tuple[str, str]]] = {}
    for row in read_rows(path):
        if isinstance(row, BadRow):
            bad.append(row)
        elif not row.instruction.strip() or not row.output.strip():
            bad.append(BadRow(f"{path}: row {row.id}", "a seed needs an instruction and an answer"))
        else:
            instruction = row.instruction.strip()
            says = row.labels.get("is_classification")
            firsts.setdefault(instruction, (row.id, says if isinstance(says, bool) else None))
            instances.setdefault(instruction, []).append((row.input.strip(), row.output.strip()))
    tasks = [
        SeedTask(identity, instruction, tuple(instances[instruction]), says)
        for instruction, (identity, says) in firsts.items()
    ]
    return tasks, bad
