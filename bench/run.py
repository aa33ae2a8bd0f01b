"""Speed against peers, side by side in one run: ``make bench`` or ``make bench ONLY=name``.

Each peer runs in an environment of its own (``bench/.work/NAME``). One line per figure is
appended to ``bench/results.jsonl``: name, ours, peer, ratio (above 1: better), unit, n. A figure
without a peer has null there. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import benchmarks
import engine
import gguf_agreement
import tuning

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "bench" / ".work"
RESULTS = ROOT / "bench" / "results.jsonl"
SQUAD_QUESTIONS = 10_570  # of the whole dev set
OUR_PYTHON = ROOT / ".venv" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(BENCHES), help="one bench instead of all")
    chosen = parser.parse_args().only
    # pip compiled the peers' packages; ours came without (--no-compile), and src never was; one of
    # torch's files is of a later Python, which -qq does not tell
    ours = [str(ROOT / ".venv" / "lib"), str(ROOT / "src")]
    subprocess.run([str(OUR_PYTHON), "-m", "compileall", "-qq", "-j", "0", *ours], check=False)
    for name in [chosen] if chosen else list(BENCHES):
        print(f"== {name}", flush=True)
        for row in BENCHES[name]():
            with RESULTS.open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(row) + "\n")
            print("  ", json.dumps(row), flush=True)


def figure(
    name: str, ours: float, peer: float | None, unit: str, n: int, *, lower_is_better: bool = True
) -> dict[str, Any]:
    ratio = None
    if peer is not None:
        ratio = peer / ours if lower_is_better else ours / peer
    return {
        "name": name,
        "ours": round(ours, 4),
        "peer": None if peer is None else round(peer, 4),
        "ratio": None if ratio is None else round(ratio, 3),
        "unit": unit,
        "n": n,
    }


def environment(name: str, packages: list[str]) -> Path:
    """The Python of the peer's own virtual environment, made on the first call."""
    home = WORK / name
    python = home / "bin" / "python"
    mark = home / ".installed"
    wanted = "\n".join(packages)
    if not mark.is_file() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
        for package in packages:  # in order: torch alone first
            subprocess.run([*pip, package], check=True)
        mark.write_text(wanted)
    return python


def seconds_of(command: list[str], runs: int) -> float:
    """Median wall seconds of a command after one run that is not counted."""
    times = []
    for index in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if index:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def bench_help() -> list[dict[str, Any]]:
    """Warm start of the command line, against lm-evaluation-harness."""
    peer = environment("lm-eval", ["lm-eval==0.4.13"])
    ours = seconds_of([str(ROOT / ".venv/bin/hinlap"), "--help"], 9)
    theirs = seconds_of([str(peer.parent / "lm_eval"), "--help"], 5)
    return [figure("help_warm_start", ours, theirs, "s", 9)]


