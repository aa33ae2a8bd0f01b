"""Tuning tiny models: the same losses however it is spread, resumed exactly, refused in words."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TEXTS, make_tiny_model

from hinlap.core.errors import EngineError, InputError, ModelError, StorageError, UserError
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.local import LocalEngine
from hinlap.tuning.lessons import Taken
from hinlap.tuning.recipe import EarlyStopping, LoraFields, Recipe
from hinlap.tuning.tune import Job, tune
from hinlap.tuning.tuned import METRICS, Tuned, read_tuned

LORA = Recipe(
    name="test",
    epochs=3,
    learning_rate=0.01,
    batch_size=2,
    warmup_steps=1,
    max_length=128,
    checkpoint_every=4,
    held_out_rows=0,
    lora=LoraFields(rank=4, alpha=8, dropout=0.1, target="attention"),
)
FULL = LORA.model_copy(update={"method": "full", "learning_rate": 0.001})
CALM = {"lora": LORA.lora.model_copy(update={"dropout": 0.0})}


def job(
    model: Path, recipe: Recipe = LORA, texts: list[str] | None = None, held_out: int = 0
) -> Job:
    """The first word of each text, asked for."""
    from hinlap.tuning.bases import Base, tokenizer_for
    from hinlap.tuning.lessons import Lesson, encode_lessons

    base = Base("tiny", model, "digest of tiny")
    tokenizer = tokenizer_for(recipe, base)
    rows = [
        Lesson((Message("user", f"First word of: {text}"), Message("assistant", text.split()[0])))
        for text in (TEXTS if texts is None else texts)
    ]
    measured = encode_lessons(rows[len(rows) - held_out :], tokenizer, recipe.max_length)
    taught = encode_lessons(rows[: len(rows) - held_out], tokenizer, recipe.max_length)
    return Job(recipe, base, tokenizer, taught, measured)


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update=fields)


def tensors(tuned: Tuned) -> dict[str, Any]:
    from safetensors.torch import load_file

    if tuned.adapter:
        return dict(load_file(tuned.adapter / "adapter_model.safetensors"))
    assert tuned.model
    return dict(load_file(tuned.model / "model.safetensors"))


def assert_near(one: Tuned, two: Tuned, tolerance: float) -> None:
    assert one.losses == pytest.approx(two.losses, abs=tolerance)
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    for name in first:
        assert float((first[name] - second[name]).abs().max()) <= tolerance, name


@pytest.mark.parametrize("recipe", [LORA, FULL], ids=["lora", "full"])
def test_the_loss_falls(tiny_model: Path, tmp_path: Path, recipe: Recipe) -> None:
    rate = 0.05 if recipe is LORA else 0.003
    tuned = tune(job(tiny_model, changed(recipe, epochs=8, learning_rate=rate)), tmp_path, Silent())
    assert len(tuned.losses) == 8 * 4
    assert sum(tuned.losses[-4:]) < 0.8 * sum(tuned.losses[:4])


@pytest.mark.parametrize(
    ("architecture", "more", "packed"),
    [
        ("llama", {}, True),
        ("gpt_neox", {}, True),
        ("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, True),
        ("qwen2", {"num_key_value_heads": 2}, True),
        ("mistral", {"sliding_window": 8, "num_key_value_heads": 2}, True),
        ("gemma2", {"head_dim": 8, "num_key_value_heads": 2}, False),  # soft caps
    ],
)
def test_a_packed_forward_gives_the_loss_and_gradients_of_its_parts(
    tmp_path: Path, architecture: str, more: dict[str, Any], packed: bool
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from hinlap.tuning.learner import Learner, flat_of

    folder = make_tiny_model(tmp_path / "model", architecture, chat=True, more=more)
    sequences = list(job(folder).encoded.taken[:4])
    start, middle = sequences[0].ids[:20], learnt_in_the_middle()
    ids, learnt = np.append(start, middle.ids), np.append(start < 0, middle.learnt)
    sequences.append(Taken(ids, learnt))
    plain = AutoModelForCausalLM.from_pretrained(folder).train()
    total = torch.zeros(())
    for each in sequences:
        ids = torch.from_numpy(each.ids).long()
        labels = ids.masked_fill(~torch.from_numpy(each.learnt), -100)
        logits = plain(input_ids=ids[None]).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
    total.backward()

    learner = Learner(AutoModelForCausalLM.from_pretrained(folder).train())
    assert learner.packed is packed, learner.why_not
    assert learner.shares is packed
    for share in (False, True)[: 1 + packed]:
        flat = flat_of(sequences, "cpu", share=share)
        assert (flat.shared > 0) is share
        nats, _ = learner(flat)
        nats.backward()
        assert nats.item() == pytest.approx(total.item(), rel=1e-4)
        for (name, ours), theirs in zip(
            learner.model.named_parameters(), plain.parameters(), strict=True
        ):
            assert torch.allclose(ours.grad, theirs.grad, atol=2e-3, rtol=1e-3), name
        learner.zero_grad()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_sequences_begin_with_is_not_shared_where_something_is_dropped(
    tiny_model: Path,
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from hinlap.tuning.learner import Learner

    shares = []
    for dropout in (0.0, 0.1):
        net = AutoModelForCausalLM.from_pretrained(tiny_model)
        lora = LoraConfig(task_type="CAUSAL_LM", lora_dropout=dropout)
        shares.append(Learner(get_peft_model(net, lora)).shares)
    net = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.1)
    assert [*shares, Learner(net).shares] == [True, False, False]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("when", ["made", "used", "far off"])
def test_a_head_that_cannot_be_frozen_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from hinlap.tuning import kernels
    from hinlap.tuning.learner import Learner, flat_of

    folder = make_tiny_model(
        tmp_path / "model", "llama", chat=True, more={"tie_word_embeddings": True}
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    rows = model.get_output_embeddings().weight.shape[0]
    net = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))

    class Failing(kernels.FrozenWeight):
        def __init__(self, weight: torch.Tensor, bias: None = None, *, pack: bool = False) -> None:
            if when == "made" and len(weight) == rows:
                raise RuntimeError("no memory")
            super().__init__(weight, bias, pack=pack)

        def times_there(self, x: torch.Tensor) -> torch.Tensor:
            found = super().times_there(x)
            if len(self.weight) == rows and when == "used":
                raise RuntimeError("no memory")
            return found * (2 if len(self.weight) == rows and when == "far off" else 1)

    monkeypatch.setattr(kernels, "FrozenWeight", Failing)
    learner = Learner(net)
    assert learner.why_not == ("" if when == "far off" else "no memory")
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    nats, _ = learner(flat_of(job(folder).encoded.taken[:2], "cpu"))
    assert nats.isfinite()
    nats.backward()


def learnt_in_the_middle() -> Taken:
    learnt = np.array([False, False, True, True, False, True, False, False])
    return Taken(np.array([5, 6, 7, 5, 8, 9, 6, 5], dtype=np.int32), learnt)


def test_a_forward_has_no_token_that_nothing_reads() -> None:
    from hinlap.tuning.learner import flat_of

    whole = Taken(np.array([5, 6, 7], dtype=np.int32), np.array([False, True, True]))
    flat = flat_of([whole, learnt_in_the_middle(), whole], "cpu")
    assert flat.lengths == (2, 5, 2)
    assert flat.ids.tolist() == [5, 6, 5, 6, 7, 5, 8, 5, 6]
    assert flat.positions.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1]
    assert flat.read.tolist() == [0, 1, 3, 4, 6, 7, 8]
    assert flat.targets.tolist() == [6, 7, 7, 5, 9, 6, 7]


def begins(start: list[int], length: int, learnt: int) -> Taken:
    """So many tokens, learnt from the one at ``learnt`` on."""
    ids = np.array([*start, *range(40, 40 + length - len(start))], dtype=np.int32)
    return Taken(ids, np.arange(length) >= learnt)


def test_tokens_that_all_begin_with_lie_there_once() -> None:
    from hinlap.tuning.learner import flat_of

    start = list(range(10, 22))
    flat = flat_of([begins(start, 20, 14), begins(start, 16, 15)], "cpu", share=True)
    assert (flat.shared, flat.lengths) == (12, (7, 3))
    assert flat.ids.tolist() == [*start, *range(40, 47), *range(40, 43)]
    assert flat.positions.tolist() == [*range(12), *range(12, 19), *range(12, 15)]
    assert flat.read.tolist() == [*range(13, 19), 21]
    assert flat.targets.tolist() == [*range(42, 48), 43]


@pytest.mark.parametrize(
    ("sequences", "shared"),
    [
        ([begins(list(range(12)), 20, 14)], 0),  # one alone
        ([begins(list(range(13)), 20, 14), begins(list(range(13)), 20, 15)], 12),  # an odd number
        ([begins([], 20, 14), begins([], 20, 14)], 12),  # one and the same: 13 is read
        ([begins([], 20, 20), begins([], 20, 20)], 18),  # none learnt from
        ([begins([], 20, 14), begins([], 20, 10)], 8),
        ([begins([], 20, 14), begins([], 20, 9)], 8),
        ([begins([], 20, 14), begins([], 20, 8)], 0),  # too few
        ([begins([], 20, 14), begins([], 20, 1)], 0),
        ([begins([1], 20, 14), begins([2], 20, 14)], 0),
    ],
)
def test_how_many_tokens_are_shared(sequences: list[Taken], shared: int) -> None:
    from hinlap.tuning.learner import flat_of

    flat = flat_of(sequences, "cpu", share=True)
    assert flat.shared == shared
    assert (flat.read >= shared).all()
    assert len(flat.ids) == shared + sum(flat.lengths)


@pytest.mark.parametrize("recipe", [changed(LORA, **CALM), FULL], ids=["lora", "full"])
def test_small_forwards_add_up_to_the_large_one(
    tiny_model: Path, tmp_path: Path, recipe: Recipe
) -> None:
    recipe = changed(recipe, batch_size=4)
    one = tune(job(tiny_model, recipe), tmp_path / "one", Silent())
    many = tune(job(tiny_model, changed(recipe, forward_tokens=40)), tmp_path / "many", Silent())
    assert_near(one, many, 2e-4)


def test_bf16_stays_near_float32(tiny_model: Path, tmp_path: Path) -> None:
    for recipe in (changed(LORA, **CALM), FULL):
        exact = tune(job(tiny_model, recipe), tmp_path / f"{recipe.method}-32", Silent())
        narrow = changed(recipe, precision="bf16")
        rounded = tune(job(tiny_model, narrow), tmp_path / recipe.method, Silent())
        assert rounded.losses == pytest.approx(exact.losses, rel=0.05)
        assert rounded.losses != exact.losses


def test_weights_that_train_are_float32(tiny_model: Path, tmp_path: Path) -> None:
    for recipe in (LORA, FULL):
        narrow = changed(recipe, precision="bf16", epochs=1)
        tuned = tune(job(tiny_model, narrow), tmp_path / recipe.method, Silent())
        assert {str(each.dtype) for each in tensors(tuned).values()} == {"torch.float32"}


def test_gradient_checkpointing_changes_no_number(tiny_model: Path, tmp_path: Path) -> None:
    recipe = changed(LORA, **CALM)
    one = tune(job(tiny_model, recipe), tmp_path / "one", Silent())
    two = tune(
        job(tiny_model, changed(recipe, gradient_checkpointing=True)), tmp_path / "two", Silent()
    )
    assert_near(one, two, 1e-5)


def test_held_out_sequences_are_weighed_as_it_goes(tiny_model: Path, tmp_path: Path) -> None:
    tuned = tune(job(tiny_model, LORA, held_out=2), tmp_path, Silent())
    assert [each.step for each in tuned.evaluations] == [0, 3, 6, 9]
    before, *_, after = tuned.evaluations
    assert before.tokens == after.tokens > 0
    assert 0 <= after.accuracy <= 1
    engine = LocalEngine("tiny", tiny_model)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out_loss" in line] == [0, 3, 6, 9]
    found = next(line for line in lines if line.get("held_out_loss") == after.loss)
    assert found["held_out_perplexity"] == pytest.approx(math.exp(after.loss))
    pairs = []
    for each in job(tiny_model, LORA, held_out=2).held_out.taken:
        start = int(each.learnt.argmax())
        pairs.append((each.ids[:start].tolist(), each.ids[start:].tolist()))
    weighed = engine.score_tokens(pairs)
    nats = -sum(each.total for each in weighed) / sum(len(each.tokens) for each in weighed)
    assert before.loss == pytest.approx(nats, abs=1e-4)
    first = sum(rank == 0 for each in weighed for rank in each.ranks)
    assert before.accuracy == pytest.approx(first / before.tokens)


def test_it_stops_early_and_keeps_the_best(tiny_model: Path, tmp_path: Path) -> None:
    recipe = changed(
        FULL,
        epochs=60,
        learning_rate=0.02,
        evaluate_every=1,
        early_stopping=EarlyStopping(patience=4),
    )
    tuned = tune(job(tiny_model, recipe, held_out=3), tmp_path, Silent())
    losses = [each.loss for each in tuned.evaluations]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 4
    assert "stopped early" in tuned.stopped
    assert tuned.kept == tuned.evaluations[best]
    engine = LocalEngine("tuned", tmp_path / "model")
    pairs = []
    for each in job(tiny_model, recipe, held_out=3).held_out.taken:
        start = int(each.learnt.argmax())
        pairs.append((each.ids[:start].tolist(), each.ids[start:].tolist()))
    weighed = engine.score_tokens(pairs)
    nats = -sum(each.total for each in weighed) / sum(len(each.tokens) for each in weighed)
    assert nats == pytest.approx(min(losses), abs=1e-3)


def test_small_gains_do_not_keep_it_going(tiny_model: Path, tmp_path: Path) -> None:
    recipe = changed(
        FULL,
        epochs=30,
        learning_rate=0.0005,
        evaluate_every=1,
        early_stopping=EarlyStopping(patience=3, least_gain=1.0),
    )
    tuned = tune(job(tiny_model, recipe, held_out=3), tmp_path, Silent())
    losses = [each.loss for each in tuned.evaluations]
    kept, last = losses[0], 0  # by the rule itself: a gain of less than 1 does not count
    for place, loss in enumerate(losses):
        if loss < kept - 1.0:
            kept, last = loss, place
    assert len(losses) == last + 1 + 3
    assert tuned.kept == tuned.evaluations[last]


def test_a_refused_run_does_not_hold_its_folder(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training row"):
        tune(job(tiny_model, changed(LORA, max_length=16)), tmp_path, Silent())
    assert tune(job(tiny_model), tmp_path, Silent()).rows == len(TEXTS)


def test_a_norm_that_is_no_number_is_not_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.tuning.processes import Spread

    stepped = Spread.step
    norms = iter([1.0, 1.0, 1.0, math.nan])

    def broken(spread: Spread, rate: float) -> float:
        stepped(spread, rate)
        return next(norms)

    monkeypatch.setattr(Spread, "step", broken)
    with pytest.raises(EngineError, match="norm of the gradient is nan at step 4"):
        tune(job(tiny_model), tmp_path, Silent())
    assert not (tmp_path / "checkpoint").exists()  # which would have been of step 4


def test_the_same_call_again_reuses_what_is_there(tiny_model: Path, tmp_path: Path) -> None:
    first = tune(job(tiny_model), tmp_path, Silent())
    again = tune(job(tiny_model), tmp_path, Silent())
    assert again.reused
    assert again == first


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: replace(one, recipe=changed(one.recipe, seed=1)), "recipe"),
        (lambda one: replace(one, base=replace(one.base, digest="x")), "base"),
        (lambda one: replace(one, encoded=one.held_out, held_out=one.encoded), "rows"),
    ],
    ids=["recipe", "base", "rows"],
)
def test_a_folder_of_another_training_is_left_alone(
    tiny_model: Path, tmp_path: Path, change: Any, named: str
) -> None:
    tune(job(tiny_model, held_out=2), tmp_path, Silent())
    before = (tmp_path / "tuning.json").read_bytes()
    with pytest.raises(InputError, match=f"a training with another {named}"):
        tune(change(job(tiny_model, held_out=2)), tmp_path, Silent())
    assert (tmp_path / "tuning.json").read_bytes() == before


def test_a_folder_with_something_else_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"something else \(thesis.txt\)"):
        tune(job(tiny_model), tmp_path, Silent())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_usable_row_is_the_user_s_to_mend(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training row is usable"):
        tune(job(tiny_model, texts=["boats " * 200]), tmp_path, Silent())


def test_a_tokenizer_without_a_template_needs_a_format(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "bare", "llama", chat=False)
    with pytest.raises(ModelError, match="no chat template"):
        job(folder)
    assert job(folder, changed(LORA, format="alpaca", max_length=512)).encoded.taken


def test_rows_left_out_are_said(tiny_model: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    tuned = tune(job(tiny_model, texts=[*TEXTS, "boats " * 200]), tmp_path, Listener())
    assert tuned.left_out == {"longer than the limit": 1}
    assert any("1 row left out, longer than the limit" in line for line in said)


def test_one_example_is_learnt(tiny_model: Path, tmp_path: Path) -> None:
    tuned = tune(job(tiny_model, texts=TEXTS[:1]), tmp_path, Silent())
    assert (tuned.rows, len(tuned.losses)) == (1, 3)


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.tuning import loop

    rates = iter([0.01] * 5 + [1e30] * 9)
    monkeypatch.setattr(loop, "learning_rate", lambda *_: next(rates))
    with pytest.raises(EngineError, match=r"at step 7[\s\S]*lower learning_rate"):
        tune(job(tiny_model), tmp_path, Silent())
    assert (tmp_path / "checkpoint" / "state.pt").is_file()
    assert read_tuned(tmp_path) is None


def test_a_loss_that_runs_away_is_stopped(tiny_model: Path, tmp_path: Path) -> None:
    recipe = changed(FULL, epochs=20, learning_rate=2.0, clip=0.0)
    with pytest.raises(EngineError, match="runs away"):
        tune(job(tiny_model, recipe), tmp_path, Silent())


def test_a_full_disk_keeps_the_last_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    saved = torch.save
    times = iter(range(9))

    def full_at_the_second(content: Any, target: Any) -> None:
        if next(times) == 1:
            raise OSError(28, "No space left on device")
        saved(content, target)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    with pytest.raises(StorageError, match="No space left"):
        tune(job(tiny_model), tmp_path, Silent())
    state = torch.load(tmp_path / "checkpoint" / "state.pt", weights_only=True)
    assert len(state["course"]["losses"]) == 4
    monkeypatch.undo()
    resumed = tune(job(tiny_model), tmp_path, Silent())
    assert len(resumed.losses) == 12


CHILD = """
import os, signal, sys
from pathlib import Path
from hinlap.core.progress import Silent
from hinlap.tuning.tune import tune
from tests.tuning import test_tune

