"""An app as loaded: the declaration, its folder, its examples; and one step's prompt."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hinlap.app.declaration import (
    NAME_PATTERNS,
    AppSpec,
    JsonParse,
    MetricSpec,
    OneOfParse,
    RouteSpec,
    StepSpec,
)
from hinlap.app.examples import make_examples, read_rows
from hinlap.app.templates import TemplateProblem, check_template, render_template
from hinlap.app.yaml_lines import LinedYaml
from hinlap.core.errors import AppError, InputError
from hinlap.core.examples import Example, Split
from hinlap.core.messages import Message, Prompt, Sampling

FILE_NAME = "app.yaml"

StepFunction = Callable[[Mapping[str, str]], str]
"""Stands in for a step: takes the inputs and earlier outputs by name, returns the output."""


@dataclass(frozen=True)
class App:
    """A declared app, checked and with its examples read.

    functions: steps answered by Python callables instead of a model, by step name.
    """

    spec: AppSpec
    folder: Path
    file: Path
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    functions: Mapping[str, StepFunction] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def store_path(self) -> Path:
        return self.folder / ".hinlap" / "hinlap.db"

    def digest(self) -> str:
        """SHA-256 over the declaration and the examples: what a run was a run of."""
        content = {
            "spec": self.spec.model_dump(mode="json"),
            "train": [[e.id, dict(e.inputs), dict(e.wanted)] for e in self.train],
            "test": [[e.id, dict(e.inputs), dict(e.wanted), dict(e.labels)] for e in self.test],
            "functions": sorted(self.functions),
        }
        return hashlib.sha256(
            json.dumps(content, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()

    def with_function(self, step: str, function: StepFunction) -> App:
        """The same app with a Python callable in the place of ``step``.

        Raises AppError when the app has no such step.
        """
        if step not in {s.name for s in self.spec.steps}:
            raise AppError(
                f"no step {step!r}",
                where=str(self.file),
                hint=f"steps are: {', '.join(s.name for s in self.spec.steps)}",
            )
        return replace(self, functions={**self.functions, step: function})

    def where(self, location: Sequence[str | int]) -> str:
        """File, line and field of a place in the declaration, for messages."""
        return LinedYaml(self.file, self.file.read_text("utf-8-sig")).where(location)

    def with_test(self, test: Sequence[Example]) -> App:
        return replace(self, test=tuple(test))

    def with_routes(self, routes: Mapping[str, RouteSpec]) -> App:
        return replace(self, spec=self.spec.model_copy(update={"routes": dict(routes)}))

    def with_metrics(self, metrics: Sequence[MetricSpec]) -> App:
        return replace(self, spec=self.spec.model_copy(update={"metrics": list(metrics)}))

    def inputs_from(self, path: Path) -> list[Example]:
        """The rows of a JSONL or CSV file as items of this app (they are test items).

        Raises InputError naming file and line for what cannot be used.
        """
        rows = read_rows(path)
        if not rows:
            raise InputError("no items in it", where=str(path), hint="one item a line")
        return make_examples(
            rows,
            inputs=self.spec.inputs,
            steps=[s.name for s in self.spec.steps],
            split=Split.TEST,
        )


def prompt_for(step: StepSpec, fields: Mapping[str, str]) -> Prompt:
    """The step's prompt for one item, without any example.

    Raises AppError when the template fails on these fields.
    """
    return Prompt((*_system(step, fields), Message("user", _user(step, fields))))


def prompt_with_examples(
    step: StepSpec, fields: Mapping[str, str], shots: Sequence[Mapping[str, str]]
) -> Prompt:
    """The prompt with solved examples before the item, as earlier turns of the conversation.

    shots: each holds the inputs, earlier outputs, and the wanted output under the step's name.
    """
    turns: list[Message] = []
    for shot in shots:
        turns.append(Message("user", _user(step, shot)))
        turns.append(Message("assistant", shot[step.name].strip()))
    return Prompt(_system(step, fields) + tuple(turns) + (Message("user", _user(step, fields)),))


def sampling_for(step: StepSpec, seed: int = 0) -> Sampling:
    schema = step.parse
    return Sampling(
        max_tokens=step.max_tokens,
        temperature=step.sampling.temperature,
        top_p=step.sampling.top_p,
        top_k=step.sampling.top_k,
        repetition_penalty=step.sampling.repetition_penalty,
        stop=tuple(step.stop),
        seed=seed,
        json_schema=json.dumps(schema.json_schema) if isinstance(schema, JsonParse) else "",
    )


def _system(step: StepSpec, fields: Mapping[str, str]) -> tuple[Message, ...]:
    if not step.system:
        return ()
    return (Message("system", _render(step.system, step, fields)),)


def _user(step: StepSpec, fields: Mapping[str, str]) -> str:
    return _render(step.prompt, step, fields)


def _render(source: str, step: StepSpec, fields: Mapping[str, str]) -> str:
    try:
        return render_template(source, fields)
    except TemplateProblem as problem:
        raise AppError(
            str(problem),
            where=f"app.yaml: the prompt of step {step.name!r}",
            hint="change the template so that it works for every item",
        ) from problem


def find_app_file(path: Path) -> Path:
    """``path`` itself, or the app.yaml in the folder ``path``. Raises AppError."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise AppError(
            f"no {FILE_NAME} here" if path.is_dir() else "no such file or folder",
            where=str(path),
            hint=f"`hinlap init {path}` writes a working one",
        )
    return file


