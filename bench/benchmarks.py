"""Whole benchmark commands side by side: `hinlap bench` and `lm_eval` on the same items.

The peer's own task files are used, pointed at the same rows as local JSON; its best batch size is
found on the first items. Both sides start a process, load the model and write their results.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

_TASKS = {
    "truthfulqa-mc": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthfulqa_mc2.yaml"),
    "truthfulqa": (
        "truthfulqa/truthfulqa_mc1.yaml",
        "truthfulqa/truthfulqa_mc2.yaml",
        "truthfulqa/truthfulqa_gen.yaml",
    ),
    "crows-pairs": ("crows_pairs/crows_pairs_english.yaml",),
    "winogender": ("winogender/winogender.yaml", "winogender/winogender_gotcha.yaml"),
    "squad-v2": ("squad_v2.yaml",),
}
# What a local task file says otherwise than the peer's. truthfulqa_gen stops its prompt before
# "A:" and so scores the model's own "A:" as a part of the answer; the paper's code takes what
# stands between "A:" and "Q:" of at most 50 new tokens, as here.
_OTHERWISE = {
    "truthfulqa_gen": """doc_to_text: "{preamble}\\n\\nQ: {{{{question}}}}\\nA:"
generation_kwargs: {{until: ["\\n", "Q:"], do_sample: false, max_gen_toks: 50}}
""",
}
# squadv2 is a class that fetches its metric from the hub: the same prompt and requests as a file,
# scored by the official script's functions. An answer of "unanswerable" is none, as ours
# has it; the peer takes it as a wrong answer.
_SQUAD_TASK = """dataset_path: json
output_type: generate_until
doc_to_text: "Title: {{title}}\\n\\nBackground: {{context}}\\n\\n\
Question: {{question}}\\n\\nAnswer:"
doc_to_target: " "
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 48}
process_results: !function squad_results.process
metric_list:
  - {metric: exact, aggregation: mean, higher_is_better: true}
  - {metric: f1, aggregation: mean, higher_is_better: true}
"""
BATCH_SIZES = (1, 4, 16)


def rows_of(name: str, shared: Path, limit: int) -> dict[str, Rows]:
    """The first items as the peer's data sets have them, by task file."""
    if name in ("truthfulqa-mc", "truthfulqa"):
        rows = _questions(shared / "truthfulqa", limit)
        return dict.fromkeys(_TASKS[name], rows)
    if name == "winogender":
        sentences = _sentences(shared / "winogender")[: 3 * limit]
        return {
            _TASKS[name][0]: sentences,
            _TASKS[name][1]: [row for row in sentences if row["gotcha"]],
        }
    if name == "squad-v2":
        return {_TASKS[name][0]: _passages(shared / "squad/dev-v2.0.sample.json.gz", limit)}
    with (shared / "crows-pairs/crows_pairs_anonymized.csv").open(encoding="utf-8") as source:
        pairs = list(csv.DictReader(source))[:limit]
    keys = ("sent_more", "sent_less", "bias_type")
    return {_TASKS[name][0]: [{key: row[key] for key in keys} for row in pairs]}


def _questions(folder: Path, limit: int) -> Rows:
    """Of both of the peer's data sets: choices, and answers as the CSV lists them."""
    choices = json.loads((folder / "mc_task.json").read_text(encoding="utf-8"))[:limit]
    with (folder / "TruthfulQA.csv").open(encoding="utf-8-sig") as source:
        answers = {row["Question"].strip(): row for row in csv.DictReader(source)}
    return [
        {
            "question": q["question"],
            **{
                key: {"choices": list(q[key]), "labels": list(q[key].values())}
                for key in ("mc1_targets", "mc2_targets")
            },
            "correct_answers": answers[q["question"].strip()]["Correct Answers"].split(";"),
            "incorrect_answers": answers[q["question"].strip()]["Incorrect Answers"].split(";"),
        }
        for q in choices
    ]


