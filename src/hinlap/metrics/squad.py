"""SQuAD's exact match and F1, versions 1.1 and 2.0, as the official scripts compute them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hinlap.metrics.match import answer_tokens, bag_f1, normal_answer
from hinlap.metrics.scores import Array, Scores
from hinlap.metrics.segmentation import segmentation_signature, spaced

Version = Literal["1.1", "2.0"]
OFFICIAL = "official"


@dataclass(frozen=True, slots=True)
class Question:
    """answers: what people answered; empty when the text does not tell. article: its title.
    text, context: the question and its passage; no figure needs them."""

    id: str
    answers: tuple[str, ...]
    article: str = ""
    text: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class BestThreshold:
    """Percent reached when every answer whose no-answer probability is above the threshold, which
    is picked on the same questions, is taken as no answer."""

    exact: float
    exact_threshold: float
    f1: float
    f1_threshold: float


@dataclass(frozen=True)
class SquadScores:
    """Per question and in all.

    exact, f1:   in percent, rows in the order of ``questions``.
    questions:   those behind the rows: all of them in 1.1; in 2.0 those with a prediction.
    missing:     ids without a prediction: scored 0 in 1.1, left out in 2.0.
    unknown:     ids of predictions that no question has; they count for nothing.
    best:        None where no-answer probabilities were not given, and in 1.1.
    """

    version: Version
    exact: Scores
    f1: Scores
    questions: tuple[Question, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    best: BestThreshold | None

    def figures(self) -> dict[str, float | int | None]:
        """The official scripts' numbers under their keys; None where undefined (no questions).

        2.0 calls exact match ``exact``; it stands under both names.
        """
        everything = range(len(self.questions))
        found = self._part("", everything)
        found["exact_match"] = found["exact"]
        if self.version == "1.1":
            return {key: found[key] for key in ("exact_match", "f1", "total")}
        for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
            rows = [i for i in everything if bool(self.questions[i].answers) is wanted]
            if rows:
                found |= self._part(prefix, rows)
        if self.best is not None:
            found |= {
                "best_exact": self.best.exact,
                "best_exact_thresh": self.best.exact_threshold,
                "best_f1": self.best.f1,
                "best_f1_thresh": self.best.f1_threshold,
            }
        return found

    def _part(self, prefix: str, rows: Sequence[int]) -> dict[str, float | int | None]:
        return {
            f"{prefix}exact": _percent_of([float(self.exact.stats[i, 0]) for i in rows]),
            f"{prefix}f1": _percent_of([float(self.f1.stats[i, 0]) for i in rows]),
            f"{prefix}total": len(rows),
        }


def squad(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    *,
    version: Version,
    no_answer: Mapping[str, float] | None = None,
    threshold: float = 1.0,
    segmentation: str = "auto",
) -> SquadScores:
    """Exact match and F1 of answers, in percent; an empty prediction means "no answer" in 2.0.

    predictions:  question id to answer.
    no_answer:    question id to the model's probability that there is no answer; an answer whose
                  probability is above ``threshold`` is taken as none. 2.0 only.
    segmentation: "official" cuts at spaces only. "auto" does so too, unless most questions have an
                  answer in a script without spaces: then those are cut into words first, in NFC.
                  Any other name is a choice of `segmentation.words`.
    Range:        [0, 100]. Higher is better. Each question takes its best reference.
    Undefined:    no questions. Unlike the official 2.0 script, which stops there with an error,
                  the has-answer and no-answer parts leave questions without prediction out too.
    Raises:       ValueError for an id used twice, a question without answers in 1.1, a
                  prediction without its no-answer probability.
    Source:       Rajpurkar et al. (2016), (2018); evaluate-v1.1.py and evaluate-v2.0.py.
    Peer:         those scripts; their published figures are equal by test.

    >>> one = Question("q1", ("Denver Broncos", "the Broncos"))
    >>> squad([one], {"q1": "Broncos of Denver"}, version="1.1").figures()
    {'exact_match': 0.0, 'f1': 80.0, 'total': 1}
    """
    _check(questions, predictions, version, no_answer)
    choice = _choice(questions, segmentation)
    missing = tuple(q.id for q in questions if q.id not in predictions)
    if version == "2.0":
        questions = [q for q in questions if q.id in predictions]
    exact, f1 = _raw(questions, predictions, version, choice)
    best = None
    if version == "2.0" and no_answer is not None:
        best = _best(questions, predictions, exact, f1, no_answer)
        for i, question in enumerate(questions):
            if no_answer[question.id] > threshold:
                exact[i] = f1[i] = float(not question.answers)
    known = {q.id for q in questions} | set(missing)
    cut = "spaces"
    if choice is not None:
        texts = (text for q in questions for text in q.answers)  # so that systems stay comparable
        cut = segmentation_signature(texts, choice, latin="spaces")
    rule = f"percent|best-reference|norm:{'squad' if choice is None else 'squad+nfc'}|tok:{cut}"
    if version == "2.0":
        rule += f"|no-answer-above:{threshold if no_answer is not None else 'none'}"
    notes = {"questions without prediction": len(missing)} if missing else {}

    def scores(name: str, values: list[float], share: bool) -> Scores:
        stats = np.column_stack([values, np.ones(len(values))]).reshape(-1, 2)
        items = tuple(100.0 * value for value in values)
        signature = f"squad-{version}|{name}|{rule}|v1"
        return Scores(f"squad_{name}", signature, stats, percent, items, True, share, dict(notes))

    return SquadScores(
        version,
        scores("exact_match", exact, share=True),
        scores("f1", f1, share=False),
        tuple(questions),
        missing,
        tuple(i for i in predictions if i not in known),
        best,
    )


def percent(sums: Array) -> Array:
    """100 times the mean, from summed (value, 1) in the last axis."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100.0 * sums[..., 0] / sums[..., 1])


