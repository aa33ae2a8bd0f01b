"""Ours, for the benches of SQuAD and of the bootstrap: seconds (median of 5, one run before)."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hinlap.metrics.scores import mean_scores
from hinlap.stats.bootstrap import bootstrap_interval
from hinlap.workflows.score_squad import score_squad


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    times = []
    result = work()
    for _ in range(5):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


if sys.argv[1] == "squad":
    seconds, scores = timed(lambda: score_squad(Path(sys.argv[2]), Path(sys.argv[3])))
    found = {"seconds": seconds, "f1": scores.figures()["f1"], "n": scores.f1.n}
else:
    means = mean_scores("m", np.load(sys.argv[2]).tolist(), "m")
    seconds, interval = timed(lambda: bootstrap_interval(means.stats, means.reduce, seed=0))
    found = {"seconds": seconds, "low": interval.low, "high": interval.high, "n": means.n}
print(json.dumps(found))
