"""transformers.generate on token ids: greedy, a fixed number of new tokens."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main(model, job):
    with open(job, encoding="utf-8") as source:
        work = json.load(source)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, work["dtype"])).eval()

    def run(prompts, new):
        ids = torch.tensor(prompts)
        options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        with torch.inference_mode():
            out = net.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return out[:, ids.shape[1] :].tolist()

    run([work["prompts"][0][:20]], 4)
    began = time.perf_counter()
    tokens = run(work["prompts"], work["new"])
    print(json.dumps({"seconds": time.perf_counter() - began, "tokens": tokens}))


main(*sys.argv[1:])
