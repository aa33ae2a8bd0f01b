"""Rows for the tests of the gates, and the shared files where they are there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hinlap.core.rows import Row

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
DOLLY = SHARED / "dolly" / "databricks-dolly-15k.sample.jsonl.gz"
ALPACA = SHARED / "alpaca" / "alpaca_sample.jsonl.gz"
RIDDLES = SHARED / "riddles" / "riddles.jsonl"


def asked(*pairs: tuple[str, str]) -> list[Row]:
    """Rows of (instruction, output)."""
    return [Row(str(at), question, answer) for at, (question, answer) in enumerate(pairs)]


def shared_rows(path: Path, instruction: str, context: str, output: str) -> list[Row]:
    """A shared file's rows by the names of its columns; the test is skipped where it is absent."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    records = [json.loads(line) for line in text.split("\n") if line]
    return [
        Row(str(at), r[instruction], r.get(output) or "", r.get(context) or "")
        for at, r in enumerate(records)
    ]
