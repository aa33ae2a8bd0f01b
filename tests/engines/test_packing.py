"""Packed copies of weights, and shorter forwards of small layers, give a model's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hinlap.engines import native, packing
from hinlap.engines.fused import fuse

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here"
)


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: Any, tokens: int) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(tokens)[None] % 300, use_cache=False).logits[0].float()


@needs_onednn
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt-neox", "gpt2"])
@pytest.mark.parametrize("tokens", [1, 5, 64, 65, 90])  # up to 64 rows go by packed weights
def test_packed_weights_give_the_same_logits(
    model_of: Callable[[str], Path], architecture: str, tokens: int
) -> None:
    model = loaded(model_of(architecture))
    before = logits(model, tokens)
    packing.pack(model)
    assert torch.allclose(logits(model, tokens), before, atol=1e-5)
    assert torch.allclose(logits(model, tokens), before, atol=1e-5)  # nothing is left over


@needs_onednn
def test_layers_with_the_same_input_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj = torch.nn.Linear(8, 6), torch.nn.Linear(8, 4)
            self.dtype = torch.float32

    module = Gated()
    x, other = torch.randn(2, 3, 8)
    plain = [layer(each) for each in (x, other) for layer in (module.gate_proj, module.up_proj)]
    rows: list[int] = []
    product = packing.packed_product

    def counted(x: torch.Tensor, packed: Any, bias: Any) -> torch.Tensor:
        rows.append(len(x))
        return product(x, packed, bias)

    monkeypatch.setattr(packing, "packed_product", counted)
    packing.pack(module)
    gate, up = module.gate_proj, module.up_proj
    with torch.inference_mode():
        found = [gate(x), up(x), gate(other), up(other)]
        assert len(rows) == 2
        alone = [up(x), up(other), gate(x), gate(other)]  # in an order of their own
    for one, two in zip(plain, found, strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    for place, one in zip((1, 3, 0, 2), alone, strict=True):
        assert torch.allclose(plain[place], one, atol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral-window", "gemma"])
def test_shorter_forwards_give_the_same_logits(
    model_of: Callable[[str], Path], architecture: str
) -> None:
    model = loaded(model_of(architecture))
    before = logits(model, 20)
    fuse(model)
    replaced = {type(m).__name__ for m in model.modules() if "forward" in vars(m)}
    kinds = {
        name.removeprefix(type(model).__name__.removesuffix("ForCausalLM")) for name in replaced
    }
    assert ("Attention" in kinds) == (native.kernels() is not None)
    # Gemma's norms multiply by 1 + weight, and its gate is a GELU: they keep their own
    assert kinds - {"Attention"} == (set() if architecture == "gemma" else {"RMSNorm", "MLP"})
    assert torch.allclose(logits(model, 20), before, atol=1e-5)


def test_a_layer_whose_weight_is_no_number_keeps_its_own_forward(
    model_of: Callable[[str], Path],
) -> None:
    model = loaded(model_of("llama"))
    norm = model.model.norm
    with torch.no_grad():
        norm.weight[0] = float("nan")
    fuse(model)
    assert "forward" not in vars(norm)
    assert "forward" in vars(model.model.layers[0].input_layernorm)
