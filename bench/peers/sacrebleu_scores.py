"""The peer: sacrebleu's corpus score with its own bootstrap, then its sentence scores."""

from __future__ import annotations

import json
import statistics
import sys
import time

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

name, pairs = sys.argv[1:]
with open(pairs, encoding="utf-8") as file:
    predictions, references = json.load(file)
times = []
for _ in range(3):
    began = time.perf_counter()
    corpus = BLEU() if name == "bleu" else CHRF()
    score = corpus.corpus_score(predictions, [references], n_bootstrap=1000)
    sentence = BLEU(effective_order=True) if name == "bleu" else corpus
    alone = [
        sentence.sentence_score(text, [reference]).score
        for text, reference in zip(predictions, references, strict=True)
    ]
    times.append(time.perf_counter() - began)
found = {
    "seconds": statistics.median(times),
    "interval": [float(score._mean - score._ci), float(score._mean + score._ci)],
}
print(json.dumps({**found, "values": [score.score, *alone]}))