def bench_first_result() -> list[dict[str, Any]]:
    """`make demo` in a fresh clone with an empty cache, then again. No peer gets there offline."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        fresh = {**os.environ, "HINLAP_CACHE": str(Path(folder) / "cache")}
        times = []
        for _ in range(2):
            began = time.perf_counter()
            subprocess.run(
                ["make", "demo"], cwd=clone, env=fresh, check=True, stdout=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - began)
    return [
        figure("first_result_fresh_clone", times[0], None, "s", 1),
        figure("second_result_all_reused", times[1], None, "s", 1),
    ]


def bench_route(route: str) -> list[dict[str, Any]]:
    """Output tokens per second of a route against plain transformers.generate: the same model
    folder, adapter and rendered prompts (the summary step of 12 test items, greedy)."""
    packages = ["torch", "transformers==5.23.0", "peft==0.21.2"]
    peer = environment("transformers", packages)
    job = WORK / f"{route}.json"
    ours = _answer([str(OUR_PYTHON), str(ROOT / "bench/ours_generate.py"), route, str(job)])
    script = ROOT / "bench/peers/transformers_generate.py"
    theirs = _answer([str(peer), str(script), str(job)])
    row = figure(
        f"tokens_per_second_{route}",
        ours["tokens"] / ours["seconds"],
        theirs["tokens"] / theirs["seconds"],
        "tokens/s",
        ours["prompts"],
        lower_is_better=False,
    )
    same = sum(a == b for a, b in zip(ours["texts"], theirs["texts"], strict=True))
    return [{**row, "same_text": same}]


def bench_squad() -> list[dict[str, Any]]:
    """SQuAD v1.1 of the dev set's size, files read and scored, against transformers' port of the
    official script: a shared part of the set with its questions taken again under other ids."""
    peer = environment("squad", ["transformers==4.57.1"])
    shared = ROOT.parent / "shared" / "data" / "squad"
    content = json.loads(gzip.decompress((shared / "dev-v1.1.sample.json.gz").read_bytes()))
    packed = (shared / "predictions-v1.1-bert-ensemble.json.gz").read_bytes()
    answers = json.loads(gzip.decompress(packed))
    paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
    taken: list[dict[str, Any]] = []
    count = 0
    for turn, paragraph in itertools.product(range(2), paragraphs):
        qas = [{**qa, "id": f"{qa['id']}-{turn}"} for qa in paragraph["qas"]]
        qas = qas[: SQUAD_QUESTIONS - count]
        taken.append({**paragraph, "qas": qas})
        count += len(qas)
    content["data"] = [{"title": "all", "paragraphs": taken}]
    WORK.mkdir(exist_ok=True)
    predictions, references = WORK / "squad_predictions.json", WORK / "squad_references.json"
    references.write_text(json.dumps(content), encoding="utf-8")
    again = {f"{i}-{turn}": text for turn in range(2) for i, text in answers.items()}
    predictions.write_text(json.dumps(again), encoding="utf-8")
    files = [str(predictions), str(references)]
    ours = _answer([str(OUR_PYTHON), str(ROOT / "bench/ours_statistics.py"), "squad", *files])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/squad_metrics.py"), *files])
    row = figure("squad_v1.1", ours["seconds"], theirs["seconds"], "s", ours["n"])
    return [{**row, "f1": ours["f1"], "peer_f1": theirs["f1"]}]


def bench_bootstrap() -> list[dict[str, Any]]:
    """95% interval of a mean of 20,000 items by 10,000 resamples, against scipy.stats.bootstrap."""
    import numpy as np

    peer = environment("scipy", ["scipy==1.17.0"])
    WORK.mkdir(exist_ok=True)
    values = WORK / "bootstrap.npy"
    np.save(values, np.random.default_rng(0).beta(2, 3, size=20_000))
    script = str(ROOT / "bench/ours_statistics.py")
    ours = _answer([str(OUR_PYTHON), script, "bootstrap", str(values)])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/scipy_bootstrap.py"), str(values)])
    row = figure("bootstrap_10000", ours["seconds"], theirs["seconds"], "s", ours["n"])
    intervals = {"interval": [ours["low"], ours["high"]]}
    return [{**row, **intervals, "peer_interval": [theirs["low"], theirs["high"]]}]


def bench_corpus_scores(name: str) -> list[dict[str, Any]]:
    """Corpus score, 1,000 resamples and sentence scores of 20,000 pairs, against sacrebleu."""
    peer = environment("sacrebleu", ["sacrebleu==2.6.0"])
    WORK.mkdir(exist_ok=True)
    pairs = WORK / "sentence_pairs.json"
    source, content = _sentence_pairs(20_000)
    pairs.write_text(json.dumps(content), encoding="utf-8")
    arguments = [name, str(pairs)]
    ours = _answer([str(OUR_PYTHON), str(ROOT / "bench/ours_corpus_scores.py"), *arguments])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/sacrebleu_scores.py"), *arguments])
    gaps = [abs(a - b) for a, b in zip(ours["values"], theirs["values"], strict=True)]
    row = figure(f"{name}_corpus_and_sentences", ours["seconds"], theirs["seconds"], "s", 20_000)
    checks = {"most_different": max(gaps), "interval": ours["interval"]}
    return [{**row, **checks, "peer_interval": theirs["interval"], "texts": source}]


def _sentence_pairs(n: int) -> tuple[str, tuple[list[str], list[str]]]:
    """Where the texts are from, and n predictions and references, always the same.

    Outputs of ten WMT17 systems where the shared files are; else pieces of the example's
    articles, with some words left out or exchanged for the prediction.
    """
    rng = random.Random(0)
    wmt = ROOT.parent / "shared" / "data" / "wmt17-en-de"
    if wmt.is_dir():

        def read(path: Path) -> list[str]:
            return gzip.decompress(path.read_bytes()).decode("utf-8").rstrip("\n").split("\n")

        reference = read(wmt / "reference.de.txt.gz")
        outputs = [read(path) for path in sorted(wmt.glob("system.*.gz"))]
        found = [pair for texts in outputs for pair in zip(texts, reference, strict=True)]
        found = rng.sample(found, n)
        return "wmt17-en-de", ([a for a, _ in found], [b for _, b in found])
    rows = (ROOT / "examples/news-riddles/data/train.jsonl").read_text("utf-8").splitlines()
    words = " ".join(json.loads(row)["text"] for row in rows).split()
    predictions, references = [], []
    for _ in range(n):
        start = rng.randrange(len(words) - 40)
        piece = words[start : start + rng.randrange(10, 40)]
        references.append(" ".join(piece))
        kept = [word if rng.random() < 0.8 else rng.choice(words) for word in piece]
        predictions.append(" ".join(word for word in kept if rng.random() < 0.9))
    return "news-riddles", (predictions, references)


def bench_rouge() -> list[dict[str, Any]]:
    """ROUGE-1, -2 and -Lsum of 20,000 pairs of 60 to 100 words, stemmed, against rouge-score.

    Ours is the first call of a process, which learns the stems; the peer's imports are not timed.
    """
    peer = environment("rouge-score", ["rouge-score==0.1.2"])
    WORK.mkdir(exist_ok=True)
    pairs = WORK / "summary_pairs.json"
    pairs.write_text(json.dumps(_summary_pairs(20_000)), encoding="utf-8")
    ours = _answer([str(OUR_PYTHON), str(ROOT / "bench/ours_rouge.py"), str(pairs)])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/rouge_scores.py"), str(pairs)])
    gaps = [
        abs(a - b)
        for name, rows in theirs["values"].items()
        for mine, row in zip(ours["values"][name], rows, strict=True)
        for a, b in zip(mine, row, strict=True)
    ]
    row = figure("rouge_12Lsum_stemmed", ours["seconds"], theirs["seconds"], "s", 20_000)
    return [{**row, "ours_again": round(ours["again"], 4), "most_different": max(gaps)}]


def _summary_pairs(n: int) -> tuple[list[str], list[str]]:
    """n predictions and references of 60 to 100 words, one sentence a line, always the same.

    Sentences of the example's articles. Half of a prediction's are its reference's, with some
    words left out or exchanged.
    """
    rng = random.Random(0)
    rows = (ROOT / "examples/news-riddles/data/train.jsonl").read_text("utf-8").splitlines()
    text = " ".join(json.loads(row)["text"] for row in rows)
    sentences = [sentence.split() for sentence in re.split(r"(?<=[.!?]) ", text)]
    words = text.split()

    def altered(sentence: list[str]) -> list[str]:
        kept = [word for word in sentence if rng.random() < 0.9]
        return [word if rng.random() < 0.8 else rng.choice(words) for word in kept]

    def summary(known: list[list[str]]) -> list[list[str]]:
        lines: list[list[str]] = []
        left = rng.randint(60, 100)
        while left:
            copied = known and rng.random() < 0.5
            line = altered(rng.choice(known)) if copied else rng.choice(sentences)
            lines.append(line[:left])
            left -= len(lines[-1])
        return lines

    references = [summary([]) for _ in range(n)]
    predictions = [summary(reference) for reference in references]

    def texts(side: list[list[list[str]]]) -> list[str]:
        return ["\n".join(map(" ".join, lines)) for lines in side]

    return texts(predictions), texts(references)


def bench_novelty() -> list[dict[str, Any]]:
    """ROUGE-L of 200 instructions with each of a pool of 52,000, against rouge-score's loop in
    Alpaca's script, one process each; reading the pool is a figure of its own."""
    peer = environment("rouge-score", ["rouge-score==0.1.2"])
    WORK.mkdir(exist_ok=True)
    job = WORK / "novelty.json"
    source, content = _instructions(52_000, 200)
    job.write_text(json.dumps(content), encoding="utf-8")
    ours = _answer([str(OUR_PYTHON), str(ROOT / "bench/ours_novelty.py"), str(job)])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/alpaca_novelty.py"), str(job)])
    row = figure("novelty_52000", ours["seconds"], theirs["seconds"], "s", 200)
    same = sum(a == b for a, b in zip(ours["maxima"], theirs["maxima"], strict=True))
    decided = sum(a == b for a, b in zip(ours["new"], theirs["new"], strict=True))
    checks = {"same_maxima": same, "same_decisions": decided, "new": sum(ours["new"])}
    read = figure("novelty_52000_pool_read", ours["read"], theirs["read"], "s", 52_000)
    return [{**row, **checks, "texts": source}, read]


