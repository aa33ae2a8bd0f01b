"""The helpful–honest–harmless card: five benchmarks, one page of figures, no sum of them.

Helpful, honest and harmless are Askell et al.'s (2021), "A General Language Assistant as a
Laboratory for Alignment". What can be counted stands in for what people would say: constraints
kept for helpful, true answers for honest, toxicity and bias for harmless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hinlap.core.errors import UserError
from hinlap.core.progress import Progress
from hinlap.core.version import __version__
from hinlap.store.store import Store
from hinlap.workflows.bench import (
    FEW_ITEMS,
    BenchOptions,
    BenchRun,
    Measured,
    find_benchmark,
    run_bench,
)
from hinlap.workflows.bench_asking import MakeAsked
from hinlap.workflows.metric_file import check_folder

CARD = "hhh"
"""What a card is called in the store, among the benchmarks."""
PARTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("helpful", "instructions", {"helpful_strict": "instructions with every constraint kept"}),
    (
        "honest",
        "truthfulqa-mc",
        {
            "truthfulqa_mc1": "questions where the true answer is the likeliest",
            "truthfulqa_mc2": "probability given to true answers",
        },
    ),
    (
        "harmless",
        "real-toxicity-prompts",
        {
            "rtp_toxicity_probability": "prompts with a toxic one among 25 continuations",
            "rtp_expected_maximum_toxicity": "toxicity of the worst of 25 continuations",
        },
    ),
    (
        "harmless",
        "crows-pairs",
        {"crows_pairs_stereotype": "pairs where the stereotype is likelier; 0.5 is neutral"},
    ),
    (
        "harmless",
        "winogender",
        {
            "winogender_agreement": "sentences read alike whatever the pronoun",
            "winogender_gotcha": "right where the pronoun goes against the labour statistics",
        },
    ),
)
"""(which of the three, benchmark, what its figures on the card say in words)."""
_WIDEST = 0.2


@dataclass(frozen=True)
class CardRow:
    """figure: None where the benchmark could not be run; ``said`` then tells why, and else
    "too few items to say" or nothing."""

    virtue: str
    benchmark: str
    metric: str
    meaning: str
    figure: Measured | None
    said: str


@dataclass(frozen=True)
class Card:
    model: str
    rows: Sequence[CardRow]
    runs: Sequence[BenchRun]

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "rows": [
                {
                    "virtue": row.virtue,
                    "benchmark": row.benchmark,
                    "metric": row.metric,
                    "meaning": row.meaning,
                    "value": row.figure.interval.value if row.figure else None,
                    "low": row.figure.interval.low if row.figure else None,
                    "high": row.figure.interval.high if row.figure else None,
                    "n": row.figure.interval.n if row.figure else 0,
                    "signature": row.figure.scores.signature if row.figure else None,
                    "p_neutral": row.figure.p_neutral if row.figure else None,
                    "said": row.said,
                }
                for row in self.rows
            ],
            "runs": [
                {"benchmark": r.benchmark.name, "settings": r.settings, "notes": list(r.notes)}
                for r in self.runs
            ],
        }


def hhh_card(make: MakeAsked, options: BenchOptions, store: Store, progress: Progress) -> Card:
    """All parts on one model. Those that weigh are put as their papers put them; instructions go
    through the chat template where the model has one.

    A part that the user's files or model cannot give says so on the card; the others are run.
    The card is kept in the store. Raises UserError when none could be.
    """
    rows: list[CardRow] = []
    runs: list[BenchRun] = []
    for virtue, name, meanings in PARTS:
        benchmark = find_benchmark(name)
        chat = name == "instructions" and make.chats
        try:
            run = run_bench(
                benchmark, make, replace(options, chat=chat, shots=None), store, progress
            )
        except UserError as error:
            reason = f"not measured: {error.what}{f' ({error.where})' if error.where else ''}"
            rows += [CardRow(virtue, name, m, words, None, reason) for m, words in meanings.items()]
            continue
        runs.append(run)
        by_name = {figure.scores.name: figure for figure in run.figures}
        rows += [
            CardRow(virtue, name, m, words, by_name[m], _said(by_name[m]))
            for m, words in meanings.items()
        ]
    if not runs:
        raise UserError("no part of the card could be measured", hint=rows[0].said)
    card = Card(runs[0].model, rows, runs)
    parts = ["hhh", runs[0].model_digest, options.limit, options.dtype, options.seed, options.rater]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    content = json.dumps(card.as_json(), allow_nan=False)
    store.keep_bench(key, CARD, card.model, __version__, content)  # for the page
    return card


def write_card(card: Card, path: Path) -> None:
    check_folder(path)
    path.write_text(json.dumps(card.as_json(), allow_nan=False, indent=1) + "\n", encoding="ascii")


def _said(figure: Measured) -> str:
    interval = figure.interval
    if interval.value is None:
        return "undefined"
    wide = interval.low is None or interval.high is None or interval.high - interval.low > _WIDEST
    return "too few items to say" if interval.n < FEW_ITEMS or wide else ""
