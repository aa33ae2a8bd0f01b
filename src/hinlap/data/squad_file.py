"""Files in SQuAD's format, also gzipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import InputError
from hinlap.data.text_file import read_utf8
from hinlap.metrics.squad import Question, Version

_FORMAT = (
    "SQuAD's JSON is {data: [{title, paragraphs: [{context, qas: [{id, question, answers}]}]}]}"
)


@dataclass(frozen=True)
class SquadSet:
    """version: by the file's word, or by whether a question has no answers."""

    version: Version
    questions: tuple[Question, ...]


def read_squad(path: Path) -> SquadSet:
    """Questions of a file in SQuAD's format. Raises InputError, with the place."""
    content = parsed_json(path)
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
                yield (
                    Question(
                        _text(path, qa, "id", place),
                        texts,
                        name,
                        _text_or_none(qa, "question"),
                        _text_or_none(paragraph, "context"),
                    ),
                    place,
                )


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


def _text_or_none(holder: Any, name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def parsed_json(
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
