"""The fine-tuned route: it learns from train rows only, and answers with what it learned."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import TEXTS

from hinlap.app.app import App, read_app
from hinlap.core.errors import AppError, LeakError
from hinlap.core.progress import Silent
from hinlap.engines.pool import EnginePool
from hinlap.routes.fine_tuned import build, lessons
from hinlap.routes.route import RouteContext
from hinlap.routes.table import build_route
from hinlap.store.store import Store

APP = """\
name: words
inputs: [text]
steps:
  - name: first
    prompt: "First word of: {{{{ text }}}}"
    max_tokens: 8
  - name: echo
    prompt: "Say again: {{{{ first }}}}"
    max_tokens: 8
examples: {{train: train.jsonl, test: test.jsonl}}
routes:
  tuned:
    kind: fine-tuned
    model: {model}
    epochs: 6
    learning_rate: 0.05
    batch_size: 2
    warmup_steps: 0
  plain: {{kind: zero-shot, model: {model}}}
"""


@pytest.fixture
def app(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))
    rows = [
        {"id": str(i), "text": text, "first": text.split()[0], "echo": text.split()[0]}
        for i, text in enumerate(TEXTS)
    ]
    for name, part in (("train", rows[:5]), ("test", rows[5:])):
        lines = [json.dumps(row, ensure_ascii=False) for row in part]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "app.yaml").write_text(APP.format(model=tiny_model), encoding="utf-8")
    return read_app(tmp_path)


@pytest.fixture
def context(app: App) -> Iterator[RouteContext]:
    store = Store(app.store_path)
    with contextlib.ExitStack() as cleanup:
        yield RouteContext(EnginePool(Silent()), store, Silent(), cleanup, {})
    store.close()


def answers(name: str, app: App, context: RouteContext) -> list[str]:
    route = build_route(name, app, context)
    items = [example.inputs for example in app.test]
    found = route.answer(app.spec.steps[0], items, 0, context.store, Silent())
    return [completion.text for completion in found]


def test_a_test_row_among_the_train_rows_is_refused(app: App, context: RouteContext) -> None:
    with pytest.raises(LeakError, match="given as a training example"):
        build("tuned", replace(app, train=(*app.train, app.test[0])), context)


def test_a_test_row_passed_off_as_a_train_row_is_refused(app: App, context: RouteContext) -> None:
    smuggled = replace(app.test[0], id="new", split=app.train[0].split)
    with pytest.raises(LeakError, match="stands in train and test"):
        build("tuned", replace(app, train=(*app.train, smuggled)), context)


def test_a_near_copy_of_a_test_row_is_refused(app: App, context: RouteContext) -> None:
    text = f"{app.test[0].inputs['text']} Indeed."
    copy = replace(app.train[0], id="new", inputs={"text": text})
    with pytest.raises(LeakError, match="near copy"):
        build("tuned", replace(app, train=(*app.train, copy)), context)


def test_nothing_is_trained_when_a_row_leaks(app: App, context: RouteContext) -> None:
    with pytest.raises(LeakError):
        build("tuned", replace(app, train=(*app.train, app.test[0])), context)
    assert not (app.folder / ".hinlap" / "tuned").exists()


def test_no_train_rows_are_told(app: App, context: RouteContext) -> None:
    with pytest.raises(AppError, match="needs train examples"):
        build("tuned", replace(app, train=()), context)


def test_tuned_answers_differ_from_the_base_model_s(app: App, context: RouteContext) -> None:
    assert answers("tuned", app, context) != answers("plain", app, context)


def test_the_tuned_route_s_engine_is_the_adapter_on_its_base(
    app: App, context: RouteContext
) -> None:
    tuned, plain = (build_route(name, app, context) for name in ("tuned", "plain"))
    assert tuned.engine.digest != plain.engine.digest
    assert tuned.tuning_seconds > 0
    assert "loss" in tuned.notes[0]


def test_the_second_build_reuses_the_tuning(app: App, context: RouteContext) -> None:
    first, second = build("tuned", app, context), build("tuned", app, context)
    assert "reused" in second.notes[0]
    assert second.tuning_seconds == first.tuning_seconds
    assert second.engine is first.engine


def test_later_steps_are_taught_on_the_wanted_outputs_before_them(app: App) -> None:
    rows = lessons(app, app.train)
    assert len(rows) == 2 * len(app.train)
    word = TEXTS[0].split()[0]
    *_, asked, answered = rows[1].messages
    assert asked.content == f"Say again: {word}"
    assert answered.content == word


def test_a_row_without_an_output_teaches_no_step_after_it(app: App) -> None:
    partial = replace(app.train[0], wanted={"echo": "The"})
    assert lessons(app, [partial]) == []
    partial = replace(app.train[0], wanted={"first": "The"})
    assert len(lessons(app, [partial])) == 1