def _sentences(folder: Path) -> Rows:
    """Winogender's 720 sentences made anew from the templates, in the order of the original; a
    "gotcha" is told by the words of the paper's table 2."""
    with (folder / "occupations-stats.tsv").open(encoding="utf-8") as source:
        women = {
            row["occupation"]: float(row["bls_pct_female"])
            for row in csv.DictReader(source, delimiter="\t")
        }
    pronouns = {
        "male": {"$NOM_PRONOUN": "he", "$POSS_PRONOUN": "his", "$ACC_PRONOUN": "him"},
        "female": {"$NOM_PRONOUN": "she", "$POSS_PRONOUN": "her", "$ACC_PRONOUN": "her"},
        "neutral": {"$NOM_PRONOUN": "they", "$POSS_PRONOUN": "their", "$ACC_PRONOUN": "them"},
    }
    lines = (folder / "templates.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows: Rows = []
    for occupation, other, answer, template in (line.split("\t") for line in lines):
        for participant in (other, "someone"):
            text = template.replace("$OCCUPATION", occupation)
            if participant == "someone":
                text = re.sub(r"\S+ \$PARTICIPANT", "$PARTICIPANT", text)
                participant = "Someone" if text.startswith("$PARTICIPANT") else "someone"
            text = text.replace("$PARTICIPANT", participant)
            for gender, words in pronouns.items():
                mark = next(word for word in words if word in text)
                sentence = text.replace(mark, words[mark])
                if gender == "neutral":
                    sentence = sentence.replace("they was", "they were")
                expected_women = (answer == "0") == (women[occupation] >= 50)
                rows.append(
                    {
                        "sentence": sentence,
                        "pronoun": words[mark],
                        "occupation": occupation,
                        "participant": participant.lower(),
                        "gender": gender,
                        "label": int(answer),
                        "gotcha": gender == ("male" if expected_women else "female"),
                    }
                )
    return rows


def _passages(file: Path, limit: int) -> Rows:
    articles = json.loads(gzip.decompress(file.read_bytes()))["data"]
    return [
        {
            "id": qa["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": qa["question"],
            "answers": [answer["text"] for answer in qa["answers"]],
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ][:limit]


def peer_tasks(name: str, python: Path, rows: dict[str, Rows], folder: Path) -> list[str]:
    """Writes rows and task files that include the peer's own; gives the tasks' names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(
        [str(python), "-c", "import lm_eval.tasks as t; print(t.__path__[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    home = Path(found.stdout.strip().splitlines()[-1])
    names = []
    for file in _TASKS[name]:
        kind = Path(file).stem
        task = f"local_{kind}"
        data = folder / f"{task}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[file]), encoding="utf-8")
        split = "validation" if "truthfulqa" in file else "test"
        if name == "squad-v2":
            results = Path(__file__).parent / "peers/squad_results.py"
            (folder / results.name).write_text(results.read_text(encoding="utf-8"), "utf-8")
            head = _SQUAD_TASK
        else:
            head = f"include: {home / file}\ntag: null\ndataset_path: json\ndataset_name: null\n"
            if kind in _OTHERWISE:
                head += _OTHERWISE[kind].format(preamble=_preamble(home / file))
        (folder / f"{task}.yaml").write_text(
            f"{head}task: {task}\n"
            f"dataset_kwargs: {{data_files: {{validation: {data}, test: {data}}}}}\n"
            f"{split}_split: {split}\n",
            encoding="utf-8",
        )
        names.append(task)
    return names


def _preamble(file: Path) -> str:
    """The six questions and answers of the peer's task file, as they stand in its YAML."""
    text = file.read_text(encoding="utf-8")
    inner = text[text.index("set prompt_qa = '") + len("set prompt_qa = '") : text.index("'%}")]
    return re.sub(r"\\\n\s*", "", inner)


def run_peer(
    python: Path,
    model: str,
    tasks: list[str],
    folder: Path,
    limit: int,
    sizes: tuple[int, ...] = BATCH_SIZES,
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
    best = min(sizes, key=lambda size: seconds(size, few)) if len(sizes) > 1 else sizes[0]
    taken = seconds(best, limit)
    out = folder / f"out-{best}-{limit}"

    def newest(pattern: str) -> str:
        return max(out.rglob(pattern)).read_text(encoding="utf-8")

    results = json.loads(newest("results_*.json"))
    samples = {
        task: [json.loads(line) for line in newest(f"samples_{task}_[0-9]*.jsonl").splitlines()]
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


def largest_gap(name: str, ours: dict[str, Any], peer: dict[str, Any]) -> float | None:
    """Of log-likelihoods, in nats, item by item and text by text; None where none are weighed."""
    nats = [given["nats"] for given in ours["given"]]
    theirs: list[list[float]] = [[] for _ in nats]
    for task, samples in peer["samples"].items():
        if task in ("local_truthfulqa_gen", "local_squad_v2", "local_winogender_gotcha"):
            continue  # written, or weighed in another task already
        sentences = 3 if name == "winogender" else 1  # of an item
        for sample in samples:
            place = sample["doc_id"] // sentences
            theirs[place] += [float(r[0]) for r in sample["filtered_resps"]]
    gaps = [
        abs(a - b)
        for mine, other in zip(nats, theirs, strict=True)
        for a, b in zip(mine, other, strict=True)
    ]
    return max(gaps) if gaps else None


def same_texts(ours: dict[str, Any], peer: dict[str, Any]) -> tuple[int, int] | None:
    """How many written answers are equal but for white space around them, and of how many."""
    for task in ("local_truthfulqa_gen", "local_squad_v2"):
        if task in peer["samples"]:
            theirs = {s["doc_id"]: s["filtered_resps"][0].strip() for s in peer["samples"][task]}
            mine = [(given["answers"][0] or "").strip() for given in ours["given"]]
            return sum(theirs[place] == text for place, text in enumerate(mine)), len(mine)
    return None
