"""Decoder layers of Llama's shape in one call, for forwards of few tokens.

Between a layer's dozen operations Python takes a third of a decoding step. Which layers have the
shape is told by their parts' names, and by a forward that must give the same numbers
(`Weights._take_blocks`); others, and forwards of many tokens, keep to transformers' own code.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_long, c_void_p
from typing import Any

import torch

from hinlap.engines.fused import has_gated_silu, norm_epsilon
from hinlap.engines.native import PRODUCT_ROWS, Kernels, product_space, queries_at_once
from hinlap.engines.tree_attention import Layout, Rule, active_layout, parts_table, rows_slots

_CHILDREN = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_PRODUCTS = ("q_proj", "k_proj", "v_proj", "o_proj")


class _Block(ctypes.Structure):
    """As in block.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("attention_norm", "feed_norm")),
        *((name, c_void_p) for part in "qkvo" for name in (part, f"{part}_bias")),
        *((name, c_void_p) for name in ("gate", "up", "down", "down_bias")),
        *((name, c_long) for name in ("width", "inner", "heads", "kv_heads", "head", "window")),
        *((name, c_float) for name in ("attention_epsilon", "feed_epsilon", "scale", "softcap")),
    )


class _Room(ctypes.Structure):
    """As in block.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("norms", "q", "k", "v", "mixed", "inner", "space")),
        *((name, c_void_p) for name in ("cos", "sin", "positions", "slots")),
        *((name, c_long) for name in ("rows", "threads", "capacity", "some")),
    )


def blocks(model: Any, kernels: Kernels, rules: dict[int, Rule]) -> list[Block]:
    """Those layers of a fused model that have the shape. rules: each layer's, of its attention."""
    found = []
    for module in model.modules():
        layer: int = getattr(getattr(module, "self_attn", None), "layer_idx", -1)
        shaped = layer in rules and _has_the_shape(module, model.dtype)
        if shaped and kernels.takes_heads(module.self_attn.head_dim, module.self_attn.head_dim):
            found.append(Block(module, layer, kernels, rules[layer]))
    return found


def _has_the_shape(module: Any, dtype: torch.dtype) -> bool:
    children = dict(module.named_children())
    if set(children) != _CHILDREN or any(True for _ in module.parameters(recurse=False)):
        return False
    if "forward" in vars(module):
        return False
    attention, feed = module.self_attn, module.mlp
    norms = module.input_layernorm, module.post_attention_layernorm
    # norms, rotary positions and the gate are those that `fused` knows
    if any("forward" not in vars(part) for part in (*norms, attention, feed)):
        return False
    if any(norm_epsilon(norm) is None for norm in norms) or not has_gated_silu(feed):
        return False
    weighty = {n for n, part in attention.named_children() if any(True for _ in part.parameters())}
    if weighty != set(_PRODUCTS):
        return False
    linear = [getattr(attention, name) for name in _PRODUCTS]
    linear += [feed.gate_proj, feed.up_proj, feed.down_proj]
    head = getattr(attention, "head_dim", None)
    if not all(type(each) is torch.nn.Linear and each.weight.is_contiguous() for each in linear):
        return False
    q, k, v, o, gate, up, down = ((each.out_features, each.in_features) for each in linear)
    width, wide, inner = q[1], q[0], gate[0]
    sizes = (wide, width), k, k, (width, wide), (inner, width), (inner, width), (width, inner)
    return (
        isinstance(head, int)
        and (q, k, v, o, gate, up, down) == sizes
        and k[1] == width
        and k[0] % head == wide % k[0] == 0
        and all(each.in_features * dtype.itemsize % 4 == 0 for each in linear)
        and all(p.dtype == dtype for p in module.parameters())
        and feed.gate_proj.bias is None
        and feed.up_proj.bias is None
    )


