"""SQuAD 1.1 and 2.0: answers to questions on a passage; in 2.0 some have none.

    Title: Warsaw
    Background: ... the University of Warsaw was established in 1816 ...
    Question: What was established in 1816?
    Answer: the University of Warsaw          (2.0, where the passage does not tell: unanswerable)

Papers: Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text";
Rajpurkar, Jia, Liang (2018), "Know What You Don't Know". The prompt is the peer's; answers are
generated to the line's end (48 tokens at most) and scored as by the official scripts.

In 2.0 an answer of "unanswerable", the word that solved examples have, counts as no answer; so does
an empty one. The peer takes that word as a wrong answer, so that its NoAns figures are those of
empty answers only; its best_exact and best_f1, which pick a threshold on the measured questions
themselves, are not given here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from hinlap.benchmarks.benchmark import About, Benchmark, Given, Item, Measure, Shot
from hinlap.benchmarks.files import no_benchmark_file
from hinlap.core.errors import InputError
from hinlap.core.messages import Sampling
from hinlap.data.sources.pinned import Pinned
from hinlap.data.squad_file import read_squad
from hinlap.metrics.match import normal_answer
from hinlap.metrics.scores import Scores
from hinlap.metrics.squad import Question, Version, percent, squad

NO_ANSWER = "unanswerable"


def read(path: Path, version: Version) -> list[Item]:
    try:
        questions = read_squad(path).questions
    except InputError as error:
        raise no_benchmark_file(path, f"SQuAD: {error.what}") from None
    for question in questions:
        if version == "1.1" and not question.answers:
            raise InputError(
                f"the question {question.id!r} has no answers: this is SQuAD 2.0",
                where=str(path),
                hint="hinlap bench squad-v2",
            )
        if not question.text.strip() or not question.context.strip():
            raise no_benchmark_file(
                path, f"SQuAD's original: {question.id!r} lacks its question or its context"
            )
    return [
        Item(
            question.id,
            question.article,
            question=(
                f"Title: {question.article}\n\nBackground: {question.context}\n\n"
                f"Question: {question.text}\n\nAnswer:"
            ),
            parts={
                "title": question.article,
                "context": question.context,
                "question": question.text,
            },
            facts={"answers": list(dict.fromkeys(question.answers))},
        )
        for question in questions
    ]


def solved(item: Item) -> Shot:
    answers = item.facts["answers"]
    return Shot(item.question, f" {answers[0] if answers else NO_ANSWER}")


def measuring(version: Version) -> Measure:
    """squad_exact_match and squad_f1 (squad_v2_... with their parts has_answer and no_answer for
    2.0), in percent. A failed answer is wrong and counted."""
    prefix = "squad" if version == "1.1" else "squad_v2"

    def measure(items: Sequence[Item], given: Sequence[Given]) -> list[Scores]:
        questions = [Question(item.id, tuple(item.facts["answers"])) for item in items]
        answers = {}
        for item, had in zip(items, given, strict=True):
            answer = (had.answers[0] if had.answers else None) or ""
            none = version == "2.0" and normal_answer(answer) == NO_ANSWER
            answers[item.id] = "" if none else answer
        failed = [not had.answers or had.answers[0] is None for had in given]
        found = squad(questions, answers, version=version)
        scores = []
        for kind, each in (("exact_match", found.exact), ("f1", found.f1)):
            # a failure is never taken for the right "no answer"
            values = [
                0.0 if bad else float(row[0]) for bad, row in zip(failed, each.stats, strict=True)
            ]
            parts: dict[str, Sequence[bool]] = {"": [True] * len(items)}
            if version == "2.0":
                parts["_has_answer"] = [bool(q.answers) for q in questions]
                parts["_no_answer"] = [not q.answers for q in questions]
            for part, inside in parts.items():
                name = f"{prefix}{part}_{kind}"
                share = kind == "exact_match" and all(inside)
                scores.append(_percent(name, values, inside, each.signature, share=share))
        for each in scores:
            if any(failed):
                each.notes["failed answers, scored as wrong"] = sum(failed)
        return scores

    return measure


def _percent(
    name: str, values: Sequence[float], inside: Sequence[bool], signature: str, *, share: bool
) -> Scores:
    import numpy as np

    stats = np.array(
        [[value, 1.0] if there else [0.0, 0.0] for value, there in zip(values, inside, strict=True)]
    ).reshape(-1, 2)
    items = tuple(
        100.0 * value if there else None for value, there in zip(values, inside, strict=True)
    )
    return Scores(name, f"{name}|generated|{signature}", stats, percent, items, share=share)


def explain(item: Item, given: Given, values: Mapping[str, float | None]) -> str:
    answer = given.answers[0] if given.answers else None
    answers = item.facts["answers"]
    if answer is None:
        return "The model failed to answer: counted as wrong."
    prefix = "squad_v2" if "squad_v2_f1" in values else "squad"
    exact, shared = (values.get(f"{prefix}_{kind}") for kind in ("exact_match", "f1"))
    silent = normal_answer(answer) in ("", NO_ANSWER)
    if not answers:
        said = "says so" if exact else "answers all the same"
        return f"The passage does not tell, and the model {said}."
    if exact:
        return "The answer is one of the right ones, but for case, articles and punctuation."
    if silent:
        return "The passage tells, and the model gives no answer."
    if shared:
        return f"No right answer is the same; the nearest shares words with it (F1 {shared:.0f})."
    return "The answer shares no word with a right one."


_REPOSITORY = (
    "https://raw.githubusercontent.com/rajpurkar/SQuAD-explorer/"
    "eee5fdbf62f8613a7812b03419e6b29617b74fd1/dataset"
)
_SAMPLING = Sampling(max_tokens=48, stop=("\n",))

SQUAD = Benchmark(
    "squad",
    "SQuAD 1.1: generated answers",
    About(
        "Rajpurkar et al. (2016)",
        "https://rajpurkar.github.io/SQuAD-explorer (dataset/dev-v1.1.json)",
        "CC BY-SA 4.0",
        "the official evaluation script 1.1; prompt of lm-evaluation-harness squadv2",
    ),
    (
        Pinned(
            "squad/dev-v1.1.json",
            f"{_REPOSITORY}/dev-v1.1.json",
            "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
            also=("squad/dev-v1.1.sample.json",),
        ),
    ),
    "article",
    partial(read, version="1.1"),
    measuring("1.1"),
    sampling=_SAMPLING,
    solved=solved,
    explain=explain,
)
SQUAD_V2 = Benchmark(
    "squad-v2",
    "SQuAD 2.0: generated answers, or none",
    About(
        "Rajpurkar et al. (2018)",
        "https://rajpurkar.github.io/SQuAD-explorer (dataset/dev-v2.0.json)",
        "CC BY-SA 4.0",
        "the official evaluation script 2.0; prompt of lm-evaluation-harness squadv2",
    ),
    (
        Pinned(
            "squad/dev-v2.0.json",
            f"{_REPOSITORY}/dev-v2.0.json",
            "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8",
            also=("squad/dev-v2.0.sample.json",),
        ),
    ),
    "article",
    partial(read, version="2.0"),
    measuring("2.0"),
    sampling=_SAMPLING,
    solved=solved,
    explain=explain,
)
