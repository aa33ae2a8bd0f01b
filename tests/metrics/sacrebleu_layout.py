"""What BLEU's and chrF's tests share: the public files, and references as sacrebleu wants them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"
WMT = DATA / "wmt17-en-de"
CASES = DATA / "metric-fixtures" / "sacrebleu_cases.json"


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


cases = load(CASES)
systems = load(WMT / "reference_scores.json").get("scores", [])
needs_wmt = pytest.mark.skipif(not systems, reason="the shared WMT files are not here")
needs_cases = pytest.mark.skipif(not cases, reason="sacrebleu's cases are not here")


def wmt(name: str) -> list[str]:
    with gzip.open(WMT / f"{name}.de.txt.gz", "rt", encoding="utf-8") as stream:
        return stream.read().rstrip("\n").split("\n")


def streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """One list for the first references, one for the second ...; None where an item has fewer."""
    most = max(map(len, references), default=0)
    return [[own[i] if i < len(own) else None for own in references] for i in range(most)]


def per_item(streams: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(own) for own in zip(*streams, strict=True)]
