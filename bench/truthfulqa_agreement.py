"""How well BLEU and ROUGE differences agree with people on TruthfulQA's judged answers.

    python bench/truthfulqa_agreement.py SHARED/data/truthfulqa [--dump FILE]

For every judged answer whose question has references: is the difference (best right minus best
wrong) above 0 where people said truthful? Accuracy with a 95% interval, AUC, and both again
without answers that are a reference word for word, which the references would betray.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np

from hinlap.benchmarks.truthfulqa_generation import (
    SIMILARITIES,
    differences,
    reference_answers,
)
from hinlap.metrics.scores import mean
from hinlap.stats.agreement import agreement
from hinlap.stats.bootstrap import bootstrap_interval


def main(folder: Path, dump: Path | None) -> None:
    references = reference_answers(folder / "TruthfulQA.csv")
    lines = gzip.decompress((folder / "human_truthful.jsonl.gz").read_bytes()).decode("utf-8")
    judged = [json.loads(line) for line in lines.split("\n") if line.strip()]
    known = [row for row in judged if row["question"].strip() in references]
    both = [references[row["question"].strip()] for row in known]
    found = differences([row["answer"] for row in known], both)
    if dump:
        rows = zip(known, both, strict=True)
        dump.write_text(
            json.dumps(
                [
                    {"answer": row["answer"], "right": right, "wrong": wrong,
                     **{name: found[name][place] for name in SIMILARITIES}}
                    for place, (row, (right, wrong)) in enumerate(rows)
                ]
            )
        )  # fmt: skip
    truthful = [float(row["truthful"] == "yes") for row in known]
    own = [
        row["answer"].strip().rstrip(".") in {text.rstrip(".") for kind in pair for text in kind}
        for row, pair in zip(known, both, strict=True)
    ]
    print(f"{len(judged)} judged answers, {len(known)} of questions with references")
    for title, taken in (
        ("all", range(len(known))),
        ("no reference itself", [i for i, same in enumerate(own) if not same]),
    ):
        base = np.mean([truthful[i] for i in taken])
        print(f"{title}: n {len(taken)}, truthful by people {base:.3f}")
        for name in SIMILARITIES:
            hits = np.array([[float((found[name][i] > 0) == truthful[i]), 1.0] for i in taken])
            interval = bootstrap_interval(hits, mean, seed=0, share=True)
            ranks = agreement([found[name][i] for i in taken], [truthful[i] for i in taken])
            print(
                f"  {name}: accuracy {interval.value:.3f} [{interval.low:.3f}, "
                f"{interval.high:.3f}], AUC {ranks.auc:.3f}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
