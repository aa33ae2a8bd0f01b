"""Tuning side by side: LoRA on rows of dolly, ours against TRL's SFTTrainer.

Both sides get the same token ids in the same order and the same first adapter, each in a process
of its own. The peer runs with the quickest of its settings, found on the first steps.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

PEER = Path(__file__).parent / "peers" / "trl_sft.py"
OURS = Path(__file__).parent / "ours_tuning.py"
PACKAGES = ["torch", "transformers==5.24.0", "peft==0.21.2", "trl==1.16.0"]
SETTINGS = {  # of the peer, by name
    "float32": ("padded", "padding-free", "padding-free-medium"),
    "bfloat16": ("padded-autocast", "padding-free-autocast", "padding-free"),
}
_TRIAL_STEPS = 7  # three of them not counted
_COMPARED_STEPS = 20
_RIGHT = 0.1  # nats: settings of the peer whose losses part by more are not compared


def figures(
    dtype: str, ours: Path, peer: Path, sample: Path, folder: Path, rows: int
) -> dict[str, Any]:
    """One row of results. ours, peer: the Pythons. sample: dolly's rows. folder: for the job."""
    _answer([ours, OURS, "write", sample, folder, rows])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    file = folder / f"{dtype}.json"
    file.write_text(json.dumps({**job, "dtype": dtype}), encoding="utf-8")
    mine = _answer([ours, OURS, "train", file])
    tried = {name: _answer([peer, PEER, file, name, _TRIAL_STEPS]) for name in SETTINGS[dtype]}
    right = [
        name
        for name, run in tried.items()
        if max(abs(a - b) for a, b in zip(run["losses"], mine["losses"], strict=False)) < _RIGHT
    ]
    best = max(right, key=lambda name: tried[name]["tokens_per_second"])
    theirs = _answer([peer, PEER, file, best])
    # once more in turn, the quicker run of each side counts: a machine's speed wanders
    mine = _quicker(mine, _answer([ours, OURS, "train", file]))
    theirs = _quicker(theirs, _answer([peer, PEER, file, best]))
    most = _answer([ours, OURS, "peak", dtype])["gflops"]
    config = json.loads((Path(job["model"]) / "config.json").read_text(encoding="utf-8"))
    reached = useful_flops(config, job["sequences"], mine["laid"]) / sum(mine["seconds"]) / 1e9
    both = list(zip(mine["losses"], theirs["losses"], strict=True))
    return {
        "name": f"tuning_lora_{dtype}",
        "ours": round(mine["tokens_per_second"], 1),
        "peer": round(theirs["tokens_per_second"], 1),
        "ratio": round(mine["tokens_per_second"] / theirs["tokens_per_second"], 3),
        "unit": "tokens/s",
        "n": len(job["sequences"]),
        "peer_settings": best,
        "peer_trials": {name: round(run["tokens_per_second"], 1) for name, run in tried.items()},
        "peak_mb": round(mine["peak_mb"]),
        "peer_peak_mb": round(theirs["peak_mb"]),
        "held_out_nats": round(mine["held_out"], 4),
        "peer_held_out_nats": round(theirs["held_out"], 4),
        "largest_loss_gap": round(max(abs(a - b) for a, b in both[:_COMPARED_STEPS]), 5),
        "machine_gflops": round(most, 1),
        "ours_gflops": round(reached, 1),
        "ours_share_of_machine": round(reached / most, 3),
    }


def _quicker(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max(one, other, key=lambda run: run["tokens_per_second"])


def useful_flops(
    config: dict[str, Any], sequences: list[list[Any]], laid: list[list[int]]
) -> float:
    """Of one pass: what LoRA cannot do without, of a Llama-shaped model with frozen weights.

    laid: of each step, how many tokens all its sequences begin with, which are computed once, and
    how many follow in each.

    A layer's weight: two operations per token for the product, two for the gradient of its input;
    the head's the same per learnt token. Attention: two causal products of half a square each,
    forward once and backward 2.5 times (Dao, 2023, "FlashAttention-2"). The adapter's own, about
    3 %, are not counted.
    """
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    keys = config.get("num_key_value_heads", heads) * head
    weights = layers * width * (2 * heads * head + 2 * keys + 3 * config["intermediate_size"])
    tokens = sum(map(sum, laid))
    learnt = sum(len(ids) - start for ids, start in sequences)
    squares = sum(
        first**2 + sum((first + length) ** 2 - first**2 for length in rest) for first, *rest in laid
    )
    attention = 3.5 * layers * 2 * squares * heads * head
    return float(4 * weights * tokens + 4 * width * config["vocab_size"] * learnt + attention)


def _answer(command: list[Any]) -> dict[str, Any]:
    done = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
