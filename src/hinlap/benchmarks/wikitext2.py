"""WikiText-2, raw: how well a model foresees Wikipedia articles.

    = Robert Boulter = \\n\\n Robert Boulter is an English film , television and theatre actor . ...

Paper: Merity et al. (2016), "Pointer Sentinel Mixture Models". The raw test split, its lines joined
by blank lines as in the usual recipe, weighed by windows (see `bench_windows`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hinlap.benchmarks.benchmark import About, Benchmark, Given, Item
from hinlap.data.sources.pinned import Pinned
from hinlap.metrics.scores import Scores


def read(_path: Path) -> list[Item]:
    """None: how a running text is cut into items depends on the model's tokens."""
    return []


def measure(_items: Sequence[Item], _given: Sequence[Given]) -> list[Scores]:
    raise NotImplementedError("a running text is measured by its windows")


def explain(_item: Item, given: Given, _values: Mapping[str, float | None]) -> str:
    (nats,), (tokens,) = given.nats, given.tokens
    each = -nats / tokens
    return (
        f"Its {tokens:,} tokens cost {each:.2f} nats each: as unsure, on average, as a choice "
        f"among {math.exp(min(each, 700.0)):,.1f} equally likely tokens."
    )


WIKITEXT_2 = Benchmark(
    "wikitext-2",
    "WikiText-2, raw test split: perplexity per token, word and byte",
    About(
        "Merity et al. (2016)",
        "https://huggingface.co/datasets/Salesforce/wikitext (wikitext-2-raw-v1, test)",
        "CC BY-SA 3.0",
        "transformers' recipe for perplexity with stride 512",
    ),
    (Pinned("wikitext-2/wiki.test.raw.joined.txt"),),
    "",
    read,
    measure,
    as_it_stands=True,
    running=True,
    explain=explain,
)
