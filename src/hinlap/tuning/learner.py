"""A causal model that gives the summed loss of flat batches of sequences.

Where the architecture allows, sequences lie packed in one forward; else they go one by one. Which
it is, a check at the beginning decides: both ways must give the same loss. Tokens that all of them
begin with, as templates do, are computed once: all of a sequence's later tokens see the same of
them, and their gradients add up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hinlap.tuning import kernels
from hinlap.tuning.layers import layers_of
from hinlap.tuning.lessons import Taken
from hinlap.tuning.replacing import dropped_by, packs, speed_up, unwrapped

_FEWEST_SHARED = 8  # tokens: of fewer, what is saved is lost in attention
_NEAR = {torch.float32: 1e-3, torch.bfloat16: 0.05}  # nats a token between two ways of computing


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """Sequences one behind the other, each up to the last token whose next one is learnt.

    ids, positions: (N,). read: (M,) places whose next token is learnt; targets: (M,) that token.
    shared: tokens at the front that begin every sequence; lengths: of what follows of each.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    read: torch.Tensor
    targets: torch.Tensor
    lengths: tuple[int, ...]
    shared: int = 0

    @property
    def learnt(self) -> int:
        return len(self.targets)


def flat_of(sequences: Sequence[Taken], device: Any, *, share: bool = False) -> Flat:
    """share: whether tokens that all begin with lie there once."""
    shared = _shared_start(sequences) if share else 0
    first = torch.from_numpy(sequences[0].ids[:shared]).long()
    ids, positions, read, targets, start = [first], [torch.arange(shared)], [], [], 0
    for each in sequences:
        places = torch.from_numpy(each.learnt).nonzero()[:, 0]
        count = int(places[-1]) if len(places) else len(each)  # nothing reads what follows
        own = torch.from_numpy(each.ids).long()
        ids.append(own[shared:count])
        positions.append(torch.arange(shared, count))
        read.append(start + places - 1)
        targets.append(own[places])
        start += count - shared
    return Flat(
        torch.cat(ids).to(device),
        torch.cat(positions).to(device),
        torch.cat(read).to(device),
        torch.cat(targets).to(device),
        tuple(map(len, ids[1:])),
        shared,
    )


def _shared_start(sequences: Sequence[Taken]) -> int:
    """How many tokens all begin with before the first whose next one is learnt: an even number,
    or 0 where it is not worth it."""
    if len(sequences) < 2:
        return 0
    firsts = [int(each.learnt.argmax()) if each.learnt.any() else len(each) for each in sequences]
    most = min(firsts) - 1
    starts = np.stack([each.ids[:most] for each in sequences])
    same = (starts == starts[0]).all(0)
    count = most if same.all() else int(same.argmin())
    return count // 2 * 2 if count >= _FEWEST_SHARED else 0