class Block:
    """One layer: its weights' places, and the forward that takes them."""

    def __init__(self, module: Any, layer: int, kernels: Kernels, rule: Rule) -> None:
        attention, feed = module.self_attn, module.mlp
        self.module = module
        self._layer = layer
        self._kernels = kernels
        self._whole = module.forward
        self._dtype = attention.q_proj.weight.dtype
        # parameters themselves: what the addresses are of must not go
        self._weights = list(module.parameters())
        head = attention.head_dim
        self._width, self._inner = attention.q_proj.in_features, feed.gate_proj.out_features
        self._heads = attention.q_proj.out_features // head
        self._groups = attention.k_proj.out_features // head
        self._head = head
        self._block = _Block(
            _at(module.input_layernorm.weight),
            _at(module.post_attention_layernorm.weight),
            *(
                _at(tensor)
                for name in _PRODUCTS
                for tensor in (getattr(attention, name).weight, getattr(attention, name).bias)
            ),
            _at(feed.gate_proj.weight),
            _at(feed.up_proj.weight),
            _at(feed.down_proj.weight),
            _at(feed.down_proj.bias),
            self._width,
            self._inner,
            self._heads,
            self._groups,
            head,
            rule.window,
            norm_epsilon(module.input_layernorm),
            norm_epsilon(module.post_attention_layernorm),
            rule.scale,
            rule.softcap,
        )

    def forward(self, hidden_states: torch.Tensor, *others: Any, **named: Any) -> Any:
        """The layer's own forward, in one call where that can be."""
        layout = active_layout()
        angles = named.get("position_embeddings")
        if layout is None or others or angles is None or not self._fits(layout, hidden_states):
            return self._whole(hidden_states, *others, **named)
        room = self._room(layout, hidden_states, *angles)
        if room is None or named.get("attention_mask") is not None:
            return self._whole(hidden_states, *others, **named)
        rows, stored = layout.rows, None
        if rows is not None:
            stored = rows.keys[self._layer], rows.values[self._layer]
            if stored[0].dtype != self._dtype or stored[0].shape[1:] != (
                self._groups,
                room.struct.capacity,
                self._head,
            ):
                return self._whole(hidden_states, **named)
        table = parts_table(layout, self._layer, room.k, room.v)
        return self._kernels.block(
            hidden_states,
            ctypes.addressof(self._block),
            ctypes.addressof(room.struct),
            stored,
            table,
        )

    def _fits(self, layout: Layout, x: torch.Tensor) -> bool:
        return (
            not layout.keep
            and not layout.adapted
            and x.dtype == self._dtype
            and x.shape == (1, len(layout.positions), self._width)
            and x.shape[1] <= PRODUCT_ROWS
            and x.is_contiguous()
        )

    def _room(
        self, layout: Layout, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> _Shared | None:
        """What this forward's layers of one shape share; None where positions are told in another
        way."""
        sizes = self._width, self._inner, self._heads, self._groups, self._head
        key = *sizes, cos.data_ptr(), sin.data_ptr()
        if key not in layout.rooms:
            tokens = x.numel() // self._width
            usual = cos.shape == sin.shape == (1, tokens, self._head) and cos.dtype == self._dtype
            layout.rooms[key] = _Shared(layout, x, cos, sin, sizes) if usual else None
        shared: _Shared | None = layout.rooms[key]
        return shared


class _Shared:
    """A room, and the tensors that it is of. k, v: (KV heads, N, D)."""

    def __init__(
        self,
        layout: Layout,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        sizes: tuple[int, ...],
    ) -> None:
        width, inner, heads, groups, head = sizes
        tokens = x.numel() // width
        self._angles = cos.contiguous(), sin.contiguous()
        names = (width, heads * head, groups * head, groups * head, heads * head, inner)
        tensors = [x.new_empty((tokens, n)) for n in names]
        widest = x.new_empty((0, max(names)))
        space = product_space(widest, tokens)
        self.k, self.v = (each.view(tokens, groups, head).transpose(0, 1) for each in tensors[2:4])
        slots, capacity = None, 0
        if layout.rows is not None:
            blocks = next(keys for keys in layout.rows.keys if keys.shape[1] == groups)
            slots, capacity = rows_slots(layout.rows, blocks, every_head=False), blocks.shape[2]
        self._kept = (*tensors, space, slots, cos, sin)  # whose addresses name the room, too
        self.struct = _Room(
            *(_at(each) for each in (*tensors, space, *self._angles, layout.positions, slots)),
            tokens,
            torch.get_num_threads(),
            capacity,
            queries_at_once(tokens, heads, groups),
        )


def _at(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
