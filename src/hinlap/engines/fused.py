"""Small layers of a model in fewer operations, for forwards without gradients.

Each stands in only where it gives its module's own numbers on a probe.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from hinlap.engines.native import PRODUCT_ROWS, Kernels, kernels

_ROTARY = "apply_rotary_pos_emb"  # transformers' name, of one function in each architecture's file


def fuse(model: Any) -> None:
    """Gives norms, gated feed-forward layers and rotary positions of a model shorter ways."""
    found = kernels() if model.device.type == "cpu" else None
    native = found if found is not None and found.takes(model.dtype) else None
    for module in model.modules():
        _fuse_norm(module, native)
        _fuse_gate(module, native)
        if native is not None:
            _fuse_rotary(module, native)


def norm_epsilon(module: Any) -> float | None:
    """Of a module that is named as an RMSNorm and has one weight; None of others."""
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or weight is None or weight.dim() != 1:
        return None
    epsilon: float | None = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return epsilon


def has_gated_silu(module: Any) -> bool:
    """Whether it is a feed-forward layer of the shape down(silu(gate(x)) * up(x)), by its names."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    act = getattr(module, "act_fn", None)
    return all(isinstance(part, torch.nn.Module) for part in parts) and (
        isinstance(act, torch.nn.SiLU) or type(act).__name__ == "SiLUActivation"
    )


def _fuse_norm(module: Any, native: Kernels | None) -> None:
    epsilon = norm_epsilon(module)
    if epsilon is None:
        return
    weight = module.weight.detach()

    def forward(x: torch.Tensor) -> torch.Tensor:
        if native is not None and x.dtype == weight.dtype:
            return native.rms_norm(x, weight, epsilon)
        return functional.rms_norm(x, weight.shape, weight, epsilon)

    # each number by itself: one large weight must not hide that others are multiplied by 1 + w
    _replace(module, forward, len(weight), weight, lambda own: own.abs())


def _fuse_gate(module: Any, native: Kernels | None) -> None:
    if not has_gated_silu(module):
        return
    gate, up, down = module.gate_proj, module.up_proj, module.down_proj
    if type(gate) is not torch.nn.Linear:
        return
    plain = all(type(each) is torch.nn.Linear and each.bias is None for each in (gate, up))

    def forward(x: torch.Tensor) -> torch.Tensor:
        if native is None or x.dtype != gate.weight.dtype:
            return down(functional.silu(gate(x)).mul_(up(x)))  # type: ignore[no-any-return]
        adapted = gate._forward_hooks or up._forward_hooks
        if plain and not adapted and x.numel() <= PRODUCT_ROWS * gate.in_features:
            return down(native.gated(x, gate.weight, up.weight))  # type: ignore[no-any-return]
        return down(native.silu_times(gate(x), up(x)))  # type: ignore[no-any-return]

    _replace(module, forward, gate.in_features, gate.weight, lambda own: own.abs().max())


def _fuse_rotary(module: Any, native: Kernels) -> None:
    """An attention layer's forward with rotary positions by the kernel: the same code, in which the
    one name of that function means ours."""
    whole = inspect.unwrap(type(module).forward)  # without what warns of old names
    own = getattr(whole, "__globals__", {}).get(_ROTARY)
    if own is None or "forward" in vars(module) or _ROTARY not in whole.__code__.co_names:
        return
    if list(inspect.signature(own).parameters)[:4] != ["q", "k", "cos", "sin"]:
        return

    @functools.wraps(own)
    def rotate(q: Any, k: Any, cos: Any, sin: Any, *others: Any, **named: Any) -> Any:
        usual = not others and not named and len(q) == len(k) == 1
        usual = usual and cos.shape == sin.shape == (1, *q.shape[2:])
        if not usual or not q.dtype == k.dtype == cos.dtype:
            return own(q, k, cos, sin, *others, **named)
        return native.rotate(q, cos, sin), native.rotate(k, cos, sin)

    q, k = torch.linspace(-1, 1, 72).view(1, 2, 3, 12), torch.linspace(0, 1, 36).view(1, 1, 3, 12)
    cos, sin = (
        torch.linspace(0, 3, 36).view(1, 3, 12).sin(),
        torch.linspace(1, 2, 36).view(1, 3, 12),
    )
    try:
        theirs = own(q, k, cos, sin)
    except (TypeError, RuntimeError, ValueError):
        return
    for one, other in zip(rotate(q, k, cos, sin), theirs, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other, atol=1e-6):
            return
    forward = types.FunctionType(
        whole.__code__,
        {**whole.__globals__, _ROTARY: rotate},
        whole.__name__,
        whole.__defaults__,
        whole.__closure__,
    )
    forward.__kwdefaults__ = whole.__kwdefaults__
    module.forward = types.MethodType(forward, module)


def _replace(
    module: Any,
    forward: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    like: torch.Tensor,
    measure: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Takes ``forward`` where it agrees with the module's own on (1, 3, width), up to rounding of
    what ``measure`` makes of the latter."""
    probe = torch.linspace(-3, 4, 3 * width, device=like.device).view(1, 3, -1).to(like.dtype)
    with torch.inference_mode():
        try:
            own, ours = module(probe), forward(probe)
        except (TypeError, RuntimeError, ValueError):  # asks for more than a stream of states
            return
    near = 1e-5 if like.dtype == torch.float32 else 2e-2
    if own.shape == ours.shape and bool(((own - ours).abs() <= near * measure(own)).all()):
        module.forward = forward  # never where a weight is no number
