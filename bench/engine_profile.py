"""Where the engine's time goes, alone on the machine: ``python bench/engine_profile.py NAME``.

step:  one decode step of 1 and 16 rows, and one scoring forward, by torch's profiler.
packs: all matrices of the model times 1, 4 and 16 rows, by torch and packed by oneDNN.
bf16:  how far bfloat16 log-probabilities are from float32, on TruthfulQA's choices.
memory: what weighing 10,000 texts adds to the resident memory of the model.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import engine as jobs
import numpy as np
import torch
from ours_engine import FOLDER
from torch.profiler import ProfilerActivity, profile

from hinlap.core.messages import Sampling
from hinlap.engines.decoding import Ending
from hinlap.engines.generation import Batch, Request
from hinlap.engines.local import LocalEngine
from hinlap.engines.weights import Weights

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def step() -> None:
    weights = Weights("model", FOLDER)
    weights.pack_for_decoding()
    for rows in (1, 16):
        job = jobs.generation_job(rows, 500, 100, 100)
        requests = [Request(tuple(ids), Sampling(max_tokens=100), 100) for ids in job["prompts"]]
        running = Batch(weights, requests, Ending(None, []))
        list(running._admit())
        times = []
        for _ in range(20):
            began = time.perf_counter()
            list(running._step())
            times.append(time.perf_counter() - began)
        print(f"{rows} rows: a step takes {1000 * float(np.median(times)):.0f} ms")
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(10):
                list(running._step())
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=8))
    scorer = LocalEngine("model", FOLDER)
    flat = [pair for item in jobs.five_shot(count=4) for pair in item]
    scorer.score_texts(flat)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        scorer.score_texts(flat)
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=8))


def packs() -> None:
    model = Weights("model", FOLDER).model
    matrices = [p.detach() for p in model.parameters() if p.ndim == 2]
    packed = [torch.ops.mkldnn._reorder_linear_weight(w, 8) for w in matrices]
    for rows in (1, 4, 16):
        xs = [torch.randn(rows, w.shape[1]) for w in matrices]
        plain = _median(lambda xs=xs: [torch.nn.functional.linear(x, w) for x, w in zip(xs, matrices, strict=True)])  # fmt: skip  # noqa: E501
        fast = _median(lambda xs=xs: [torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "") for x, w in zip(xs, packed, strict=True)])  # fmt: skip  # noqa: E501
        print(f"{rows} rows: {plain:.0f} ms plain, {fast:.0f} ms packed")


def bf16() -> None:
    flat = [pair for item in jobs.question_answer(SHARED, 10) for pair in item]
    exact, coarse = (
        LocalEngine("model", FOLDER, dtype=dtype).score_texts(flat)
        for dtype in ("float32", "bfloat16")
    )
    gaps = np.concatenate(
        [np.abs(np.subtract(a.logprobs, b.logprobs)) for a, b in zip(exact, coarse, strict=True)]
    )
    sums = [abs(a.total - b.total) for a, b in zip(exact, coarse, strict=True)]
    print(f"{len(gaps)} tokens: {gaps.mean():.3f} nats on average, {gaps.max():.2f} at most")
    print(f"sums: {max(sums):.2f} at most")


def memory() -> None:
    engine = LocalEngine("model", FOLDER)
    engine.score_texts([("warm", " up")])
    before = _resident_peak()
    rows = jobs.articles()
    pairs = [
        (f"{n}. {' '.join(rows[n % len(rows)]['text'].split()[: 4 + n % 9])}\nTopic:", f" {topic}")
        for n in range(2500)
        for topic in ("sport", "science", "politics", "the weather")
    ]
    engine.score_texts(pairs)
    after = _resident_peak()
    print(f"{len(pairs):,} texts: {before:.2f} GB with the model, {after:.2f} GB at the peak")


def _resident_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _median(run: object) -> float:
    times = []
    for _ in range(8):
        began = time.perf_counter()
        with torch.inference_mode():
            run()  # type: ignore[operator]
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[1:]))


if __name__ == "__main__":
    {"step": step, "packs": packs, "bf16": bf16, "memory": memory}[sys.argv[1]]()
