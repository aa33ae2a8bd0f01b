"""Decoder layers as one function against the same layers as transformers and PEFT run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft", reason="needs hinlap[tune]")

import torch
from tests.conftest import make_tiny_model
from tests.engines.conftest import ARCHITECTURES

from hinlap.engines.native import Kernels, kernels
from hinlap.tuning.learner import Learner, flat_of
from hinlap.tuning.lessons import Taken

pytestmark = [
    pytest.mark.skipif(kernels() is None, reason="the kernels need AVX-512 and a C compiler"),
    # peft and its callers use names given up since
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),
]
ONE_FUNCTION = ["llama-one-call", "qwen2-one-call", "mistral-wide-window"]
_, _SHAPE = ARCHITECTURES["llama-one-call"]
MODELS = {
    **ARCHITECTURES,
    "mistral-wide-window": ("mistral", {**_SHAPE, "sliding_window": 1024}),
    "qwen3": ("qwen3", _SHAPE),
    "seed-oss-dropping": ("seed_oss", {**_SHAPE, "residual_dropout": 0.3}),
    "opt-dropping": ("opt", {"ffn_dim": 64, "dropout": 0.3, "attention_dropout": 0.0}),
}


def adapted(folder: Path, name: str, dtype: torch.dtype, **fields: Any) -> Any:
    """With LoRA on all products, whose pairs have been learnt."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    architecture, more = MODELS[name]
    if not (folder / "config.json").exists():
        make_tiny_model(folder, architecture, chat=False, more=more)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    lora = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear", **fields}
    net = get_peft_model(model, LoraConfig(**lora))
    generator = torch.Generator().manual_seed(1)
    for weight in net.parameters():
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    return net.train()


def sequences() -> list[Taken]:
    """Of several lengths, the first 12 tokens the same; learnt from 20 on, the last from 60."""
    generator, found = np.random.default_rng(0), []
    for length, start in ((25, 20), (90, 20), (140, 60)):
        ids = generator.integers(3, 300, length).astype(np.int32)
        ids[:12] = range(3, 15)
        found.append(Taken(ids, np.arange(length) >= start))
    return found


def gradients(net: Any) -> list[torch.Tensor]:
    found = [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]
    net.zero_grad()
    return found


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ONE_FUNCTION)
def test_one_function_gives_the_layers_own_loss_and_gradients(
    tmp_path: Path, name: str, dtype: torch.dtype, checkpointed: bool, share: bool
) -> None:
    net = adapted(tmp_path, name, dtype)
    if checkpointed:
        net.gradient_checkpointing_enable({"use_reentrant": False})
        net.enable_input_require_grads()
    learner = Learner(net)
    if not kernels().takes(dtype):
        pytest.skip("this processor does not multiply bfloat16")
    assert "decoder layers" in learner.replaced, learner.why_not
    flat = flat_of(sequences(), "cpu", share=share)
    nats, _ = learner(flat)
    nats.backward()
    ours = gradients(net)
    for module in net.modules():
        if hasattr(module, "self_attn"):
            del module.forward
    one_by_one, _ = learner(flat)
    one_by_one.backward()
    theirs = gradients(net)
    assert nats.item() == one_by_one.item()
    assert len(ours) == len(theirs) == 2 * 7 * 2
    for mine, true in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, true, rtol=2**-7 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("name", ONE_FUNCTION)
def test_one_function_gives_the_plain_model_s_loss_and_gradients(tmp_path: Path, name: str) -> None:
    net, plain = (adapted(tmp_path, name, torch.float32) for _ in range(2))
    learner = Learner(net)
    assert "decoder layers" in learner.replaced
    nats, _ = learner(flat_of(sequences(), "cpu", share=True))
    nats.backward()
    total = torch.zeros(())
    for each in sequences():
        ids = torch.from_numpy(each.ids).long()
        labels = ids.masked_fill(~torch.from_numpy(each.learnt), -100)
        logits = plain(input_ids=ids[None]).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
    total.backward()
    assert nats.item() == pytest.approx(total.item(), rel=1e-5)
    for mine, true in zip(gradients(net), gradients(plain), strict=True):
        assert torch.allclose(mine, true, atol=1e-4 * float(true.abs().max()), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("qwen3", {}),  # norms of keys
        ("mistral-window-one-call", {}),  # a window that a sequence may pass
        ("granite-multiplied", {}),
        ("smollm3-some-without-positions", {}),
        ("ministral3-scaled-far-out", {}),  # queries grow with their positions
        ("llama-one-call", {"lora_dropout": 0.1}),
        ("llama-one-call", {"target_modules": ["q_proj", "v_proj"]}),
        ("llama-one-call", {"use_dora": True}),
        ("gpt-neox", {}),
    ],
)
def test_layers_that_do_something_else_keep_to_their_own_code(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    net = adapted(tmp_path, name, torch.float32, **fields)
    learner = Learner(net)
    assert "decoder layers" not in learner.replaced
    nats, _ = learner(flat_of(sequences(), "cpu", share=learner.shares))
    nats.backward()
    assert nats.isfinite()


@pytest.mark.parametrize("name", ["seed-oss-dropping", "opt-dropping"])
def test_what_a_forward_drops_by_itself_stays_dropped(tmp_path: Path, name: str) -> None:
    """By a function, not a module: no probe without training shows it."""
    learner = Learner(adapted(tmp_path, name, torch.float32))
    assert not learner.shares
    assert not {"decoder layers", "gated activation"} & set(learner.replaced)
    flat = flat_of(sequences(), "cpu")
    assert len({learner(flat)[0].item() for _ in range(3)}) == 3


def test_pairs_that_are_cast_later_go_by_the_layers_own_code(tmp_path: Path) -> None:
    """As DeepSpeed does in bfloat16, once the learner is made."""
    net = adapted(tmp_path, "llama-one-call", torch.bfloat16)
    learner = Learner(net)
    flat = flat_of(sequences(), "cpu")
    before, _ = learner(flat)
    net.bfloat16()
    nats, _ = learner(flat)
    nats.backward()
    assert nats.item() == pytest.approx(before.item(), rel=0.01)
    assert all(each.isfinite().all() for each in gradients(net))


def test_an_evaluation_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(adapted(tmp_path, "llama-one-call", torch.float32))
    kept: list[bool] = []
    own = Kernels.causal

    def causal(self: Kernels, *given: Any, keep: bool, **named: Any) -> Any:
        kept.append(keep)
        return own(self, *given, keep=keep, **named)

    monkeypatch.setattr(Kernels, "causal", causal)
    flat = flat_of(sequences(), "cpu")
    with torch.no_grad():
        learner(flat)
    learner(flat)
    assert kept == [False, False, True, True]


def test_longer_sequences_go_by_the_layers_own_code(tmp_path: Path) -> None:
    net, plain = (adapted(tmp_path, "llama-one-call", torch.float32).eval() for _ in range(2))
    learner = Learner(net)
    assert "decoder layers" in learner.replaced
    ids = np.arange(1100, dtype=np.int32) % 300 + 3
    flat = flat_of([Taken(ids, np.arange(1100) > 1050)], "cpu")
    with torch.no_grad():
        logits = plain(input_ids=torch.from_numpy(ids).long()[None]).logits[0, 1050:-1]
        total = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(ids).long()[1051:], reduction="sum"
        )
        assert learner(flat)[0].item() == pytest.approx(total.item(), rel=1e-5)
