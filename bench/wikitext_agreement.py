r"""WikiText-2's windows, weighed by `hinlap bench` and by transformers' own recipe.

    hinlap bench wikitext-2 --model smollm2-135m-instruct --data SHARED/data --json ours.json
    python bench/wikitext_agreement.py ours.json \
        SHARED/data/wikitext-2/wiki.test.raw.joined.txt.gz [WINDOWS]

The recipe: https://huggingface.co/docs/transformers/perplexity, stride 512, windows of 1,024
tokens, one forward each. Prints both perplexities and the largest difference of a window, in nats a
token, after every fifty windows.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hinlap.core.progress import Silent
from hinlap.data.text_file import read_utf8
from hinlap.engines.catalogue import model_folder
from hinlap.workflows.bench_windows import STRIDE, WINDOW


def main(ours: Path, text: Path, most: int) -> None:
    folder = model_folder("smollm2-135m-instruct", Silent())
    given = json.loads(ours.read_text(encoding="utf-8"))["given"]
    joined = read_utf8(text).replace("\r\n", "\n")
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder).encode(joined))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    mine, theirs, tokens, furthest, end_before = 0.0, 0.0, 0, 0.0, 0
    for place, begin in enumerate(range(0, len(ids), STRIDE)):
        end = min(begin + WINDOW, len(ids))
        wanted = ids[begin:end].clone()
        wanted[: len(wanted) - (end - end_before)] = -100  # weighed in the window before
        end_before = end
        with torch.inference_mode():
            mean = model(input_ids=ids[None, begin:end], labels=wanted[None]).loss
        count = int((wanted[1:] != -100).sum())
        [nats], [weighed] = given[place]["nats"], given[place]["tokens"]
        if weighed != count:
            raise SystemExit(f"window {place}: {weighed} tokens here, {count} there")
        theirs += float(mean) * count
        mine -= nats
        tokens += count
        furthest = max(furthest, abs(float(mean) + nats / count))
        last = end == len(ids) or place + 1 == most
        if last or (place + 1) % 50 == 0:
            print(
                f"{place + 1} windows: perplexity {math.exp(mine / tokens):.6f} here, "
                f"{math.exp(theirs / tokens):.6f} there; at most {furthest:.2g} nats a token apart",
                flush=True,
            )
        if last:
            break


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else -1)