def _instructions(n: int, candidates: int) -> tuple[str, tuple[list[str], list[str]]]:
    """Where the texts are from, n instructions and some more to hold against them, always the
    same: beginnings and ends of Alpaca's instructions where the shared files are, else of the
    sentences of the example's articles."""
    rng = random.Random(0)
    alpaca = ROOT.parent / "shared" / "data" / "alpaca" / "alpaca_sample.jsonl.gz"
    if alpaca.is_file():
        source = "alpaca"
        lines = gzip.decompress(alpaca.read_bytes()).decode("utf-8").splitlines()
        texts = [json.loads(line)["instruction"] for line in lines]
    else:
        source = "news-riddles"
        rows = (ROOT / "examples/news-riddles/data/train.jsonl").read_text("utf-8").splitlines()
        texts = re.split(r"(?<=[.!?]) ", " ".join(json.loads(row)["text"] for row in rows))

    def joined() -> str:
        begins, ends = rng.choice(texts).split(), rng.choice(texts).split()
        kept = begins[: rng.randint(1, len(begins))] + ends[rng.randint(0, len(ends)) :]
        return " ".join(kept)

    made = [joined() for _ in range(n + candidates)]
    return source, (made[:n], made[n:])


SCORING: dict[str, Callable[[], list[engine.Item]]] = {
    "five_shot": engine.five_shot,
    "five_shot_drawn": functools.partial(engine.five_shot, drawn=True, count=12),
    "one_letter": engine.one_letter,
    "truthfulqa_mc2": lambda: engine.question_answer(ROOT.parent / "shared" / "data"),
}
GENERATION = {"shared_16x100": (16, 500, 100, 100), "alone_600_100": (1, 0, 600, 100)}
"""Prompts, tokens they share, tokens of their own, new tokens."""


