"""The peer: transformers.generate as its documentation shows it, on a job that ours wrote down.

One left-padded batch of all prompts, greedy, the same stop strings through ``stop_strings``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
if job["adapter"]:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, job["adapter"]).merge_and_unload()
model.eval()


def generate(prompts: list[str]) -> list[list[int]]:
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.inference_mode():
        out = model.generate(
            **batch,
            max_new_tokens=job["max_new_tokens"],
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            stop_strings=job["stop"] or None,
            tokenizer=tokenizer,
        )
    return out[:, batch["input_ids"].shape[1] :].tolist()


generate(job["prompts"][:1])
began = time.perf_counter()
rows = generate(job["prompts"])
seconds = time.perf_counter() - began
end = {tokenizer.eos_token_id, tokenizer.pad_token_id}
tokens = 0
texts = []
for row in rows:
    kept = []
    for token in row:
        if token in end:
            break
        kept.append(token)
    text = tokenizer.decode(kept, skip_special_tokens=True)
    stopped = any(stop in text for stop in job["stop"])
    tokens += len(kept) + (1 if len(kept) < len(row) and not stopped else 0)  # with its end token
    for stop in job["stop"]:
        text = text.split(stop)[0]
    texts.append(text.strip())
print(json.dumps({"seconds": seconds, "tokens": tokens, "texts": texts}))
