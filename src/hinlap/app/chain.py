"""The chain runner: all items go through step one, then all through step two, and so on.

Step by step (not item by item) so that an engine can batch; an item whose step gave nothing
usable drops out of the later steps and is counted there as well.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hinlap.app.app import App
from hinlap.app.declaration import StepSpec
from hinlap.app.parse import Unreadable, is_refusal, parse_answer
from hinlap.core.counting import counted
from hinlap.core.examples import Example
from hinlap.core.messages import Completion, Finish

AnswerStep = Callable[[StepSpec, Sequence[Mapping[str, str]]], list[Completion]]
"""Gives one completion for each item's fields (inputs and earlier outputs), in order."""


class Status(enum.StrEnum):
    """How a step ended for an item. Only OK is measured; the others are counted apart."""

    OK = "ok"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of one item. ``completion`` is None when no model was asked."""

    step: str
    status: Status
    output: str
    error: str = ""
    completion: Completion | None = None


@dataclass
class ItemResult:
    """One item on its way through the chain: what each step gave, in order."""

    example: Example
    steps: list[StepResult] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """The first step that was not OK, or OK."""
        return next((s.status for s in self.steps if s.status is not Status.OK), Status.OK)

    @property
    def error(self) -> str:
        return next((s.error for s in self.steps if s.status is not Status.OK), "")

    @property
    def outputs(self) -> dict[str, str]:
        """Usable outputs by step name."""
        return {s.step: s.output for s in self.steps if s.status in (Status.OK, Status.TRUNCATED)}

    @property
    def fields(self) -> dict[str, str]:
        """What the next step sees."""
        return {**self.example.inputs, **self.outputs}


def run_chain(app: App, examples: Sequence[Example], answer: AnswerStep) -> list[ItemResult]:
    """All items through all steps; functions that stand in for a step are called instead."""
    items = [ItemResult(example) for example in examples]
    for step in app.spec.steps:
        alive = [item for item in items if len(item.outputs) == len(item.steps)]
        function = app.functions.get(step.name)
        if function is not None:
            for item in alive:
                item.steps.append(_call(function, step, item.fields))
        elif alive:
            completions = answer(step, [item.fields for item in alive])
            for item, completion in zip(alive, completions, strict=True):
                item.steps.append(_judge(completion, step))
    return items


def _call(
    function: Callable[[Mapping[str, str]], str], step: StepSpec, fields: Mapping[str, str]
) -> StepResult:
    try:
        output = function(fields)
    except Exception as error:  # the user's code may raise anything; one item's failure is its own
        return StepResult(step.name, Status.FAILED, "", f"{type(error).__name__}: {error}")
    if not isinstance(output, str):
        return StepResult(
            step.name, Status.FAILED, "", f"the function gave {type(output).__name__}, not text"
        )
    return StepResult(step.name, Status.OK, output)


def _judge(completion: Completion, step: StepSpec) -> StepResult:
    """A cut answer stays usable (it is shown, passed on and counted); the others do not."""
    text = completion.text.strip()
    if completion.finish is Finish.FAILED:
        return StepResult(step.name, Status.FAILED, "", completion.error, completion)
    if completion.finish is Finish.REFUSED or is_refusal(text):
        return StepResult(step.name, Status.REFUSED, text, completion.error, completion)
    try:
        output = parse_answer(text, step)
    except Unreadable as problem:
        if completion.finish is Finish.LENGTH:
            error = f"cut at {counted(step.max_tokens, 'token')}; {problem}"
            return StepResult(step.name, Status.UNREADABLE, text, error, completion)
        return StepResult(step.name, Status.UNREADABLE, text, str(problem), completion)
    if completion.finish is Finish.LENGTH:
        error = f"cut at {counted(step.max_tokens, 'token')}"
        return StepResult(step.name, Status.TRUNCATED, output, error, completion)
    return StepResult(step.name, Status.OK, output, "", completion)
