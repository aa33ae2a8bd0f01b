"""Tuning a tiny model: what it learns from, that it resumes exactly, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS

from hinlap.core.errors import EngineError, UserError
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.local import LocalEngine
from hinlap.tuning.lora import Lesson, LoraRecipe, Tuned, tune_lora, tuning_digest

RECIPE = LoraRecipe(
    epochs=3,
    learning_rate=0.01,
    batch_size=2,
    target="attention",
    rank=4,
    alpha=8,
    dropout=0.1,
    warmup_steps=1,
    max_length=128,
    seed=0,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def engine(tiny_model: Path) -> LocalEngine:
    return LocalEngine("tiny", tiny_model)


def lesson(text: str, answer: str) -> Lesson:
    return Lesson(Prompt((Message("user", f"First word of: {text}"),)), answer)


LESSONS = [lesson(text, text.split()[0]) for text in TEXTS]


class Listener(Silent):
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def tune(
    engine: LocalEngine,
    folder: Path,
    recipe: LoraRecipe = RECIPE,
    lessons: list[Lesson] = LESSONS,
) -> Tuned:
    return tune_lora(engine, lessons, recipe, folder, Silent())


def tensors(tuned: Tuned) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(tuned.adapter / "adapter_model.safetensors"))


def test_the_loss_falls(engine: LocalEngine, tmp_path: Path) -> None:
    losses = tune(engine, tmp_path, replace(RECIPE, epochs=8, learning_rate=0.05)).losses
    assert len(losses) == 8 * 4
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_the_loss_is_of_the_answer_s_tokens_only(engine: LocalEngine, tmp_path: Path) -> None:
    import torch

    recipe = replace(RECIPE, epochs=1, batch_size=len(LESSONS), dropout=0.0)
    [measured] = tune(engine, tmp_path, recipe).losses

    model = engine.fresh_model().eval()
    total, count = 0.0, 0
    for item in LESSONS:  # the adapter changes nothing before the first step
        before = engine.encode(engine.render(item.prompt))
        answer = [*engine._tokenizer(item.answer)["input_ids"], engine._tokenizer.eos_token_id]
        labels = [-100] * len(before) + answer
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([before + answer])).logits[0]
        total += float(
            torch.nn.functional.cross_entropy(
                logits[:-1], torch.tensor(labels[1:]), ignore_index=-100, reduction="sum"
            )
        )
        count += len(answer)
    assert measured == pytest.approx(total / count, abs=1e-4)


def test_an_adapter_changes_the_model(engine: LocalEngine, tmp_path: Path) -> None:
    tuned = tune(engine, tmp_path)
    assert any(bool(t.any()) for name, t in tensors(tuned).items() if "lora_B" in name)


@pytest.mark.parametrize(("target", "layers"), [("attention", 2), ("all-linear", 7)])
def test_the_target_names_the_layers_that_learn(
    engine: LocalEngine, tmp_path: Path, target: str, layers: int
) -> None:
    tuned = tune(engine, tmp_path, replace(RECIPE, epochs=1, target=target))
    assert len(tensors(tuned)) == layers * 2 * 2  # in each of two blocks, an A and a B


def test_every_row_is_seen_once_an_epoch(engine: LocalEngine, tmp_path: Path) -> None:
    tuned = tune(engine, tmp_path, replace(RECIPE, batch_size=3))
    assert len(tuned.losses) == 3 * 3  # 8 rows: batches of 3, 3 and 2
    one_epoch = tune(engine, tmp_path, replace(RECIPE, batch_size=3, epochs=1))
    assert tuned.tokens == 3 * one_epoch.tokens


def test_the_same_call_again_reuses_the_adapter(engine: LocalEngine, tmp_path: Path) -> None:
    first = tune(engine, tmp_path)
    stamp = (first.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    again = tune(engine, tmp_path)
    assert (first.reused, again.reused) == (False, True)
    assert replace(again, reused=False) == first
    assert (first.adapter / "adapter_model.safetensors").stat().st_mtime_ns == stamp


def test_the_same_rows_elsewhere_give_the_same_adapter(engine: LocalEngine, tmp_path: Path) -> None:
    one, two = tune(engine, tmp_path / "a"), tune(engine, tmp_path / "b")
    assert one.losses == two.losses
    assert_equal_tensors(one, two)


def assert_equal_tensors(one: Tuned, two: Tuned) -> None:
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    assert all(bool((first[name] == second[name]).all()) for name in first)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:-1], replace(rows[-1], answer="other")],
        lambda rows: [*rows[:-1], lesson("another text", rows[-1].answer)],
        lambda rows: rows[:-1],
        lambda rows: rows[::-1],
    ],
    ids=["answer", "prompt", "one less", "order"],
)
def test_changed_rows_are_another_tuning(
    engine: LocalEngine, change: Callable[[list[Lesson]], list[Lesson]]
) -> None:
    before = tuning_digest(engine, LESSONS, RECIPE)
    assert tuning_digest(engine, change(LESSONS), RECIPE) != before


@pytest.mark.parametrize("change", [{"epochs": 4}, {"seed": 1}, {"rank": 8}, {"dropout": 0.0}])
def test_a_changed_recipe_is_another_tuning(engine: LocalEngine, change: dict[str, Any]) -> None:
    before = tuning_digest(engine, LESSONS, RECIPE)
    assert tuning_digest(engine, LESSONS, replace(RECIPE, **change)) != before


def test_rows_over_the_length_are_left_out_counted_and_said(
    engine: LocalEngine, tmp_path: Path
) -> None:
    listener = Listener()
    rows = [*LESSONS, lesson("boats " * 200, "many")]
    tuned = tune_lora(engine, rows, RECIPE, tmp_path, listener)
    assert (tuned.rows, tuned.left_out) == (len(LESSONS), 1)
    assert any("1 of 9 rows left out" in line for line in listener.said)


def test_rows_with_an_empty_answer_are_left_out(engine: LocalEngine, tmp_path: Path) -> None:
    tuned = tune(engine, tmp_path, lessons=[*LESSONS, lesson("a text", " \n")])
    assert (tuned.rows, tuned.left_out) == (len(LESSONS), 1)


@pytest.mark.parametrize(
    "rows", [[], [lesson("boats " * 200, "many")], [lesson("a", "")]], ids=["none", "long", "empty"]
)
def test_no_usable_row_is_the_user_s_to_mend(
    engine: LocalEngine, tmp_path: Path, rows: list[Lesson]
) -> None:
    with pytest.raises(UserError, match=r"of \d training rows? none is usable"):
        tune(engine, tmp_path, lessons=rows)


def test_learning_that_runs_away_is_told_and_publishes_nothing(
    engine: LocalEngine, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="lower learning_rate"):
        tune(engine, tmp_path, replace(RECIPE, learning_rate=1e30))
    assert list(tmp_path.glob("*/tuning.json")) == []


def test_learning_that_runs_away_keeps_its_last_good_checkpoint(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.tuning import lora

    def explodes_at_six(step: int, steps: int, warmup: int) -> float:
        return 1e30 if step == 5 else 1.0

    monkeypatch.setattr(lora, "_rate", explodes_at_six)
    with pytest.raises(EngineError, match="at step 7"):
        tune(engine, tmp_path)
    assert len(list(tmp_path.glob("*/checkpoint.pt"))) == 1


CHILD = """
import sys
from pathlib import Path
from hinlap.core.progress import Silent
from hinlap.engines.local import LocalEngine
from hinlap.tuning.lora import Lesson, LoraRecipe, tune_lora
from hinlap.core.messages import Message, Prompt
import json, os, signal

