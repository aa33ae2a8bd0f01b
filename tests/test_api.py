from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import hinlap
from hinlap.app.chain import Status
from hinlap.core.errors import AppError, InputError, LeakError, ServiceSetupError
from hinlap.core.progress import Silent
from hinlap.workflows.compare import CompareOptions


@dataclass
class Watched(Silent):
    """Keeps the stages and how far each came."""

    stages: list[list[object]] = field(default_factory=list)

    def start(self, stage: str, total: int) -> None:
        self.stages.append([stage, 0, total])

    def advance(self, done: int = 1, note: str = "") -> None:
        self.stages[-1][1] += done  # type: ignore[operator]


@pytest.fixture
def app(small_app: Path, monkeypatch: pytest.MonkeyPatch) -> hinlap.Application:
    monkeypatch.setenv("TEST_KEY", "sk-test")
    return hinlap.load_app(small_app)


@pytest.mark.parametrize("kind", [str, Path])
def test_an_app_is_loaded_from_a_text_or_a_path(
    small_app: Path, kind: Callable[[Path], Any]
) -> None:
    assert hinlap.load_app(kind(small_app)).declared.name == "small"
    assert hinlap.load_app(kind(small_app / "app.yaml")).declared.name == "small"


def test_loading_refuses_what_the_command_refuses(small_app: Path) -> None:
    data = small_app / "data"
    (data / "train.jsonl").write_bytes((data / "test.jsonl").read_bytes())
    with pytest.raises(LeakError):
        hinlap.load_app(small_app)


def test_run_answers_rows_in_order(
    app: hinlap.Application, chat_server: Any, chat_answer: Any
) -> None:
    chat_server.answer = lambda body: chat_answer("<" + body["messages"][-1]["content"] + ">")
    items = app.run([{"text": "ข่าว 🐘"}, {"text": "News", "id": "mine"}], route="remote")
    assert [item.status for item in items] == [Status.OK, Status.OK]
    assert items[0].outputs["summary"] == "<Summarise: ข่าว 🐘>"
    assert items[0].outputs["riddle"] == "<Riddle about: <Summarise: ข่าว 🐘>>"
    assert items[1].example.id == "mine"


def test_run_of_no_rows_gives_no_rows(app: hinlap.Application, chat_server: Any) -> None:
    assert app.run([], route="remote") == []
    assert chat_server.seen == []


def test_run_tells_which_row_lacks_an_input(app: hinlap.Application) -> None:
    with pytest.raises(InputError, match=r"inputs\[1\]: the input 'text' is missing"):
        app.run([{"text": "a"}, {"title": "b"}], route="remote")


def test_run_by_an_unknown_route_is_refused(app: hinlap.Application) -> None:
    with pytest.raises(AppError, match="no route 'nosuch'\n  → routes are: remote, remote-shots"):
        app.run([{"text": "a"}], route="nosuch")


def test_run_without_a_key_is_refused(
    app: hinlap.Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ServiceSetupError, match="TEST_KEY"):
        app.run([{"text": "a"}], route="remote")


def test_run_counts_its_answers(app: hinlap.Application) -> None:
    watched = Watched()
    app.run([{"text": "a"}, {"text": "b"}], route="remote", progress=watched)
    assert watched.stages == [["remote", 4, 4]]


def test_any_callable_stands_in_for_a_step(app: hinlap.Application, chat_server: Any) -> None:
    def first_words(fields: Mapping[str, str]) -> str:
        return " ".join(fields["text"].split()[:2])

    items = app.with_step("summary", first_words).run([{"text": "a b c d"}], route="remote")
    assert items[0].outputs["summary"] == "a b"
    assert [body["messages"][-1]["content"] for body in chat_server.seen] == ["Riddle about: a b"]


def test_callables_for_all_steps_ask_no_model(app: hinlap.Application, chat_server: Any) -> None:
    both = app.with_step("summary", lambda f: "s").with_step("riddle", lambda f: f["summary"] + "!")
    assert both.run([{"text": "a"}], route="remote")[0].outputs == {"summary": "s", "riddle": "s!"}
    assert chat_server.seen == []


def test_a_stand_in_leaves_the_app_it_was_made_from_as_it_is(
    app: hinlap.Application, chat_server: Any
) -> None:
    app.with_step("summary", lambda fields: "x")
    app.run([{"text": "a"}], route="remote")
    assert len(chat_server.seen) == 2


def test_compare_measures_every_route_and_decides(
    app: hinlap.Application, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    wanted = {f"Event {n} took place.": f"Summary of the event {n}." for n in range(8)}
    rows = [json.dumps({"text": text, "summary": said}) + "\n" for text, said in wanted.items()]
    (small_app / "events.jsonl").write_text("".join(rows), "utf-8")

    def better_with_examples(body: dict[str, Any]) -> Any:
        said = body["messages"][-1]["content"].partition(": ")[2]
        good = len(body["messages"]) > 1 and said in wanted
        return chat_answer(wanted[said] if good else "nothing like it")

    chat_server.answer = better_with_examples
    comparison = hinlap.compare(app, CompareOptions(test=small_app / "events.jsonl"))
    assert comparison.decision.route == "remote-shots"
    assert [route.quality["summary.rougeL"].interval.value for route in comparison.routes] == [
        0.0,
        1.0,
    ]
    pair = next(pair for pair in comparison.pairs if pair.metric == "summary.rougeL")
    assert (pair.a, pair.b, pair.verdict) == ("remote", "remote-shots", "worse")


def test_compare_takes_a_path_and_options(
    app: hinlap.Application, small_app: Path, chat_server: Any
) -> None:
    comparison = hinlap.compare(str(small_app), CompareOptions(limit=2, routes=("remote",)))
    assert [route.name for route in comparison.routes] == ["remote"]
    assert len(comparison.examples) == 2
    assert len(chat_server.seen) == 3  # the second prompts are equal, and asked once


def test_compare_goes_on_without_the_routes_that_cannot_be_built(
    app: hinlap.Application, small_app: Path
) -> None:
    file = small_app / "app.yaml"
    file.write_text(file.read_text("utf-8").replace("shots: 2", "shots: 9"), "utf-8")
    comparison = hinlap.compare(small_app)
    assert [route.status for route in comparison.routes] == ["measured", "unavailable"]
    assert comparison.decision.route == "remote"
    assert isinstance(comparison.errors[0], AppError)


def test_compare_keeps_its_figures_in_the_store(app: hinlap.Application) -> None:
    from hinlap.store.store import Store

    comparison = hinlap.compare(app, CompareOptions(routes=("remote",)))
    store = Store(app.declared.store_path)
    kept = {record.name: record.value for record in store.figures(comparison.run_id)}
    store.close()
    figure = comparison.routes[0].quality["summary.rougeL"].interval.value
    assert kept["summary.rougeL"] == figure
    assert kept["latency_seconds.p50"] == comparison.routes[0].latency.p50


def test_the_package_tells_its_version_and_no_more_than_it_has() -> None:
    assert hinlap.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        hinlap.nosuch  # noqa: B018