def read_app(path: Path) -> App:
    """Reads and checks an app without comparing train with test (``load_app`` does that too).

    path: a folder with an ``app.yaml``, or the file. Raises AppError naming file, line, field.
    """
    file = find_app_file(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise AppError(
            f"not UTF-8 at byte {problem.start}", where=str(file), hint="save it as UTF-8"
        ) from problem
    except OSError as problem:
        raise AppError(f"cannot be read: {problem.strerror}", where=str(file)) from problem
    document = LinedYaml(file, text)
    try:
        spec = AppSpec.model_validate(document.data)
    except ValidationError as problem:
        raise _explain(problem, document) from problem
    _check_names(spec, document)
    _check_templates(spec, document)
    folder = file.parent
    return App(
        spec=spec,
        folder=folder,
        file=file,
        train=_examples(spec, folder, Split.TRAIN, document),
        test=_examples(spec, folder, Split.TEST, document),
    )


def _explain(problem: ValidationError, document: LinedYaml) -> AppError:
    lines = []
    for error in problem.errors(include_url=False):
        place = _in_document(error["loc"], document.data)
        line = f"{document.where(place)}: {_in_words(error)}"
        if line not in lines:
            lines.append(line)
    return AppError(
        "\n".join(lines), hint="`hinlap schema` prints every field; docs/app-yaml.md explains them"
    )


def _in_words(error: ErrorDetails) -> str:
    """Pydantic's message, or a plainer one where it speaks of types and patterns."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "missing":
            return "this field is missing"
        case "union_tag_not_found":
            return f"the field {context['discriminator']} is missing (what kind of route it is)"
        case "union_tag_invalid":
            return f"no kind {context['tag']!r}; kinds are: {context['expected_tags']}"
        case "string_type" if isinstance(error["input"], (bool, int, float, datetime.date)):
            return "YAML does not read this as a text: put it into quotes"
        case "string_pattern_mismatch" if context["pattern"] in NAME_PATTERNS:
            return f"a name is {NAME_PATTERNS[context['pattern']]}"
    return error["msg"].removeprefix("Value error, ")


def _in_document(location: Sequence[str | int], data: Any) -> list[str | int]:
    """Pydantic's location without the names of union members, which are not in the file."""
    place: list[str | int] = []
    last = len(location) - 1
    for index, part in enumerate(location):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not isinstance(data, dict) or index != last:
            continue
        place.append(part)
    return place


def _check_names(spec: AppSpec, document: LinedYaml) -> None:
    taken: dict[str, str] = {}
    for index, name in enumerate(spec.inputs):
        if name in taken or name == "id":
            raise AppError(
                f"the name {name!r} is taken",
                where=document.where(("inputs", index)),
                hint="give it another name",
            )
        taken[name] = "input"
    for index, step in enumerate(spec.steps):
        if step.name in taken or step.name == "id":
            raise AppError(
                f"the name {step.name!r} is taken",
                where=document.where(("steps", index, "name")),
                hint="inputs and steps need names of their own ('id' is the row's)",
            )
        taken[step.name] = "step"
    steps = [step.name for step in spec.steps]
    for index, metric in enumerate(spec.metrics):
        if metric.step not in steps:
            raise AppError(
                f"no step {metric.step!r}",
                where=document.where(("metrics", index, "step")),
                hint=f"steps are: {', '.join(steps)}",
            )
    keys = [metric.key for metric in spec.metrics]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise AppError(
                f"{key} stands twice", where=document.where(("metrics", index)), hint="remove one"
            )
    if spec.decide is not None and spec.decide.by not in keys:
        raise AppError(
            f"no such measure {spec.decide.by!r}",
            where=document.where(("decide", "by")),
            hint=f"measures are STEP.METRIC: {', '.join(keys) or 'none declared'}",
        )


def _check_templates(spec: AppSpec, document: LinedYaml) -> None:
    known = list(spec.inputs)
    for index, step in enumerate(spec.steps):
        for name, source in (("prompt", step.prompt), ("system", step.system)):
            try:
                check_template(source, known)
            except TemplateProblem as problem:
                raise AppError(
                    str(problem),
                    where=document.where(("steps", index, name)),
                    hint="a step sees the inputs and the outputs of the steps before it",
                ) from problem
        if isinstance(step.parse, JsonParse):
            _check_schema(step.parse, index, document)
        elif isinstance(step.parse, OneOfParse) and len(set(step.parse.one_of)) < len(
            step.parse.one_of
        ):
            raise AppError(
                "a value stands twice",
                where=document.where(("steps", index, "parse")),
                hint="list each answer once",
            )
        known.append(step.name)


def _check_schema(parse: JsonParse, index: int, document: LinedYaml) -> None:
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(parse.json_schema)
    except jsonschema.SchemaError as problem:
        raise AppError(
            f"not a JSON schema: {problem.message}",
            where=document.where(("steps", index, "parse", "json_schema")),
            hint="see json-schema.org (draft 2020-12)",
        ) from problem


def _examples(
    spec: AppSpec, folder: Path, split: Split, document: LinedYaml
) -> tuple[Example, ...]:
    declared = spec.examples.train if split is Split.TRAIN else spec.examples.test
    if declared is None:
        return ()
    path = folder / declared
    if not path.is_file():
        raise AppError(
            f"the examples file {declared!r} is not there",
            where=document.where(("examples", split.value)),
            hint=f"expected {path}",
        )
    rows = read_rows(path, AppError)
    if not rows:
        raise AppError("no examples in it", where=str(path), hint="one example a line")
    return tuple(
        make_examples(
            rows,
            inputs=spec.inputs,
            steps=[s.name for s in spec.steps],
            split=split,
            error=AppError,
        )
    )


def metric_label(metric: MetricSpec, example: Example) -> str | None:
    """The reference text of a metric for an item: the named column, or the step's wanted one."""
    if metric.label is None:
        return example.wanted.get(metric.step)
    for column in (example.labels, example.wanted, example.inputs):
        if metric.label in column:
            return column[metric.label]
    return None