def bench_scoring(name: str, dtype: str = "float32") -> list[dict[str, Any]]:
    """Multiple choice against lm-evaluation-harness: the same texts, model and precision."""
    peer = environment("lm-eval-hf", ["torch", "lm-eval[hf]==0.4.13"])
    script = str(ROOT / "bench/ours_engine.py")
    return [
        engine.scoring(
            name if dtype == "float32" else f"{name}_{dtype}",
            SCORING[name](),
            lambda job: _answer([str(OUR_PYTHON), script, "score", str(job), dtype]),
            lambda job: _answer(
                [str(peer), str(ROOT / "bench/peers/lm_eval_scores.py"), _model(), str(job), dtype]
            ),
            WORK / f"{name}.json",
        )
    ]


def bench_generation(name: str, dtype: str = "float32") -> list[dict[str, Any]]:
    """New tokens against transformers.generate: the same token ids, greedy."""
    peer = environment("transformers", ["torch", "transformers==5.23.0", "peft==0.21.2"])
    job = _generation_job(name, dtype)
    script = str(ROOT / "bench/ours_engine.py")
    ours = _answer([str(OUR_PYTHON), script, "generate", str(job)])
    theirs = _answer([str(peer), str(ROOT / "bench/peers/transformers_ids.py"), _model(), str(job)])
    return [_generation_row(name if dtype == "float32" else f"{name}_{dtype}", ours, theirs)]


def bench_native(name: str) -> Iterator[dict[str, Any]]:
    """The same against engines in C++: llama.cpp built for this processor, with sequences that
    share the beginning, in float32 and bfloat16; and CTranslate2, which shares nothing, in float32
    (it has no bfloat16 on most CPUs)."""
    llama = environment("llama-cpp", ["llama-cpp-python==0.3.34", "gguf"])
    translate = environment("ctranslate2", ["torch", "transformers==5.23.0", "ctranslate2==4.8.2"])
    peers, script = ROOT / "bench/peers", str(ROOT / "bench/ours_engine.py")
    for dtype, kind in (("float32", "f32"), ("bfloat16", "bf16")):
        job, shared = _generation_job(name, dtype), str(GENERATION[name][1])
        ours = _answer([str(OUR_PYTHON), script, "generate", str(job)])
        gguf = WORK / f"model.{kind}.gguf"
        if not gguf.is_file():
            unpack = [str(llama), str(peers / "gguf_unpacked.py"), str(_gguf()), str(gguf), kind]
            subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
        theirs = _answer([str(llama), str(peers / "llama_cpp_ids.py"), str(gguf), str(job), shared])
        yield _generation_row(f"llama_cpp_{name}_{dtype}", ours, theirs)
        if dtype == "float32":
            command = [str(translate), str(peers / "ctranslate2_ids.py"), _model(), str(job)]
            theirs = _answer([*command, dtype, str(WORK / "ctranslate2-model")])
            yield _generation_row(f"ctranslate2_{name}_{dtype}", ours, theirs)


