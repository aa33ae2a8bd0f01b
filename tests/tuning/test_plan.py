"""The plan: parameters as transformers builds them, memory as small runs took it, and its sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_tiny_model

from hinlap.core.errors import InputError, ModelError
from hinlap.tuning.devices import DEVICES, Device, Devices, read_devices
from hinlap.tuning.plan import (
    Lengths,
    Memory,
    attention_bytes,
    counted_lengths,
    expected_lengths,
    memory_of,
    plan,
    plan_lines,
)
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.shape import PUBLISHED, Shape, adapter_parameters, configuration, shape_of

A100S = Devices(DEVICES["A100-80GB"], 8)
ONE_CPU = Devices(Device("a processor", "cpu", 24e9, 1e12, 2e11))
DOLLY = Recipe(
    name="dolly-v2",
    model="pythia-12b",
    method="full",
    format="dolly",
    epochs=2,
    learning_rate=5e-6,
    warmup_steps=50,
    batch_size=64,
    max_length=1024,
    precision="bf16",
    zero=3,
    gradient_checkpointing=True,
    forward_tokens=8192,
)

TINY: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gpt_neox": {},
    "gpt2": {"n_inner": 160},
    "gptj": {"n_inner": 160, "rotary_dim": 8},
}


def tiny_config(architecture: str, layers: int = 3) -> dict[str, Any]:
    return {
        "model_type": architecture,
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **TINY[architecture],
    }


def built(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model(config["model_type"], **fields)
    for dropout in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(made, dropout):
            setattr(made, dropout, 0.0)
    return AutoModelForCausalLM.from_config(made)


@pytest.fixture(scope="module")
def pythia() -> Shape:
    return shape_of(PUBLISHED["EleutherAI/pythia-12b"])


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # "total params" of the table in github.com/EleutherAI/pythia, and of the model cards
        ("EleutherAI/pythia-160m", 162_322_944),
        ("EleutherAI/pythia-410m", 405_334_016),
        ("EleutherAI/pythia-1b", 1_011_781_632),
        ("EleutherAI/pythia-1.4b", 1_414_647_808),
        ("EleutherAI/pythia-2.8b", 2_775_208_960),
        ("EleutherAI/pythia-6.9b", 6_857_302_016),
        ("EleutherAI/pythia-12b", 11_846_072_320),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ],
)
def test_published_counts_of_parameters(model: str, parameters: int) -> None:
    assert shape_of(PUBLISHED[model], model).parameters == parameters


@pytest.mark.parametrize("architecture", list(TINY))
def test_a_shape_is_that_of_the_real_model(architecture: str) -> None:
    config = tiny_config(architecture)
    shape, model = shape_of(config), built(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.head == model.get_output_embeddings().weight.numel()
    assert (shape.layers, shape.width, shape.inner, shape.vocabulary) == (3, 64, 160, 256)
    assert (shape.queries, shape.keys) == (64, 32 if architecture == "llama" else 64)
    outside = shape.parameters - 3 * shape.layer
    assert 0 < outside < shape.parameters / 2  # embeddings, last norm, and a head of its own


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("architecture", list(TINY))
@pytest.mark.parametrize("target", ["attention", "all-linear"])
def test_adapters_have_as_many_weights_as_pefts(architecture: str, target: str) -> None:
    import peft

    config = tiny_config(architecture)
    wanted = None if target == "attention" else "all-linear"
    conv = architecture == "gpt2"
    lora = peft.LoraConfig(r=8, target_modules=wanted, fan_in_fan_out=conv, task_type="CAUSAL_LM")
    trainable, _ = peft.get_peft_model(built(config), lora).get_nb_trainable_parameters()
    assert adapter_parameters(shape_of(config), 8, target) == trainable


def test_a_configuration_comes_from_a_folder_or_the_published_table(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "m", "gpt_neox", chat=False)
    assert shape_of(configuration(str(folder))).layers == 2
    assert configuration("pythia-12b")["hidden_size"] == 5120
    assert configuration("databricks/dolly-v2-12b")["vocab_size"] == 50280


def test_a_model_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'nobody/nothing' is not here[\s\S]*models pull"):
        configuration("nobody/nothing")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="expected an object"):
        configuration(str(tmp_path))
    with pytest.raises(ModelError, match=r"^m: transformers cannot build it"):
        shape_of({"model_type": "no-such"}, "m")


def saved_bytes_a_token(config: dict[str, Any], regime: str, tokens: int) -> float:
    """What autograd really keeps of a forward, without weights and their casts."""
    import peft
    import torch

    model = built(config).train()
    if regime == "lora":
        lora = peft.LoraConfig(r=4, target_modules="all-linear", fan_in_fan_out=False)
        model = peft.get_peft_model(model, lora)
    inputs = torch.arange(tokens)[None] % 256
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tokens in tensor.shape:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=regime == "cast")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast:
        model(input_ids=inputs, use_cache=False, logits_to_keep=1)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / tokens


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing", "ignore:fan_in_fan_out is set")
@pytest.mark.parametrize("architecture", list(TINY))
@pytest.mark.parametrize("regime", ["float32", "cast", "lora"])
def test_activations_are_those_that_autograd_keeps(architecture: str, regime: str) -> None:
    config = tiny_config(architecture, layers=4)
    recipe = Recipe(
        name="r",
        method="lora" if regime == "lora" else "full",
        precision="bf16" if regime == "cast" else "float32",
        lora={"rank": 4},
        max_length=136,
        forward_tokens=136,
    )
    gpu = replace(A100S, count=1)  # on a CPU attention keeps its weights, too
    told = memory_of(shape_of(config), recipe, gpu, counted_lengths([136])).activations / 136
    assert told == pytest.approx(saved_bytes_a_token(config, regime, 136), rel=0.06)


@pytest.mark.parametrize("length", [5, 128, 384, 1024])
def test_attention_on_a_cpu_keeps_its_weights(length: int) -> None:
    import torch

    from hinlap.tuning.kernels import CausalAttention

    q, k, v = (torch.ones(1, heads, 2 * length, 8, requires_grad=True) for heads in (4, 2, 2))
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(0 if tensor.shape[-1] == 8 else tensor.nbytes)  # without q, k and v
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        CausalAttention.apply(q, k, v, (length, length), 1.0)
    shape = replace(shape_of(tiny_config("llama", layers=1)), heads=4)
    assert sum(kept) == attention_bytes(shape, 4, 2 * length, length)
    assert attention_bytes(shape, 4, 4096, 4096) == attention_bytes(shape, 4, 4096, 1024)


@pytest.mark.parametrize("compiled", [False, True])
def test_lora_in_bfloat16_on_a_cpu_packs_its_base_where_there_is_room(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where there are no compiled products, which take the weights as they are."""
    from hinlap.engines import native

    found = SimpleNamespace(multiplies=lambda dtype: True) if compiled else None
    monkeypatch.setattr(native, "kernels", lambda: found)
    packs = 0 if compiled else 2 * 2
    shape, lengths = shape_of(SMALL), counted_lengths([128])
    lora = Recipe(name="l", method="lora", precision="bf16", max_length=128)

    def weights(recipe: Recipe, devices: Devices) -> float:
        return memory_of(shape, recipe, devices, lengths).weights

    cpu = ONE_CPU.device
    exact = replace(ONE_CPU, device=replace(cpu, memory_bytes=32.0 * shape.parameters))
    short = replace(ONE_CPU, device=replace(cpu, memory_bytes=31.9 * shape.parameters))
    both_ways = packs * (shape.products + shape.head)
    assert weights(lora, exact) - weights(lora, short) == both_ways
    assert weights(lora, short) == weights(lora, replace(A100S, count=1))
    dropping = lora.model_copy(update={"lora": lora.lora.model_copy(update={"dropout": 0.1})})
    # then every product but the head's is plain
    assert weights(dropping, exact) - weights(dropping, short) == packs * shape.head
    wide = lora.model_copy(update={"precision": "float32"})
    assert weights(wide, exact) == weights(wide, short)


