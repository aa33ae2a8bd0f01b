"""Ours, for the benches of BLEU and chrF: corpus score, 1,000 resamples, sentence scores."""

from __future__ import annotations

import json
import statistics
import sys
import time

from hinlap.metrics.bleu import bleu
from hinlap.metrics.chrf import chrf
from hinlap.stats.bootstrap import bootstrap_interval

name, pairs = sys.argv[1:]
with open(pairs, encoding="utf-8") as file:
    predictions, references = json.load(file)
metric = {"bleu": bleu, "chrf": chrf}[name]
times = []
for _ in range(3):
    began = time.perf_counter()
    scores = metric(predictions, [[text] for text in references])
    interval = bootstrap_interval(scores.stats, scores.reduce, seed=0, resamples=1000)
    times.append(time.perf_counter() - began)
found = {"seconds": statistics.median(times), "interval": [interval.low, interval.high]}
print(json.dumps({**found, "values": [scores.value, *scores.items]}))
