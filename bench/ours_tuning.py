"""Our side of the tuning bench, one command each, one JSON line out.

write SAMPLE FOLDER [ROWS]  first rows of dolly as token ids (job.json), and a first adapter
train JOB             LoRA on a job, as bench/peers/trl_sft.py describes and prints it
peak DTYPE            GFLOP/s of large matrix products in torch, the most of this machine
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hinlap.core.progress import Silent
from hinlap.engines.catalogue import model_folder
from hinlap.engines.weights import load_model
from hinlap.tuning.learner import Learner
from hinlap.tuning.lessons import Taken
from hinlap.tuning.loop import Loop
from hinlap.tuning.processes import Spread
from hinlap.tuning.recipe import Recipe

ROWS, HELD_OUT, MAX_LENGTH = 500, 60, 512  # the rows of a shorter run: an argument of write
WARM_UP = 3  # steps not counted for the speed, as in the peer
Sequence = tuple[list[int], int]
"""Token ids, and the index of the first one that is learnt."""


def write(sample: Path, folder: Path, rows: int = ROWS) -> dict[str, Any]:
    model = model_folder("smollm2-135m-instruct", Silent())
    tokenizer = AutoTokenizer.from_pretrained(model)
    sequences: list[Sequence] = []
    with gzip.open(sample, "rt", encoding="utf-8") as source:
        for line in source:
            sequence = _sequence(tokenizer, json.loads(line))
            if len(sequence[0]) <= MAX_LENGTH:
                sequences.append(sequence)
            if len(sequences) == rows + HELD_OUT:
                break
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules="all-linear",
    )
    folder.mkdir(parents=True, exist_ok=True)
    get_peft_model(net, lora).save_pretrained(folder / "adapter")
    job = {
        "model": str(model),
        "sequences": sequences[:rows],
        "batch": 4,
        "learning_rate": 2e-4,
        "seed": 0,
        "held_out": sequences[rows:],
        "adapter": str(folder / "adapter"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return {"rows": len(job["sequences"]), "held_out": len(job["held_out"])}


def _sequence(tokenizer: Any, row: dict[str, str]) -> Sequence:
    """The prompt as it is asked; the answer by itself, up to and with its ending token."""
    asked = "\n\n".join(text for text in (row["instruction"], row["context"]) if text)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )["input_ids"]
    answer = tokenizer(row["response"], add_special_tokens=False)["input_ids"]
    return [*prompt, *answer, tokenizer.convert_tokens_to_ids("<|im_end|>")], len(prompt)


def run_ours(job: dict[str, Any]) -> dict[str, Any]:
    """The product's loop, on the job's sequences in their order, from the job's first adapter."""
    torch.set_num_threads(2)
    narrow = job["dtype"] == "bfloat16"
    recipe = Recipe(
        name="bench",
        precision="bf16" if narrow else "float32",
        epochs=1,
        batch_size=job["batch"],
        learning_rate=job["learning_rate"],
        checkpoint_every=1_000_000,
        held_out_rows=0,
    )
    weights = load_model("bench", Path(job["model"]), getattr(torch, job["dtype"]))
    net = PeftModel.from_pretrained(weights, job["adapter"], is_trainable=True).train()
    sequences = [_taken(*each) for each in job["sequences"]]
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        spread = Spread(Learner(net), recipe, Accelerator(cpu=True))
        loop = Loop(spread, recipe, sequences, [], home, Silent())
        order = range(len(sequences))
        loop._steps = [list(order[i : i + job["batch"]]) for i in order[:: job["batch"]]]
        loop.run(lines.append)
        laid = [spread.flat([sequences[i] for i in step]) for step in loop._steps]
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        net.save_pretrained(home / "adapter", save_embedding_layers=False)
        plain = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
        held_out = held_out_nats(
            PeftModel.from_pretrained(plain, home / "adapter"), job["held_out"]
        )
    counted = lines[WARM_UP:]
    return {
        "losses": [line["loss"] for line in lines],
        "seconds": [line["seconds"] for line in lines],
        "tokens": [line["tokens"] for line in lines],
        "tokens_per_second": sum(line["tokens"] for line in counted)
        / sum(line["seconds"] for line in counted),
        "laid": [(flat.shared, *flat.lengths) for flat in laid],
        "peak_mb": peak_mb,
        "held_out": held_out,
    }


def _taken(ids: list[int], start: int) -> Taken:
    learnt = np.zeros(len(ids), dtype=np.bool_)
    learnt[start:] = True
    return Taken(np.array(ids, dtype=np.int32), learnt)


def _nats(net: Any, ids: list[int], start: int) -> torch.Tensor:
    logits = net(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:]), reduction="sum")


def held_out_nats(net: Any, sequences: list[Sequence]) -> float:
    """Mean over learnt tokens, one sequence at a time, in float32; the peer has the same lines."""
    net.float().eval()
    with torch.inference_mode():
        total = sum(_nats(net, ids, start).item() for ids, start in sequences)
    return total / sum(len(ids) - start for ids, start in sequences)


def peak(dtype: str) -> dict[str, float]:
    """The best of products of 2048 x 2048 matrices within two seconds, by either way of float32."""
    torch.set_num_threads(2)
    size, best = 2048, 0.0
    a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        a @ b
        until = time.perf_counter() + 1.0
        while time.perf_counter() < until:
            began = time.perf_counter()
            a @ b
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return {"gflops": best / 1e9}


if __name__ == "__main__":
    command, *given = sys.argv[1:]
    if command == "write":
        found = write(Path(given[0]), Path(given[1]), *map(int, given[2:]))
    elif command == "train":
        found = run_ours(json.loads(Path(given[0]).read_text(encoding="utf-8")))
    else:
        found = peak(given[0])
    print(json.dumps(found))
