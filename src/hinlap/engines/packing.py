"""Products of few rows on CPUs, which torch's own take twice as long for.

Decoding multiplies a few rows by every weight: by a kernel of our own where it can be had, else
with weights laid out by oneDNN beforehand, layers with the same input as one product
(docs/lab-notes.md).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from hinlap.engines.native import PRODUCT_ROWS, Kernels

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers that one module calls with the same input, in transformers' architectures."""
_HINT = 8  # rows that oneDNN lays the weights out for: the best of 1 to 32 for 1 to 16 rows


def packing_pays(model: Any, room: float, copies: int = 1) -> bool:
    """Whether oneDNN multiplies this model's precision by instructions of the processor's own, and
    so many packed copies of its weights fit into ``room`` (bytes)."""
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if copies * size > room:
        return False
    if model.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(model.dtype == torch.float32)


def pack(model: Any) -> None:
    """Gives every linear layer a forward that takes packed copies of the weights for few rows."""
    for layers in _with_one_input(model):
        _pack(layers)


def multiply_natively(model: Any, kernels: Kernels) -> None:
    """Gives every linear layer a forward that takes the kernel for few rows."""
    for layers in _with_one_input(model):
        if all(layer.weight.is_contiguous() for layer in layers):
            _multiply_together(layers, functools.partial(_multiplied, layers, kernels))


def _multiplied(
    layers: Sequence[torch.nn.Linear], kernels: Kernels, x: torch.Tensor
) -> list[torch.Tensor]:
    return kernels.linear(x, *((layer.weight, layer.bias) for layer in layers))


def packed_product(x: torch.Tensor, packed: Any, bias: torch.Tensor | None) -> torch.Tensor:
    """x W' + b of x (..., in) with W (out, in) as `packed_weight` laid it out."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]


def packed_weight(weight: torch.Tensor, rows: int) -> Any:
    """A weight (out, in) laid out for products of about so many rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)


def _is_plain(layer: Any, dtype: torch.dtype) -> bool:
    return type(layer) is torch.nn.Linear and layer.weight.dtype == dtype


def _with_one_input(model: Any) -> Iterator[list[torch.nn.Linear]]:
    """Linear layers, together those that are called with the same input one after the other."""
    joined: set[Any] = set()
    for module in list(model.modules()):
        for names in SAME_INPUT:
            group: list[Any] = [getattr(module, name, None) for name in names]
            if all(_is_plain(layer, model.dtype) for layer in group) and _go_together(group):
                joined.update(group)
                yield group
        if _is_plain(module, model.dtype) and module not in joined:
            yield [module]


def _go_together(layers: Sequence[torch.nn.Linear]) -> bool:
    return len({(layer.in_features, layer.bias is None) for layer in layers}) == 1


def _pack(layers: Sequence[torch.nn.Linear]) -> None:
    """Lays the layers' weights out as one."""
    weights = [layer.weight.detach() for layer in layers]
    biases = [layer.bias for layer in layers]
    packed = packed_weight(torch.cat(weights) if len(layers) > 1 else weights[0], _HINT)
    bias = None if biases[0] is None else torch.cat([each.detach() for each in biases])
    sizes = [layer.out_features for layer in layers]
    _multiply_together(layers, lambda x: packed_product(x, packed, bias).split(sizes, -1))  # type: ignore[no-untyped-call]


def _multiply_together(
    layers: Sequence[torch.nn.Linear], product: Callable[[torch.Tensor], Sequence[torch.Tensor]]
) -> None:
    """Lets the first of some layers with the same input compute all by ``product``. Many rows go by
    each layer's own weight."""
    most = PRODUCT_ROWS * layers[0].in_features
    dtype = layers[0].weight.dtype
    last = len(layers) - 1
    pending: list[Any] = []  # [x, each layer's result]

    def forward(place: int, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > most or x.dtype != dtype:
            return functional.linear(x, layers[place].weight, layers[place].bias)
        if not last:
            return product(x)[0]
        if place == 0 or not pending or pending[0] is not x:
            pending[:] = [x, product(x)]
        result: torch.Tensor = pending[1][place]
        if place == last:
            pending.clear()
        return result

    for place, layer in enumerate(layers):
        layer.forward = functools.partial(forward, place)  # type: ignore[method-assign]
