"""Scoring a file of answers against a file in SQuAD's format, either also gzipped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.data.text_file import kind_of, read_utf8
from hinlap.metrics.squad import Question, SquadScores, Version, squad

_FORMAT = (
    "SQuAD's JSON is {data: [{title, paragraphs: [{context, qas: [{id, question, answers}]}]}]}"
)
_PREDICTIONS = 'predictions are one JSON object, {"question id": "answer", ...}'


@dataclass(frozen=True)
class SquadSet:
    """version: by the file's word, or by whether a question has no answers."""

    version: Version
    questions: tuple[Question, ...]


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


def read_squad(path: Path) -> SquadSet:
    """Questions of a file in SQuAD's format. Raises InputError, with the place."""
    content = _parsed(path)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise InputError("not in SQuAD's format: no list 'data'", where=str(path), hint=_FORMAT)
    places: dict[str, str] = {}
    questions = []
    for question, place in _questions(path, content["data"]):
        if question.id in places:
            raise InputError(
                f"the id {question.id!r} stands at {places[question.id]} already",
                where=f"{path}: {place}",
                hint="each question needs an id of its own",
            )
        places[question.id] = place
        questions.append(question)
    named = str(content.get("version", "")).lower().removeprefix("v")
    newer = named.startswith("2") or any(not question.answers for question in questions)
    return SquadSet("2.0" if newer else "1.1", tuple(questions))


def _questions(path: Path, articles: list[Any]) -> Iterator[tuple[Question, str]]:
    for a, article in enumerate(articles):
        at = f"data[{a}]"
        title = article.get("title", "") if isinstance(article, dict) else ""
        # without a title the article still is a cluster of its own
        name = title if isinstance(title, str) and title else at
        for p, paragraph in enumerate(_list(path, article, "paragraphs", at)):
            here = f"{at}.paragraphs[{p}]"
            for q, qa in enumerate(_list(path, paragraph, "qas", here)):
                place = f"{here}.qas[{q}]"
                answers = _list(path, qa, "answers", place)
                texts = tuple(
                    _text(path, answer, "text", f"{place}.answers[{i}]")
                    for i, answer in enumerate(answers)
                )
                yield Question(_text(path, qa, "id", place), texts, name), place


def _list(path: Path, holder: Any, name: str, place: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, list):
        raise InputError(
            f"not in SQuAD's format: no list {name!r}", where=f"{path}: {place}", hint=_FORMAT
        )
    return value


def _text(path: Path, holder: Any, name: str, place: str) -> str:
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, str):
        raise InputError(
            f"not in SQuAD's format: no text {name!r}", where=f"{path}: {place}", hint=_FORMAT
        )
    return value


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

    found = _parsed(path, once)
    if not isinstance(found, dict):
        raise InputError(f"it holds {kind_of(found)}", where=str(path), hint=hint)
    return found


def _parsed(
    path: Path, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """The JSON of a file, gunzipped where it is gzip. Raises InputError."""
    text = read_utf8(path)
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg}",
            where=f"{path}:{error.lineno}:{error.colno}",
            hint="the file is to be one JSON object",
        ) from None
    except RecursionError:
        raise InputError("not JSON that is meant: nested too deeply", where=str(path)) from None
