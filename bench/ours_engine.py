"""Our side of the engine benches, timed after a warm-up: score, generate or continue a JOB."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hinlap.core.messages import Sampling, raw_prompt
from hinlap.core.progress import Silent
from hinlap.engines.catalogue import model_folder
from hinlap.engines.decoding import Ending
from hinlap.engines.generation import Batch, Request
from hinlap.engines.local import LocalEngine
from hinlap.engines.weights import Weights

FOLDER = model_folder("smollm2-135m-instruct", Silent())


def score(items: list[list[tuple[str, str]]], dtype: str = "float32") -> dict[str, Any]:
    engine = LocalEngine("model", FOLDER, dtype=dtype)
    engine.score_texts([("warm", " up")])
    began = time.perf_counter()
    flat = engine.score_texts([(c, t) for item in items for c, t in item])
    seconds = time.perf_counter() - began
    each = iter(flat)
    return {"seconds": seconds, "sums": [[next(each).total for _ in item] for item in items]}


def generate(job: dict[str, Any]) -> dict[str, Any]:
    weights = Weights("model", FOLDER, job["dtype"])
    sampling = Sampling(max_tokens=job["new"])
    requests = [Request(tuple(ids), sampling, job["new"]) for ids in job["prompts"]]
    endless = Ending(None, [])
    weights.pack_for_decoding()
    list(Batch(weights, [Request(tuple(job["prompts"][0][:20]), sampling, 4)], endless).run())
    began = time.perf_counter()
    answers = dict(Batch(weights, requests, endless).run())
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": [list(answers[i].tokens) for i in range(len(requests))]}


def continue_each(job: dict[str, Any]) -> dict[str, Any]:
    engine = LocalEngine("model", FOLDER)
    drawn = Sampling(max_tokens=job["new"], temperature=1.0, top_p=0.9)
    requests = [
        (raw_prompt(prompt), replace(drawn, repeat=repeat))
        for prompt in job["prompts"]
        for repeat in range(job["draws"])
    ]
    list(engine.generate_each(requests[:2]))
    began = time.perf_counter()
    done = [answer for _, answer in engine.generate_each(requests)]
    return {
        "seconds": time.perf_counter() - began,
        "tokens": sum(answer.output_tokens for answer in done),
    }


if __name__ == "__main__":
    what, job, *more = sys.argv[1:]
    work = json.loads(Path(job).read_text(encoding="utf-8"))
    does = {"score": score, "generate": generate, "continue": continue_each}[what]
    print(json.dumps(does(work, *more)))
