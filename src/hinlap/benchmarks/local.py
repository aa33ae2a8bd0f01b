"""A benchmark of the user's own: a few lines of YAML beside a JSONL of items.

    data: birds.jsonl                      data: trivia.jsonl
    kind: choice                           kind: answer
    choices: [A, B, C, D]                  answer: answers
    answer: right                          metrics: [exact_match, token_f1, rougeL]

Choices are weighed as in lm-evaluation-harness's multiple choice: each after the prompt and a
space. Answers are generated to the line's end, unless ``stop`` says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hinlap.app.templates import TemplateProblem, check_template, render_template
from hinlap.app.yaml_lines import LinedYaml
from hinlap.benchmarks.benchmark import About, Benchmark, Given, Item, Shot, Text
from hinlap.core.errors import AppError, InputError
from hinlap.core.messages import Sampling
from hinlap.data.sources.pinned import Pinned
from hinlap.data.text_file import kind_of, read_utf8
from hinlap.metrics.bleu import bleu
from hinlap.metrics.chrf import chrf
from hinlap.metrics.match import exact_match, token_f1
from hinlap.metrics.rouge import Variant, rouge
from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.ter import ter

PROMPT = "Question: {{ question }}\nAnswer:"
_HINT = "docs/benchmarks.md explains the fields of a benchmark of your own"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

TextMetricName = Literal[
    "exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "ter"
]
_TextMetric = Callable[[Sequence[str], Sequence[Sequence[str]]], Scores]


def _rouge(variant: Variant) -> _TextMetric:
    return lambda predictions, references: rouge(variant, predictions, references, stem=True)


_TEXT_METRICS: dict[TextMetricName, _TextMetric] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
    "rougeLsum": _rouge("rougeLsum"),
    "bleu": bleu,
    "chrf": chrf,
    "ter": ter,
}


class LocalSpec(BaseModel):
    """The fields of the YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(min_length=1, description="JSONL of items, relative to this file.")
    kind: Literal["choice", "answer"]
    question: str = Field("question", description="The field that asks.")
    answer: str = Field("answer", description="The field with the right answer, or a list of them.")
    choices: str | list[str] = Field(
        "choices", description="The field with the list of choices, or the fields that hold one."
    )
    answer_is: Literal["index", "letter", "text"] | None = Field(
        None, description="How the right choice is told: from 0, by letter from A, by its text."
    )
    id: str = Field("id", description="The field with the item's id; else its line is its id.")
    group: str | None = Field(None, description="The field that figures are broken down by.")
    prompt: str = Field(PROMPT, min_length=1, description="Jinja template; sees all fields.")
    title: str = ""
    licence: str = "not stated"
    metrics: list[TextMetricName] = Field(["exact_match", "token_f1"], min_length=1)
    max_tokens: int = Field(48, ge=1, le=32_768)
    stop: list[str] = Field(["\n"], max_length=16)

    @model_validator(mode="after")
    def _of_its_kind(self) -> LocalSpec:
        of_choices = {"choices", "answer_is"}
        of_answers = {"metrics", "max_tokens", "stop"}
        other = of_answers if self.kind == "choice" else of_choices
        wrong = sorted(other & self.model_fields_set)
        if wrong:
            raise ValueError(f"kind {self.kind} has no {', '.join(wrong)}")
        if isinstance(self.choices, list) and len(self.choices) < 2:
            raise ValueError("choices needs two fields or more")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("a metric stands twice in metrics")
        return self


