from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hinlap.app.app import App
from hinlap.core.messages import Continuation
from hinlap.core.progress import Silent
from hinlap.engines.scripted import ScriptedEngine
from hinlap.metrics.match import passes_all
from hinlap.metrics.scores import mean_scores
from hinlap.store.store import Store
from hinlap.workflows.load import load
from hinlap.workflows.measuring import Weigher, measure_all

METRICS = """\
metrics:
  - {metric: leaks_answer, step: riddle, label: answer}
  - {metric: is_riddle, step: riddle}
  - {metric: solvable, step: riddle, label: title}
  - {metric: passes_all, step: riddle, of: [riddle.leaks_answer, riddle.solvable]}
decide: {by: riddle.passes_all}
"""


@pytest.fixture
def app(small_app: Path) -> App:
    file = small_app / "app.yaml"
    head = file.read_text("utf-8").split("metrics:")[0]
    file.write_text(head + METRICS, "utf-8")
    return load(small_app)


def weigher(tmp_path: Path, weigh: Callable[[Continuation], float]) -> Weigher:
    engine = ScriptedEngine(lambda prompt: "", weigh)
    return Weigher(engine, Store(tmp_path / "s.db"), Silent(), "weighing")


def outputs(app: App, text: Callable[[str], str]) -> dict[str, list[tuple[object, str]]]:
    return {"riddle": [(e, text(e.labels["title"])) for e in app.test]}


def test_a_riddle_that_raises_its_own_headline_most_is_solved(app: App, tmp_path: Path) -> None:
    def weigh(pair: Continuation) -> float:
        return -1.0 if pair.text in pair.context.messages[0].content else -5.0

    found = measure_all(app, outputs(app, lambda title: title), weigher(tmp_path, weigh))
    assert found["riddle.solvable"].scores.value == 1.0


def test_a_headline_that_is_likely_anyway_gains_nothing(app: App, tmp_path: Path) -> None:
    """Its likelihood without the riddle is taken off, so a constant favourite ranks no higher."""
    favourite = app.test[0].labels["title"]

    def weigh(pair: Continuation) -> float:
        gain = 1.0 if pair.text in pair.context.messages[0].content else 0.0
        return (0.0 if pair.text == favourite else -9.0) + gain

    found = measure_all(app, outputs(app, lambda title: title), weigher(tmp_path, weigh))
    assert found["riddle.solvable"].scores.value == 1.0


def test_the_candidates_do_not_depend_on_the_route(app: App, tmp_path: Path) -> None:
    asked: list[list[str]] = []
    for run in range(2):
        seen: list[str] = []

        def weigh(pair: Continuation, seen: list[str] = seen) -> float:
            seen.append(pair.text)
            return 0.0

        texts = outputs(app, lambda title, run=run: f"answer {run}")
        measure_all(app, texts, weigher(tmp_path / str(run), weigh))
        asked.append(seen)
    assert asked[0] == asked[1]


def test_when_nothing_tells_headlines_apart_nothing_is_solved(app: App, tmp_path: Path) -> None:
    found = measure_all(app, outputs(app, lambda title: "x"), weigher(tmp_path, lambda pair: -3.0))
    assert found["riddle.solvable"].scores.value == 0.0


def test_items_without_the_label_are_left_out_not_scored_zero(app: App, tmp_path: Path) -> None:
    first = app.test[0]
    bare = type(first)(first.id, first.inputs, first.split, first.wanted, {}, first.where)
    found = measure_all(
        app, {"riddle": [(bare, "x"), (app.test[1], "y")]}, weigher(tmp_path, lambda pair: 0.0)
    )
    assert found["riddle.leaks_answer"].scores.n == 1
    assert found["riddle.is_riddle"].scores.n == 2
    assert found["riddle.passes_all"].scores.n == 1


def test_weights_are_asked_once(app: App, tmp_path: Path) -> None:
    count = [0]

    def weigh(pair: Continuation) -> float:
        count[0] += 1
        return 0.0

    texts = outputs(app, lambda title: title)
    measure_all(app, texts, weigher(tmp_path, weigh))
    before = count[0]
    measure_all(app, texts, weigher(tmp_path, weigh))
    assert count[0] == before > 0


def test_passes_all_counts_lower_is_better_the_right_way_round() -> None:
    leaks = mean_scores("leaks", [0.0, 1.0, 0.0], "s", higher_is_better=False, share=True)
    solved = mean_scores("solved", [1.0, 1.0, 0.0], "s", share=True)
    assert passes_all([leaks, solved], ["a", "b"]).items == (1.0, 0.0, 0.0)


def test_passes_all_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="shares"):
        passes_all([mean_scores("m", [0.3], "s"), mean_scores("n", [0.3], "s")], ["m", "n"])
