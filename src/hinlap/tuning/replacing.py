"""Puts kernels into a model, each where it gives the module's own numbers on a random input."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from hinlap.engines.fused import has_gated_silu, norm_epsilon
from hinlap.engines.packing import SAME_INPUT, packing_pays
from hinlap.tuning.kernels import (
    FrozenWeight,
    GatedSilu,
    Joined,
    LoraProducts,
    RmsNorm,
    Rotary,
    native_for,
    sequences,
)
from hinlap.tuning.shape import PACK_SHARE


def speed_up(model: Any, *, apart: bool = False, pack: bool = False) -> list[str]:
    """Replaces what it can in a model by the functions above, each where it gives the module's
    own numbers on a random input; the kinds replaced.

    apart: weights are there only while their own module runs: no kernel takes those of another.
    pack: whether frozen weights are laid out for their products both ways.
    """
    inner = unwrapped(model)
    done, gated = set(), []
    # in its own forward a feed-forward layer may drop something, which no probe shows
    drops = any("attention" not in name for name in dropped_by(inner))
    for module in list(model.modules()):
        if _norm(module):
            done.add("RMSNorm")
        if not drops and _gated(module):
            done.add("gated activation")
            gated.append(module)
        if not apart and _lora(module, pack):
            done.add("LoRA products")
    if _rotary(inner):
        done.add("rotary positions")
    if gated and len(gated) == inner.config.get_text_config().num_hidden_layers:
        _only_what_is_read(gated[-1])
    return sorted(done)


def packs(model: Any) -> bool:
    """Whether to lay frozen bfloat16 weights out both ways for oneDNN, where the kernel does not
    multiply them, and there is room; of float32 ones it gains a fiftieth only. Not by what is free:
    a resumed training must round as the first one did."""
    import psutil

    native = native_for(next(model.parameters()))
    if model.dtype != torch.bfloat16 or (native and native.multiplies(model.dtype)):
        return False
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    room = psutil.virtual_memory().total * PACK_SHARE / processes
    return packing_pays(model, room, copies=2)


def dropped_by(model: Any) -> list[str]:
    """Fields of a transformers model's configuration that drop something while it learns."""
    fields = model.config.get_text_config().to_dict()
    return [
        name
        for name, value in fields.items()
        if "drop" in name
        and not name.startswith(("classifier", "summary"))  # of other heads
        and isinstance(value, int | float)
        and value > 0
    ]