def test_a_frozen_bfloat16_model_with_rms_norms_has_wide_embeddings() -> None:
    lora = Recipe(name="l", method="lora", precision="bf16", max_length=128)
    one = replace(A100S, count=1)
    tied = SMALL | {"tie_word_embeddings": True}
    for config, more in ((SMALL, 2 * 4096 * 384), (tied, 4 * 4096 * 384), (SMALL_NEOX, 0)):
        shape = shape_of(config)
        pairs = 4 * adapter_parameters(shape, lora.lora.rank, lora.lora.target)
        found = memory_of(shape, lora, one, counted_lengths([128])).weights
        assert found == 2 * shape.parameters + pairs + more


# Trains each case in a forked child, so that imports are paid once; prints what its memory grew by.
TRAINING = """
import json, os, sys
import torch, peft
from transformers import AutoConfig, AutoModelForCausalLM

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

def train(case, **smaller):
    torch.manual_seed(0)
    fields = dict(case["config"]) | smaller
    kind = fields.pop("model_type")
    config = AutoConfig.for_model(kind, **fields)
    model = AutoModelForCausalLM.from_config(config).train()
    if case["lora"]:
        lora = peft.LoraConfig(r=8, target_modules="all-linear")
        model = peft.get_peft_model(model, lora)
    if case["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4, fused=True)
    for step in range(2):
        for forward in range(2):
            ids = torch.randint(0, config.vocab_size, (1, case["tokens"]))
            with torch.autocast("cpu", torch.bfloat16, enabled=case["cast"]):
                logits = model(input_ids=ids, use_cache=False).logits[0].float()
            loss = torch.nn.functional.cross_entropy(logits, ids[0].roll(-1))
            loss.backward()
            del logits, loss
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

def run(case):
    # code that is read from disk when it is first called belongs to the process, not to the model
    train(case, num_hidden_layers=1, hidden_size=48, intermediate_size=48, vocab_size=64)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    train(case)
    return status("VmHWM") - before

for case in json.loads(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        print(case["name"], run(case), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""

SMALL = {
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
SMALL_NEOX = {
    "model_type": "gpt_neox",
    "vocab_size": 4096,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "max_position_embeddings": 1024,
}

RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "full": (SMALL, {"method": "full"}, 384),
    "full-checkpointing": (SMALL, {"method": "full", "gradient_checkpointing": True}, 512),
    "full-bf16": (SMALL, {"method": "full", "precision": "bf16"}, 384),
    "lora": (SMALL, {"method": "lora"}, 384),
    "neox-lora": (SMALL_NEOX, {"method": "lora"}, 256),
}


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    """Bytes that each of RUNS took at its peak, over those of the process before."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process's peak of memory")
    cases = [
        {
            "name": name,
            "config": config,
            "tokens": tokens,
            "lora": fields["method"] == "lora",
            "cast": fields.get("precision") == "bf16",
            "checkpointing": fields.get("gradient_checkpointing", False),
        }
        for name, (config, fields, tokens) in RUNS.items()
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINING, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=False,
        # freed memory goes back at once, so that what is measured is what is held, not the holes
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: float(peak) for name, peak in (x.split() for x in done.stdout.splitlines())}


