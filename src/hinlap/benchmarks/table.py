"""The benchmarks by name."""

from __future__ import annotations

from hinlap.benchmarks.benchmark import Benchmark
from hinlap.benchmarks.crows_pairs import CROWS_PAIRS
from hinlap.benchmarks.truthfulqa import TRUTHFULQA_MC

BENCHMARKS: dict[str, Benchmark] = {b.name: b for b in (TRUTHFULQA_MC, CROWS_PAIRS)}