class Learner(torch.nn.Module):
    """forward gives (summed nats of learnt tokens, how many of them were the first choice).

    packed: whether sequences share a forward. why_not: why they do not; "" where they do.
    shares: whether it takes tokens that all begin with once: not where something is dropped, since
    each sequence draws for itself.
    replaced: the kinds of modules that kernels stand in for.
    apart: weights are there only while their own module runs (ZeRO-3): no kernel takes those of
    another.
    """

    def __init__(self, model: Any, *, apart: bool = False) -> None:
        super().__init__()
        self.model = model
        self.packed = False
        self.shares = False
        self.replaced: list[str] = []
        self._fused = False
        self._head: kernels.FrozenWeight | None = None
        self.why_not = self._prepare(apart)

    def forward(self, flat: Flat) -> tuple[torch.Tensor, torch.Tensor]:
        if self.packed:
            return self._packed_loss(flat)
        nats, hits, start = [], [], 0
        for length in flat.lengths:
            inside = (flat.read >= start) & (flat.read < start + length)
            logits = self.model(
                input_ids=flat.ids[None, start : start + length],
                use_cache=False,
                logits_to_keep=flat.read[inside] - start,
            ).logits[0]
            if logits.shape[0] != int(inside.sum()):  # an architecture that gives all
                logits = logits[flat.read[inside] - start]
            one = kernels.plain_loss(logits, flat.targets[inside])
            nats.append(one[0])
            hits.append(one[1])
            start += length
        return torch.stack(nats).sum(), torch.stack(hits).sum()

    def _packed_loss(self, flat: Flat) -> tuple[torch.Tensor, torch.Tensor]:
        kernels.set_sequences(flat.lengths, flat.read, flat.shared)
        if not self._fused:
            logits = self.model(
                input_ids=flat.ids[None],
                position_ids=flat.positions[None],
                use_cache=False,
                logits_to_keep=flat.read,
            ).logits[0]
            return kernels.plain_loss(logits, flat.targets)
        inner = unwrapped(self.model)
        hidden = inner.base_model(
            input_ids=flat.ids[None], position_ids=flat.positions[None], use_cache=False
        ).last_hidden_state[0]
        head, weight = self._head, inner.get_output_embeddings().weight
        if head is not None:
            weight = head.weight
        if torch.is_autocast_enabled(flat.ids.device.type) and weight.dtype != torch.bfloat16:
            head, weight = None, weight.to(torch.bfloat16)
        return kernels.HeadLoss.apply(hidden[flat.read], weight, flat.targets, head)  # type: ignore[no-any-return,no-untyped-call]

    def _prepare(self, apart: bool) -> str:
        """Takes the quick ways that give the plain way's loss; why packing is not one of them."""
        inner = unwrapped(self.model)
        if not getattr(inner, "_supports_attention_backend", False):
            return "transformers does not route its attention through the common interface"
        device = next(inner.parameters()).device
        sequences = _probe(inner.config.get_text_config().vocab_size)
        probe = flat_of(sequences, device)
        training = self.model.training
        self.model.eval()
        before = inner.config._attn_implementation
        own = {module for module in self.model.modules() if "forward" in vars(module)}
        with torch.no_grad():
            plain = float(self(probe)[0]) / probe.learnt
            kernels.register()
            try:
                inner.set_attn_implementation(kernels.NAME)
                self.packed = True
                pack = not apart and packs(inner)
                self.replaced = speed_up(self.model, apart=apart, pack=pack)
                near = _NEAR.get(inner.dtype, 0.05)
                gap = abs(float(self(probe)[0]) / probe.learnt - plain)
                why = "" if gap < near else f"its loss moves by {gap:.2g} nats when packed"
                if not why and not apart and _has_plain_head(inner):
                    self._fused = True
                    gap = abs(float(self(probe)[0]) / probe.learnt - plain)
                    self._fused = gap < near
                if self._fused:
                    self._freeze_head(inner, pack)
                    gap = abs(float(self(probe)[0]) / probe.learnt - plain)
                    if not gap < near:
                        self._thaw_head(inner)
                if not why and not _drops(self.model):
                    nats, _ = self(flat_of(sequences, device, share=True))
                    gap = abs(float(nats) / probe.learnt - plain)
                    self.shares = gap < near
                    if not apart:
                        self._take_layers(inner, probe)
            except (kernels.NotPackableError, TypeError, ValueError, RuntimeError) as error:
                why = str(error) or type(error).__name__
        if why:
            self.packed, self.shares, self.replaced, self._fused = False, False, [], False
            self._thaw_head(inner)
            inner.set_attn_implementation(before)
            for module in self.model.modules():  # no kernel stays where they did not agree
                if module not in own:
                    vars(module).pop("forward", None)
        self.model.train(training)
        return why

    def _take_layers(self, inner: Any, probe: Flat) -> None:
        """Lets decoder layers run as one function where the loss stays the same to the last bit, at
        positions from the first to the last: architectures may do more to what is far away."""
        furthest = getattr(inner.config.get_text_config(), "max_position_embeddings", None) or 4096
        places = torch.linspace(0, furthest - 1, len(probe.ids), device=probe.ids.device)
        probe = replace(probe, positions=places.long())
        layers, kept = layers_of(inner), False
        if not layers:
            return
        try:
            before = float(self(probe)[0])
            for layer in layers:
                layer.module.forward = layer.forward
            kept = float(self(probe)[0]) == before
        except (TypeError, ValueError, RuntimeError, IndexError):
            kept = False
        if kept:
            self.replaced = sorted([*self.replaced, "decoder layers"])
            return
        for layer in layers:
            vars(layer.module).pop("forward", None)

    def _freeze_head(self, inner: Any, pack: bool) -> None:
        """Where it is frozen. Of bfloat16 weights sums over layers are in float32 then, and each
        norm rounds what it gives to its layer: else the loss moves by some hundredths of a nat."""
        weight, embedding = inner.get_output_embeddings().weight, inner.get_input_embeddings()
        if weight.requires_grad or embedding.weight.requires_grad:
            return
        self._head = kernels.FrozenWeight(weight.detach(), None, pack=pack)
        if weight.dtype == torch.bfloat16 and "RMSNorm" in self.replaced:
            embedding.float()  # a head that is the same weight stays narrow by what was detached

    def _thaw_head(self, inner: Any) -> None:
        if self._head is not None:
            inner.get_input_embeddings().to(self._head.weight.dtype)
            self._head = None


def _has_plain_head(model: Any) -> bool:
    head = model.get_output_embeddings()
    return type(head) is torch.nn.Linear and head.bias is None and not head.weight.is_meta


def _drops(model: Any) -> bool:
    layers = (each for each in model.modules() if isinstance(each, torch.nn.Dropout))
    return bool(dropped_by(unwrapped(model))) or any(each.p > 0 for each in layers)


def _probe(vocabulary: int) -> list[Taken]:
    """Three sequences of random tokens, the first ones the same: of fewer, bfloat16's rounding
    alone moves the loss by more than `_NEAR`."""
    generator = np.random.default_rng(0)
    sequences = []
    for length in (64, 40, 90):
        learnt = np.ones(length, dtype=np.bool_)
        learnt[: length // 2] = False  # so that most of what is skipped could be seen by others
        ids = generator.integers(0, vocabulary, length).astype(np.int32)
        ids[:10] = np.arange(10) % vocabulary
        sequences.append(Taken(ids, learnt))
    return sequences


def quick_products(device: str) -> contextlib.AbstractContextManager[None]:
    """float32 products through oneDNN where that is as exact here. Not by a timing: a resumed or
    repeated training must round as the first one did."""
    from hinlap.engines.weights import float32_products, onednn_products_are_exact

    quick = device == "cpu" and onednn_products_are_exact()
    return float32_products("medium") if quick else contextlib.nullcontext()