@pytest.mark.parametrize("name", list(RUNS))
def test_memory_is_what_a_real_run_took(name: str, measured: dict[str, float]) -> None:
    config, fields, tokens = RUNS[name]
    recipe = Recipe(name=name, max_length=tokens, forward_tokens=tokens, **fields)
    memory = memory_of(shape_of(config), recipe, ONE_CPU, counted_lengths([tokens] * 2))
    assert memory.total - memory.runtime == pytest.approx(measured[name], rel=0.15)


@pytest.mark.parametrize("world", [1, 2, 8])
def test_states_are_those_of_deepspeeds_own_estimate(pythia: Shape, world: int) -> None:
    """estimate_zero2/3_model_states_mem_needs, 0.19: 2 bytes a weight, and 18 (2 and 4 of
    gradients, 4 of master weights, 8 of moments) shared out; in stage 3, all shared out. Theirs
    counts float32 gradients as lasting and, in stage 3, forgets the 2 bytes of gradients."""
    weights = pythia.parameters
    lengths = counted_lengths([16])
    for stage, theirs in ((2, 2 * weights + 18 * weights / world), (3, 18 * weights / world)):
        recipe = DOLLY.model_copy(update={"zero": stage})
        states = memory_of(pythia, recipe, replace(A100S, count=world), lengths).states
        float32_gradients = 4 * weights / world
        missing = 2 * weights / world if stage == 3 else 0
        assert states + float32_gradients == pytest.approx(theirs + missing)


