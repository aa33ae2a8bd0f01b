"""Instructions with constraints that a program can check: is it done to the letter?

    Write a riddle about a clock in exactly 4 lines.  (length_constraints:number_lines, 4, exactly)
    เขียนปริศนาคำทายเกี่ยวกับเงา โดยห้ามใช้คำว่า เงา    (keywords:forbidden_words, เงา)

After Zhou et al. (2023), "Instruction-Following Evaluation for Large Language Models" (IFEval): its
kinds of constraints and some more (`metrics/constraints.py`), its figures. The 120 English and 40
Thai prompts beside this file are Hinlap's own; IFEval's ``input_data.jsonl`` is read as well, by
``--data``, and then the figures are IFEval's. Whether an answer is any good, nobody looks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hinlap.benchmarks.benchmark import About, Benchmark, Given, Item
from hinlap.benchmarks.files import no_benchmark_file
from hinlap.core.errors import InputError
from hinlap.core.messages import Sampling
from hinlap.data.sources.pinned import Pinned
from hinlap.data.text_file import read_utf8
from hinlap.metrics.constraints import Constraint, read_constraint
from hinlap.metrics.scores import Scores, mean, mean_scores
from hinlap.metrics.segmentation import newmm_signature

_COLUMNS = ("key", "prompt", "instruction_id_list", "kwargs")


def read(path: Path) -> list[Item]:
    """The group is the row's language where it names one; else the kind of its constraints."""
    items = []
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if line.strip():
            items.append(_item(path, f"{path}:{number}", line))
    return items


def _item(path: Path, where: str, line: str) -> Item:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where) from None
    missing = [name for name in _COLUMNS if not isinstance(row, dict) or name not in row]
    if missing:
        raise no_benchmark_file(path, f"a file of instructions: it lacks {', '.join(missing)}")
    prompt, names, settings = row["prompt"], row["instruction_id_list"], row["kwargs"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty", where=where)
    if not isinstance(names, list) or not isinstance(settings, list) or len(names) != len(settings):
        raise InputError("instruction_id_list and kwargs are not of one length", where=where)
    if not names:
        raise InputError("there is no constraint", where=where)
    read = [read_constraint(n, s, where) for n, s in zip(names, settings, strict=True)]
    kinds = {constraint.id.partition(":")[0] for constraint in read}
    group = row.get("language") or (kinds.pop() if len(kinds) == 1 else "several kinds")
    return Item(
        str(row["key"]),
        str(group),
        question=prompt,
        parts={"prompt": prompt},
        facts={"constraints": [{"id": c.id, **c.settings} for c in read]},
    )


def _constraints(item: Item) -> list[Constraint]:
    declared: list[dict[str, Any]] = item.facts["constraints"]
    return [Constraint(d["id"], {k: v for k, v in d.items() if k != "id"}) for d in declared]


def measure(items: Sequence[Item], given: Sequence[Given]) -> list[Scores]:
    """helpful_strict, helpful_loose: share of prompts with every constraint kept.
    helpful_strict_constraints, helpful_loose_constraints: share of constraints kept; a prompt's
    constraints are one cluster. Loose: kept by one of the paper's eight readings of the answer
    (without its first or last line, without asterisks). All [0, 1], higher is better. An empty or
    a failed answer keeps nothing; failed ones are counted."""
    answers = [(had.answers[0] if had.answers else None) for had in given]
    readings: tuple[tuple[str, Callable[[Constraint, str], bool]], ...] = (
        ("helpful_strict", Constraint.kept),
        ("helpful_loose", Constraint.kept_loosely),
    )
    whole, parts = [], []
    for name, check in readings:
        kept = [
            [check(constraint, answer or "") for constraint in _constraints(item)]
            for item, answer in zip(items, answers, strict=True)
        ]
        signature = f"ifeval|{newmm_signature()}|v2"
        whole.append(
            mean_scores(name, [float(all(k)) for k in kept], f"{name}|{signature}", share=True)
        )
        stats = np.array([[sum(k), len(k)] for k in kept], dtype=np.float64).reshape(-1, 2)
        each = tuple(sum(k) / len(k) for k in kept)
        constraints = f"{name}_constraints"
        parts.append(Scores(constraints, f"{constraints}|{signature}", stats, mean, each))
    failed = sum(answer is None for answer in answers)
    if failed:
        for scores in (*whole, *parts):
            scores.notes["failed answers, nothing kept"] = failed
    return [*whole, *parts]


def explain(item: Item, given: Given, values: Mapping[str, float | None]) -> str:
    answer = given.answers[0] if given.answers else None
    if not (answer or "").strip():
        return "There is no answer: no constraint is kept."
    said = []
    for constraint in _constraints(item):
        how = "broken"
        if constraint.kept(answer or ""):
            how = "kept"
        elif constraint.kept_loosely(answer or ""):
            how = "kept loosely only"
        said.append(f"{constraint.id} {how}")
    return f"{'; '.join(said)}."


INSTRUCTIONS = Benchmark(
    "instructions",
    "Instructions with checkable constraints, English and Thai",
    About(
        "after Zhou et al. (2023), IFEval",
        "comes with Hinlap; --data input_data.jsonl of IFEval for its own "
        "(https://github.com/google-research/google-research/tree/master/instruction_following_eval)",
        "Apache-2.0",
        "lm-evaluation-harness ifeval (on IFEval's file)",
    ),
    (Pinned("instructions/instructions.jsonl"),),
    "language or kind of constraint",
    read,
    measure,
    sampling=Sampling(max_tokens=512),
    explain=explain,
    own=Path(__file__).with_name("instructions.jsonl"),
)
