"""Scoring a file of answers against a file in SQuAD's format, either also gzipped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.data.squad_file import parsed_json, read_squad
from hinlap.data.text_file import kind_of
from hinlap.metrics.squad import SquadScores, Version, squad

_PREDICTIONS = 'predictions are one JSON object, {"question id": "answer", ...}'


def score_squad(
    predictions: Path,
    references: Path,
    *,
    version: Version | None = None,
    no_answer: Path | None = None,
    threshold: float = 1.0,
    segmentation: str = "auto",
) -> SquadScores:
    """The official figures of a file of answers; see `metrics.squad.squad` for the settings.

    version:   None: the references file's.
    no_answer: a JSON file of question id to no-answer probability.
    Raises InputError, with file and place: unreadable, not such JSON, an id used twice, no
    prediction of any question; also where version and questions do not go together.
    """
    known = read_squad(references)
    version = version or known.version
    unanswered = next((q.id for q in known.questions if not q.answers), None)
    if version == "1.1" and unanswered is not None:
        raise InputError(
            f"question {unanswered!r} has no answers, which version 1.1 does not know",
            where=str(references),
            hint="score it as version 2.0",
        )
    answers = read_answers(predictions)
    if known.questions and not any(q.id in answers for q in known.questions):
        raise InputError(
            f"none of its {len(answers)} ids is a question's in {references}",
            where=str(predictions),
            hint="check that the two files belong together",
        )
    probabilities = None
    if no_answer is not None:
        if version == "1.1":
            raise InputError("no-answer probabilities belong to version 2.0", where=str(no_answer))
        probabilities = read_probabilities(no_answer)
        for question in known.questions:
            if question.id in answers and question.id not in probabilities:
                raise InputError(
                    f"question {question.id!r} has an answer and no probability",
                    where=str(no_answer),
                    hint="give one for every answered question",
                )
    return squad(
        known.questions,
        answers,
        version=version,
        no_answer=probabilities,
        threshold=threshold,
        segmentation=segmentation,
    )


def read_answers(path: Path) -> dict[str, str]:
    """Question id to answer. Raises InputError for an id used twice or an answer not a text."""
    found = _by_id(path, _PREDICTIONS)
    for identity, answer in found.items():
        if not isinstance(answer, str):
            raise InputError(
                f"the answer of {identity!r} is {kind_of(answer)}, not a text",
                where=str(path),
                hint='no answer is written ""',
            )
    return found


def read_probabilities(path: Path) -> dict[str, float]:
    """Question id to a number. Raises InputError as `read_answers`."""
    found = _by_id(path, 'probabilities are one JSON object, {"question id": 0.5, ...}')
    for identity, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise InputError(
                f"the probability of {identity!r} is {kind_of(value)}, not a number",
                where=str(path),
            )
    return {identity: float(value) for identity, value in found.items()}


def _by_id(path: Path, hint: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise InputError(
                f"the id {twice!r} stands there twice",
                where=str(path),
                hint="leave one of them; JSON readers would silently take the last",
            )
        return found

    found = parsed_json(path, once)
    if not isinstance(found, dict):
        raise InputError(f"it holds {kind_of(found)}", where=str(path), hint=hint)
    return found