def test_pythia_12b_by_dollys_recipe_on_eight_a100s(pythia: Shape) -> None:
    lengths = expected_lengths(14_811, 230, 1024, learnt=0.5)
    made = plan(pythia, DOLLY, A100S, lengths, utilisation=0.35)
    assert made.memory.states == pytest.approx(16 * 11_846_072_320 / 8)
    assert made.fits
    assert (made.epoch_steps, made.steps) == (232, 464)
    assert made.tokens == 2 * 14_811 * 230
    # 6 × weights × tokens, but for the embeddings' lookup and what is not learnt of the head
    assert made.flops == pytest.approx(6 * 11_846_072_320 * made.tokens, rel=0.06)
    assert made.spent_flops > 1.3 * made.flops
    assert made.usd == pytest.approx(8 * 2.79 * made.seconds / 3600)
    text = "\n".join(plan_lines(made))
    assert "11,846,072,320 parameters" in text
    assert "8 × A100-80GB" in text
    assert "Fits:" in text
    assert "list price: Lambda" in text
    assert "as remembered, check it" in text


def test_what_does_not_fit_says_what_would(pythia: Shape) -> None:
    alone = DOLLY.model_copy(update={"zero": 0, "gradient_checkpointing": False})
    made = plan(pythia, alone, A100S, counted_lengths([1024] * 64))
    assert not made.fits
    assert [change.fits for change in made.changes].count(True) == 1
    assert made.changes[-1].what == "gradient_checkpointing: true, forward_tokens: 1024, zero: 3"
    single = plan(pythia, alone, replace(A100S, count=1), counted_lengths([1024] * 64))
    assert "method: lora" in single.changes[-2].what
    assert single.changes[-2].fits
    assert single.changes[-1].what.endswith("zero: 3 on 4 × A100-80GB")
    assert "Does not fit" in "\n".join(plan_lines(single))
    small = plan(pythia, alone, Devices(DEVICES["T4"]), counted_lengths([1024] * 64))
    assert not small.changes[-2].fits  # not even LoRA


def test_a_plan_that_fits_offers_no_change() -> None:
    made = plan(
        shape_of(PUBLISHED["HuggingFaceTB/SmolLM2-135M"]),
        Recipe(name="lora"),
        ONE_CPU,
        counted_lengths([100, 200, 300]),
    )
    assert made.fits
    assert made.changes == ()
    assert made.usd is None
    assert "no price" in "\n".join(plan_lines(made))


def test_work_counts_the_base_twice_in_lora_and_three_times_in_full_tuning(pythia: Shape) -> None:
    lengths = counted_lengths([256] * 100)
    quiet = DOLLY.model_copy(update={"held_out_rows": 0, "gradient_checkpointing": False})
    full = plan(pythia, quiet, A100S, lengths)
    lora = plan(pythia, quiet.model_copy(update={"method": "lora"}), A100S, lengths)
    assert full.spent_flops == full.flops
    assert lora.flops / full.flops == pytest.approx(2 / 3, rel=0.01)


