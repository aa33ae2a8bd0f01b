"""Whose log-likelihoods of CrowS-Pairs are off: ours, lm-evaluation-harness's, or plain float32?

    python bench/float64_agreement.py PYTHON_OF_LM_EVAL SHARED/data [PAIRS [BATCH_SIZE ...]]

Every sentence of the first pairs (default: all 1,508) is weighed by `hinlap bench crows-pairs`, by
lm-eval at each batch size (default: 16 and 1), and by transformers one sentence at a time in
float32 and in float64, which is taken for the truth (its norms still round to float32, as the
architecture has them). For each side: the largest and the mean
distance from it in nats a sentence, and the sentence where it is furthest.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import benchmarks
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hinlap.core.progress import Silent
from hinlap.engines.catalogue import model_folder

MODEL = "smollm2-135m-instruct"


def plain(folder: Path, texts: list[str], dtype: torch.dtype) -> np.ndarray:
    """Nats of each text behind the model's beginning-of-text token, one forward pass each."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor(
                [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
            )
            logits = model(ids[None]).logits[0, :-1].double()
            chosen = logits.log_softmax(-1).gather(1, ids[1:, None])
            found.append(float(chosen.sum()))
    return np.array(found)


def main(peer: Path, shared: Path, limit: int, sizes: list[int]) -> None:
    folder = model_folder(MODEL, Silent())
    [rows] = benchmarks.rows_of("crows-pairs", shared, limit).values()
    texts = [row[key] for row in rows for key in ("sent_more", "sent_less")]
    sides = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _, mine = benchmarks.run_ours(
            Path(sys.executable).parent / "hinlap",
            "crows-pairs", shared, str(folder), work / "ours", limit,
        )  # fmt: skip
        sides["hinlap bench"] = np.array(
            [nats for given in mine["given"] for nats in given["nats"]]
        )
        tasks = benchmarks.peer_tasks(
            "crows-pairs", peer, benchmarks.rows_of("crows-pairs", shared, limit), work / "peer"
        )
        for size in sizes:
            _, _, found = benchmarks.run_peer(
                peer, str(folder), tasks, work / "peer", limit, sizes=(size,)
            )
            [samples] = found["samples"].values()
            samples.sort(key=lambda sample: sample["doc_id"])
            sides[f"lm-eval, batch {size}"] = np.array(
                [float(r[0]) for sample in samples for r in sample["filtered_resps"]]
            )
    sides["transformers one by one"] = plain(folder, texts, torch.float32)
    truth = plain(folder, texts, torch.float64)
    for name, nats in sides.items():
        off = np.abs(nats - truth)
        place = int(off.argmax())
        all_there = ", ".join(f"{other} {values[place]:.6f}" for other, values in sides.items())
        print(
            json.dumps(
                {
                    "side": name,
                    "sentences": len(texts),
                    "largest": float(off.max()),
                    "mean": float(off.mean()),
                    "over_1e-4": int((off > 1e-4).sum()),
                    "furthest": texts[place],
                    "there": f"float64 {truth[place]:.6f}, {all_there}",
                }
            )
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    python, data, *rest = sys.argv[1:]
    numbers = [int(text) for text in rest]
    main(Path(python).absolute(), Path(data), *(numbers[:1] or [1508]), numbers[1:] or [16, 1])
