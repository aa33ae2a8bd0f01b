"""The parts of a training step that profiles name, as autograd functions with the same numbers.

Sequences of a step lie one behind the other in one flat forward, without padding: attention is
computed for each by itself. Products with frozen weights, RMSNorm, the gated activation and the
head with its cross-entropy keep less for the way back than their plain forms and cast nothing
twice. `replacing.py` puts them into a model, `layers.py` strings them together.

Source: the head computed in chunks is that of Hsu et al. (2024), "Liger Kernel", section 3.2.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from hinlap.engines.native import Kernels, Thin, kernels
from hinlap.engines.packing import packed_product, packed_weight

NAME = "hinlap_packed"
_QUERY_ROWS = 128  # of attention at a time
LONGEST_KEPT = 1024
"""Tokens of a sequence whose attention weights are kept."""
_HEAD_ROWS = 512  # learnt tokens whose logits exist at a time
_HEAD_BYTES = 32 * 2**20 - 4096  # of them on CPUs: what is more glibc asks the system for each time
_LOSS_ROWS = 16  # of them, whose softmax exists at a time on CPUs: they stay in the cache
_PACK_ROWS = 640  # of a product, for which oneDNN lays packed weights out
_lengths: list[int] = []
_shared: list[int] = [0]
_read: list[torch.Tensor] = []
asked: weakref.WeakKeyDictionary[Any, tuple[float, int]] = weakref.WeakKeyDictionary()
"""The scale and window that each attention module last asked for."""


def native_for(*tensors: torch.Tensor) -> Kernels | None:
    """The compiled kernels where they take these tensors, all of one precision."""
    first = tensors[0]
    found = kernels() if first.device.type == "cpu" else None
    if found is None or not found.takes(first.dtype):
        return None
    return found if all(each.dtype == first.dtype for each in tensors) else None


class NotPackableError(Exception):
    """This architecture asks attention for something that is not here."""


def set_sequences(
    lengths: Sequence[int], read: torch.Tensor | None = None, shared: int = 0
) -> None:
    """Tokens of each sequence of the coming flat forward, and the places (M,) of those whose last
    hidden state is read; None for all. shared: tokens before them, an even number, that every
    sequence goes on from."""
    _lengths[:] = lengths
    _read[:] = [] if read is None else [read]
    _shared[:] = [shared]


def sequences() -> tuple[tuple[int, ...], torch.Tensor | None, int]:
    """What `set_sequences` was told last."""
    return tuple(_lengths), _read[0] if _read else None, _shared[0]


def register() -> None:
    """Makes `NAME` an attention implementation of transformers (without a mask of its own)."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query (1, H, N, D), key and value (1, KV heads, N, D) to
    (1, N, H, D); causal within each sequence, nothing between them."""
    if softcap or attention_mask is not None or others.get("s_aux") is not None:
        raise NotPackableError("its attention has soft caps, sinks or masks of its own")
    lengths, [shared] = tuple(_lengths), _shared
    if shared + sum(lengths) != query.shape[2]:
        raise ValueError(f"{query.shape[2]} tokens in sequences of {_lengths}")
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = sliding_window or sys.maxsize
    if module is not None:
        asked[module] = scale, window
    most = min(window, LONGEST_KEPT)
    if query.device.type != "cpu" or dropout or value.shape[-1] != query.shape[-1]:
        most = 0
    if not shared:
        return _of_each(query, key, value, lengths, scale, window, most, dropout), None
    if shared + max(lengths) <= most and _attending(query, key, value):
        return CausalAttention.apply(query, key, value, lengths, scale, shared), None  # type: ignore[no-untyped-call]
    whole, own = _places(lengths, shared, query.device)
    query, key, value = (each.index_select(2, whole) for each in (query, key, value))
    lengths = tuple(shared + length for length in lengths)
    out = _of_each(query, key, value, lengths, scale, window, most, dropout)
    return out.index_select(1, own), None


@functools.lru_cache(2)
def _places(
    lengths: tuple[int, ...], shared: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the tokens of all sequences lie after tokens that they share, and where among those
    each token of the forward comes first."""
    begin, own = shared, list(range(shared))
    whole: list[int] = []
    for length in lengths:
        own += range(len(whole) + shared, len(whole) + shared + length)
        whole += [*range(shared), *range(begin, begin + length)]
        begin += length
    return torch.tensor(whole, device=device), torch.tensor(own, device=device)


