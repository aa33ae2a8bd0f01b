"""Two real processes (gloo): the losses and weights of one, however the model is shared out."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_tiny_model
from tests.tuning.test_tune import CALM, FULL, LORA, assert_near, changed, job

from hinlap.core.errors import MissingExtraError, UserError
from hinlap.core.progress import Silent
from hinlap.tuning.processes import sharing_of
from hinlap.tuning.recipe import EarlyStopping, Recipe
from hinlap.tuning.tune import tune
from hinlap.tuning.tuned import METRICS, Tuned, read_tuned

SPREAD = {"batch_size": 4, "forward_tokens": 60, "held_out_rows": 0}
ALL_LINEAR = CALM["lora"].model_copy(update={"target": "all-linear"})
RECIPES = {
    "lora": changed(LORA, **CALM, **SPREAD),
    "full": changed(FULL, **SPREAD),
    "bf16": changed(LORA, **SPREAD, precision="bf16", lora=ALL_LINEAR),
    "early": changed(
        FULL,
        **SPREAD | {"epochs": 30, "learning_rate": 0.02, "evaluate_every": 1},
        early_stopping=EarlyStopping(patience=2),
    ),
}
HELD_OUT = 3  # leaves 5 rows: the last step of each epoch has one sequence, for one process

CHILD = """
import json, os, signal, sys
from pathlib import Path
from hinlap.core.errors import HinlapError
from hinlap.core.progress import Silent
from hinlap.tuning.processes import end
from hinlap.tuning.tune import tune
from tests.tuning import test_distributed as here

class Killed(Silent):
    steps = -1  # the first call tells how many steps were done before

    def __init__(self, kill_at):
        self.kill_at = kill_at

    def advance(self, done=1, note=""):
        self.steps += done if note else 1 + done
        if note and self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

model, folder, kill_at, *names = sys.argv[1:]
for name in names:
    recipe = here.RECIPES[name].model_copy(update={"zero": int(os.environ.get("ZERO", "0"))})
    try:
        tune(here.spread_job(Path(model), recipe), Path(folder) / name, Killed(int(kill_at)))
    except HinlapError as error:
        print(error, file=sys.stderr, flush=True)
        end(error.exit_code)
        sys.exit(error.exit_code)  # alone: it never joined the others
end(0)
"""

WAYS = {
    "ddp": {},
    "fsdp": {"ACCELERATE_USE_FSDP": "true"},
    "zero-2": {"ZERO": "2"},
    "zero-3": {"ZERO": "3"},
}
NAMES = {"ddp": "DDP", "fsdp": "FSDP", "zero-2": "DeepSpeed ZeRO-2", "zero-3": "DeepSpeed ZeRO-3"}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose layers can be one function, where LoRA is on all their products."""
    more = {"num_key_value_heads": 2, "head_dim": 16}
    return make_tiny_model(tmp_path_factory.mktemp("model"), "llama", chat=True, more=more)


def spread_job(model: Path, recipe: Recipe) -> Any:
    return job(model, recipe, held_out=HELD_OUT)


