"""transformers.generate, prompt by prompt: so many sampled continuations of each at once."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(model, job):
    with open(job, encoding="utf-8") as source:
        work = json.load(source)
    tokenizer = AutoTokenizer.from_pretrained(model)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def run(prompt, draws):
        batch = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            out = net.generate(
                **batch,
                do_sample=True,
                temperature=1.0,
                top_p=0.9,
                top_k=0,
                max_new_tokens=work["new"],
                num_return_sequences=draws,
                pad_token_id=tokenizer.eos_token_id,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        ended = (new == tokenizer.eos_token_id).cumsum(1) > 1  # padding after the first end
        return int((~ended).sum())

    run(work["prompts"][0], 2)
    began = time.perf_counter()
    tokens = sum(run(prompt, work["draws"]) for prompt in work["prompts"])
    print(json.dumps({"seconds": time.perf_counter() - began, "tokens": tokens}))


main(*sys.argv[1:])