@dataclass(frozen=True)
class _Row:
    where: str
    line: int
    fields: Mapping[str, Any]

    def field(self, name: str) -> Any:
        if name not in self.fields or self.fields[name] is None:
            raise InputError(
                f"there is no field {name!r}",
                where=self.where,
                hint=f"this row has: {', '.join(self.fields) or 'nothing'}",
            )
        return self.fields[name]

    def text(self, name: str) -> str:
        value = self.field(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{name!r} is {kind_of(value)}, not a text", where=self.where)
        if not str(value).strip():
            raise InputError(f"{name!r} is empty", where=self.where)
        return str(value)

    def texts(self, name: str) -> list[str]:
        """Of a list, or of a single text."""
        value = self.field(name)
        if not isinstance(value, list):
            return [self.text(name)]
        if not value or not all(isinstance(x, str) and x.strip() for x in value):
            raise InputError(f"{name!r} is not a list of texts", where=self.where)
        return list(value)


def read_local(path: Path) -> Benchmark:
    """The benchmark that a YAML file declares, called as the file.

    Raises AppError with file, line and field for what is wrong in it, and where there is no data
    file; its items are read later, and complain with file and line too.
    """
    document = LinedYaml(path, _yaml_text(path))
    try:
        spec = LocalSpec.model_validate(document.data)
    except ValidationError as problem:
        lines = []
        for error in problem.errors(include_url=False):
            place = document.where(_known(error["loc"], document))
            lines.append(f"{place}: {_in_words(error['type'], error['msg'])}")
        raise AppError("\n".join(dict.fromkeys(lines)), hint=_HINT) from None
    data = path.parent / spec.data
    if not data.is_file():
        raise AppError(
            "there is no such data file",
            where=document.where(("data",)),
            hint=f"{data}: the path is relative to the YAML file",
        )
    try:
        check_template(spec.prompt, _columns(data) | {"question"})
    except TemplateProblem as problem:
        raise AppError(str(problem), where=document.where(("prompt",))) from None
    choice = spec.kind == "choice"
    return Benchmark(
        path.stem,
        spec.title or path.stem,
        About("of your own", str(data), spec.licence, "lm-evaluation-harness multiple_choice"
              if choice else "the metrics' own"),
        (Pinned(spec.data),),
        spec.group or "",
        partial(_read, spec),
        measure_choices if choice else partial(measure_answers, tuple(spec.metrics)),
        sampling=None if choice else Sampling(spec.max_tokens, stop=tuple(spec.stop)),
        solved=_solved,
        explain=explain,
        own=data,
    )  # fmt: skip


def _yaml_text(path: Path) -> str:
    try:
        return read_utf8(path)
    except InputError as problem:
        raise AppError(problem.what, where=problem.where, hint=problem.hint) from None


def _known(location: Sequence[str | int], document: LinedYaml) -> list[str | int]:
    """The part of pydantic's location that stands in the file: names of union members do not."""
    place: list[str | int] = []
    data = document.data
    for part in location:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not isinstance(data, dict) or place:
            continue
        place.append(part)
    return place


def _in_words(kind: str, message: str) -> str:
    if kind == "missing":
        return "this field is missing"
    if kind == "extra_forbidden":
        return f"unknown field; fields are: {', '.join(LocalSpec.model_fields)}"
    return message.removeprefix("Value error, ")


def _rows(path: Path) -> list[_Row]:
    rows = []
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON: {error}", where=where, hint="one object a line") from None
        if not isinstance(fields, dict):
            raise InputError(f"{kind_of(fields)} where a JSON object is meant", where=where)
        rows.append(_Row(where, number, fields))
    if not rows:
        raise InputError("there are no items", where=str(path), hint="one JSON object a line")
    return rows


def _columns(path: Path) -> set[str]:
    """What every row has."""
    return set.intersection(*(set(row.fields) for row in _rows(path)))


def _read(spec: LocalSpec, path: Path) -> list[Item]:
    rows = _rows(path)
    named = any(spec.id in row.fields for row in rows) or "id" in spec.model_fields_set
    items, places = [], dict[str, str]()
    for row in rows:
        name = row.text(spec.id) if named else str(row.line)
        if name in places:
            raise InputError(
                f"the id {name!r} stands at {places[name]} already",
                where=row.where,
                hint="each item needs an id of its own",
            )
        places[name] = row.where
        items.append(_item(spec, name, row))
    return items


def _item(spec: LocalSpec, name: str, row: _Row) -> Item:
    asked = row.text(spec.question)
    try:
        prompt = render_template(spec.prompt, {**row.fields, "question": asked})
    except TemplateProblem as problem:
        raise InputError(str(problem), where=row.where) from None
    group = row.text(spec.group) if spec.group else ""
    parts = {k: str(v) for k, v in row.fields.items() if isinstance(v, str) and v.strip()}
    if spec.kind == "answer":
        answers = row.texts(spec.answer)
        return Item(name, group, question=prompt, parts=parts, facts={"answers": answers})
    choices = (
        row.texts(spec.choices)
        if isinstance(spec.choices, str)
        else [row.text(field) for field in spec.choices]
    )
    if len(choices) < 2:
        raise InputError("there is only one choice", where=row.where, hint="give two or more")
    if len(set(choices)) < len(choices):
        raise InputError("two choices are the same", where=row.where)
    right = _right(row, spec, choices)
    texts = tuple(
        Text(prompt, f" {choice}", f"{_letter(n)}{' (right)' if n == right else ''}")
        for n, choice in enumerate(choices)
    )
    return Item(name, group, texts, parts=parts, facts={"right": choices[right]})


def _letter(number: int) -> str:
    return _LETTERS[number] if number < len(_LETTERS) else str(number)


def _right(row: _Row, spec: LocalSpec, choices: Sequence[str]) -> int:
    """The place of the right choice. Raises InputError where there is none, or where the answer
    reads as two of them."""
    value = row.text(spec.answer).strip()
    readings: dict[str, int] = {}
    if re.fullmatch(r"[0-9]{1,4}", value) and int(value) < len(choices):
        readings["index"] = int(value)
    if len(value) == 1 and value.upper() in _LETTERS[: len(choices)]:
        readings["letter"] = _LETTERS.index(value.upper())
    texts = [choice.strip() for choice in choices]
    if value in texts:
        readings["text"] = texts.index(value)
    if isinstance(row.field(spec.answer), int):
        readings.pop("text", None)  # a bare number is a place
    if spec.answer_is is not None:
        readings = {k: v for k, v in readings.items() if k == spec.answer_is}
    if not readings:
        raise InputError(
            f"the answer {value!r} is none of the {len(choices)} choices",
            where=row.where,
            hint="give its place from 0, its letter from A, or its text",
        )
    if len(set(readings.values())) > 1:
        raise InputError(
            f"the answer {value!r} can be read as {' or as '.join(readings)}",
            where=row.where,
            hint="say which by answer_is: index, letter or text",
        )
    return next(iter(readings.values()))


def explain(item: Item, given: Given, values: Mapping[str, float | None]) -> str:
    if item.texts:
        labels = [text.label for text in item.texts]
        picked = labels[max(range(len(labels)), key=given.nats.__getitem__)]
        share = values.get("choice_probability")
        held = "" if share is None else f"; the right choice has {share:.0%} of their probability"
        return f"Of the choices {picked.removesuffix(' (right)')} is the likeliest{held}."
    if not given.answers or given.answers[0] is None:
        return "The model failed to answer: scored as an empty answer."
    return f"Against {' / '.join(item.facts['answers'])}."


def _solved(item: Item) -> Shot:
    if item.texts:
        return Shot(item.texts[0].question, f" {item.facts['right']}")
    return Shot(item.question, f" {item.facts['answers'][0]}")


def measure_choices(items: Sequence[Item], given: Sequence[Given]) -> list[Scores]:
    """choice_accuracy: share of items whose right choice is the likeliest. choice_accuracy_norm:
    the same by log-likelihood per byte of the choice. choice_probability: mean share of the
    probability of all choices that is on the right one. All [0, 1], higher is better; of equals
    the first counts, as with the peer.

    Peer: lm-evaluation-harness acc and acc_bytes (acc_norm where every letter is one byte)."""
    likeliest, by_bytes, probability = [], [], []
    for item, had in zip(items, given, strict=True):
        nats = np.array(had.nats)
        lengths = np.array([len(text.text[1:].encode()) for text in item.texts])
        right = [text.label.endswith(" (right)") for text in item.texts].index(True)
        likeliest.append(float(nats.argmax() == right))
        by_bytes.append(float((nats / lengths).argmax() == right))
        shares = np.exp(nats - nats.max())
        probability.append(float(shares[right] / shares.sum()))
    return [
        mean_scores("choice_accuracy", likeliest, "choice_accuracy|v1", share=True),
        mean_scores("choice_accuracy_norm", by_bytes, "choice_accuracy_norm|bytes|v1", share=True),
        mean_scores("choice_probability", probability, "choice_probability|softmax|v1"),
    ]


def measure_answers(
    metrics: Sequence[TextMetricName], items: Sequence[Item], given: Sequence[Given]
) -> list[Scores]:
    """The metrics asked for, each of the answer against all right ones. A failed answer is scored
    as an empty one, and counted."""
    answers = [(had.answers[0] if had.answers else None) for had in given]
    failed = sum(answer is None for answer in answers)
    references = [list(item.facts["answers"]) for item in items]
    found = []
    for name in metrics:
        scores = _TEXT_METRICS[name]([(a or "").strip() for a in answers], references)
        if failed:
            scores.notes["failed answers, scored as empty"] = failed
        found.append(scores)
    return found
