from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from hinlap.app.app import App
from hinlap.app.chain import ItemResult, Status, run_chain
from hinlap.app.declaration import StepSpec
from hinlap.core.errors import AppError
from hinlap.core.messages import Completion, Finish
from hinlap.workflows.load import load

Fields = Mapping[str, str]
Answer = Callable[[StepSpec, Fields], Completion]


@pytest.fixture
def app(small_app: Path) -> App:
    loaded = load(small_app)
    return loaded.with_test(loaded.test[:3])


def given(text: str, finish: Finish = Finish.STOP, error: str = "") -> Completion:
    return Completion(text, finish, input_tokens=1, output_tokens=1, seconds=0.1, error=error)


def echo(step: StepSpec, fields: Fields) -> Completion:
    return given(f"{step.name} of {fields['text'][:9]}")


def run(app: App, answer: Answer = echo) -> tuple[list[ItemResult], list[tuple[str, int]]]:
    """The items, and what was asked: (step, how many items)."""
    asked = []

    def answer_all(step: StepSpec, fields: Sequence[Fields]) -> list[Completion]:
        asked.append((step.name, len(fields)))
        return [answer(step, item) for item in fields]

    return run_chain(app, app.test, answer_all), asked


def of_second_item(app: App, completion: Completion) -> Answer:
    """``completion`` for the second item's first step, a good answer for all the others."""

    def answer(step: StepSpec, fields: Fields) -> Completion:
        second = fields["text"] == app.test[1].inputs["text"] and step.name == "summary"
        return completion if second else echo(step, fields)

    return answer


def test_all_items_go_through_one_step_before_the_next_begins(app: App) -> None:
    assert run(app)[1] == [("summary", 3), ("riddle", 3)]


def test_a_later_step_sees_the_inputs_and_earlier_outputs(app: App) -> None:
    def answer(step: StepSpec, fields: Fields) -> Completion:
        return given(",".join(sorted(fields)))

    item = run(app, answer)[0][0]
    assert item.outputs == {"summary": "text", "riddle": "summary,text"}


def test_items_come_back_in_order(app: App) -> None:
    assert [item.example for item in run(app)[0]] == list(app.test)


@pytest.mark.parametrize(
    ("completion", "status", "error"),
    [
        (given("", Finish.FAILED, "HTTP 500"), Status.FAILED, "HTTP 500"),
        (given("", Finish.REFUSED, "filter"), Status.REFUSED, "filter"),
        (given("I'm sorry, I can't."), Status.REFUSED, ""),
        (given("  \n"), Status.UNREADABLE, "the answer is empty"),
        (given("", Finish.LENGTH), Status.UNREADABLE, "cut at 20 tokens; the answer is empty"),
    ],
)
def test_an_item_without_a_usable_answer_drops_out_of_later_steps(
    app: App, completion: Completion, status: Status, error: str
) -> None:
    items, asked = run(app, of_second_item(app, completion))
    assert [item.status for item in items] == [Status.OK, status, Status.OK]
    assert items[1].error == error
    assert items[1].outputs == {}
    assert asked == [("summary", 3), ("riddle", 2)]


def test_a_cut_answer_is_counted_apart_but_passed_on(app: App) -> None:
    items, asked = run(app, of_second_item(app, given("cut off", Finish.LENGTH)))
    assert items[1].status is Status.TRUNCATED
    assert items[1].error == "cut at 20 tokens"
    assert items[1].outputs["summary"] == "cut off"
    assert asked[1] == ("riddle", 3)


def test_a_step_without_any_item_left_is_not_asked(app: App) -> None:
    items, asked = run(app, lambda step, fields: given("", Finish.FAILED, "down"))
    assert asked == [("summary", 3)]
    assert {item.status for item in items} == {Status.FAILED}


def test_a_function_stands_in_for_a_step(app: App) -> None:
    items, asked = run(app.with_function("summary", lambda fields: fields["text"].upper()))
    assert items[0].outputs["summary"] == app.test[0].inputs["text"].upper()
    assert asked == [("riddle", 3)]


def test_a_function_that_raises_fails_its_own_item_only(app: App) -> None:
    def shaky(fields: Fields) -> str:
        if fields["text"] == app.test[1].inputs["text"]:
            raise ZeroDivisionError("no")
        return "fine"

    items, _ = run(app.with_function("summary", shaky))
    assert [item.status for item in items] == [Status.OK, Status.FAILED, Status.OK]
    assert items[1].error == "ZeroDivisionError: no"


def test_a_function_that_gives_no_text_fails_with_the_reason(app: App) -> None:
    number: Callable[[Fields], str] = len  # type: ignore[assignment]
    items, _ = run(app.with_function("summary", number))
    assert items[0].error == "the function gave int, not text"


def test_a_function_for_an_unknown_step_is_refused(app: App) -> None:
    with pytest.raises(AppError, match=r"no step 'sumary'\n  → steps are: summary, riddle"):
        app.with_function("sumary", lambda fields: "")
