"""Attention over a flat sequence of many requests' tokens, part by part.

transformers calls `tree_attention` in every layer with that layer's queries, keys and values of
all N tokens (positions already applied). What each token may look at is the `Layout` of the
forward: its parts are computed one after the other and merged by their log-sum-exp, so a prefix
that many tokens share is multiplied once for all of them and never copied.

Source: the merge is that of FlashAttention (Dao et al. 2022, section 3.1) and of cascade
attention (Ye et al. 2024, FlashInfer).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hinlap.engines.native import PART, Array, Kernels, kernels

NAME = "hinlap_tree"
_active = threading.local()


class NotShareableError(Exception):
    """This architecture asks attention for something that cannot be computed in parts."""


@dataclass(eq=False, slots=True)
class KeysValues:
    """Keys and values of a run of tokens in every layer: (KV heads, n, D) each.

    start: position of its first token in its sequences.
    """

    start: int
    length: int
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Rows:
    """The running batch's own keys and values, one block a row: (R, KV heads, C, D) each layer.

    Only the first ``used`` rows take part; ``lengths`` are their tokens so far, the new one
    included, ``longest`` the most of them; not ``ragged`` when all are equal.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    used: int = 0
    lengths: torch.Tensor | None = None  # (used,)
    longest: int = 0
    ragged: bool = True
    # where the new tokens go, of the flattened (R * KV heads * C): see `rows_slots`
    slots: dict[tuple[int, bool], torch.Tensor] = field(default_factory=dict)
    masks: dict[int, torch.Tensor | None] = field(default_factory=dict)  # by window, 0 for none


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Tokens ``queries`` of the forward, ascending, look at all of ``kv``."""

    queries: slice | torch.Tensor
    kv: KeysValues


@dataclass(frozen=True, eq=False, slots=True)
class Own:
    """Tokens ``span`` look at each other: as a chain (causal), or as a tree's ``mask`` says,
    (n, n) bool, True where the row's token may look; every token sees itself."""

    span: slice
    mask: torch.Tensor | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Inside:
    """Tokens ``queries`` look at all tokens ``keys`` of the same forward."""

    queries: slice
    keys: slice


@dataclass(frozen=True, eq=False, slots=True)
class Keep:
    """Keys and values of tokens ``source`` are kept: appended to a run, or written into a row."""

    source: slice
    kv: KeysValues | None = None
    row: int = 0
    rows: Rows | None = None


@dataclass(eq=False, slots=True)
class Layout:
    """What the N tokens of one forward look at.

    Every token is in one of ``own``, or all are in ``rows`` (decoding: token i is row i's newest).
    """

    positions: torch.Tensor  # (N,)
    own: list[Own] = field(default_factory=list)
    inside: list[Inside] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    rows: Rows | None = None
    keep: list[Keep] = field(default_factory=list)
    adapted: bool = False  # some tokens belong to an adapter
    parts: _Parts | None = None  # made by the first layer that the kernels attend for
    rules: dict[int, Rule] = field(default_factory=dict)  # each layer's, as it was asked for
    rooms: dict[tuple[int, ...], Any] = field(default_factory=dict)  # see `blocks`

    def __enter__(self) -> Layout:
        _active.layout = self
        return self

    def __exit__(self, *_: object) -> None:
        _active.layout = None


def active_layout() -> Layout | None:
    """Of the forward that runs in this thread."""
    return getattr(_active, "layout", None)