model, folder, kill_at, method = sys.argv[1:]

class KilledAt(Silent):
    steps = -1  # the first call tells how many steps were done before

    def advance(self, done=1, note=""):
        self.steps += done if note else 1 + done
        if note and self.steps == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

recipe = test_tune.LORA if method == "lora" else test_tune.FULL
tune(test_tune.job(Path(model), recipe, held_out=2), Path(folder), KilledAt())
"""


@pytest.mark.parametrize("recipe", [LORA, FULL], ids=["lora", "full"])
def test_a_killed_tuning_ends_as_an_unbroken_one(
    tiny_model: Path, tmp_path: Path, recipe: Recipe
) -> None:
    killed = tmp_path / "killed"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(tiny_model), str(killed), "6", recipe.method]
    done = subprocess.run(command, cwd=root, check=False, timeout=120, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert (killed / "checkpoint" / "state.pt").is_file()
    steps: list[int] = []

    class Counting(Silent):
        def advance(self, done: int = 1, note: str = "") -> None:
            steps.append(done)

    unbroken = tune(job(tiny_model, recipe, held_out=2), tmp_path / "unbroken", Silent())
    resumed = tune(job(tiny_model, recipe, held_out=2), killed, Counting())
    assert steps == [4] + [1] * 5  # the checkpoint of step 4, then steps 5 to 9
    assert_near(resumed, unbroken, 0.0)
    assert resumed.evaluations == unbroken.evaluations
    assert not (killed / "checkpoint").exists()
    lines = [json.loads(line) for line in (killed / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 10))


def test_a_resume_with_changed_data_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    tune(job(tiny_model), tmp_path / "whole", Silent())
    (tmp_path / "half" / "checkpoint").mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "run.json", tmp_path / "half")
    with pytest.raises(InputError, match="another rows"):
        tune(job(tiny_model, texts=TEXTS[1:]), tmp_path / "half", Silent())


def test_a_tuned_adapter_answers_as_taught(tiny_model: Path, tmp_path: Path) -> None:
    recipe = changed(
        LORA, epochs=30, learning_rate=0.02,
        lora=LoraFields(rank=4, alpha=8, target="all-linear"),
    )  # fmt: skip
    tuned = tune(job(tiny_model, recipe), tmp_path, Silent())
    taught = LocalEngine("taught", tiny_model, tuned.adapter)
    prompts = [Prompt((Message("user", f"First word of: {text}"),)) for text in TEXTS]
    found = dict(taught.generate(prompts, Sampling(max_tokens=8)))
    assert sum(found[i].text == text.split()[0] for i, text in enumerate(TEXTS)) > 0


def test_a_fully_tuned_model_with_new_tokens_ends_its_answers(
    tmp_path: Path,
) -> None:
    from hinlap.engines.prompt_formats import FORMATS

    folder = make_tiny_model(tmp_path / "neox", "gpt_neox", chat=False)
    recipe = Recipe(
        name="dolly",
        method="full",
        format="dolly",
        special_tokens=FORMATS["dolly"].special_tokens,
        epochs=40,
        learning_rate=0.01,
        held_out_rows=0,
    )
    tuned = tune(job(folder, recipe), tmp_path / "tuned", Silent())
    assert tuned.model
    engine = LocalEngine("dolly", tuned.model)
    prompts = [Prompt((Message("user", f"First word of: {text}"),)) for text in TEXTS]
    assert engine.render(prompts[0]).endswith("### Response:\n")
    found = dict(engine.generate(prompts, Sampling(max_tokens=8)))
    right = [i for i, text in enumerate(TEXTS) if found[i].text == text.split()[0]]
    assert right
    assert all(found[i].finish.value == "stop" for i in right)


def test_a_model_from_scratch_learns_its_texts(tmp_path: Path) -> None:
    from hinlap.tuning.bases import fresh_tokenizer
    from hinlap.tuning.lessons import encode_texts
    from hinlap.tuning.recipe import FreshFields

    for architecture in ("llama", "gpt_neox"):
        fresh = FreshFields(
            architecture=architecture,
            vocabulary=320,
            layers=2,
            width=32,
            heads=4,
            inner=64,
            window=64,
        )
        recipe = Recipe(
            name="fresh", method="scratch", format="text", fresh=fresh, epochs=20,
            learning_rate=0.003, held_out_rows=0, max_length=64,
        )  # fmt: skip
        tokenizer = fresh_tokenizer(TEXTS, fresh)
        encoded = encode_texts(TEXTS, tokenizer, 64)
        held_out = encode_texts(TEXTS[:2], tokenizer, 64)
        one = Job(recipe, None, tokenizer, encoded, held_out)
        tuned = tune(one, tmp_path / architecture, Silent())
        assert tuned.evaluations[0].loss == pytest.approx(math.log(len(tokenizer)), abs=0.3)
        assert tuned.losses[-1] < tuned.losses[0] - 1
        assert tuned.model
        engine = LocalEngine("fresh", tuned.model)
        [weighed] = engine.score_texts([("", TEXTS[0])])
        assert -weighed.total / len(weighed.tokens) < math.log(len(tokenizer))
