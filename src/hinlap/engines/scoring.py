"""Log-probabilities of given tokens, every shared beginning computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hinlap.engines.decoding import not_numbers
from hinlap.engines.likelihoods import log_sums, ranks_of
from hinlap.engines.prefix_tree import Node, Tokens, prefix_tree
from hinlap.engines.tree_attention import Inside, Keep, KeysValues, Layout, Own, Stored
from hinlap.engines.weights import Adapter, OutOfMemoryError, Weights, telling_out_of_memory

MOST_TOKENS = 1024
"""New tokens of one forward at the most."""
GOOD_TOKENS = 768
"""From here on a bigger forward gains nothing."""
_MOST_LOGITS_BYTES = 2**28
_LEAST_TOKENS = 16
_SMALL_TOKENS = 128
"""Branches up to here share one block with a tree mask; longer ones get parts of their own."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """logprobs: nats, one a token of the continuation, in order. ranks: how many tokens the model
    held likelier (0: the greedy choice)."""

    logprobs: tuple[float, ...]
    ranks: tuple[int, ...]


@dataclass(eq=False, slots=True)
class _Read:
    """One log-probability to be read: after ``offset`` tokens of a node stands ``target``."""

    offset: int
    target: int
    sequence: int
    place: int


@dataclass(eq=False, slots=True)
class _Forward:
    """One forward in the making."""

    ids: list[Tokens] = field(default_factory=list)
    positions: list[Tokens] = field(default_factory=list)
    own: list[Own] = field(default_factory=list)
    inside: list[Inside] = field(default_factory=list)
    keep: list[Keep] = field(default_factory=list)
    reads: list[tuple[int, _Read]] = field(default_factory=list)
    size: int = 0


def weigh(
    weights: Weights,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    adapter: Adapter | None = None,
    *,
    most_tokens: int = MOST_TOKENS,
) -> list[Weighed]:
    """Each (context, continuation) of token ids, both non-empty, weighed as one sequence.

    The same numbers whatever the order, the company or ``most_tokens`` (per token within 1e-4 in
    float32). When memory runs out, the forwards are halved and what is done is kept. Raises
    EngineError when a forward of 16 tokens does not fit, or a log-probability is not a number.
    """
    scorer = _Scorer(weights, pairs, adapter, most_tokens)
    scorer.run()
    return scorer.results()


class _Scorer:
    def __init__(
        self,
        weights: Weights,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        adapter: Adapter | None,
        most_tokens: int,
    ) -> None:
        self._weights = weights
        self._adapter = adapter
        # all of a forward's tokens may be read: their logits must have room, too
        self._most = min(most_tokens, max(64, _MOST_LOGITS_BYTES // (4 * weights.vocabulary)))
        self._logprobs = [np.full(len(text), np.nan) for _, text in pairs]
        self._ranks = [np.zeros(len(text), np.int64) for _, text in pairs]
        sequences = [np.asarray([*c, *t][:-1], np.int64) for c, t in pairs]
        self._root = prefix_tree(sequences)
        self._reads: dict[Node, list[_Read]] = {}
        ends = {i: node for node in self._root.below() for i in node.ends}
        _join_chains(self._root, ends)
        for index, (context, text) in enumerate(pairs):
            node = ends[index]
            for place in range(len(text) - 1, -1, -1):
                position = len(context) - 1 + place
                while node.start > position:
                    assert node.parent is not None
                    node = node.parent
                read = _Read(position - node.start, int(text[place]), index, place)
                self._reads.setdefault(node, []).append(read)

    def run(self) -> None:
        self._walk(self._root, [])

    def results(self) -> list[Weighed]:
        return [
            Weighed(tuple(values.tolist()), tuple(ranks.tolist()))
            for values, ranks in zip(self._logprobs, self._ranks, strict=True)
        ]

    def _walk(self, top: Node, stored: list[KeysValues]) -> None:
        """Everything below ``top``, whose own path is in ``stored``: what is small enough is
        packed together, what is not is stored once and walked below, depth first."""
        waiting = [(top, stored)]
        while waiting:
            node, held = waiting.pop()
            if node is not top:
                held = self._store(node, held)
            ready: list[Node] = []
            for child in sorted(node.children, key=lambda node: -node.total):
                if child.total > self._most:
                    waiting.append((child, held))
                else:
                    ready.append(child)
            for pack in _packs(ready, min(GOOD_TOKENS, self._most)):
                self._weigh_pack(pack, held)

    def _store(self, node: Node, stored: list[KeysValues]) -> list[KeysValues]:
        """``stored`` and the keys and values of a node's own tokens; what is to be read there is
        read."""
        held = list(stored)
        start = 0
        while start < len(node.tokens):
            stop = min(start + self._most, len(node.tokens))
            kv = KeysValues(node.start + start, stop - start)
            forward = _Forward()
            span = self._add_run(forward, node, start, stop)
            forward.own.append(Own(span))
            if stop < len(node.tokens) or node.children:
                forward.keep.append(Keep(span, kv))
            try:
                self._run(forward, held)
            except OutOfMemoryError:
                self._halve(forward.size)
                continue
            held.append(kv)
            start = stop
        return held

    def _weigh_pack(self, pack: list[Node], stored: list[KeysValues]) -> None:
        forward = _Forward()
        for node in pack:
            self._add_subtree(forward, node)
        try:
            self._run(forward, stored)
            return
        except OutOfMemoryError:
            self._halve(forward.size)
        # not while the error is handled: it holds on to the forward that did not fit
        self._walk(Node(np.empty(0, np.int64), pack[0].start, children=pack), stored)

    def _halve(self, size: int) -> None:
        """From here on forwards of half the ``size`` that did not fit. Called while its
        OutOfMemoryError is handled, which goes on where nothing smaller is worth trying."""
        if size <= _LEAST_TOKENS:
            raise
        self._most = min(self._most, max(_LEAST_TOKENS, size // 2))

    def _add_run(self, forward: _Forward, node: Node, start: int, stop: int) -> slice:
        """Tokens ``start`` to ``stop`` of a node, with what is to be read there."""
        base = forward.size
        forward.ids.append(node.tokens[start:stop])
        forward.positions.append(np.arange(node.start + start, node.start + stop))
        for read in self._reads.get(node, ()):
            if start <= read.offset < stop:
                forward.reads.append((base + read.offset - start, read))
        forward.size += stop - start
        return slice(base, forward.size)

    def _add_subtree(self, forward: _Forward, node: Node) -> None:
        """A subtree in one forward: small ones as one block, else the trunk as a chain that all
        below look at, and below it the same again."""
        if not node.children:
            forward.own.append(Own(self._add_run(forward, node, 0, len(node.tokens))))
            return
        if node.total <= _SMALL_TOKENS:
            self._add_block(forward, [node])
            return
        trunk = self._add_run(forward, node, 0, len(node.tokens))
        forward.own.append(Own(trunk))
        small: list[Node] = []
        room = _SMALL_TOKENS
        for child in node.children:
            if child.total > _SMALL_TOKENS:
                self._add_subtree(forward, child)
                continue
            if child.total > room:
                self._add_block(forward, small)
                small, room = [], _SMALL_TOKENS
            small.append(child)
            room -= child.total
        if small:
            self._add_block(forward, small)
        forward.inside.append(Inside(slice(trunk.stop, forward.size), trunk))

    def _add_block(self, forward: _Forward, nodes: list[Node]) -> None:
        """Small subtrees as one block: each token sees its own chain upwards inside the block."""
        base = forward.size
        size = sum(node.total for node in nodes)
        mask = torch.zeros(size, size, dtype=torch.bool)
        spans: dict[Node, slice] = {}
        for top in nodes:
            for node in top.below():
                span = self._add_run(forward, node, 0, len(node.tokens))
                rows = slice(span.start - base, span.stop - base)
                spans[node] = rows
                n = rows.stop - rows.start
                mask[rows, rows] = torch.ones(n, n, dtype=torch.bool).tril()
                above = node.parent
                while above is not None and above in spans:
                    mask[rows, spans[above]] = True
                    above = above.parent
        forward.own.append(Own(slice(base, forward.size), mask.to(self._weights.device)))

    def _run(self, forward: _Forward, stored: list[KeysValues]) -> None:
        device = self._weights.device
        whole = slice(0, forward.size)
        layout = Layout(
            torch.from_numpy(np.concatenate(forward.positions)).to(device),
            own=forward.own,
            inside=forward.inside,
            stored=[Stored(whole, kv) for kv in stored],
            keep=forward.keep,
        )
        places = sorted({place for place, _ in forward.reads})
        read = torch.tensor(places or [0], device=device)
        ranges = [(whole, self._adapter)] if self._adapter else []
        ids = torch.from_numpy(np.concatenate(forward.ids))
        logits = self._weights.forward(ids, layout, read, ranges)
        if not forward.reads:
            return
        with torch.inference_mode(), telling_out_of_memory(self._weights.name):
            row_of = {place: row for row, place in enumerate(places)}
            rows = torch.tensor([row_of[place] for place, _ in forward.reads], device=device)
            targets = torch.tensor([r.target for _, r in forward.reads], device=device)
            chosen = logits[rows, targets].float()
            values = (chosen - log_sums(logits)[rows]).cpu().numpy()
            ranks = ranks_of(logits, rows, chosen)
        if not np.isfinite(values).all():
            raise not_numbers(self._weights.name)
        for (_, asked), value, rank in zip(forward.reads, values, ranks, strict=True):
            self._logprobs[asked.sequence][asked.place] = value
            self._ranks[asked.sequence][asked.place] = rank


def _join_chains(root: Node, ends: dict[int, Node]) -> None:
    """Makes each chain of nodes one node, also where a sequence ends in its middle: what is read
    is told by offset. ``ends`` follows."""
    for node in list(root.below()):
        chain = [node]
        while len(chain[-1].children) == 1:
            chain.append(chain[-1].children[0])
        if node.parent is None or len(chain) == 1:
            continue
        node.tokens = np.concatenate([part.tokens for part in chain])
        node.children = chain[-1].children
        for child in node.children:
            child.parent = node
        for part in chain[1:]:
            part.children = []
            node.ends += part.ends
        ends.update(dict.fromkeys(node.ends, node))


def _packs(nodes: list[Node], most: int) -> Iterator[list[Node]]:
    """Subtrees side by side, up to ``most`` tokens a forward; one above that stands alone."""
    pack: list[Node] = []
    size = 0
    for node in nodes:
        if pack and size + node.total > most:
            yield pack
            pack, size = [], 0
        pack.append(node)
        size += node.total
    if pack:
        yield pack