def _of_each(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int,
    most: int,
    dropout: float,
) -> torch.Tensor:
    """Attention of whole sequences, (1, N, H, D). most: tokens of one whose weights are kept."""
    parts = []
    runs: list[tuple[int, ...]] = []  # short sequences side by side, others by themselves
    for short, group in itertools.groupby(lengths, lambda length: length <= most):
        run = tuple(group)
        runs += [run] if short else [(length,) for length in run]
    split: list[tuple[torch.Tensor, ...]] = [(each,) for each in (query, key, value)]
    if len(runs) > 1:  # of one run it would copy on the way back
        counts = [sum(run) for run in runs]
        split = [torch.split(each, counts, 2) for each in (query, key, value)]
    for run, q, k, v in zip(runs, *split, strict=True):
        length = run[0]
        if length <= most:
            parts.append(CausalAttention.apply(q, k, v, run, scale))  # type: ignore[no-untyped-call]
            continue
        mask = None
        if length > window:
            places = torch.arange(length, device=q.device)
            back = places[:, None] - places
            mask = (back >= 0) & (back < window)
        parts.append(
            functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            ).transpose(1, 2)
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _attending(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Kernels | None:
    native = native_for(q, k, v)
    return native if native and native.attends(q, k, v) else None


class CausalAttention(torch.autograd.Function):
    """softmax(scale q k' , causal) v within each sequence, on the CPU: q (1, H, N, D), k and v
    (1, KV heads, N, D), lengths of the sequences that make up N, to (1, N, H, D). shared: tokens
    that lie before them and begin each; the kernel alone takes them.

    By the kernel where there is one; else by plain products over blocks of queries, in which heads
    that share their keys are rows of one. The weights are kept for the way back, which takes a
    third of the time of torch's own kernel; they are T * T / 2 numbers a head and sequence, so
    longer texts go by that kernel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        shared: int = 0,
    ) -> torch.Tensor:
        ctx.lengths, ctx.scale, ctx.shared = lengths, scale, shared
        ctx.native = native = _attending(q, k, v)
        if native:
            keep = any(ctx.needs_input_grad)
            out, weights = native.causal(q, k, v, lengths, scale, shared=shared, keep=keep)
            ctx.save_for_backward(q, k, v, weights)
            return out
        heads, count, width = q.shape[1:]
        groups = k.shape[1]
        out = torch.empty((1, count, heads, width), dtype=v.dtype)
        kept: list[torch.Tensor] = []
        learns = any(ctx.needs_input_grad)
        with torch.autocast("cpu", enabled=False):  # it would round the scores
            for begin, end in _spans(lengths):
                keys = (k[0, :, begin:end].float() * scale).transpose(1, 2)
                values = v[0, :, begin:end].contiguous()
                for start, stop in _blocks(begin, end):
                    seen = stop - begin
                    queries = _rows_of_groups(q[0, :, start:stop].float(), groups)
                    scores = torch.bmm(queries, keys[:, :, :seen]).view(heads, -1, seen)
                    later = scores[:, :, start - begin :]
                    later.masked_fill_(_later(stop - start), float("-inf"))
                    weights = scores.softmax(-1).to(v.dtype).view(groups, -1, seen)
                    found = torch.bmm(weights, values[:, :seen]).view(heads, -1, width)
                    out[0, start:stop] = found.transpose(0, 1)
                    if learns:
                        kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        q, k, v, *kept = ctx.saved_tensors
        if ctx.native:
            grad = grads[0].to(v.dtype)
            found = ctx.native.causal_back(
                grad, q, k, v, kept[0], ctx.lengths, ctx.scale, shared=ctx.shared
            )
            return *found.split([each.shape[1] for each in (q, k, v)], 1), None, None, None
        grad = grads[0][0].transpose(0, 1)  # (H, N, D)
        heads, width = q.shape[1], q.shape[3]
        groups = k.shape[1]
        grad_q, grad_k, grad_v = (torch.empty(each.shape, dtype=each.dtype) for each in (q, k, v))
        remaining = iter(kept)
        for begin, end in _spans(ctx.lengths):
            keys, values = (each[0, :, begin:end].contiguous() for each in (k, v))
            several = end - begin > _QUERY_ROWS
            sums = [torch.zeros(keys.shape, dtype=torch.float32) for _ in range(2 * several)]
            for start, stop in _blocks(begin, end):
                seen = stop - begin
                weights = next(remaining)
                queries = _rows_of_groups(q[0, :, start:stop], groups)
                coming = _rows_of_groups(grad[:, start:stop], groups)
                inner = torch.bmm(coming, values[:, :seen].transpose(1, 2))
                inner = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
                grad_q[0, :, start:stop] = torch.bmm(inner, keys[:, :seen]).view(heads, -1, width)
                more_k = torch.bmm(inner.transpose(1, 2), queries)
                more_v = torch.bmm(weights.transpose(1, 2), coming)
                if several:
                    sums[0][:, :seen] += more_k
                    sums[1][:, :seen] += more_v
                else:
                    sums = [more_k, more_v]
            grad_k[0, :, begin:end], grad_v[0, :, begin:end] = sums
        return grad_q.mul_(ctx.scale), grad_k.mul_(ctx.scale), grad_v, None, None, None


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First place and end of each sequence."""
    return itertools.pairwise(itertools.accumulate(lengths, initial=0))


def _blocks(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The queries of one sequence that are computed at a time."""
    for start in range(begin, end, _QUERY_ROWS):
        yield start, min(start + _QUERY_ROWS, end)


def _rows_of_groups(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(H, b, D) to (KV heads, H / KV heads * b, D)."""
    return x.reshape(groups, -1, x.shape[-1])


@functools.cache
def _later(count: int) -> torch.Tensor:
    """(count, count) True where a column comes after its row."""
    return torch.ones(count, count, dtype=torch.bool).triu(1)


class FrozenWeight:
    """A weight W (out, in) that no step changes, and its bias (out,).

    pack: also keep it as oneDNN wants it for both products, twice the memory; bfloat16 ones take
    a twentieth less time so.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, pack: bool) -> None:
        self.weight, self.bias = weight, bias
        self._room: torch.Tensor | None = None
        self._packed: list[Any] = []
        if pack:
            self._packed = [packed_weight(side, _PACK_ROWS) for side in (weight, weight.T)]

    def times(self, x: torch.Tensor, thin: Thin | None = None) -> torch.Tensor:
        """x W' + b of x (N, in), in W's precision, and what LoRA adds."""
        native = _multiplying(x, self.weight, self.bias)
        if native and not self._packed:
            return native.product(x.contiguous(), self.weight, self.bias, back=False, thin=thin)
        if self._packed:
            made = packed_product(x, self._packed[0], self.bias)
        else:
            made = functional.linear(x, self.weight, self.bias)
        return thin.added_to(made) if thin else made

    @property
    def keeps_room(self) -> bool:
        """Whether `times_there` puts results where the last ones were."""
        return self.weight.device.type == "cpu" and not self._packed

    def times_there(self, x: torch.Tensor) -> torch.Tensor:
        """As `times`, without a bias, until the next call: large results would be new memory from
        the system each time, for it to clear."""
        if not self.keeps_room:
            return self.times(x)
        if self._room is None or len(self._room) < len(x):
            self._room = self.weight.new_empty((len(x), len(self.weight)))
        room, native = self._room[: len(x)], native_for(x, self.weight)
        fits = native and native.multiplies_forward(x.dtype, *self.weight.shape)
        if native and fits and self.weight.is_contiguous():
            return native.product(x.contiguous(), self.weight, None, back=False, to=room)
        return torch.mm(x, self.weight.T, out=room)

    def back(self, grad: torch.Tensor, thin: Thin | None = None) -> torch.Tensor:
        """grad W of grad (N, out), in W's precision, and what LoRA adds."""
        native = _multiplying(grad, self.weight)
        if native and not self._packed:
            return native.product(grad.contiguous(), self.weight, None, back=True, thin=thin)
        made = packed_product(grad, self._packed[1], None) if self._packed else grad @ self.weight
        return thin.added_to(made) if thin else made


def _multiplying(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> Kernels | None:
    """Where a product by the kernel is at least as quick as torch's."""
    native = native_for(x, weight, *(() if bias is None else (bias,)))
    if not native or not native.multiplies(weight.dtype, *weight.shape):
        return None
    return native if weight.is_contiguous() else None


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """LoRA layers on the same input: their frozen weights one below the other, what scales their
    pairs, modules of all downs and then of all ups; whether something of the input is dropped."""

    frozen: FrozenWeight
    scale: float
    pairs: tuple[Any, ...]
    dropped: bool

    @property
    def weights(self) -> list[torch.Tensor]:
        return [each.weight for each in self.pairs]


class LoraProducts(torch.autograd.Function):
    """x W' + b + scale (x A') B' with W frozen, of several layers on the same x: (N, in) to
    (N, out) each, in W's precision.

    frozen: W and b of all layers, one below the other. pairs: all downs A (r, in), then all ups B
    (out, r), float32, rounded to W's precision for the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        frozen: FrozenWeight,
        scale: float,
        *pairs: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = len(pairs) // 2
        downs, ups = pairs[:count], pairs[count:]
        dtype = frozen.weight.dtype
        flat = x.to(dtype).reshape(-1, x.shape[-1])
        native = lora_kernel(flat, pairs)
        made: tuple[torch.Tensor, ...]
        if native:
            thin, made = native.lora(flat, downs, ups, scale)
            out = frozen.times(flat, thin)
        else:
            out = frozen.times(flat)
            down = (torch.cat(downs) if count > 1 else downs[0]).to(dtype)
            up = ups[0] if count == 1 else torch.block_diag(*ups)  # type: ignore[no-untyped-call]
            made = (flat @ down.T, down, (up * scale).to(dtype))  # (N, r of all) first
            out.addmm_(made[0], made[2].T)
        ctx.save_for_backward(flat, *made)
        ctx.frozen, ctx.scale, ctx.native = frozen, scale, native
        ctx.rank, ctx.sizes = len(downs[0]), [len(each) for each in ups]
        return torch.split(out.view(*x.shape[:-1], sum(ctx.sizes)), ctx.sizes, -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        flat, *made = ctx.saved_tensors
        rank, sizes = ctx.rank, ctx.sizes
        shape = grads[0].shape
        grad = _beside(grads).to(flat.dtype).reshape(-1, sum(sizes))
        grad_x = None
        if ctx.native:
            grad = grad.contiguous()
            thin, found = ctx.native.lora_back(grad, flat, rank, sizes, ctx.scale, made)
            grad_downs, grad_ups = found[0].split(rank), found[1].split(sizes)
            if ctx.needs_input_grad[0]:
                grad_x = ctx.frozen.back(grad, thin)
        else:
            low, down, up = made
            grad_low = grad @ up  # (N, r of all)
            if ctx.needs_input_grad[0]:
                grad_x = ctx.frozen.back(grad).addmm_(grad_low, down)
            grad_downs = (grad_low.T @ flat).float().split(rank)
            grad_ups = tuple(
                block[:, place * rank : (place + 1) * rank].float() * ctx.scale
                for place, block in enumerate((low.T @ grad).T.split(sizes))
            )
        if grad_x is not None:
            grad_x = grad_x.view(*shape[:-1], flat.shape[1])
        return grad_x, None, None, *grad_downs, *grad_ups


def lora_kernel(flat: torch.Tensor, pairs: Sequence[torch.Tensor]) -> Kernels | None:
    """Where it takes them."""
    native = native_for(flat)
    ups = pairs[len(pairs) // 2 :]
    fits = native and native.takes_lora(len(pairs[0]), flat.shape[1], [len(each) for each in ups])
    plain = flat.is_contiguous() and all(
        each.dtype == torch.float32 and each.is_contiguous() for each in pairs
    )
    return native if fits and plain else None


def _beside(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One tensor of parts along the last axis; without a copy where they lie so in memory."""
    first = parts[0]
    place = first.storage_offset()
    for part in parts:
        if (
            part.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
            or part.storage_offset() != place
            or part.stride() != first.stride()
            or part.stride(-1) != 1
        ):
            return torch.cat(list(parts), -1)
        place += part.shape[-1]
    width = place - first.storage_offset()
    return first.as_strided((*first.shape[:-1], width), first.stride())


class Rotary(torch.autograd.Function):
    """x cos + rotated(x) sin, halves rotated: rotary positions as Llama and GPT-NeoX have them.

    Source: Su et al. (2021), "RoFormer". x: (B, H, N, D). cos, sin: (B or 1, N, D), in x's
    precision, both halves equal.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        native = native_for(x, cos, sin) if len(x) == len(cos) == 1 else None
        return native.rotate(x, cos, sin) if native else _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        [grad] = grads
        native = native_for(grad, cos, sin) if len(grad) == len(cos) == 1 else None
        turned = native.rotate(grad, cos, sin, back=True) if native else _rotated(grad, cos, -sin)
        return turned, None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    half = x.shape[-1] // 2
    cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
    (a, b), (first, second) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(a, cos, out=first)
    first.addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second)
    second.addcmul_(a, sin)
    return out


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last axis, computed in float32, in ``like``'s precision."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        native = _norm_kernel(x, weight) if weight.dtype == dtype else None
        if native:
            scale = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
            ctx.save_for_backward(x, weight, scale)
            return native.rms_norm(x, weight, epsilon, scale)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).to(dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, weight, scale = ctx.saved_tensors
        native = _norm_kernel(x, weight) if grads[0].dtype == weight.dtype else None
        if native and not ctx.needs_input_grad[1]:
            return native.rms_norm_back(grads[0], x, weight, scale), None, None, None
        wide, flat = grads[0].float(), x.float()
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (wide * flat * scale).flatten(0, -2).sum(0).to(weight.dtype)
        wide = wide * weight.float()
        along = (wide * flat).mean(-1, keepdim=True).mul_(scale**3)
        return wide.mul_(scale).addcmul_(flat, along, value=-1).to(x.dtype), grad_weight, None, None


def _norm_kernel(x: torch.Tensor, weight: torch.Tensor) -> Kernels | None:
    """Of x in the weight's precision, or of float32 in bfloat16."""
    native = native_for(weight)
    return native if native and x.dtype in (weight.dtype, torch.float32) else None


class GatedSilu(torch.autograd.Function):
    """silu(gate) * up, keeping only the two. Their gradients lie side by side."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        native = native_for(gate, up)
        return native.silu_times(gate, up) if native else functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        gate, up = ctx.saved_tensors
        [grad] = grads
        native = native_for(grad, gate, up)
        if native:
            both = native.silu_times_back(grad, gate, up)
            return both.chunk(2, -1)
        both = gate.new_empty((*gate.shape[:-1], 2 * gate.shape[-1]))
        grad_gate, grad_up = both.chunk(2, -1)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        torch.mul(functional.silu(gate), grad, out=grad_up)
        return grad_gate, grad_up


class HeadLoss(torch.autograd.Function):
    """Sum of nats of ``targets`` under softmax(hidden @ weight.T), and how many were the first
    choice; logits of a few rows exist at a time, gradients are made on the way.

    hidden: (M, D). weight: (V, D). targets: (M,). frozen: the weight, where no step changes it.
    Returns a float32 scalar and an int64 one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        frozen: FrozenWeight | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        flat = hidden.detach()
        nats = torch.zeros((), dtype=torch.float32, device=flat.device)
        hits = torch.zeros((), dtype=torch.int64, device=flat.device)
        grad_hidden = torch.empty_like(flat) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        most = _HEAD_ROWS
        if flat.device.type == "cpu" and not (frozen and frozen.keeps_room):
            most = min(most, max(_LOSS_ROWS, _HEAD_BYTES // (len(weight) * weight.element_size())))
        most = math.ceil(len(flat) / max(1, math.ceil(len(flat) / most))) or 1  # pieces alike
        learns = wants_hidden or wants_weight
        for start in range(0, len(flat), most):
            rows = flat[start : start + most].to(weight.dtype)
            logits = frozen.times_there(rows) if frozen else rows @ weight.T
            found_nats, found_hits = _cross_entropy(
                logits, targets[start : start + len(rows)], learns
            )
            nats += found_nats
            hits += found_hits
            if grad_hidden is not None:
                back = frozen.back(logits) if frozen else logits @ weight
                grad_hidden[start : start + len(rows)] = back
            if grad_weight is not None:
                grad_weight.addmm_(logits.T.float(), rows.float())
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        grad_hidden, grad_weight = ctx.saved_tensors
        grad = grads[0]
        if grad_hidden is not None:
            grad_hidden = grad_hidden * grad.to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * grad).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None


def _cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, learns: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of nats and of first choices; learns: the gradient takes the logits' place."""
    native = native_for(logits)
    if native:
        each, first = native.cross_entropy(logits, targets, gradient=learns)
        return each.sum(), first.sum()
    nats = torch.zeros((), dtype=torch.float32, device=logits.device)
    hits = torch.zeros((), dtype=torch.int64, device=logits.device)
    most_rows = _LOSS_ROWS if logits.device.type == "cpu" else _HEAD_ROWS
    pieces = (torch.split(each, most_rows) for each in (logits, targets))
    for part, wanted in zip(*pieces, strict=True):
        wanted = wanted[:, None]
        chances = part.softmax(-1, dtype=torch.float32)
        most, place = chances.max(-1, keepdim=True)
        hits += (place == wanted).sum()
        total = part.gather(1, place).float() - most.log()  # logsumexp: most is not small
        nats += (total - part.gather(1, wanted).float()).sum()
        if learns:
            chances.scatter_add_(1, wanted, torch.full_like(total, -1.0))
            part.copy_(chances)
    return nats, hits


def plain_loss(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `HeadLoss`, from logits (M, V)."""
    wide = logits.float()
    hits = (wide.argmax(-1) == targets).sum()
    return functional.cross_entropy(wide, targets, reduction="sum"), hits
