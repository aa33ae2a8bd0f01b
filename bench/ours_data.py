"""Rows in and out, against plain json.loads of the same file: MB/s of one process.

write FILE: 200 MB of Alpaca's layout, seeded. read FILE: the figures as one JSON object.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hinlap.workflows.data_convert import convert_rows
from hinlap.workflows.data_import import ImportOptions, import_rows

SIZE = 200_000_000


def write(path: Path) -> None:
    rng = random.Random(6)
    words = [
        "harbour",
        "rice",
        "morning",
        "count",
        "teacher",
        "ช้าง",
        "บ้าน",
        "seven",
        "river",
        "glass",
    ]
    size = number = 0
    with path.open("wb") as file:
        while size < SIZE:
            number += 1
            text = " ".join(rng.choices(words, k=100))
            row = {"instruction": f"Question {number}: {text[:90]}?", "input": "", "output": text}
            size += file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def plain(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if json.loads(line))


def megabytes_per_second(path: Path, job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return path.stat().st_size / 1e6 / (time.perf_counter() - began)


def read(path: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        out = Path(folder)
        bare = megabytes_per_second(path, lambda: plain(path))
        ours = megabytes_per_second(
            path, lambda: import_rows([str(path)], out / "a.jsonl", ImportOptions())
        )
        made = megabytes_per_second(
            out / "a.jsonl",
            lambda: convert_rows(out / "a.jsonl", out / "m.jsonl", "messages"),
        )
        return {"json_loads": bare, "import": ours, "convert": made, "rows": plain(path)}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        print(json.dumps(read(Path(sys.argv[2]))))
