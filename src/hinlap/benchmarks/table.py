"""The benchmarks by name."""

from __future__ import annotations

from hinlap.benchmarks.benchmark import Benchmark
from hinlap.benchmarks.crows_pairs import CROWS_PAIRS
from hinlap.benchmarks.instructions import INSTRUCTIONS
from hinlap.benchmarks.real_toxicity_prompts import REAL_TOXICITY_PROMPTS
from hinlap.benchmarks.squad import SQUAD, SQUAD_V2
from hinlap.benchmarks.truthfulqa import TRUTHFULQA_MC
from hinlap.benchmarks.truthfulqa_generation import TRUTHFULQA
from hinlap.benchmarks.wikitext2 import WIKITEXT_2
from hinlap.benchmarks.winogender import WINOGENDER

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        SQUAD,
        SQUAD_V2,
        TRUTHFULQA,
        TRUTHFULQA_MC,
        CROWS_PAIRS,
        WINOGENDER,
        REAL_TOXICITY_PROMPTS,
        WIKITEXT_2,
        INSTRUCTIONS,
    )
}
