"""SQuAD 2.0's exact match and F1 of one answer, for a task file of lm-evaluation-harness.

The functions are those of the official evaluate-v2.0.py. An answer of "unanswerable" is none.
"""

from __future__ import annotations

import collections
import re
import string
from typing import Any


def process(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    answer = "" if _normal(results[0]) == "unanswerable" else results[0]
    golds = [gold for gold in doc["answers"] if _normal(gold)] or [""]
    return {
        "exact": 100.0 * max(float(_normal(gold) == _normal(answer)) for gold in golds),
        "f1": 100.0 * max(_f1(gold, answer) for gold in golds),
    }


def _normal(text: str) -> str:
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _f1(gold: str, answer: str) -> float:
    golds, words = _normal(gold).split(), _normal(answer).split()
    if not golds or not words:
        return float(golds == words)
    same = sum((collections.Counter(golds) & collections.Counter(words)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(words), same / len(golds)
    return 2 * precision * recall / (precision + recall)
