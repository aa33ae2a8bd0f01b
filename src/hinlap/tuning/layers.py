"""Decoder layers of Llama's shape as one autograd function, where all their products are LoRA's.

Between a layer's dozen functions Python, copies and sums of gradients take a twentieth of a step.
Which layers have the shape is told by their parts' names and what their attention asked for; the
learner keeps them only where a loss is that of the functions one by one, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hinlap.engines.fused import has_gated_silu, norm_epsilon
from hinlap.engines.native import Kernels
from hinlap.tuning.kernels import LONGEST_KEPT, Joined, asked, lora_kernel, native_for, sequences

_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_PRODUCTS = {"q_proj", "k_proj", "v_proj", "o_proj"}
_UNUSED = "attention_mask", "cache", "past_key_values"  # the last two by version


def layers_of(model: Any) -> list[Layer]:
    """The decoder layers that have the shape; after a packed forward."""
    found = [
        Layer(module) for module in model.modules() if getattr(module, "self_attn", None) in asked
    ]
    found = [layer for layer in found if layer.fits()]
    count = model.config.get_text_config().num_hidden_layers
    if found and getattr(found[-1].module.self_attn, "layer_idx", None) == count - 1:
        found[-1].last = True
    return found


class Layer:
    """A decoder layer's parts, and the forward that stands in for its own.

    last: of the model, where only what is read need be computed after attention.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.last = False
        self._whole = module.forward

    def fits(self) -> bool:
        """Whether it has the shape, and kernels for all of it."""
        module = self.module
        children = dict(module.named_children())
        if set(children) != _PARTS or "forward" in vars(module):
            return False
        attention, feed = module.self_attn, module.mlp
        norms = module.input_layernorm, module.post_attention_layernorm
        if _weighty(module, recurse=False) or not has_gated_silu(feed):
            return False
        weighty = {name for name, part in attention.named_children() if _weighty(part)}
        if weighty != _PRODUCTS or any(norm_epsilon(norm) is None for norm in norms):
            return False
        if any("forward" not in vars(part) or part.weight.requires_grad for part in norms):
            return False
        first = attention.q_proj, attention.o_proj, feed.gate_proj, feed.down_proj
        joined = [getattr(each, "hinlap_joined", None) for each in first]
        if [each and len(each.pairs) // 2 for each in joined] != [3, 1, 2, 1]:
            return False
        self._joined: list[Joined] = [each for each in joined if each]
        weight = self._joined[0].frozen.weight
        head = getattr(attention, "head_dim", 0)
        native = native_for(weight, *(norm.weight for norm in norms))
        _, window = asked[attention]
        return bool(
            native
            and head
            and native.takes_heads(head, head)
            and window >= LONGEST_KEPT
            and not any(each.dropped for each in self._joined)
            and self._products_fit()
        )

    def _products_fit(self) -> bool:
        """Asked for each forward: DeepSpeed casts the pairs later."""
        dtype = self.module.input_layernorm.weight.dtype
        return all(
            each.frozen.weight.dtype == dtype and lora_kernel(each.frozen.weight[:1], each.weights)
            for each in self._joined
        )

    def forward(self, hidden_states: torch.Tensor, *others: Any, **named: Any) -> Any:
        """The layer's own, as one function where it can be."""
        angles = named.get("position_embeddings")
        lengths, read, shared = sequences()
        head = self.module.self_attn.head_dim
        if (
            others
            or angles is None
            or angles[0].shape[-1] != head
            or any(named.get(name) is not None for name in _UNUSED)
            or hidden_states.shape[:-1] != (1, shared + sum(lengths))
            or shared + max(lengths) > LONGEST_KEPT
            or torch.is_autocast_enabled("cpu")
            or not self._products_fit()
        ):
            return self._whole(hidden_states, *others, **named)
        pairs = [weight for each in self._joined for weight in each.weights]
        read = read if self.last else None
        learns = torch.is_grad_enabled()
        return _DecoderLayer.apply(  # type: ignore[no-untyped-call]
            hidden_states, self, angles, lengths, shared, read, learns, *pairs
        )

    def parts(self) -> tuple[Any, ...]:
        """Both norms, what LoRA joined, heads of queries, keys and values, and their scale."""
        module = self.module
        attention = module.self_attn
        named = attention.q_proj, attention.k_proj, attention.v_proj
        heads = [each.out_features // attention.head_dim for each in named]
        norms = module.input_layernorm, module.post_attention_layernorm
        return *norms, *self._joined, heads, asked[attention][0]


class _DecoderLayer(torch.autograd.Function):
    """x + o(attention(norm(x))), and to that its feed-forward of its norm: x (1, N, W) to the same.

    angles: cosines and sines (1, N, D). read: the places (M,) that later layers read, or None for
    all; the others are zeros. learns: whether there is a way back. pairs: of all products, as
    `Joined` has them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        layer: Layer,
        angles: tuple[torch.Tensor, torch.Tensor],
        lengths: tuple[int, ...],
        shared: int,
        read: torch.Tensor | None,
        learns: bool,
        *pairs: torch.Tensor,
    ) -> torch.Tensor:
        norm, later, qkv, o, gate_up, down, heads, scale = layer.parts()
        dtype = norm.weight.dtype
        native = native_for(norm.weight)
        assert native is not None
        ctx.layer, ctx.lengths, ctx.shared, ctx.read = layer, lengths, shared, read
        cos, sin = (each.to(dtype) for each in angles)
        flat = x[0].contiguous()
        normed, scales = _normed(native, flat, norm)
        joint, of_qkv = _times(native, normed, qkv)
        q, k, v, turning = _by_heads(joint, heads)
        native.rotate(turning, cos, sin, there=True)
        mixed, weights = native.causal(q, k, v, lengths, scale, shared=shared, keep=learns)
        mixed = mixed.view(len(flat), -1)
        rest = flat
        if read is not None:
            mixed, rest = mixed[read], flat[read]
        made, of_o = _times(native, mixed, o)
        middle = _plus(made, rest)
        normed_later, scales_later = _normed(native, middle, later)
        both, of_gate_up = _times(native, normed_later, gate_up)
        inner = native.silu_times(*both.chunk(2, -1))
        made, of_down = _times(native, inner, down)
        out = _plus(made, middle)
        if read is not None:
            out = _spread(out, read, len(flat))
        if learns:
            ctx.save_for_backward(
                *(flat, normed, scales, joint, weights, mixed, cos, sin),
                *(middle, normed_later, scales_later, both, inner),
                *(*of_qkv, *of_o, *of_gate_up, *of_down),
            )
        return out[None]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        saved = ctx.saved_tensors
        flat, normed, scales, joint, weights, mixed, cos, sin = saved[:8]
        middle, normed_later, scales_later, both, inner = saved[8:13]
        of_qkv, of_o, of_gate_up, of_down = (saved[i : i + 2] for i in range(13, 21, 2))
        norm, later, qkv, o, gate_up, down, heads, scale = ctx.layer.parts()
        native = native_for(norm.weight)
        assert native is not None
        read = ctx.read
        grad = grads[0][0] if read is None else grads[0][0, read]

        slope, *of_pairs = _back(native, grad, inner, down, of_down)
        slope = native.silu_times_back(slope, *both.chunk(2, -1))
        slope, *more = _back(native, slope, normed_later, gate_up, of_gate_up)
        of_pairs = [*more, *of_pairs]
        grad = native.rms_norm_back(slope, middle, later.weight, scales_later).add_(grad)
        slope, *more = _back(native, grad, mixed, o, of_o)
        of_pairs = [*more, *of_pairs]
        if read is not None:
            slope = _spread(slope, read, len(flat))
        q, k, v, _ = _by_heads(joint, heads)
        slope = slope.view(1, len(flat), heads[0], -1)
        found = native.causal_back(slope, q, k, v, weights, ctx.lengths, scale, shared=ctx.shared)
        slope = found.transpose(1, 2).reshape(len(flat), -1)
        native.rotate(_by_heads(slope, heads)[3], cos, sin, back=True, there=True)
        first = not ctx.needs_input_grad[0]
        slope, *more = _back(native, slope, normed, qkv, of_qkv, first=first)
        of_pairs = [*more, *of_pairs]
        if first:
            return None, None, None, None, None, None, None, *of_pairs
        if read is not None:
            grad = _spread(grad, read, len(flat))
        grad = native.rms_norm_back(slope, flat, norm.weight, scales).add_(grad)
        return grad[None], None, None, None, None, None, None, *of_pairs


def _normed(native: Kernels, x: torch.Tensor, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    scales = x.new_empty(len(x), dtype=torch.float32)
    return native.rms_norm(x, norm.weight, norm_epsilon(norm) or 0.0, scales), scales


def _times(
    native: Kernels, x: torch.Tensor, joined: Joined
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """The product of x (N, in) and what its way back needs."""
    count = len(joined.pairs) // 2
    weights = joined.weights
    thin, made = native.lora(x, weights[:count], weights[count:], joined.scale)
    return joined.frozen.times(x, thin), made


def _back(
    native: Kernels,
    grad: torch.Tensor,
    x: torch.Tensor,
    joined: Joined,
    made: Sequence[torch.Tensor],
    *,
    first: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `_times` in x, unless it is the first that learns, and in the pairs."""
    weights = joined.weights
    ups = weights[len(weights) // 2 :]
    rank, sizes = len(weights[0]), [len(each) for each in ups]
    grad = grad.to(x.dtype).contiguous()
    thin, (downs, found_ups) = native.lora_back(grad, x, rank, sizes, joined.scale, made)
    grad_x = None if first else joined.frozen.back(grad, thin)
    return grad_x, *torch.split(downs, rank), *torch.split(found_ups, sizes)


def _by_heads(joint: torch.Tensor, heads: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values (1, heads, N, D) of (N, all side by side), and the first two as one,
    which positions turn."""
    all_heads = joint.view(1, len(joint), sum(heads), -1).transpose(1, 2)
    q, k, v = torch.split(all_heads, list(heads), 1)
    return q, k, v, all_heads[:, : heads[0] + heads[1]]


def _plus(made: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Their sum in x's precision, in the place of what was made if that is the same."""
    return made.add_(x) if made.dtype == x.dtype else x + made


def _spread(rows: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
    """Rows at their places among zeros: (count, ...)."""
    return rows.new_zeros((count, rows.shape[1])).index_copy_(0, places, rows)


def _weighty(module: Any, *, recurse: bool = True) -> bool:
    return any(True for _ in module.parameters(recurse=recurse))
