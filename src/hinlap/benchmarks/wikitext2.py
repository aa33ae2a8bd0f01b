"""WikiText-2, raw: how well a model foresees Wikipedia articles.

    = Robert Boulter = \\n\\n Robert Boulter is an English film , television and theatre actor . ...

Paper: Merity et al. (2016), "Pointer Sentinel Mixture Models". The raw test split, its lines joined
by blank lines as in transformers' recipe, weighed by that recipe's windows (see `bench_windows`).
lm-evaluation-harness's wikitext is another measure (articles apart, spaces around punctuation taken
out, windows side by side): its figures per word and byte do not compare with these.
The hub holds the split as a table, so it is not fetched.
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


def running_text(text: str) -> str:
    """Joined by the recipe; the original ``wiki.test.raw`` (its first line holds one space) still
    has to be, with its lines of white space taken as empty.

    >>> running_text(" \\n = One = \\n \\n A . \\n")
    '\\n\\n = One = \\n\\n\\n\\n\\n A . \\n'
    """
    if not text.startswith(" \n"):
        return text
    lines = text.removesuffix("\n").split("\n")
    return "\n\n".join(f"{line}\n" if line.strip() else "" for line in lines)


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
    (Pinned("wikitext-2/wiki.test.raw.joined.txt", also=("wikitext-2/wiki.test.raw",)),),
    "",
    read,
    measure,
    as_it_stands=True,
    running=running_text,
    explain=explain,
)