def unwrapped(model: Any) -> Any:
    """The transformers model inside PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _only_what_is_read(module: Any) -> None:
    """Lets the last layer's feed-forward skip tokens whose hidden state nothing reads: what it
    makes of a token depends on that token alone."""
    whole = module.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        lengths, places, shared = sequences()
        if places is None or x.dim() != 3 or x.shape[1] != shared + sum(lengths):
            return whole(x)  # type: ignore[no-any-return]
        made = whole(x[:, places])
        return torch.zeros_like(x, dtype=made.dtype).index_copy(1, places, made)

    module.forward = forward


def _rotary(model: Any) -> bool:
    """The function of the architecture's module, where it has the usual one."""
    module = sys.modules[type(model).__module__]
    own = getattr(module, "apply_rotary_pos_emb", None)
    if own is None or getattr(own, "hinlap", False):
        return own is not None
    if list(inspect.signature(own).parameters)[:4] != ["q", "k", "cos", "sin"]:
        return False
    q, k = torch.linspace(-1, 1, 48).view(1, 2, 3, 8), torch.linspace(0, 1, 24).view(1, 1, 3, 8)
    angles = torch.linspace(0, 3, 12).view(1, 3, 4).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()

    def rotate(
        q: torch.Tensor,
        k: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        *others: Any,
        **named: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        axis = named.get("unsqueeze_dim", others[-1] if others else 1)
        if axis != 1 or cos.shape[-1] != q.shape[-1]:
            return own(q, k, cos, sin, *others, **named)  # type: ignore[no-any-return]
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        return Rotary.apply(q, cos, sin), Rotary.apply(k, cos, sin)  # type: ignore[no-untyped-call]

    for one, other in zip(rotate(q, k, cos, sin), own(q, k, cos, sin), strict=True):
        if not torch.allclose(one, other, atol=1e-6):
            return False
    rotate.hinlap = True  # type: ignore[attr-defined]
    module.apply_rotary_pos_emb = rotate  # type: ignore[attr-defined]
    return True


def _norm(module: Any) -> bool:
    epsilon = norm_epsilon(module)
    if epsilon is None:
        return False
    weight = module.weight
    probe = torch.linspace(-2, 3, 2 * len(weight), device=weight.device).view(2, -1)
    with torch.no_grad():
        own = module(probe.to(weight.dtype)).float()
        ours = RmsNorm.apply(  # type: ignore[no-untyped-call]
            probe.to(weight.dtype), weight, epsilon, weight.dtype
        ).float()
    if not torch.allclose(own, ours, rtol=1e-2, atol=1e-6):  # each number by itself: see fused.py
        return False

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        narrow = module.weight.dtype
        if torch.is_autocast_enabled("cpu") and hidden_states.device.type == "cpu":
            narrow = hidden_states.dtype
        return RmsNorm.apply(hidden_states, module.weight, epsilon, narrow)  # type: ignore[no-any-return,no-untyped-call]

    module.forward = forward
    return True


def _gated(module: Any) -> bool:
    if not has_gated_silu(module):
        return False

    def forward(x: torch.Tensor) -> torch.Tensor:
        gate, up = module.gate_proj(x), module.up_proj(x)
        return module.down_proj(GatedSilu.apply(gate, up))  # type: ignore[no-any-return,no-untyped-call]

    gate = getattr(module.gate_proj, "base_layer", module.gate_proj)
    if not isinstance(gate, torch.nn.Linear):
        return False
    probe = torch.linspace(-9, 9, 3 * gate.in_features).view(1, 3, -1).to(gate.weight)
    with torch.no_grad():
        own, ours = module(probe).float(), forward(probe).float()
    if not torch.allclose(own, ours, rtol=1e-2, atol=1e-2 * float(own.abs().max())):
        return False
    module.forward = forward
    return True


def _lora(module: Any, pack: bool) -> bool:
    """The LoRA layers under one module: those with the same input share a product."""
    for names in SAME_INPUT:
        group = [getattr(module, name, None) for name in names]
        if all(_is_plain_lora(each) for each in group) and len(set(map(_alike, group))) == 1:
            _join(group, pack)
            return True
    if _is_plain_lora(module) and "forward" not in module.__dict__:
        _join([module], pack)
        return True
    return False


def _is_plain_lora(module: Any) -> bool:
    """Whether it is one PEFT LoRA layer over a frozen linear one, with a single plain adapter."""
    base = getattr(module, "base_layer", None)
    if type(base) is not torch.nn.Linear or not hasattr(module, "lora_A"):
        return False
    names = list(module.lora_A.keys())
    if len(names) != 1 or base.weight.requires_grad:
        return False
    if getattr(module, "use_dora", {}).get(names[0]):
        return False
    [down], [up] = module.lora_A.values(), module.lora_B.values()
    return up.bias is None and type(down) is torch.nn.Linear


def _alike(module: Any) -> tuple[Any, ...]:
    """What layers that share a product must have in common."""
    base = module.base_layer
    [scale], [drop] = module.scaling.values(), module.lora_dropout.values()
    rank = next(iter(module.lora_A.values())).weight.shape[0]
    dropped = isinstance(drop, torch.nn.Dropout) and drop.p > 0
    return base.in_features, base.bias is None, base.weight.dtype, scale, rank, dropped


def _join(layers: Sequence[Any], pack: bool) -> None:
    """Gives layers with the same input forwards of which the first computes all."""
    bases = [each.base_layer for each in layers]
    downs = [next(iter(each.lora_A.values())) for each in layers]
    ups = [next(iter(each.lora_B.values())) for each in layers]
    drops = [next(iter(each.lora_dropout.values())) for each in layers]
    scale = next(iter(layers[0].scaling.values()))
    *_, dropped = _alike(layers[0])
    weight, bias = bases[0].weight, bases[0].bias
    if len(layers) > 1:
        weight = torch.cat([base.weight.detach() for base in bases])
        for base, part in zip(
            bases, torch.split(weight, [b.out_features for b in bases]), strict=True
        ):
            base.weight.data = part  # the same memory
        bias = None if bias is None else torch.cat([base.bias.detach() for base in bases])
    frozen = FrozenWeight(weight, bias, pack=pack and not dropped)
    joined = layers[0].hinlap_joined = Joined(frozen, scale, (*downs, *ups), dropped)
    pending: list[Any] = []  # [x, the coming layers' results]

    def plainly(place: int, x: torch.Tensor) -> torch.Tensor:
        narrow = weight.dtype
        low = functional.linear(drops[place](x).to(narrow), downs[place].weight.to(narrow))
        added = functional.linear(low, ups[place].weight.to(narrow))
        return bases[place](x.to(narrow)) + added * scale  # type: ignore[no-any-return]

    def forward(place: int, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if dropped and layers[place].training:
            return plainly(place, x)
        if place and pending and pending[0] is x:
            result: torch.Tensor = pending[1][place - 1]
            if place == len(layers) - 1:
                pending.clear()
            return result
        first, *others = LoraProducts.apply(x, frozen, scale, *joined.weights)  # type: ignore[no-untyped-call]
        if place:
            return others[place - 1]  # type: ignore[no-any-return]
        pending[:] = [x, others] if others else []
        return first  # type: ignore[no-any-return]

    for place, layer in enumerate(layers):
        layer.forward = functools.partial(forward, place)
