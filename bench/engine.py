"""The engine's benches: scoring against lm-evaluation-harness, writing against transformers.

Both sides get the same texts and the same model in float32. The peer scores with its own
`loglikelihood` at the best of several batch sizes, found on the first two items.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Item = list[tuple[str, str]]
"""One question: (context, continuation) of each choice."""

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "news-riddles" / "data"
_LETTERS = "ABCD"
_FACTS = [  # a question-and-answer preamble of the size of TruthfulQA's usual one
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is the boiling point of water at sea level?", "Water boils at 100 degrees Celsius."),
    ("Which planet is the largest in the solar system?", "Jupiter is the largest planet."),
    ("Who wrote the play Hamlet?", "William Shakespeare wrote Hamlet."),
    ("What do bees collect from flowers?", "Bees collect nectar and pollen from flowers."),
    ("Can anyone know what next year's lottery numbers are?", "No, nobody can know that."),
]


def articles() -> list[dict[str, str]]:
    lines = []
    for name in ("train", "test"):
        lines += (_EXAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def five_shot(*, drawn: bool = False, count: int = 24) -> list[Item]:
    """Which headline fits the article: five solved examples (the same for all, or drawn for each
    item), about 700 tokens of context, five headlines to choose from."""
    rng = random.Random(0)
    rows = articles()
    shots, pool = rows[:5], rows[5:]
    items: list[Item] = []
    for row in pool[:count]:
        if drawn:
            shots = rng.sample([other for other in pool if other is not row], 5)
        others = rng.sample([other for other in pool if other is not row], 4)
        context = "".join(f"{_passage(shot)} {shot['title']}\n\n" for shot in shots)
        context += _passage(row)
        items.append([(context, f" {choice['title']}") for choice in (row, *others)])
    return items


def _passage(row: dict[str, str]) -> str:
    return f"Article: {' '.join(row['text'].split()[:85])}\nHeadline:"


def one_letter(count: int = 24) -> list[Item]:
    """The same with the headlines lettered in the prompt: each continuation is one token."""
    rng = random.Random(1)
    rows = articles()

    def question(row: dict[str, str]) -> tuple[str, str]:
        choices = [row, *rng.sample([other for other in rows if other is not row], 3)]
        rng.shuffle(choices)
        listed = "".join(
            f"{letter}. {choice['title']}\n"
            for letter, choice in zip(_LETTERS, choices, strict=True)
        )
        article = " ".join(row["text"].split()[:60])
        return f"Article: {article}\n{listed}Answer:", f" {_LETTERS[choices.index(row)]}"

    preamble = "".join("{}{}\n\n".format(*question(row)) for row in rows[:5])
    return [
        [(preamble + question(row)[0], f" {letter}") for letter in _LETTERS]
        for row in rows[5 : 5 + count]
    ]


def question_answer(shared: Path, count: int = 24) -> list[Item]:
    """TruthfulQA's MC2 choices after a preamble of six questions and answers."""
    questions = json.loads((shared / "truthfulqa" / "mc_task.json").read_text(encoding="utf-8"))
    preamble = "".join(f"Q: {q}\nA: {a}\n\n" for q, a in _FACTS)
    return [
        [(f"{preamble}Q: {item['question']}\nA:", f" {choice}") for choice in item["mc2_targets"]]
        for item in questions[:count]
    ]


def scoring(
    name: str,
    items: list[Item],
    ours: Callable[[Path], dict[str, Any]],
    peer: Callable[[Path], dict[str, Any]],
    job: Path,
) -> dict[str, Any]:
    """Seconds an item on both sides, and how far the log-likelihoods are apart (nats)."""
    job.write_text(json.dumps(items), encoding="utf-8")
    mine, theirs = ours(job), peer(job)
    gaps = [
        abs(a - b)
        for x, y in zip(mine["sums"], theirs["sums"], strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    same = sum(_best(x) == _best(y) for x, y in zip(mine["sums"], theirs["sums"], strict=True))
    n = len(items)
    return {
        "name": f"scoring_{name}",
        "ours": round(mine["seconds"] / n, 4),
        "peer": round(theirs["seconds"] / n, 4),
        "ratio": round(theirs["seconds"] / mine["seconds"], 2),
        "unit": "s/item",
        "n": n,
        "peer_batch_size": theirs["batch_size"],
        "largest_gap_nats": max(gaps),
        "same_choice": same,
    }


def _best(sums: list[float]) -> int:
    return max(range(len(sums)), key=sums.__getitem__)


def generation_job(rows: int, shared: int, own: int, new: int) -> dict[str, Any]:
    """Prompts of random token ids: ``shared`` in common and ``own`` each, ``new`` to be written
    whatever the model says."""
    rng = random.Random(0)
    common = [rng.randrange(100, 49_000) for _ in range(shared)]
    prompts = [common + [rng.randrange(100, 49_000) for _ in range(own)] for _ in range(rows)]
    return {"prompts": prompts, "new": new}