def launched(
    way: str, model: Path, folder: Path, *names: str, kill_at: int = 0, processes: int = 2
) -> list[tuple[int, str]]:
    """Exit code and stderr of each process, which get what torchrun would give them. Where one is
    killed, so are the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    running = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
        place |= {"LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | WAYS[way] | {key: str(value) for key, value in place.items()}
        command = [sys.executable, "-c", CHILD, str(model), str(folder), str(kill_at), *names]
        running.append(
            subprocess.Popen(
                command, cwd=root, env=environment, stderr=subprocess.PIPE, encoding="utf-8"
            )
        )
    try:
        if kill_at:
            running[0].wait(150)
            for each in running[1:]:
                each.kill()
        told = [each.communicate(timeout=150)[1] for each in running]
    finally:
        for each in running:
            each.kill()
    return [(each.returncode, text) for each, text in zip(running, told, strict=True)]


def assert_same(spread: Tuned | None, one: Tuned) -> None:
    assert spread is not None
    assert_near(spread, one, 1e-5)
    assert [each.step for each in spread.evaluations] == [each.step for each in one.evaluations]
    for here, there in zip(spread.evaluations, one.evaluations, strict=True):
        assert here.loss == pytest.approx(there.loss, abs=1e-5)
        assert (here.accuracy, here.tokens) == (there.accuracy, there.tokens)


@dataclass(frozen=True)
class Ran:
    """Two processes killed at step 5 of ``full``, and started again for all recipes.

    left: a copy of what the killed ones left.
    """

    way: str
    folder: Path
    left: Path
    killed: list[tuple[int, str]]
    ended: list[tuple[int, str]]


@pytest.fixture(scope="module", params=WAYS)
def ran(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ran:
    way = str(request.param)
    if "zero" in way and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed: pip install 'hinlap[deepspeed]'")
    folder = tmp_path_factory.mktemp(way)
    killed = launched(way, tiny_model, folder, "full", kill_at=5)
    left = folder.with_name(f"{folder.name}-left")
    if (folder / "full").exists():
        shutil.copytree(folder / "full", left)
    return Ran(way, folder, left, killed, launched(way, tiny_model, folder, *RECIPES))


@pytest.fixture(scope="module")
def ones(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tuned]:
    """What one process makes of each recipe."""
    folder = tmp_path_factory.mktemp("one")
    return {
        name: tune(spread_job(tiny_model, recipe), folder / name, Silent())
        for name, recipe in RECIPES.items()
    }


def test_two_processes_make_the_losses_and_weights_of_one(ran: Ran, ones: dict[str, Tuned]) -> None:
    for code, told in ran.ended:
        assert code == 0, told
    for name, one in ones.items():
        two = read_tuned(ran.folder / name)
        assert two is not None
        assert two.machine.endswith(f", 2 processes ({NAMES[ran.way]})")
        lines = (ran.folder / name / METRICS).read_text().splitlines()
        steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
        assert steps == list(range(1, len(one.losses) + 1))  # by the first process alone
        if name == "bf16":  # forwards of other sequences round otherwise
            assert two.losses == pytest.approx(one.losses, rel=0.01)
        else:
            assert_same(two, one)
    assert ones["early"].stopped


def test_killed_processes_go_on_as_unbroken_ones(
    tiny_model: Path, ran: Ran, ones: dict[str, Tuned]
) -> None:
    (first, _), (second, told) = ran.killed
    assert first == -signal.SIGKILL
    if second != -signal.SIGKILL:  # it was quicker to see that the other is gone
        assert (second, "another process of this training ended" in told) == (1, True), told
    assert read_tuned(ran.left) is None
    assert not (ran.folder / "full" / "checkpoint").exists()
    alone = spread_job(tiny_model, RECIPES["full"])
    if "zero" in ran.way:
        words = rf"made with 2 shares of {NAMES[ran.way]}, and this is with no shares"
        with pytest.raises(UserError, match=words):
            tune(alone, ran.left, Silent())
    else:  # whole tensors, from which any number of processes goes on
        steps: list[int] = []

        class Counting(Silent):
            def advance(self, done: int = 1, note: str = "") -> None:
                steps.append(done)

        assert_same(tune(alone, ran.left, Counting()), ones["full"])
        assert steps == [4, 1, 1]


def test_bad_input_ends_every_process_alike(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for code, told in launched("ddp", tiny_model, tmp_path, "full"):
        assert code == 2, told
        assert "something else (thesis.txt)" in told
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(bool(importlib.util.find_spec("deepspeed")), reason="DeepSpeed is installed")
def test_zero_without_deepspeed_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"hinlap\[deepspeed\]"):
        sharing_of(changed(FULL, zero=2), 2)


@pytest.mark.parametrize(
    ("flags", "zero", "processes", "expected"),
    [
        ({}, 0, 1, ("none", 0)),
        ({}, 0, 2, ("copies", 0)),
        ({"ACCELERATE_USE_FSDP": "true"}, 0, 2, ("fsdp", 0)),
        ({"ACCELERATE_USE_FSDP": "true"}, 0, 1, ("none", 0)),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, 0, 2, ("zero", 2)),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            0,
            2,
            ("zero", 3),
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, 3, 8, ("zero", 3)),
        ({}, 2, 1, ("none", 0)),
    ],
)
def test_the_recipe_or_else_the_launcher_says_how_to_share(
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    zero: int,
    processes: int,
    expected: tuple[str, int],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for name, value in flags.items():
        monkeypatch.setenv(name, value)
    assert sharing_of(changed(FULL, zero=zero), processes) == expected
