"""Tiny random-weight models of many architectures, and transformers alone as their peer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import make_tiny_model

if TYPE_CHECKING:
    from hinlap.engines.weights import Weights

WINDOW = 8
"""Of the models whose layers see only so many tokens back: less than the tests' texts."""

_WIDE = {"initializer_range": 0.05, "num_key_value_heads": 2, "head_dim": 8}
_ONE_CALL = {**_WIDE, "head_dim": 16, "initializer_range": 0.06}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _WIDE),
    "gpt-neox": ("gpt_neox", {"initializer_range": 0.05}),
    "gpt2": ("gpt2", {"initializer_range": 0.05}),
    "gpt2-scaled-by-layer": (
        "gpt2",
        {"initializer_range": 0.05, "scale_attn_by_inverse_layer_idx": True},
    ),
    "qwen2": ("qwen2", _WIDE),
    "qwen3": ("qwen3", _WIDE),
    "mistral-window": ("mistral", {**_WIDE, "sliding_window": WINDOW}),
    "gemma": ("gemma", _WIDE),
    "gemma2-soft-caps": (
        "gemma2",
        {
            **_WIDE,
            "sliding_window": WINDOW,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "gemma3": ("gemma3_text", {**_WIDE, "sliding_window": WINDOW, "query_pre_attn_scalar": 8}),
    # heads that the kernels attend for, and layers that can be one call
    "llama-one-call": ("llama", _ONE_CALL),
    "qwen2-one-call": ("qwen2", _ONE_CALL),  # with biases
    "mistral-window-one-call": ("mistral", {**_ONE_CALL, "sliding_window": WINDOW}),
    "granite-multiplied": (
        "granite",
        {**_ONE_CALL, "residual_multiplier": 0.5, "attention_multiplier": 0.25},
    ),
    "smollm3-some-without-positions": (
        "smollm3",
        {**_ONE_CALL, "no_rope_layers": [1, 0], "pad_token_id": 0},
    ),
    "ministral3-scaled-far-out": (  # its queries grow with their positions from 64 on
        "ministral3",
        {
            **_ONE_CALL,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "original_max_position_embeddings": 64,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    # these cannot share a forward
    "mamba": ("mamba", {"initializer_range": 0.05, "state_size": 4}),
    "bloom": ("bloom", {"initializer_range": 0.05}),
    "mpt": ("mpt", {"initializer_range": 0.05, "d_model": 32, "n_heads": 4, "n_layers": 2}),
    "gpt-oss-sinks": (
        "gpt_oss",
        {**_WIDE, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": WINDOW},
    ),
    "qwen2-moe-window": (  # its window is in its mask alone
        "qwen2_moe",
        {
            **_WIDE,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
    ),
    "phi3-long-rope": (
        "phi3",
        {
            **_WIDE,
            "original_max_position_embeddings": 24,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 24,
            },
        },
    ),
}
SHARING = list(ARCHITECTURES)[:16]
NOT_SHARING = list(ARCHITECTURES)[16:]


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by its name in `ARCHITECTURES`, made once."""

    @functools.cache
    def make(name: str) -> Path:
        architecture, more = ARCHITECTURES[name]
        folder = tmp_path_factory.mktemp("models") / name
        return make_tiny_model(folder, architecture, chat=False, more=more)

    return make


@pytest.fixture(scope="session")
def weights_of(model_of: Callable[[str], Path]) -> Callable[[str], Weights]:
    """Weights of a tiny model by name, loaded once."""
    from hinlap.engines.weights import Weights

    return functools.cache(lambda name: Weights(name, model_of(name)))


@pytest.fixture(scope="session")
def peer_of(model_of: Callable[[str], Path]) -> Callable[[str], TokenPeer]:
    """transformers' own view of a tiny model by name, loaded once."""
    return functools.cache(lambda name: TokenPeer(model_of(name)))


class TokenPeer:
    """transformers alone, on token ids: its forward pass and its `generate`."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self.model: Any = model.eval()

    def weigh(self, context: Sequence[int], text: Sequence[int]) -> tuple[list[float], list[int]]:
        """Log-probabilities (nats) and ranks of ``text`` by one forward pass over the whole."""
        import torch

        ids = torch.tensor([[*context, *text]])
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        logprobs = logits.log_softmax(-1)[len(context) - 1 : -1]
        values = [float(row[token]) for row, token in zip(logprobs, text, strict=True)]
        ranks = [int((row > row[token]).sum()) for row, token in zip(logprobs, text, strict=True)]
        return values, ranks

    def generate(
        self, ids: Sequence[int], max_tokens: int, eos: Sequence[int] = (2,), **options: Any
    ) -> list[int]:
        """Greedy new tokens, without the ending one."""
        import torch

        prompt = torch.tensor([list(ids)])
        out = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(eos),
            pad_token_id=0,
            **options,
        )
        new: list[int] = out[0, len(ids) :].tolist()
        return new[:-1] if new[-1] in eos else new