def register() -> None:
    """Makes `NAME` an attention implementation of transformers (without a mask of its own)."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query (1, H, N, D), key and value (1, KV heads, N, D) to
    (1, N, H, D). Raises NotShareableError for attention sinks, masks of the model's own (chunks, a
    window only the mask knows), and where no layout is active."""
    layout = active_layout()
    if layout is None or query.shape[0] != 1:
        raise NotShareableError
    if others.get("s_aux") is not None:
        raise NotShareableError("it has attention sinks")
    layer = module.layer_idx
    if attention_mask is not None or not _told_by_arguments(module, layer, sliding_window):
        raise NotShareableError("its masks are its own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rule = layout.rules[layer] = Rule(scale, softcap or 0.0, sliding_window or 0)
    q, k, v = query[0], key[0], value[0]
    for keep in layout.keep:
        _keep(keep, layer, k, v)
    found = kernels()
    rows = layout.rows
    alike = rows is None or rows.keys[layer].dtype == q.dtype
    if found is not None and alike and found.attends(q, k, v):
        return _attend_natively(found, layout, layer, q, k, v, rule)[None], None
    out = torch.empty(
        (q.shape[1], q.shape[0], v.shape[-1]), dtype=q.dtype, device=q.device
    )  # (N, H, D)
    lse = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)  # (N, H)
    if layout.rows is not None:
        _attend_rows(layout.rows, layer, q, k, v, rule, out, lse)
    for own in layout.own:  # first: they start each token's sum, the others are merged into it
        mask: torch.Tensor | str = "causal"
        if own.mask is not None:
            mask = own.mask
        if rule.window and own.span.stop - own.span.start > rule.window:
            places = layout.positions[own.span]
            seen = places[:, None] >= places if own.mask is None else own.mask
            near = _near(places, places, rule.window)
            mask = seen if near is None else seen & near
        done = _attend(q[:, own.span], k[:, own.span], v[:, own.span], mask, rule)
        out[own.span], lse[own.span] = done
    for part in layout.inside:
        near = None
        if rule.window:
            near = _near(layout.positions[part.queries], layout.positions[part.keys], rule.window)
        done = _attend(q[:, part.queries], k[:, part.keys], v[:, part.keys], near, rule)
        _merge(out, lse, part.queries, *done)
    for stored in layout.stored:
        kv, near = stored.kv, None
        if rule.window:
            places = torch.arange(kv.start, kv.start + kv.length, device=q.device)
            near = _near(layout.positions[stored.queries], places, rule.window)
        done = _attend(q[:, stored.queries], kv.keys[layer], kv.values[layer], near, rule)
        _merge(out, lse, stored.queries, *done)
    return out[None], None


@dataclass(frozen=True, slots=True)
class Rule:
    """scale: of the products. softcap: c in c * tanh(x / c), 0 for none. window: how many
    positions back a token sees, itself included, 0 for all."""

    scale: float
    softcap: float
    window: int


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | str | None,
    rule: Rule,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, n, D) on (KV heads, m, D): the part's result (n, H, D) and its log-sum-exp (n, H)."""
    additive = None
    if isinstance(mask, torch.Tensor):
        additive = _additive(mask, q.dtype)
    sees_something = additive is None or bool(mask.any(-1).all())  # type: ignore[union-attr]
    if _flash_can(q, v, rule) and sees_something:
        heads, n, width = q.shape
        if mask is None:  # heads that share their keys are more rows of one head: quicker
            q = q.reshape(k.shape[0], -1, width)
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q[None], k[None], v[None], 0.0, mask == "causal", attn_mask=additive, scale=rule.scale
        )
        out, lse = out[0].reshape(heads, n, -1), lse[0].reshape(heads, n)
        return out.transpose(0, 1), lse.transpose(0, 1)
    return _attend_plainly(q, k, v, mask, rule)


def _attend_plainly(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | str | None,
    rule: Rule,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by matrix products: any device, soft caps, tokens that see nothing of this part
    (result 0, log-sum-exp minus infinity). Query heads of one group are rows of one product."""
    heads, n, width = q.shape
    groups, m = k.shape[0], k.shape[1]
    scores = torch.bmm(q.reshape(groups, -1, width), k.transpose(1, 2)).float()
    scores = _capped(scores.view(groups, heads // groups, n, m) * rule.scale, rule.softcap)
    if mask is not None:
        if isinstance(mask, str):
            mask = torch.ones(n, m, dtype=torch.bool, device=q.device).tril()
        scores.masked_fill_(~mask, float("-inf"))
    lse = scores.logsumexp(-1)  # (groups, G, n)
    blind = (lse == float("-inf")).unsqueeze(-1)  # what is no number must stay none
    weights = (scores - lse.unsqueeze(-1)).exp_().masked_fill_(blind, 0.0)
    out = torch.bmm(weights.view(groups, -1, m).to(v.dtype), v)
    return out.view(heads, n, -1).transpose(0, 1), lse.view(heads, n).transpose(0, 1)


def _attend_rows(
    rows: Rows,
    layer: int,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rule: Rule,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Decoding: each row's newest token looks at its own block, the new token included."""
    keys, values = rows.keys[layer], rows.values[layer]  # (R, KV heads, C, D)
    q, k, v = (each.to(keys.dtype) for each in (q, k, v))
    slots = rows_slots(rows, keys, every_head=True)
    for block, new in ((keys, k), (values, v)):
        width = new.shape[-1]
        block.view(-1, width).index_copy_(0, slots, new.transpose(0, 1).reshape(-1, width))
    own_keys = keys[: rows.used, :, : rows.longest]  # (B, KV heads, e, D)
    own_values = values[: rows.used, :, : rows.longest]
    mask = _rows_mask(rows, rule.window)  # (B, e)
    batched = q.transpose(0, 1).unsqueeze(2)  # (B, H, 1, D)
    if _flash_can(q, v, rule):
        additive = None if mask is None else _additive(mask, q.dtype)[:, None, None]
        result, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            batched, own_keys, own_values, 0.0, False, attn_mask=additive, scale=rule.scale
        )
        out.copy_(result[:, :, 0])
        lse.copy_(sums[:, :, 0])
        return
    groups = k.shape[0]
    grouped = batched.view(rows.used, groups, -1, q.shape[-1])  # (B, KV heads, G, D)
    scores = torch.matmul(grouped, own_keys.transpose(-1, -2)).float() * rule.scale
    scores = _capped(scores, rule.softcap)
    if mask is not None:
        scores.masked_fill_(~mask[:, None, None], float("-inf"))
    sums = scores.logsumexp(-1)
    weights = (scores - sums.unsqueeze(-1)).exp_()
    result = torch.matmul(weights.to(v.dtype), own_values)
    out.copy_(result.reshape(rows.used, -1, result.shape[-1]))
    lse.copy_(sums.view(rows.used, -1))