def test_a_step_of_few_tokens_makes_a_small_forward() -> None:
    shape = shape_of(tiny_config("llama"))
    recipe = Recipe(name="r", batch_size=2, forward_tokens=2048, max_length=64)
    assert plan(shape, recipe, ONE_CPU, counted_lengths([64] * 8)).forward_tokens == 128
    assert plan(shape, recipe, A100S, counted_lengths([64] * 8)).forward_tokens == 64


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(16, 8192),
    more=st.integers(1, 8192),
    method=st.sampled_from(["full", "lora", "qlora"]),
    precision=st.sampled_from(["bf16", "float32"]),
    checkpointing=st.booleans(),
    zero=st.sampled_from([0, 2, 3]),
    world=st.sampled_from([1, 2, 8, 64]),
)
def test_more_tokens_take_more_memory_and_checkpointing_less(
    pythia: Shape,
    tokens: int,
    more: int,
    method: str,
    precision: str,
    checkpointing: bool,
    zero: int,
    world: int,
) -> None:
    devices = replace(A100S, count=world)
    recipe = DOLLY.model_copy(
        update={
            "method": method,
            "precision": precision,
            "gradient_checkpointing": checkpointing,
            "zero": zero,
        }
    )

    def held(longest: int, recipe: Recipe = recipe) -> Memory:
        return memory_of(pythia, recipe, devices, counted_lengths([longest]))

    few, many = held(tokens), held(tokens + more)
    assert few.total <= many.total
    assert few.activations <= many.activations
    assert few.states == many.states
    plain = recipe.model_copy(update={"gradient_checkpointing": False})
    assert few.total <= held(tokens, plain).total


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(16, 4096),
    method=st.sampled_from(["full", "lora"]),
    precision=st.sampled_from(["bf16", "float32"]),
    world=st.sampled_from([2, 4, 8, 64]),
)
def test_each_stage_of_zero_takes_no_more_than_the_one_before(
    pythia: Shape, tokens: int, method: str, precision: str, world: int
) -> None:
    devices = replace(A100S, count=world)
    stages = [
        memory_of(
            pythia,
            DOLLY.model_copy(update={"method": method, "precision": precision, "zero": stage}),
            devices,
            counted_lengths([tokens]),
        )
        for stage in (0, 2, 3)
    ]
    assert stages[1].gradients <= stages[0].gradients
    assert stages[1].optimizer <= stages[0].optimizer
    assert stages[2].weights <= stages[1].weights
    assert stages[2].total <= stages[1].total
    if method == "full":
        assert stages[1].total <= stages[0].total


def test_lengths_that_are_expected_match_those_that_are_counted() -> None:
    lengths = [64, 192] * 50
    known = counted_lengths(lengths)
    expected = expected_lengths(100, 128, 192)
    assert (known.sequences, known.tokens, known.longest) == (100, 12_800, 192)
    assert (expected.sequences, expected.tokens, expected.longest) == (100, 12_800, 192)
    assert known.squares == 50 * (64**2 + 192**2)
    assert expected.squares >= known.squares


def test_no_lengths_and_impossible_ones_are_refused() -> None:
    with pytest.raises(InputError, match="no sequence is left"):
        counted_lengths([])
    with pytest.raises(InputError, match="between 0 and the longest"):
        expected_lengths(10, 300, 200)
    with pytest.raises(InputError, match="share of the peak"):
        plan(
            shape_of(tiny_config("llama")),
            Recipe(name="r"),
            ONE_CPU,
            Lengths(1, 16, 16, 256),
            utilisation=1.5,
        )


@pytest.mark.parametrize("text", ["8xA100-80GB", "8 × a100-80gb", "8*A100-80GB"])
def test_devices_are_read_with_their_count(text: str) -> None:
    assert read_devices(text) == A100S


def test_devices_that_are_not_known_are_refused() -> None:
    with pytest.raises(InputError, match=r"8xB9000[\s\S]*known are A100-40GB"):
        read_devices("8xB9000")
    with pytest.raises(InputError, match="no devices '0xL4'"):
        read_devices("0xL4")


def test_this_machine_is_measured() -> None:
    device = read_devices("this").device
    assert device.kind == "cpu"
    assert device.memory_bytes > 1e8
    assert device.flops_float32 > 1e8
    assert device.usd_per_hour is None


def test_every_price_says_whose_it_is_and_that_it_was_not_looked_up() -> None:
    for device in DEVICES.values():
        assert device.usd_per_hour is not None
        assert device.price.startswith(("Lambda", "AWS"))
        assert "as remembered, check it" in device.price
