"""The peer: scipy.stats.bootstrap of a mean, percentile method, 10,000 resamples, in batches."""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
from scipy.stats import bootstrap

values = np.load(sys.argv[1])


def interval() -> tuple[float, float]:
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        batch=100,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


times = []
low, high = interval()
for _ in range(3):
    began = time.perf_counter()
    interval()
    times.append(time.perf_counter() - began)
print(json.dumps({"seconds": statistics.median(times), "low": low, "high": high}))