@dataclass(eq=False, slots=True)
class _Parts:
    """A layout's parts for `Kernels.attend`.

    table: (P, PART), whose first two columns are of one layer; sources: where each part's keys are,
    in the forward itself, in the rows' blocks or stored; offsets: bytes from there on, for keys and
    values. shapes: strides that it was made for.
    """

    table: Array
    sources: Array
    offsets: Array  # (P, 2)
    shapes: tuple[int, ...]
    kept: list[torch.Tensor]  # what the table points at


def _attend_natively(
    found: Kernels,
    layout: Layout,
    layer: int,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rule: Rule,
) -> torch.Tensor:
    """All parts in one pass. To (N, H, D)."""
    if layout.rows is not None:
        keys, values = layout.rows.keys[layer], layout.rows.values[layer]
        slots = rows_slots(layout.rows, keys, every_head=False)
        found.store(k, keys, slots)
        found.store(v, values, slots)
    table = parts_table(layout, layer, k, v)
    return found.attend(q, table, layout.positions, len(k), rule.scale, rule.softcap, rule.window)


def parts_table(layout: Layout, layer: int, k: torch.Tensor, v: torch.Tensor) -> Array:
    """A layout's parts for `Kernels.attend` in one layer, until the next one asks; k and v
    (KV heads, N, D): of the forward's own tokens."""
    rows = layout.rows
    where = [(k.data_ptr(), v.data_ptr())]
    shapes = (*k.shape, *k.stride(), *v.stride())
    if rows is not None:
        keys = rows.keys[layer]
        where.append((keys.data_ptr(), rows.values[layer].data_ptr()))
        shapes += keys.stride()
    where += [
        (each.kv.keys[layer].data_ptr(), each.kv.values[layer].data_ptr()) for each in layout.stored
    ]
    parts = layout.parts
    if parts is None or parts.shapes != shapes:
        parts = layout.parts = _parts(layout, layer, k, v, shapes)
    parts.table[:, :2] = np.array(where)[parts.sources] + parts.offsets
    return parts.table


def _parts(
    layout: Layout, layer: int, k: torch.Tensor, v: torch.Tensor, shapes: tuple[int, ...]
) -> _Parts:
    """For this layer, and for others of its shapes."""
    table: list[tuple[int, ...]] = []
    sources: list[int] = []
    offsets: list[tuple[int, int]] = []
    kept: list[torch.Tensor] = [layout.positions]
    size = k.element_size()
    positions = layout.positions.data_ptr()

    def inside(
        keys: slice, first: int, n: int, causal: bool = False, mask: torch.Tensor | None = None
    ) -> None:
        if mask is not None:
            kept.append(mask.contiguous())
        table.append(
            (
                *(k.stride(1), k.stride(0), v.stride(1), v.stride(0)),
                *(keys.stop - keys.start, 0, positions + 8 * keys.start, causal),
                *(0 if mask is None else kept[-1].data_ptr(), 0, first, n),
            )
        )
        sources.append(0)
        offsets.append((size * keys.start * k.stride(1), size * keys.start * v.stride(1)))

    if layout.rows is not None:
        assert layout.rows.lengths is not None
        block = layout.rows.keys[layer]
        row, head = block.stride(2), block.stride(1)
        for place, (length, position) in enumerate(
            zip(layout.rows.lengths.tolist(), layout.positions.tolist(), strict=True)
        ):
            start = position + 1 - length
            table.append((row, head, row, head, length, start, 0, 0, 0, 0, place, 1))
            sources.append(1)
            offsets.append((size * place * block.stride(0),) * 2)
    for own in layout.own:
        n = own.span.stop - own.span.start
        inside(own.span, own.span.start, n, causal=own.mask is None, mask=own.mask)
    for part in layout.inside:
        inside(part.keys, part.queries.start, part.queries.stop - part.queries.start)
    before = 1 if layout.rows is None else 2
    for place, stored in enumerate(layout.stored):
        users, kv = stored.queries, stored.kv
        width = k.shape[-1]
        shape = (width, width * kv.length, width, width * kv.length, kv.length, kv.start, 0, 0, 0)
        if isinstance(users, slice):
            table.append((*shape, 0, users.start, users.stop - users.start))
        else:
            kept.append(users.contiguous())
            table.append((*shape, kept[-1].data_ptr(), 0, len(users)))
        sources.append(before + place)
        offsets.append((0, 0))
    whole = np.zeros((len(table), PART), np.int64)
    whole[:, 2:] = table
    return _Parts(whole, np.array(sources), np.array(offsets), shapes, kept)