def _check(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    version: Version,
    no_answer: Mapping[str, float] | None,
) -> None:
    if len({q.id for q in questions}) != len(questions):
        raise ValueError("an id is used twice")
    for question in questions:
        if version == "1.1" and not question.answers:
            raise ValueError(f"question {question.id} has no answers: that is version 2.0")
        if no_answer is not None and question.id in predictions and question.id not in no_answer:
            raise ValueError(f"question {question.id} has no no-answer probability")


def _choice(questions: Sequence[Question], segmentation: str) -> str | None:
    """The segmenter, or None for spaces only. Some answers in another script, as in an English
    set, change nothing: its published figures were computed without."""
    if segmentation == OFFICIAL:
        return None
    if segmentation != "auto":
        return segmentation
    answered = [q for q in questions if q.answers]
    unspaced = sum(any(spaced(a) != a for a in q.answers) for q in answered)
    return "auto" if 2 * unspaced > len(answered) else None


def _raw(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    version: Version,
    choice: str | None,
) -> tuple[list[float], list[float]]:
    """Exact match and F1, 0 to 1, of each question, before any threshold."""
    both_empty = 1.0 if version == "2.0" else 0.0
    prepare = _preparing(choice)
    exact, f1 = [], []
    for question in questions:
        if question.id not in predictions:
            exact.append(0.0)
            f1.append(0.0)
            continue
        text, tokens = prepare(predictions[question.id])
        golds = [prepare(answer) for answer in question.answers]
        if version == "2.0":
            golds = [gold for gold in golds if gold[0]] or [prepare("")]
        exact.append(float(any(text == gold for gold, _ in golds)))
        f1.append(max(bag_f1(tokens, gold, both_empty=both_empty) for _, gold in golds))
    return exact, f1


def _preparing(choice: str | None) -> Callable[[str], tuple[str, list[str]]]:
    """From an answer to its normalised text and tokens."""
    if choice is None:

        def as_official(answer: str) -> tuple[str, list[str]]:
            text = normal_answer(answer)
            return text, text.split()

        return as_official

    def segmented(answer: str) -> tuple[str, list[str]]:
        answer = unicodedata.normalize("NFC", answer)
        return normal_answer(answer), answer_tokens(answer, choice)

    return segmented


def _best(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    exact: Sequence[float],
    f1: Sequence[float],
    no_answer: Mapping[str, float],
) -> BestThreshold:
    order = {q.id: i for i, q in enumerate(questions)}
    # equal probabilities stay in the order of their file, as the official script has them
    rows = [order[i] for i in sorted(no_answer, key=lambda i: no_answer[i]) if i in order]

    def best(values: Sequence[float]) -> tuple[float, float]:
        score = top = float(sum(not q.answers for q in questions))
        at = 0.0
        for row in rows:
            question = questions[row]
            if question.answers:
                score += values[row]
            elif predictions[question.id]:
                score -= 1.0
            if score > top:
                top, at = score, no_answer[question.id]
        return (100.0 * top / len(questions) if questions else float("nan")), at

    return BestThreshold(*best(exact), *best(f1))


def _percent_of(values: Sequence[float]) -> float | None:
    # Python's sum in this order, so that the last digit is the official script's
    return 100.0 * sum(values) / len(values) if values else None