model, folder, kill_at, rows, recipe = sys.argv[1:]

class KilledAt(Silent):
    steps = -1  # the first call tells how many steps were done before

    def advance(self, done=1, note=""):
        self.steps += done if note else 1 + done
        if note and self.steps == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

lessons = [Lesson(Prompt((Message("user", p),)), a) for p, a in json.loads(rows)]
tune_lora(LocalEngine("tiny", Path(model)), lessons, LoraRecipe(**json.loads(recipe)),
          Path(folder), KilledAt())
"""


def killed_at(step: int, model: Path, folder: Path) -> int:
    """Tunes in a process of its own, which SIGKILL ends after ``step`` steps; its exit code."""
    rows = [[item.prompt.messages[0].content, item.answer] for item in LESSONS]
    arguments = [str(model), str(folder), str(step), json.dumps(rows), json.dumps(asdict(RECIPE))]
    environment = os.environ | {"HINLAP_CACHE": str(folder.parent / "cache")}
    command = [sys.executable, "-c", CHILD, *arguments]
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


@pytest.fixture(scope="module")
def left_behind(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a tuning killed after its sixth step (of 12) left."""
    folder = tmp_path_factory.mktemp("killed") / "tuned"
    assert killed_at(6, tiny_model, folder) == -signal.SIGKILL
    return folder


def test_a_killed_tuning_ends_as_an_unbroken_one(
    engine: LocalEngine, left_behind: Path, tmp_path: Path
) -> None:
    unbroken = tune(engine, tmp_path / "unbroken")
    assert len(unbroken.losses) == 12
    shutil.copytree(left_behind, tmp_path / "killed")
    [checkpoint] = (tmp_path / "killed").glob("*/checkpoint.pt")
    resumed = tune(engine, tmp_path / "killed")
    assert resumed.losses == pytest.approx(unbroken.losses, abs=1e-6)
    assert_equal_tensors(resumed, unbroken)
    assert not checkpoint.exists()


def test_a_resumed_tuning_begins_after_its_checkpoint(
    engine: LocalEngine, left_behind: Path, tmp_path: Path
) -> None:
    shutil.copytree(left_behind, tmp_path / "killed")
    done: list[int] = []

    class Counting(Silent):
        def advance(self, steps: int = 1, note: str = "") -> None:
            done.append(steps)

    tune_lora(engine, LESSONS, RECIPE, tmp_path / "killed", Counting())
    assert done == [4] + [1] * 8  # the checkpoint of step 4, then steps 5 to 12


def test_answers_after_tuning_come_from_the_adapter(engine: LocalEngine, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=12, learning_rate=0.05, target="all-linear", dropout=0.0)
    tuned = tune(engine, tmp_path, recipe)
    taught = LocalEngine("taught", engine._folder, tuned.adapter)
    found = dict(taught.generate([item.prompt for item in LESSONS], Sampling(max_tokens=8)))
    assert sum(found[i].text == item.answer for i, item in enumerate(LESSONS)) > 0
    assert taught.digest != engine.digest
