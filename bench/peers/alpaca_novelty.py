"""The peer: rouge-score as Alpaca's generate_instruction.py uses it, each entry of the pool by a
whole table; one process, as ours is. The pool's words are cut beforehand, as there."""

from __future__ import annotations

import json
import sys
import time

from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer

with open(sys.argv[1], encoding="utf-8") as file:
    instructions, candidates = json.load(file)
tokenizer = DefaultTokenizer(use_stemmer=False)
began = time.perf_counter()
pool = [tokenizer.tokenize(instruction) for instruction in instructions]
read = time.perf_counter() - began
began = time.perf_counter()
maxima, new = [], []
for candidate in candidates:
    tokens = tokenizer.tokenize(candidate)
    similarity = max(rouge_scorer._score_lcs(tokens, entry).fmeasure for entry in pool)
    maxima.append(similarity)
    new.append(not similarity > 0.7)
seconds = time.perf_counter() - began
print(json.dumps({"read": read, "seconds": seconds, "maxima": maxima, "new": new}))
