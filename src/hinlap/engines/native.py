"""Products, attention and small layers in C, for CPUs with AVX-512.

The files in `kernels` are compiled once on each machine that has a C compiler, into the cache
folder. Elsewhere torch's own operations do the same: for few rows they read the weights at half the
memory's speed, and one layer's attention takes a dozen of them (docs/lab-notes.md).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.resources
import itertools
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import c_float, c_int, c_long, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hinlap.engines.places import cache_folder

_ENDS = (".c", ".h")
_OPTIONS = ("-O3", "-march=native", "-fPIC", "-fopenmp")
_WIDEST = 256  # of a head, as in attention.c
_QUERIES = 64  # of one thread at a time, as in attention.c
_TASK = 48  # queries of a sequence, as BLOCK in causal.c
_TURNED = 64  # keys that are turned at once, as CHUNK there
_MOST_RANKS = 64  # of LoRA: more were not tried
_RANKS, _LAYERS = 8, 8  # at once, EIGHT in lora.c, and at the most, LAYERS in tiles.h
_THIN = 13  # words of Thin in tiles.h
_CACHED = 32 * 2**20  # bytes of a weight whose pieces are worth laying out at each product
_PRODUCT_ROOM = (384 + 1024) * 64  # numbers of a thread, (MOST + DEPTH) * CHUNK in matrix.c
_FEW = 8  # rows of a product that leave a vector of 16 half empty
PRODUCT_ROWS = 64
"""Of a product at the most: with more, torch's own is as quick."""
PART = 14
"""Numbers of a Part in kernels.h."""
Array = np.ndarray[Any, np.dtype[np.int64]]
_SIGNATURES = {
    "hinlap_linear": [c_int, c_void_p, c_void_p, *[c_long] * 3],
    "hinlap_gated": [c_int, *[c_void_p] * 4, *[c_long] * 3],
    "hinlap_wide_linear": [c_int, c_void_p, c_void_p, *[c_long] * 4, c_void_p],
    "hinlap_wide_gated": [c_int, *[c_void_p] * 4, *[c_long] * 4, c_void_p],
    "hinlap_rms_norm": [c_int, c_int, c_void_p, c_void_p, c_float, *[c_void_p] * 2, *[c_long] * 2],
    "hinlap_rms_norm_back": [c_int, c_int, *[c_void_p] * 5, *[c_long] * 2],
    "hinlap_silu_times": [c_int, *[c_void_p, c_long] * 3, *[c_long] * 2],
    "hinlap_silu_times_back": [
        *[c_int, c_void_p, c_void_p, c_long, c_void_p, c_long],
        *[c_void_p, c_long, c_long],
    ],
    "hinlap_rotate": [c_int, *[c_void_p] * 4, *[c_long] * 5, c_float],
    "hinlap_likeliest": [c_int, c_void_p, c_long, c_long, c_void_p, c_void_p],
    "hinlap_cross_entropy": [c_int, *[c_void_p] * 2, *[c_long] * 2, *[c_void_p] * 2, c_int],
    "hinlap_store": [c_int, c_void_p, *[c_long] * 5, c_void_p, c_long, c_void_p],
    "hinlap_attend": [
        *[c_int, c_void_p, c_long, c_void_p, c_long, c_long, c_void_p, *[c_long] * 4],
        *[c_float, c_float, c_long, c_long, c_void_p],
    ],
    "hinlap_product": [c_int, *[c_void_p] * 4, *[c_long] * 4, c_void_p, c_long, c_void_p],
    "hinlap_causal": [c_int, *[c_void_p] * 2, c_long, c_void_p, c_float, *[c_void_p] * 2],
    "hinlap_causal_back": [c_int, *[c_void_p] * 2, c_long, c_void_p, c_float, *[c_void_p] * 2],
    "hinlap_lora": [c_int, *[c_void_p] * 4, c_float, *[c_void_p] * 2],
    "hinlap_lora_back": [c_int, *[c_void_p] * 6, c_float, *[c_void_p] * 4],
    "hinlap_spread": [c_int, c_void_p, c_long, c_void_p],
    "hinlap_block": [c_int, *[c_void_p] * 7, c_long],
}


