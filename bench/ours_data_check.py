"""Ours, for the benches of `hinlap data check`: near copies of very many short rows, and leaks."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from hinlap.core.progress import Silent
from hinlap.core.rows import Row
from hinlap.data.gates.duplicates import duplicates
from hinlap.data.gates.overlap import overlap
from hinlap.data.row_files import read_rows
from hinlap.workflows.held_out import held_out_texts

DOLLY = "dolly/databricks-dolly-15k.sample.jsonl.gz"
ALPACA = "alpaca/alpaca_sample.jsonl.gz"
NEAR_EVERY = 50
COPY_EVERY = 100


def main() -> None:
    what, data, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    found = {"duplicates": _duplicates, "leaks": _leaks}[what](data, n)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**found, "peak_gib": round(peak, 3)}))


def _duplicates(data: Path, n: int) -> dict[str, float]:
    rows = list(short_rows(data, n))
    began = time.perf_counter()
    report = duplicates(rows)
    seconds = time.perf_counter() - began
    made = {int(row.id) for row in rows if row.labels["made"] != "new"}
    flagged = {f.row for f in report.findings if f.kind != "conflict"}
    return {
        "seconds": seconds,
        "made": len(made),
        "recalled": len(made & flagged),
        "others": len(flagged - made),
        **report.counts,
    }


def _leaks(data: Path, n: int) -> dict[str, float]:
    """Dolly's and Alpaca's rows, over and over until there are n, against all benchmark files."""
    files = (data / DOLLY, data / ALPACA)
    real = [row for file in files for row in read_rows(file) if isinstance(row, Row)]
    rows = list(itertools.islice(itertools.cycle(real), n))
    began = time.perf_counter()
    tests = held_out_texts(data, Silent())
    read = time.perf_counter() - began
    report = overlap(rows, tests)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "read_seconds": read, "tests": len(tests), "rows": report.rows}


def short_rows(data: Path, n: int) -> Iterator[Row]:
    """About 25 words each, drawn word after word as words follow each other in Dolly's rows;
    every 100th is a copy of an earlier one, every 50th one with a word of its answer changed."""
    draw = random.Random(20261125)
    follows: defaultdict[str, list[str]] = defaultdict(list)
    for line in gzip.decompress(data.joinpath(DOLLY).read_bytes()).decode().split("\n"):
        if line:
            record = json.loads(line)
            words = f"{record['instruction']} {record.get('response') or ''}".split()
            for word, later in itertools.pairwise(words):
                follows[word].append(later)
    starts = list(follows)
    kept: list[Row] = []

    def text(length: int) -> str:
        words = [draw.choice(starts)]
        while len(words) < length:
            words.append(draw.choice(follows.get(words[-1]) or starts))
        return " ".join(words)

    for number in range(n):
        if kept and number % COPY_EVERY == 0:
            twin = draw.choice(kept)
            yield Row(str(number), twin.instruction, twin.output, labels={"made": "copy"})
        elif kept and number % NEAR_EVERY == 1:
            twin = draw.choice(kept)
            words = twin.output.split()
            words[-1] = draw.choice(starts)
            yield Row(str(number), twin.instruction, " ".join(words), labels={"made": "near"})
        else:
            row = Row(
                str(number), text(draw.randint(7, 13)), text(draw.randint(8, 22)),
                labels={"made": "new"},
            )  # fmt: skip
            if len(kept) < 10_000:
                kept.append(row)
            yield row


if __name__ == "__main__":
    main()
