"""Ours, for the bench of the novelty filter: the pool is read, then each candidate is weighed."""

from __future__ import annotations

import json
import sys
import time

from hinlap.data.novelty import NoveltyPool

with open(sys.argv[1], encoding="utf-8") as file:
    instructions, candidates = json.load(file)
began = time.perf_counter()
pool = NoveltyPool(instructions)
read = time.perf_counter() - began
began = time.perf_counter()
found = [pool.nearest(candidate).similarity for candidate in candidates]
seconds = time.perf_counter() - began
new = [similarity <= pool.threshold for similarity in found]
print(json.dumps({"read": read, "seconds": seconds, "maxima": found, "new": new}))