class Thin:
    """What LoRA adds to a product, as `Thin` in tiles.h tells it, and the memory where it is."""

    __slots__ = ("_library", "_memory", "told")

    def __init__(self, library: ctypes.CDLL, *memory: torch.Tensor) -> None:
        self._library, self._memory = library, memory
        self.told = (c_long * _THIN)()

    def added_to(self, y: torch.Tensor) -> torch.Tensor:
        """y, a product (N, all columns), with it."""
        y = y.contiguous()
        self._library.hinlap_spread(y.dtype == torch.bfloat16, self.told, len(y), y.data_ptr())
        return y


class Kernels:
    """The compiled functions; arguments are not checked beyond what `takes` and `attends` say."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, types in _SIGNATURES.items():
            getattr(library, name).argtypes = types
            getattr(library, name).restype = None
        self._library = library
        self._bfloat16 = bool(library.hinlap_has_bfloat16())

    def takes(self, dtype: torch.dtype) -> bool:
        """float32, and bfloat16 where the processor multiplies it."""
        return dtype == torch.float32 or (dtype == torch.bfloat16 and self._bfloat16)

    def linear(
        self, x: torch.Tensor, *layers: tuple[torch.Tensor, torch.Tensor | None]
    ) -> list[torch.Tensor]:
        """x W' + b of x (..., in), up to 64 rows, for each of up to 8 layers of a contiguous
        W (out, in), and b (out,) or none; sums in float32."""
        x = x.contiguous()
        before, results, table = x.shape[:-1], [], []
        for weight, bias in layers:
            y = x.new_empty((*before, len(weight)))
            results.append(y)
            table += [
                weight.data_ptr(),
                0 if bias is None else bias.data_ptr(),
                y.data_ptr(),
                len(weight),
            ]
        width = x.shape[-1]
        rows = x.numel() // width
        head = x.dtype == torch.bfloat16, x.data_ptr(), (c_long * len(table))(*table), len(layers)
        space = product_space(x, rows)
        if space is None:
            self._library.hinlap_linear(*head, rows, width)
        else:
            threads = torch.get_num_threads()
            self._library.hinlap_wide_linear(*head, rows, width, threads, space.data_ptr())
        return results

    def gated(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """silu(x G') * (x U') of x (..., in), up to 64 rows, and contiguous G, U (out, in)."""
        x = x.contiguous()
        out, width = gate.shape
        y = x.new_empty((*x.shape[:-1], out))
        rows = x.numel() // width
        parts = x.data_ptr(), gate.data_ptr(), up.data_ptr(), y.data_ptr()
        head = x.dtype == torch.bfloat16, *parts, rows, width, out
        space = product_space(x, rows)
        if space is None:
            self._library.hinlap_gated(*head)
        else:
            threads = torch.get_num_threads()
            self._library.hinlap_wide_gated(*head, threads, space.data_ptr())
        return y

    def rms_norm(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        epsilon: float,
        scales: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """w x / sqrt(mean(x^2) + epsilon) over the last dimension of x (..., n), in the precision
        of w (n,): x's, or bfloat16.

        The factors 1 / sqrt(...) are put into ``scales``, float32, one for each row.
        """
        x = x.contiguous()
        y = torch.empty_like(x, dtype=weight.dtype)
        width = len(weight)
        self._library.hinlap_rms_norm(
            x.dtype == torch.bfloat16,
            weight.dtype == torch.bfloat16,
            x.data_ptr(),
            weight.data_ptr(),
            epsilon,
            y.data_ptr(),
            None if scales is None else scales.data_ptr(),
            x.numel() // width,
            width,
        )
        return y

    def rms_norm_back(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor
    ) -> torch.Tensor:
        """The gradient in x of `rms_norm`, from one of weight's precision."""
        x, grad = x.contiguous(), grad.contiguous()
        y = torch.empty_like(x)
        width = len(weight)
        self._library.hinlap_rms_norm_back(
            x.dtype == torch.bfloat16,
            weight.dtype == torch.bfloat16,
            grad.data_ptr(),
            x.data_ptr(),
            weight.data_ptr(),
            scales.data_ptr(),
            y.data_ptr(),
            x.numel() // width,
            width,
        )
        return y

    def silu_times(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up, (..., n) each."""
        out = gate.new_empty(gate.shape)
        gates, ups = (_rows(each) for each in (gate, up))
        self._library.hinlap_silu_times(
            gate.dtype == torch.bfloat16,
            gates.data_ptr(),
            gates.stride(0),
            ups.data_ptr(),
            ups.stride(0),
            out.data_ptr(),
            gate.shape[-1],
            *gates.shape,
        )
        return out

    def silu_times_back(
        self, grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
    ) -> torch.Tensor:
        """Gradients of `silu_times` in the gate and beside it in up: (..., 2 n)."""
        both = gate.new_empty((*gate.shape[:-1], 2 * gate.shape[-1]))
        gates, ups, grad = _rows(gate), _rows(up), grad.contiguous()
        self._library.hinlap_silu_times_back(
            gate.dtype == torch.bfloat16,
            grad.data_ptr(),
            gates.data_ptr(),
            gates.stride(0),
            ups.data_ptr(),
            ups.stride(0),
            both.data_ptr(),
            *gates.shape,
        )
        return both

    def rotate(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        *,
        back: bool = False,
        there: bool = False,
    ) -> torch.Tensor:
        """x cos + (-b, a) sin of x = (a, b), (1, H, N, D), and cos, sin (1, N, D): rotary positions
        (Su et al. 2021). back: by the negative angles, where both halves of cos and of sin are
        equal. there: in x's place."""
        y = x if there else torch.empty_like(x)
        if y.stride() != x.stride():
            x = x.contiguous()
            y = torch.empty_like(x)
        cos, sin = cos.contiguous(), sin.contiguous()
        _, heads, tokens, width = x.shape
        self._library.hinlap_rotate(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            y.data_ptr(),
            tokens,
            heads,
            width,
            x.stride(2),
            x.stride(1),
            -1.0 if back else 1.0,
        )
        return y

    def cross_entropy(
        self, logits: torch.Tensor, targets: torch.Tensor, *, gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats of each target (M,) under softmax(logits), float32, and 1 where it is the first
        choice, int64. logits: contiguous (M, V); with ``gradient``, softmax less 1 at the target
        takes their place."""
        rows, width = logits.shape
        targets = targets.contiguous()
        nats = torch.empty(rows, dtype=torch.float32)
        hits = torch.empty(rows, dtype=torch.int64)
        self._library.hinlap_cross_entropy(
            logits.dtype == torch.bfloat16,
            logits.data_ptr(),
            targets.data_ptr(),
            rows,
            width,
            nats.data_ptr(),
            hits.data_ptr(),
            gradient,
        )
        return nats, hits

    def likeliest(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(M,) log-sum-exp of (M, V) logits, float32, and (M,) places of the highest; a row with a
        number that is none, or plus infinity, or nothing above minus infinity, has a sum that is
        not finite."""
        logits = logits.contiguous()
        rows, width = logits.shape
        sums = torch.empty(rows, dtype=torch.float32)
        places = torch.empty(rows, dtype=torch.int64)
        self._library.hinlap_likeliest(
            logits.dtype == torch.bfloat16,
            logits.data_ptr(),
            rows,
            width,
            sums.data_ptr(),
            places.data_ptr(),
        )
        return sums, places

    def store(self, new: torch.Tensor, blocks: torch.Tensor, slots: torch.Tensor) -> None:
        """Puts new (KV heads, B, D) into blocks (R, KV heads, C, D). slots: (B,) int64, where each
        token's first head goes in the flattened (R * KV heads * C)."""
        heads, tokens, width = new.shape
        self._library.hinlap_store(
            new.dtype == torch.bfloat16,
            new.data_ptr(),
            new.stride(1),
            new.stride(0),
            tokens,
            heads,
            width,
            slots.data_ptr(),
            blocks.shape[2],
            blocks.data_ptr(),
        )

    def takes_heads(self, key: int, value: int) -> bool:
        """Keys and values of 16, 32, ... 256 numbers."""
        return key == value <= _WIDEST and key % 16 == 0

    def attends(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
        """Whether `attend` can, and `causal`."""
        return (
            q.device.type == "cpu"
            and self.takes(q.dtype)
            and q.dtype == k.dtype == v.dtype
            and self.takes_heads(k.shape[-1], v.shape[-1])
            and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        )

    def attend(
        self,
        q: torch.Tensor,
        parts: Array,
        positions: torch.Tensor,
        groups: int,
        scale: float,
        softcap: float,
        window: int,
    ) -> torch.Tensor:
        """Attention of q (H, N, D) over parts to (N, H, D).

        parts: (P, `PART`) int64, as Part in kernels.h; positions: (N,) int64; groups: heads of
        keys and values; scale: of the products; softcap: c in c * tanh(x / c), 0 for none; window:
        how many positions back a token sees, itself included, 0 for all.
        """
        heads, tokens, width = q.shape
        out = q.new_empty((tokens, heads, width))
        self._library.hinlap_attend(
            q.dtype == torch.bfloat16,
            parts.ctypes.data,
            len(parts),
            q.data_ptr(),
            q.stride(1),
            q.stride(0),
            positions.data_ptr(),
            tokens,
            groups,
            heads // groups,
            width,
            scale,
            softcap,
            window,
            queries_at_once(tokens, heads, groups),
            out.data_ptr(),
        )
        return out

    def causal(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        *,
        shared: int,
        keep: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """softmax(scale q k', causal) v within each of the sequences that make up N, and with
        ``keep`` what `causal_back` needs. q: (1, H, N, D), k and v: (1, KV heads, N, D), numbers of
        a head side by side; to (1, N, H, D). shared: so many tokens, an even number, come first and
        begin every sequence; lengths: of what follows of each."""
        out = v.new_empty((1, q.shape[2], q.shape[1], q.shape[3]))
        plan = _Causal(q, k, lengths, shared)
        kept = v.new_empty(plan.kept, dtype=torch.float32) if keep else None
        space = v.new_empty(plan.space(2 * k.shape[1]), dtype=torch.float32)
        plan.run(
            self._library.hinlap_causal,
            (q, k, v, out.transpose(1, 2)),
            scale,
            None if kept is None else kept.data_ptr(),
            space,
        )
        return out, kept

    def causal_back(
        self,
        grad: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        kept: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        *,
        shared: int,
    ) -> torch.Tensor:
        """Gradients of `causal` in q, k and v from ``grad`` (1, N, H, D), those of all heads beside
        each other: (1, H + 2 KV heads, N, D)."""
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        heads = [each.shape[1] for each in (q, k, v)]
        grads = v.new_empty((1, v.shape[2], sum(heads), v.shape[3])).transpose(1, 2)
        plan = _Causal(q, k, lengths, shared)
        size = plan.space(2 * (q.shape[1] + k.shape[1])) + plan.kept
        plan.run(
            self._library.hinlap_causal_back,
            (q, k, v, grad.transpose(1, 2), *torch.split(grads, heads, 1)),
            scale,
            kept.data_ptr(),
            v.new_empty(size, dtype=torch.float32),
        )
        return grads

    def multiplies(self, dtype: torch.dtype, *sizes: int) -> bool:
        """Whether `product` takes weights of these sizes and is at least as quick as oneDNN, both
        ways: not of more than a cache holds, and not where the processor multiplies tiles of
        bfloat16 (AMX)."""
        fits = math.prod(sizes) * dtype.itemsize <= _CACHED
        return fits and self.multiplies_forward(dtype, *sizes)

    def multiplies_forward(self, dtype: torch.dtype, *sizes: int) -> bool:
        """As `multiplies`, where nothing is multiplied back."""
        tiles = dtype == torch.bfloat16 and _has_tiles()
        return self.takes(dtype) and not tiles and not any(size % 16 for size in sizes)

    def product(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        back: bool,
        thin: Thin | None = None,
        to: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x W' + b of x (N, in), W (out, in) and b (out,) or none, or with ``back`` x W of x
        (N, out), all contiguous; sums in float32. thin: what is added; to: where the result
        goes."""
        out, width = weight.shape
        y = x.new_empty((len(x), width if back else out)) if to is None else to
        threads = torch.get_num_threads()
        space = x.new_empty(threads * _PRODUCT_ROOM, dtype=torch.float32)
        self._library.hinlap_product(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            weight.data_ptr(),
            None if bias is None else bias.data_ptr(),
            y.data_ptr(),
            len(x),
            width,
            out,
            back,
            None if thin is None else thin.told,
            threads,
            space.data_ptr(),
        )
        return y

    def takes_lora(self, rank: int, width: int, outs: Sequence[int]) -> bool:
        """Ranks up to 64, up to 8 layers, inputs and outputs of 16, 32, ... numbers."""
        fits = rank <= _MOST_RANKS and len(outs) <= _LAYERS
        return fits and not any(size % 16 for size in (width, *outs))

    def lora(
        self,
        x: torch.Tensor,
        downs: Sequence[torch.Tensor],
        ups: Sequence[torch.Tensor],
        scale: float,
    ) -> tuple[Thin, tuple[torch.Tensor, torch.Tensor]]:
        """What layers with the same contiguous x (N, in) add to its product (N, out of all), scale
        * x A' B' of each; and what `lora_back` needs. downs: A (r, in), ups: B (out, r) of each,
        float32, contiguous; they are rounded to x's precision, as x A' is."""
        rank, width = downs[0].shape
        sizes = [len(each) for each in ups]
        low, numbers = _low(x, rank, len(ups))
        room = -(-rank // _RANKS) * _RANKS
        space = low.new_empty(room * (len(ups) * width + sum(sizes)))
        thin = Thin(self._library, numbers, space)
        self._library.hinlap_lora(
            x.dtype == torch.bfloat16,
            x.data_ptr(),
            low.data_ptr(),
            numbers.data_ptr(),
            space.data_ptr(),
            scale,
            _lora(x, rank, sizes, downs, ups),
            thin.told,
        )
        return thin, (low, space)

    def lora_back(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        rank: int,
        sizes: Sequence[int],
        scale: float,
        made: Sequence[torch.Tensor],
    ) -> tuple[Thin, tuple[torch.Tensor, torch.Tensor]]:
        """From grad (N, out), contiguous: what `lora` adds to the product grad W, and gradients of
        all A, (layers * r, in), and of all B, (out, r), float32. sizes: of outputs; made: what
        `lora` gave for this."""
        low, space = made
        grad_downs = low.new_empty((len(sizes) * rank, x.shape[1]))
        grad_ups = low.new_empty((grad.shape[1], rank))
        grad_low, numbers = _low(x, rank, len(sizes))
        thin = Thin(self._library, numbers, space)
        self._library.hinlap_lora_back(
            x.dtype == torch.bfloat16,
            grad.data_ptr(),
            x.data_ptr(),
            low.data_ptr(),
            space.data_ptr(),
            grad_low.data_ptr(),
            numbers.data_ptr(),
            scale,
            grad_downs.data_ptr(),
            grad_ups.data_ptr(),
            _lora(x, rank, sizes),
            thin.told,
        )
        return thin, (grad_downs, grad_ups)

    def block(
        self,
        x: torch.Tensor,
        block: int,
        room: int,
        stored: tuple[torch.Tensor, torch.Tensor] | None,
        parts: Array,
    ) -> torch.Tensor:
        """A decoder layer of x (..., n), contiguous. block, room: addresses of what block.c tells;
        stored: blocks of keys and values, as in `store`."""
        y = torch.empty_like(x)
        self._library.hinlap_block(
            x.dtype == torch.bfloat16,
            block,
            room,
            x.data_ptr(),
            y.data_ptr(),
            *((None, None) if stored is None else (each.data_ptr() for each in stored)),
            parts.ctypes.data,
            len(parts),
        )
        return y


@functools.cache
def _has_tiles() -> bool:
    return "amx_bf16" in _flags()


def _low(x: torch.Tensor, rank: int, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for low of lora.c, and for the same as numbers in x's precision."""
    rows, pitch = -(-len(x) // 2) * 2, layers * -(-rank // _RANKS) * _RANKS
    if x.dtype == torch.float32:
        low = x.new_empty((rows, pitch))
        return low, low
    return x.new_empty((rows // 2, pitch), dtype=torch.float32), x.new_empty((rows, pitch))


def _lora(
    x: torch.Tensor,
    rank: int,
    sizes: Sequence[int],
    downs: Sequence[torch.Tensor] = (),
    ups: Sequence[torch.Tensor] = (),
) -> Any:
    """A Lora of lora.c; the way back needs no pairs."""
    ends = itertools.accumulate(sizes)
    lists = ends, *([each.data_ptr() for each in some] for some in (downs, ups))
    table = [len(x), x.shape[1], sum(sizes), rank, len(sizes)]
    for some in lists:
        padded = [*some, *[0] * _LAYERS]
        table += padded[:_LAYERS]
    return (c_long * len(table))(*table)


class _Causal:
    """What causal.c is told of the sequences of a forward."""

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, lengths: tuple[int, ...], shared: int
    ) -> None:
        self._wide = q.dtype == torch.float32
        self._blocks, rooms, kept, longest = _causal_blocks(lengths, shared, self._wide)
        heads, groups, width = q.shape[1], k.shape[1], q.shape[3]
        self._followers = len(lengths) if shared else 0
        self._sizes = (groups, heads // groups, width, rooms, kept, longest, self._followers)
        self.kept = heads * kept

    def space(self, heads: int) -> int:
        """Numbers of float32, with room for so many heads' keys, values or the like."""
        _, _, width, rooms, _, longest, _ = self._sizes
        words = width if self._wide else width // 2
        return heads * rooms * words + 2 * torch.get_num_threads() * _TASK * longest

    def run(
        self,
        function: Any,
        tensors: tuple[torch.Tensor, ...],
        scale: float,
        kept: int | None,
        space: torch.Tensor,
    ) -> None:
        size = 4 if self._wide else 2
        heads = [
            number
            for each in tensors
            for number in (each.data_ptr(), each.stride(2) * size, each.stride(1) * size)
        ]
        sizes = (*self._sizes, torch.get_num_threads())
        function(
            not self._wide,
            (c_long * len(heads))(*heads),
            self._blocks.ctypes.data,
            len(self._blocks) - self._followers,
            (c_long * len(sizes))(*sizes),
            scale,
            kept,
            space.data_ptr(),
        )


@functools.lru_cache(8)
def _causal_blocks(
    lengths: tuple[int, ...], shared: int, wide: bool
) -> tuple[Array, int, int, int]:
    """(n, 6) Blocks of causal.c, those with most keys first, and behind them the first blocks of
    sequences that follow shared tokens; rooms, kept and longest there."""
    sequences = [(shared, shared + length) for length in lengths]
    if shared:
        sequences.insert(0, (0, shared))
    blocks, firsts, begin, room, kept = [], [], 0, 0, 0
    for first, length in sequences:
        begin -= first
        for start in range(first, length, _TASK):
            end = min(start + _TASK, length)
            blocks.append((begin, length, room, start, kept, first))
            if first == start and first:
                firsts.append(blocks[-1])
            rows = (end - start + 1) // 2 * (2 if wide else 1)
            kept += rows * (-(-end // 16) * 16)
        begin, room = begin + length, room + -(-length // _TURNED) * _TURNED
    blocks.sort(key=lambda block: -block[3])
    longest = max(length for _, length in sequences)
    return np.array(blocks + firsts, np.int64), room, kept, -(-longest // 16) * 16


def queries_at_once(tokens: int, heads: int, groups: int) -> int:
    """Of one thread's in `Kernels.attend`: some tasks for each thread, as many for one as for
    another."""
    queries = tokens * heads // groups
    threads = torch.get_num_threads()
    least = max(math.ceil(queries / _QUERIES), math.ceil(2 * threads / groups))
    tasks = next(n for n in range(least, least + threads) if n * groups % threads == 0)
    return math.ceil(queries / tasks)


def product_space(x: torch.Tensor, rows: int) -> torch.Tensor | None:
    """Room where each thread turns so many rows (..., in) for a wide product; None for few."""
    size = x.shape[-1] * x.element_size()
    if rows <= _FEW or size % 4:
        return None
    return torch.empty(torch.get_num_threads() * -(-size // 64) * 16 * -(-rows // 16) * 16)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(..., n) as (rows, n), the numbers of a row side by side; copied only where they must."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


@functools.cache
def kernels() -> Kernels | None:
    """None where they cannot be had: another processor, no C compiler, ``HINLAP_NATIVE=0``."""
    if os.environ.get("HINLAP_NATIVE") == "0" or os.name != "posix":
        return None
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        _share_threads()
        found = Kernels(ctypes.CDLL(str(_compiled())))
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    return found if _agree(found) else None


def _compiled() -> Path:
    """The library of this source, compiler and processor, compiled when it is not there yet.
    Raises OSError or SubprocessError."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("cc")
    folder = importlib.resources.files("hinlap.engines") / "kernels"
    sources = {file.name: file.read_bytes() for file in folder.iterdir() if file.name[-2:] in _ENDS}
    known = (os.path.realpath(compiler), _flags(), *_OPTIONS)
    parts = (*(sources[name] for name in sorted(sources)), *map(str.encode, known))
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    target = cache_folder() / "native" / f"{name}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for file, text in sources.items():
            (Path(scratch) / file).write_bytes(text)
        units = sorted(file for file in sources if file.endswith(".c"))
        # linked without OpenMP: its functions are those of the library that torch has loaded
        for command in (
            [compiler, *_OPTIONS, "-c", *units],
            [compiler, "-shared", *(f"{unit[:-2]}.o" for unit in units), "-lm", "-o", target.name],
        ):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=120)
        (Path(scratch) / target.name).replace(target)
    return target


def _flags() -> str:
    """The processor's, as the system tells them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if "flags" in line), "")


def _share_threads() -> None:
    """Lets the library find torch's OpenMP: a second one's threads would stand in each other's
    way."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            return


def _agree(found: Kernels) -> bool:
    """Whether a small product and a small attention are torch's."""
    x, w = torch.linspace(-1, 1, 400).view(10, 40), torch.linspace(-1, 2, 280).view(7, 40)
    near = all(  # products of few rows and of some more
        torch.allclose(found.linear(some, (w, None))[0], some @ w.T, atol=1e-4)
        for some in (x, x[:5])
    )
    q, k, v = torch.linspace(-2, 2, 3 * 4 * 5 * 32).view(3, 4, 5, 32)
    parts = np.zeros((1, PART), np.int64)
    parts[0] = (k.data_ptr(), v.data_ptr(), 32, 160, 32, 160, 5, 0, 0, 1, 0, 0, 0, 5)
    out = found.attend(q, parts, torch.arange(5), 4, 0.2, 0.0, 0)
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.2)
    return near and torch.allclose(out.transpose(0, 1), exact, atol=1e-4)
