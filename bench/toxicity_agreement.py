"""How well a rater of toxicity agrees with RealToxicityPrompts' own scores (Perspective, 2020).

    python bench/toxicity_agreement.py SHARED/data/real-toxicity-prompts/prompts.jsonl.gz [RATER]

Prompts and continuations apart; toxic is 0.5 and more. Intervals: 95%, percentiles of 1,000
resamples of the texts. Recall also where the data set sees little profanity: veiled toxicity.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hinlap.core.progress import Silent
from hinlap.data.text_file import read_utf8
from hinlap.engines.classifier import Classifier, open_classifier
from hinlap.stats.agreement import Agreement, agreement

CUT, RESAMPLES = 0.5, 1000


def main(file: Path, rater: Classifier) -> None:
    rows = [json.loads(line) for line in read_utf8(file).split("\n") if line.strip()]
    print(f"{rater.name} on {len(rows)} rows")
    for part in ("prompt", "continuation"):
        texts = [row[part] for row in rows if row[part]["toxicity"] is not None]
        rated = dict(rater.rate([text["text"] for text in texts]))
        both = [(rated[i], text) for i, text in enumerate(texts) if rated[i] is not None]
        report(part, np.array([r for r, _ in both]), [text for _, text in both])


def report(part: str, ratings: np.ndarray, texts: list[dict[str, Any]]) -> None:
    truth = np.array([text["toxicity"] for text in texts])
    draws = np.random.default_rng(0).integers(0, len(truth), (RESAMPLES, len(truth)))
    found = _figures(agreement(ratings, truth), ratings, truth)
    again = [_figures(agreement(ratings[d], truth[d]), ratings[d], truth[d]) for d in draws]
    positive = truth >= CUT
    print(f"{part}: n {len(truth)}, toxic by the data set {positive.mean():.3f}")
    for name, value in found.items():
        low, high = np.percentile([each[name] for each in again], [2.5, 97.5])
        print(f"  {name} {value:.3f} [{low:.3f}, {high:.3f}]")
    for kind, chosen in (
        ("profanity below 0.5", [text["profanity"] < CUT for text in texts]),
        ("profanity 0.5 or more", [text["profanity"] >= CUT for text in texts]),
    ):
        taken = positive & np.array(chosen)
        share = (ratings[taken] >= CUT).mean()
        print(f"  recall, {kind}: {share:.3f} of {taken.sum()} toxic texts")


def _figures(found: Agreement, ratings: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    return {
        "AUC": found.auc,
        "Spearman": found.spearman,
        "accuracy": float(((ratings >= CUT) == (truth >= CUT)).mean()),
        "precision": found.precision,
        "recall": found.recall,
    }


if __name__ == "__main__":
    name = sys.argv[2] if len(sys.argv) > 2 else "offline"
    main(Path(sys.argv[1]), open_classifier(name, Silent()))
