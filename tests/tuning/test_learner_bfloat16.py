"""The quick ways of a step hold for a real model in bfloat16, whose rounding alone moves a loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hinlap.engines.weights import load_model
from hinlap.tuning import kernels
from hinlap.tuning.learner import Learner


# peft reads an attribute by a name given up since
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("compiled", [True, False])
def test_the_embedded_model_takes_the_quick_ways_in_bfloat16(
    embedded_model: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    from peft import LoraConfig, get_peft_model

    if not compiled:
        monkeypatch.setattr(kernels, "kernels", lambda: None)
    torch.manual_seed(0)
    model = load_model("smollm2-135m-instruct", embedded_model, torch.bfloat16)
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear")
    learner = Learner(get_peft_model(model, lora))
    assert learner.why_not == ""
    native = kernels.kernels()
    layers = {"decoder layers"} if native and native.takes(torch.bfloat16) else set()
    assert {"RMSNorm", "LoRA products", "gated activation", "rotary positions"} | layers == set(
        learner.replaced
    )
