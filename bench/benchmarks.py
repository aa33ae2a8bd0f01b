"""Whole benchmark commands side by side: `hinlap bench` and `lm_eval` on the same items.

The peer's own task files are used, pointed at the same rows as local JSON; its best batch size is
found on the first items. Both sides start a process, load the model and write their results.
"""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path
from typing import Any

_TASKS = {
    "truthfulqa-mc": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthfulqa_mc2.yaml"),
    "crows-pairs": ("crows_pairs/crows_pairs_english.yaml",),
    "winogender": ("winogender/winogender.yaml",),
}
BATCH_SIZES = (1, 4, 16)


def rows_of(name: str, shared: Path, limit: int) -> list[dict[str, Any]]:
    """The first items as the peer's data sets have them."""
    if name == "truthfulqa-mc":
        questions = json.loads((shared / "truthfulqa/mc_task.json").read_text(encoding="utf-8"))
        return [
            {
                "question": q["question"],
                **{
                    key: {"choices": list(q[key]), "labels": list(q[key].values())}
                    for key in ("mc1_targets", "mc2_targets")
                },
            }
            for q in questions[:limit]
        ]
    with (shared / "crows-pairs/crows_pairs_anonymized.csv").open(encoding="utf-8") as source:
        pairs = list(csv.DictReader(source))[:limit]
    return [{key: row[key] for key in ("sent_more", "sent_less", "bias_type")} for row in pairs]


def peer_tasks(name: str, python: Path, rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """Writes rows and task files that include the peer's own; gives the tasks' names."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = subprocess.run(
        [str(python), "-c", "import lm_eval.tasks as t; print(t.__path__[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    home = Path(found.stdout.strip().splitlines()[-1])
    names = []
    for file in _TASKS[name]:
        task = f"local_{Path(file).stem}"
        split = "validation_split" if "truthfulqa" in file else "test_split"
        (folder / f"{task}.yaml").write_text(
            f"include: {home / file}\ntask: {task}\ntag: null\n"
            "dataset_path: json\ndataset_name: null\n"
            f"dataset_kwargs: {{data_files: {{validation: {data}, test: {data}}}}}\n"
            f"{split}: {'validation' if 'truthfulqa' in file else 'test'}\n",
            encoding="utf-8",
        )
        names.append(task)
    return names


def run_peer(
    python: Path, model: str, tasks: list[str], folder: Path, limit: int
) -> tuple[float, int, dict[str, Any]]:
    """Seconds of the whole command at the best batch size, that size, and its results."""

    def seconds(size: int, items: int) -> float:
        command = [
            str(python), "-m", "lm_eval", "--model", "hf",
            "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu",
            "--tasks", ",".join(tasks), "--include_path", str(folder),
            "--batch_size", str(size), "--limit", str(items),
            "--output_path", str(folder / f"out-{size}-{items}"), "--log_samples",
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began

    few = max(4, limit // 10)
    best = min(BATCH_SIZES, key=lambda size: seconds(size, few))
    taken = seconds(best, limit)
    out = folder / f"out-{best}-{limit}"
    results = json.loads(max(out.rglob("results_*.json")).read_text(encoding="utf-8"))
    samples = {
        task: [
            json.loads(line)
            for line in max(out.rglob(f"samples_{task}_*.jsonl")).read_text("utf-8").splitlines()
        ]
        for task in tasks
    }
    return taken, best, {"results": results["results"], "samples": samples}


def run_ours(
    hinlap: Path, name: str, data: Path, model: str, folder: Path, limit: int
) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command in an empty folder, and its JSON."""
    folder.mkdir(parents=True)
    command = [
        str(hinlap), "bench", name, "--model", model, "--data", str(data),
        "--limit", str(limit), "--json", "out.json",
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    taken = time.perf_counter() - began
    return taken, json.loads((folder / "out.json").read_text(encoding="ascii"))


def largest_gap(name: str, ours: dict[str, Any], peer: dict[str, Any]) -> float:
    """Of log-likelihoods, in nats, item by item and text by text."""
    nats = [given["nats"] for given in ours["given"]]
    tasks = list(peer["samples"])
    theirs: list[list[float]] = [[] for _ in nats]
    for task in tasks:
        for sample in peer["samples"][task]:
            theirs[sample["doc_id"]] += [float(r[0]) for r in sample["filtered_resps"]]
    return max(
        abs(a - b)
        for mine, other in zip(nats, theirs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