def rows_slots(rows: Rows, keys: torch.Tensor, every_head: bool) -> torch.Tensor:
    """Places of the new tokens in a layer's flattened blocks, (B * KV heads,) or of their first
    heads only (B,); made once a step."""
    heads, capacity = keys.shape[1:3]
    kind = heads, every_head  # layers may differ in their heads, and in who attends for them
    if kind not in rows.slots:
        assert rows.lengths is not None
        repeats = heads if every_head else 1
        blocks = torch.arange(rows.used * repeats, device=keys.device)
        blocks *= heads // repeats * capacity
        rows.slots[kind] = blocks + (rows.lengths - 1).repeat_interleave(repeats)
    return rows.slots[kind]


def _rows_mask(rows: Rows, window: int) -> torch.Tensor | None:
    """(B, e) True where a row's newest token may look in its block; made once a step."""
    if window not in rows.masks:
        assert rows.lengths is not None
        mask = None
        places = torch.arange(rows.longest, device=rows.lengths.device)
        if rows.ragged:
            mask = places < rows.lengths[:, None]
        if window and rows.longest > window:
            inside = places > (rows.lengths - 1)[:, None] - window
            mask = inside if mask is None else mask & inside
        rows.masks[window] = mask
    return rows.masks[window]


def _merge(
    out: torch.Tensor,
    lse: torch.Tensor,
    queries: slice | torch.Tensor,
    part: torch.Tensor,
    part_lse: torch.Tensor,
) -> None:
    """Adds one part's attention to what the ``queries`` have so far (weights by exp(lse))."""
    so_far = lse[queries]
    both = torch.logaddexp(so_far, part_lse)
    kept = (so_far - both).exp_().unsqueeze(-1).to(out.dtype)
    added = (part_lse - both).exp_().unsqueeze(-1).to(out.dtype)
    if isinstance(queries, slice):
        out[queries].mul_(kept).addcmul_(part, added)
    else:
        out[queries] = out[queries] * kept + part * added
    lse[queries] = both


def _keep(keep: Keep, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
    if keep.kv is not None:
        # a copy of its own: a view would hold the whole forward's keys in memory
        keep.kv.keys.append(k[:, keep.source].clone(memory_format=torch.contiguous_format))
        keep.kv.values.append(v[:, keep.source].clone(memory_format=torch.contiguous_format))
    if keep.rows is not None:
        length = keep.source.stop - keep.source.start
        keep.rows.keys[layer][keep.row, :, :length] = k[:, keep.source]
        keep.rows.values[layer][keep.row, :, :length] = v[:, keep.source]


def _told_by_arguments(module: Any, layer: int, window: int | None) -> bool:
    """Whether what a layer may see is all in the arguments of its attention: everything, or a
    window that it names. Other kinds tell it by a mask alone, which we do not ask for."""
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    if not kinds:
        return True
    return kinds[layer] == "full_attention" or (
        kinds[layer] == "sliding_attention" and bool(window)
    )


def _near(queries: torch.Tensor, keys: torch.Tensor, window: int) -> torch.Tensor | None:
    """(queries, keys) True at most ``window`` positions back; None where that is everywhere."""
    if int(queries.max()) - int(keys.min()) < window:
        return None
    return queries[:, None] - keys < window


def _flash_can(q: torch.Tensor, v: torch.Tensor, rule: Rule) -> bool:
    """torch's flash kernel for CPUs gives the log-sum-exp, too; it knows no soft cap."""
    return q.device.type == "cpu" and not rule.softcap and v.shape[-1] == q.shape[-1]


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, float("-inf")
    )


def _capped(scores: torch.Tensor, softcap: float) -> torch.Tensor:
    return scores if not softcap else softcap * torch.tanh(scores / softcap)
