"""The peer: google's rouge-score, pair by pair as its documentation shows it, with its stemmer."""

from __future__ import annotations

import json
import sys
import time

from rouge_score.rouge_scorer import RougeScorer

with open(sys.argv[1], encoding="utf-8") as file:
    predictions, references = json.load(file)
scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True)
began = time.perf_counter()
scores = [
    scorer.score(reference, prediction)
    for prediction, reference in zip(predictions, references, strict=True)
]
seconds = time.perf_counter() - began
values = {name: [list(score[name]) for score in scores] for name in scores[0]}
print(json.dumps({"seconds": seconds, "values": values}))