def _generation_job(name: str, dtype: str) -> Path:
    rows, shared, own, new = GENERATION[name]
    WORK.mkdir(exist_ok=True)
    job = WORK / f"{name}-{dtype}.json"
    content = engine.generation_job(rows, shared, own, new)
    job.write_text(json.dumps({**content, "dtype": dtype}), encoding="utf-8")
    return job


def _generation_row(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    pairs = [
        (a, b)
        for x, y in zip(ours["tokens"], theirs["tokens"], strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    row = figure(f"generation_{name}", ours["seconds"], theirs["seconds"], "s", len(ours["tokens"]))
    return {**row, "same_tokens": sum(a == b for a, b in pairs), "tokens": len(pairs)}


def _gguf() -> Path:
    """The embedded model's own file, fetched again (the cache keeps it converted only)."""
    place = WORK / "model.gguf"
    if not place.is_file():
        code = (
            "import pathlib, sys; from hinlap.core.progress import Silent; "
            "from hinlap.engines.embedded import _fetch; work = pathlib.Path(sys.argv[1]); "
            "_fetch(work.parent, Silent()).rename(work)"
        )
        subprocess.run([str(OUR_PYTHON), "-c", code, str(place)], check=True)
    return place


WHOLE_COMMANDS = {
    "truthfulqa-mc": 60,
    "truthfulqa": 20,
    "crows-pairs": 1508,
    "winogender": 60,
    "squad-v2": 20,
}
"""Items of each."""


def bench_whole_command(name: str) -> list[dict[str, Any]]:
    """A benchmark's command against lm-evaluation-harness's, start to end, with its figures."""
    peer = environment("lm-eval-hf", ["torch", "lm-eval[hf]==0.4.13"])
    shared = ROOT.parent / "shared" / "data"
    limit = WHOLE_COMMANDS[name]
    model = _model()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, mine = benchmarks.run_ours(
            OUR_PYTHON.parent / "hinlap", name, shared, model, folder / "ours", limit
        )
        rows = benchmarks.rows_of(name, shared, limit)
        tasks = benchmarks.peer_tasks(name, peer, rows, folder / "peer")
        most = max(len(docs) for docs in rows.values())
        theirs, size, found = benchmarks.run_peer(peer, model, tasks, folder / "peer", most)
    figures = {part["metric"]: part["value"] for part in (mine, *mine.get("parts", []))}
    row = figure(f"bench_{name}", ours, theirs, "s", limit)
    return [
        {
            **row,
            "peer_batch_size": size,
            "largest_gap_nats": benchmarks.largest_gap(name, mine, found),
            "same_texts": benchmarks.same_texts(mine, found),
            "figures": figures,
            "peer_figures": {
                f"{task} {key}": value
                for task, values in found["results"].items()
                for key, value in values.items()
                if isinstance(value, float) and "stderr" not in key
            },
        }
    ]


TUNING_ROWS = 80
"""Of dolly, for each side and setting; 500 take three quarters of an hour."""


def bench_tuning(dtype: str) -> list[dict[str, Any]]:
    """LoRA on rows of dolly against TRL's SFTTrainer at its best settings."""
    peer = environment("trl", tuning.PACKAGES)
    sample = ROOT.parent / "shared/data/dolly/databricks-dolly-15k.sample.jsonl.gz"
    folder = WORK / "tuning"
    return [tuning.figures(dtype, OUR_PYTHON, peer, sample, folder, TUNING_ROWS)]


GGUF_MODELS = ("smollm2-135m", "llama", "qwen2", "mistral", "gpt_neox", "gpt2")


def bench_gguf(name: str, dtype: str = "f32") -> list[dict[str, Any]]:
    """Files that write_gguf wrote, in llama.cpp: the same ids, answers and logits?"""
    llama = environment("llama-cpp", ["llama-cpp-python==0.3.34", "gguf"])
    folder = Path(_model()) if name == "smollm2-135m" else None
    return [gguf_agreement.agreement(name, OUR_PYTHON, llama, folder, dtype, WORK / "gguf")]


def bench_toxicity() -> list[dict[str, Any]]:
    """25 continuations of 20 tokens of each prompt, top-p 0.9, against transformers.generate
    prompt by prompt (25 sequences at once)."""
    peer = environment("transformers", ["torch", "transformers==5.23.0", "peft==0.21.2"])
    lines = gzip.decompress(
        (ROOT.parent / "shared/data/real-toxicity-prompts/prompts.jsonl.gz").read_bytes()
    ).decode("utf-8").split("\n")[:24]  # fmt: skip
    WORK.mkdir(exist_ok=True)
    job = WORK / "toxicity.json"
    prompts = [json.loads(line)["prompt"]["text"] for line in lines]
    job.write_text(json.dumps({"prompts": prompts, "draws": 25, "new": 20}), encoding="utf-8")
    script = str(ROOT / "bench/ours_engine.py")
    ours = _answer([str(OUR_PYTHON), script, "continue", str(job)])
    theirs = _answer(
        [str(peer), str(ROOT / "bench/peers/transformers_continue.py"), _model(), str(job)]
    )
    row = figure("toxicity_25_continuations", ours["seconds"], theirs["seconds"], "s", len(prompts))
    return [{**row, "tokens": ours["tokens"], "peer_tokens": theirs["tokens"]}]


def bench_data() -> list[dict[str, Any]]:
    """Import and conversion of 200 MB of JSONL, against plain json.loads of its lines (MB/s)."""
    WORK.mkdir(exist_ok=True)
    job, script = WORK / "rows.jsonl", str(ROOT / "bench/ours_data.py")
    subprocess.run([str(OUR_PYTHON), script, "write", str(job)], check=True)
    found = _answer([str(OUR_PYTHON), script, "read", str(job)])
    return [
        figure(f"data_{name}", found[name], found["json_loads"], "MB/s", int(found["rows"]),
               lower_is_better=False)
        for name in ("import", "convert")
    ]  # fmt: skip


def bench_data_check(what: str, n: int) -> list[dict[str, Any]]:
    """Near copies among n short rows, or n rows against all benchmark files. No peer verifies."""
    script = str(ROOT / "bench/ours_data_check.py")
    data = str(ROOT.parent / "shared" / "data")
    ours = _answer([str(OUR_PYTHON), script, what, data, str(n)])
    return [{**figure(f"data_{what}", ours.pop("seconds"), None, "s", n), **ours}]


def _model() -> str:
    """The embedded model's folder, as our side finds it."""
    command = [str(OUR_PYTHON), "-c", "import ours_engine; print(ours_engine.FOLDER)"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT / "bench"
    )
    return done.stdout.strip()


def _answer(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


BENCHES: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
    "help": bench_help,
    **{
        f"route-{route}": functools.partial(bench_route, route)
        for route in ("zero-shot", "few-shot", "service", "fine-tuned")
    },
    "squad": bench_squad,
    "bootstrap": bench_bootstrap,
    **{name: functools.partial(bench_corpus_scores, name) for name in ("bleu", "chrf")},
    "rouge": bench_rouge,
    "novelty": bench_novelty,
    **{f"scoring-{name}": functools.partial(bench_scoring, name) for name in SCORING},
    "scoring-five_shot-bfloat16": functools.partial(bench_scoring, "five_shot", "bfloat16"),
    **{f"generation-{name}": functools.partial(bench_generation, name) for name in GENERATION},
    **{
        f"generation-{name}-bfloat16": functools.partial(bench_generation, name, "bfloat16")
        for name in GENERATION
    },
    **{f"native-{name}": functools.partial(bench_native, name) for name in GENERATION},
    **{f"bench-{name}": functools.partial(bench_whole_command, name) for name in WHOLE_COMMANDS},
    "toxicity": bench_toxicity,
    **{f"tuning-{dtype}": functools.partial(bench_tuning, dtype) for dtype in tuning.SETTINGS},
    **{f"gguf-{name}": functools.partial(bench_gguf, name) for name in GGUF_MODELS},
    "data": bench_data,
    "data-duplicates": functools.partial(bench_data_check, "duplicates", 1_000_000),
    "data-leaks": functools.partial(bench_data_check, "leaks", 52_000),
    "first_result": bench_first_result,
}

if __name__ == "__main__":
    main()
