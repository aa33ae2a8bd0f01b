"""What llama.cpp makes of a model that write_gguf wrote: the same token ids, answers and logits?

    python bench/gguf_agreement.py PYTHON_OF_LLAMA_CPP [NAME[.DTYPE] ...]

Our side is LocalEngine in float32 on the folder itself. Random models have a vocabulary of 400
tokens, so their logits are compared at every token of the prompts, those of the embedded model not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

CHATS = [
    "What is the capital of Thailand?",
    "Write one sentence about a ferry that turned back in fog.",
    "ประเทศไทยมีเมืองหลวงชื่ออะไร",
    "แปลเป็นภาษาอังกฤษ: ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า",
    "Add 1234567 and 89, then say it's 3.14 or ๑๒๓.",
]
RAW = [
    "The harbour town counted its boats on Monday and",
    "กรุงเทพมหานครเป็นเมืองหลวงของ",
    "น้ำท่วมครั้งใหญ่ปี 2554 ทำให้ ผู้คน",
    "  two spaces,\n\n\ttabs  \n and don't WE'LL I'm 12345 €50 🚀🦙 ½ naïve…\r\nend  ",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|>x",
]
_TINY = {  # fields that differ from the tests' tiny models
    "llama": {"num_key_value_heads": 2},
    "llama, llama3 positions": {
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    },
    "llama, linear positions": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    },
    "llama, YaRN positions": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "mistral": {"num_key_value_heads": 2, "sliding_window": 256, "head_dim": 16},
    "qwen2": {"num_key_value_heads": 2},
    "gpt_neox": {},
    "gpt_neox, one after the other": {"use_parallel_residual": False, "hidden_act": "gelu_new"},
    "gpt2": {},
}  # fmt: skip


def agreement(
    name: str, ours_python: Path, peer_python: Path, folder: Path | None, dtype: str, work: Path
) -> dict[str, Any]:
    """Of a model folder, or of the random model ``name`` where there is none: how many of the
    texts are split into the same ids, how many of their answers are the same (and for the others,
    the new token at which they part; llama.cpp also ends at tokens whose text it knows, which
    peer_ended_earlier counts), the largest difference of logits (null where they are not
    asked for).
    """
    work.mkdir(parents=True, exist_ok=True)
    file, job = work / f"{name}.{dtype}.gguf".replace(" ", "-"), work / "agreement.json"
    file.unlink(missing_ok=True)
    job.write_text(
        json.dumps({"name": name, "folder": str(folder or ""), "dtype": dtype, "file": str(file)}),
        encoding="utf-8",
    )
    ours = _answer([str(ours_python), __file__, "--ours", str(job)])
    job.write_text(
        json.dumps({"texts": ours["texts"], "new": ours["new"], "logits": not folder}), "utf-8"
    )
    peer = ROOT / "bench/peers/llama_cpp_greedy.py"
    theirs = _answer([str(peer_python), str(peer), str(file), str(job)])
    return {
        "name": f"gguf_{name}_{dtype}",
        **compared(ours, theirs),
        "bytes": file.stat().st_size,
        "export_seconds": round(ours["seconds"], 2),
    }


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What both made of the same texts."""
    split = [a == b for a, b in zip(ours["prompts"], theirs["prompts"], strict=True)]
    answers = list(zip(ours["tokens"], theirs["tokens"], strict=True))
    each = zip(ours["logits"], theirs["logits"], strict=True)  # none, or one a text
    gaps = [
        abs(x - y)
        for alike, (a, b) in zip(split, each, strict=False)
        if alike
        for row, other in zip(a, b, strict=True)
        for x, y in zip(row, other, strict=True)
    ]
    first = [
        next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in answers
        if a != b
    ]
    return {
        "n": len(split),
        "same_ids": sum(split),
        "same_answers": sum(a == b for a, b in answers),
        "peer_ended_earlier": sum(len(b) < len(a) and a[: len(b)] == b for a, b in answers),
        "answer_tokens": sum(len(a) for a, _ in answers),
        "first_difference": first,
        "largest_logit_gap": max(gaps, default=None),
        "largest_logit": max(
            (abs(x) for a in ours["logits"] for row in a for x in row), default=None
        ),
    }


def _answer(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Writes the file, and answers the texts from the folder."""
    import torch
    from transformers import AutoModelForCausalLM

    from hinlap.core.messages import Message, Prompt, Sampling
    from hinlap.core.progress import Silent
    from hinlap.engines.decoding import Ending
    from hinlap.engines.generation import Batch, Request
    from hinlap.engines.gguf_writing import write_gguf
    from hinlap.engines.local import LocalEngine, _eos_ids
    from hinlap.engines.weights import Weights

    with tempfile.TemporaryDirectory() as place:
        folder = Path(job["folder"]) if job["folder"] else _tiny(job["name"], Path(place))
        began = time.perf_counter()
        write_gguf(folder, Path(job["file"]), Silent(), dtype=job["dtype"])
        seconds = time.perf_counter() - began
        engine = LocalEngine("model", folder)
        texts = [(text, True) for text in RAW]
        if engine.has_chat_template:
            prompts = [Prompt((Message("user", text),)) for text in CHATS]
            texts += [(engine.render(prompt), False) for prompt in prompts]
        ids = [engine.encode_texts([text], special=special)[0] for text, special in texts]
        weights, new = Weights("model", folder), 40 if job["folder"] else 12
        requests = [Request(tuple(row), Sampling(max_tokens=new), new) for row in ids]
        ending = Ending(engine.tokenizer, _eos_ids(weights.model, engine.tokenizer, None))
        answers: list[list[int]] = [[] for _ in ids]
        for index, answer in Batch(weights, requests, ending).run():
            answers[index] = list(answer.tokens)
        logits = []
        if not job["folder"]:
            plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            with torch.inference_mode():
                logits = [plain(torch.tensor([row])).logits[0].tolist() for row in ids]
    return {
        "seconds": seconds, "texts": texts, "new": new, "prompts": ids, "tokens": answers,
        "logits": logits,
    }  # fmt: skip


def _tiny(name: str, folder: Path) -> Path:
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import make_tiny_model

    kind = name.partition(",")[0]
    return make_tiny_model(folder, kind, chat=True, more=_TINY[name])


def main(peer_python: Path, only: list[str]) -> None:
    from hinlap.core.progress import Silent
    from hinlap.engines.catalogue import model_folder

    embedded = model_folder("smollm2-135m-instruct", Silent())
    with tempfile.TemporaryDirectory() as work:
        jobs = [(name, None, "f32") for name in _TINY]
        jobs += [("smollm2-135m", embedded, dtype) for dtype in ("f32", "f16", "bf16", "q8_0")]
        for name, folder, dtype in jobs:
            if only and name not in only and f"{name}.{dtype}" not in only:
                continue
            row = agreement(name, Path(sys.executable), peer_python, folder, dtype, Path(work))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--ours":
        print(json.dumps(ours(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
