"""A running batch: prompts join and leave, shared beginnings are computed and looked at once."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hinlap.core.messages import Sampling
from hinlap.engines.decoding import Chooser, Constraint, End, Ending
from hinlap.engines.prefix_tree import Node, prefix_tree
from hinlap.engines.tree_attention import Keep, KeysValues, Layout, Own, Rows, Stored
from hinlap.engines.weights import (
    Adapter,
    OutOfMemoryError,
    Weights,
    telling_out_of_memory,
)

MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Rows that run at once. On CPUs products are at the processor's limit from about here."""
_SHORTEST_SHARED = 16
"""A beginning shared by fewer tokens is computed in each row."""
_SHORTEST_REPEATED = 128
"""The same where all are draws of one prompt, which is computed once in any case: looking at a
part of its own in every step has to be worth it."""
_PREFILL_TOKENS = 1024
_PACK_FROM_TOKENS = 100
_BLOCK_TOKENS = 64
_MEMORY_SHARE = 0.4
_MOST_MEMORY = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids to be continued, at least one, and how.

    room: new tokens at the most (the sampling's, or what the window leaves). constrain: makes a
    fresh constraint for it, since a row that starts anew needs a new one.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    room: int
    adapter: Adapter | None = None
    constrain: Callable[[], Constraint] | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """tokens: the new ones, without the ending token. ended: why it stopped. made: tokens
    computed, the ending one included. logprobs: nats of ``tokens`` under the model, before
    temperature and filters. seconds: from joining the batch to leaving it; rows: the most that
    ran beside it, itself included."""

    tokens: tuple[int, ...]
    ended: End
    made: int
    logprobs: tuple[float, ...]
    seconds: float
    rows: int


@dataclass(eq=False, slots=True)
class _Row:
    index: int
    request: Request
    path: list[Node]
    own_from: int
    chooser: Chooser
    began: float
    new: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    most_rows: int = 1

    @property
    def own(self) -> int:
        """Tokens whose keys stand in the row's block: all but the newest."""
        return len(self.request.ids) - self.own_from + max(0, len(self.new) - 1)


class Batch:
    """Answers requests as they come done, in any order; give each batch its own object.

    A request's answer does not depend on what runs beside it (greedy, float32): the numbers move
    by rounding only. When memory runs out, half the rows start again later. Raises EngineError
    when one row does not fit, or a logit is not a number.
    """

    def __init__(
        self,
        weights: Weights,
        requests: Sequence[Request],
        ending: Ending,
    ) -> None:
        self._weights = weights
        self._requests = requests
        self._ending = ending
        self._waiting = deque(self._in_tree_order())
        self._active: list[_Row] = []
        self._stored: dict[Node, list[KeysValues]] = {}
        self._users: dict[Node, int] = {}
        for _, path in self._waiting:
            for node in path:
                self._users[node] = self._users.get(node, 0) + 1
        self._rows: Rows | None = None
        self._most_rows = MOST_ROWS[weights.device]
        self._tried = 0  # rows of the latest forward, joining ones included

    def run(self) -> Iterator[tuple[int, Generated]]:
        """(index of the request, its answer), each as soon as it is done."""
        if sum(request.room for request in self._requests) >= _PACK_FROM_TOKENS:
            self._weights.pack_for_decoding()
        while self._waiting or self._active:
            try:
                yield from self._admit()
                yield from self._step()
            except OutOfMemoryError:
                self._shrink()

    def _in_tree_order(self) -> Iterator[tuple[int, list[Node]]]:
        """(index, nodes worth storing on its path), neighbours in the tree one after the other,
        long ones first. The last token of a prompt is always its row's own: its logits are
        wanted."""
        groups: dict[int, list[int]] = {}
        for index, request in enumerate(self._requests):
            groups.setdefault(id(request.adapter), []).append(index)
        for members in groups.values():
            root = prefix_tree([np.asarray(self._requests[i].ids[:-1], np.int64) for i in members])
            longest = dict.fromkeys(root.below(), 0)
            different = dict.fromkeys(longest, 0)  # prompts at or below a node
            for node in reversed(list(root.below())):
                for end in node.ends:
                    request = self._requests[members[end]]
                    longest[node] = max(longest[node], len(request.ids) + request.room)
                different[node] += len({self._requests[members[end]].ids for end in node.ends})
                if node.parent is not None:
                    longest[node.parent] = max(longest[node.parent], longest[node])
                    different[node.parent] += different[node]
            stack: list[tuple[Node, list[Node]]] = [(root, [])]
            while stack:
                node, path = stack.pop()
                for end in node.ends:
                    yield members[end], path
                for child in sorted(node.children, key=longest.__getitem__):
                    stack.append((child, _extended(path, child, different[child])))

    def _admit(self) -> Iterator[tuple[int, Generated]]:
        """Lets waiting requests join while there is room: their own tokens run in one forward,
        which gives each its first new token."""
        while self._waiting and len(self._active) < self._most_rows:
            if self._rows is None:
                self._rows = self._new_rows()
            joining: list[_Row] = []
            size = 0
            room = min(self._most_rows, self._rows.keys[0].shape[0]) - len(self._active)
            while self._waiting and len(joining) < room:
                index, path = self._waiting[0]
                request = self._requests[index]
                own_from = path[-1].stop if path else 0
                same = bool(joining) and _same_prompt(joining[-1].request, request)
                length = 0 if same else len(request.ids) - own_from
                if joining and size + length > _PREFILL_TOKENS:
                    break
                if request.room <= 0:
                    self._waiting.popleft()
                    self._release(path)
                    yield index, Generated((), End.LENGTH, 0, (), 0.0, 1)
                    continue
                joining.append(self._row(index, path, own_from))
                self._waiting.popleft()
                size += length
            if not joining:
                return
            self._tried = len(self._active) + len(joining)
            try:
                logits = self._prefill(joining)
            except OutOfMemoryError:
                for row in reversed(joining):
                    self._waiting.appendleft((row.index, row.path))
                raise
            self._active += joining
            yield from self._choose(joining, logits)

    def _row(self, index: int, path: list[Node], own_from: int) -> _Row:
        request = self._requests[index]
        return _Row(
            index,
            request,
            path,
            own_from,
            Chooser(request.sampling, request.ids, request.constrain and request.constrain()),
            time.perf_counter(),
        )

    def _new_rows(self) -> Rows:
        """Blocks for as many rows as memory has room for, each wide enough for any request."""
        import psutil

        widest = max(
            len(self._requests[i].ids) - (path[-1].stop if path else 0) + self._requests[i].room
            for i, path in self._waiting
        )
        capacity = -(-widest // _BLOCK_TOKENS) * _BLOCK_TOKENS
        shapes = self._weights.key_value_shapes()
        element_bytes = self._weights.block_dtype.itemsize
        row_bytes = sum(capacity * heads * (k + v) * element_bytes for heads, k, v in shapes)
        free: float = psutil.virtual_memory().available
        if self._weights.device == "cuda":
            free = torch.cuda.mem_get_info()[0]
        fitting = int(min(_MEMORY_SHARE * free, _MOST_MEMORY) // row_bytes)
        rows = max(1, min(self._most_rows, len(self._waiting), fitting))
        self._tried = rows
        make = self._weights.zeros  # what is masked still takes part, times 0: it must be a number
        return Rows(
            [make(rows, heads, capacity, k) for heads, k, _ in shapes],
            [make(rows, heads, capacity, v) for heads, _, v in shapes],
        )

    def _prefill(self, joining: list[_Row]) -> torch.Tensor:
        """(rows, V) logits after each joining row's prompt. Rows of equal prompts (draws of one)
        are computed once, and each keeps a copy."""
        for row in joining:
            self._store_path(row)
        rows, device = self._rows, self._weights.device
        ids: list[int] = []
        positions: list[int] = []
        own: list[Own] = []
        keep: list[Keep] = []
        lasts: list[int] = []
        spans: dict[Node, list[slice]] = {}
        ranges: list[tuple[slice, Adapter]] = []
        computed: dict[tuple[tuple[int, ...], int], slice] = {}
        for offset, row in enumerate(joining):
            prompt = row.request.ids
            known = computed.get((prompt, id(row.request.adapter)))
            span = known or slice(len(ids), len(ids) + len(prompt) - row.own_from)
            keep.append(Keep(span, row=len(self._active) + offset, rows=rows))
            lasts.append(span.stop - 1)
            if known:
                continue
            computed[prompt, id(row.request.adapter)] = span
            ids += prompt[row.own_from :]
            positions += range(row.own_from, len(prompt))
            own.append(Own(span))
            for node in row.path:
                spans.setdefault(node, []).append(span)
            if row.request.adapter is not None:
                ranges.append((span, row.request.adapter))
        layout = Layout(
            torch.tensor(positions, device=device),
            own=own,
            stored=[
                Stored(_joined(s, device), kv) for n, s in spans.items() for kv in self._stored[n]
            ],
            keep=keep,
        )
        last = torch.tensor(lasts, device=device)
        return self._weights.forward(ids, layout, last, ranges)

    def _store_path(self, row: _Row) -> None:
        """The shared beginning of a row, each node of it computed once."""
        device = self._weights.device
        above: list[KeysValues] = []
        for depth, node in enumerate(row.path):
            if node not in self._stored:
                made: list[KeysValues] = []
                first = row.path[depth - 1].stop if depth else 0
                for start in range(first, node.stop, _PREFILL_TOKENS):
                    ids = row.request.ids[start : min(start + _PREFILL_TOKENS, node.stop)]
                    kv = KeysValues(start, len(ids))
                    span = slice(0, len(ids))
                    layout = Layout(
                        torch.arange(start, start + len(ids), device=device),
                        own=[Own(span)],
                        stored=[Stored(span, k) for k in (*above, *made)],
                        keep=[Keep(span, kv)],
                    )
                    ranges = [(span, row.request.adapter)] if row.request.adapter else []
                    self._weights.forward(ids, layout, torch.tensor([0], device=device), ranges)
                    made.append(kv)
                self._stored[node] = made
            above += self._stored[node]

    def _step(self) -> Iterator[tuple[int, Generated]]:
        """One new token for every active row."""
        active = self._active
        if not active:
            return
        rows, device = self._rows, self._weights.device
        assert rows is not None
        self._tried = len(active)
        lengths = [row.own + 1 for row in active]
        rows.used, rows.longest = len(active), max(lengths)
        rows.ragged = min(lengths) != rows.longest
        rows.lengths = torch.tensor(lengths, device=device)
        rows.slots.clear()
        rows.masks.clear()
        positions = [len(row.request.ids) + len(row.new) - 1 for row in active]
        users: dict[Node, list[int]] = {}
        ranges: list[tuple[slice, Adapter]] = []
        for place, row in enumerate(active):
            for node in row.path:
                users.setdefault(node, []).append(place)
            if row.request.adapter is not None:
                ranges.append((slice(place, place + 1), row.request.adapter))
        layout = Layout(
            torch.tensor(positions, device=device),
            rows=rows,
            stored=[
                Stored(_joined([slice(p, p + 1) for p in places], device), kv)
                for node, places in users.items()
                for kv in self._stored[node]
            ],
        )
        ids = [row.new[-1] for row in active]
        every = torch.arange(len(active), device=device)
        logits = self._weights.forward(ids, layout, every, _neighbours(ranges))
        yield from self._choose(active, logits)

    def _choose(self, rows: list[_Row], logits: torch.Tensor) -> Iterator[tuple[int, Generated]]:
        """Each row's next token from its (rows, V) logits; rows that are done leave."""
        name = self._weights.name
        with telling_out_of_memory(name):
            tokens, logprobs = Chooser.choose_all([row.chooser for row in rows], logits, name)
        done: list[_Row] = []
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.new.append(token)
            row.logprobs.append(logprob)
            row.most_rows = max(row.most_rows, len(self._active))
            if (ended := self._ended(row)) is not None:
                done.append(row)
                kept = row.new[:-1] if ended is End.TOKEN else row.new
                yield (
                    row.index,
                    Generated(
                        tuple(kept),
                        ended,
                        len(row.new),
                        tuple(row.logprobs[: len(kept)]),
                        time.perf_counter() - row.began,
                        row.most_rows,
                    ),
                )
        for row in done:
            self._leave(row)

    def _ended(self, row: _Row) -> End | None:
        request = row.request
        return self._ending.reached(
            row.new, request.room, request.sampling.stop, row.chooser.complete
        )

    def _leave(self, row: _Row) -> None:
        """Frees a row: the last row moves into its block."""
        rows = self._rows
        assert rows is not None
        place = self._active.index(row)
        last = self._active.pop()
        if last is not row:
            self._active[place] = last
            for layer in (*rows.keys, *rows.values):
                layer[place, :, : last.own] = layer[len(self._active), :, : last.own]
        self._release(row.path)

    def _release(self, path: list[Node]) -> None:
        for node in path:
            self._users[node] -= 1
            if not self._users[node]:
                self._stored.pop(node, None)

    def _shrink(self) -> None:
        """After memory ran out: half the rows go back to wait and will start anew."""
        if self._tried <= 1:
            raise
        self._most_rows = self._tried // 2
        for row in reversed(self._active):
            self._waiting.appendleft((row.index, row.path))
        self._active.clear()
        self._rows = None


def _extended(path: list[Node], node: Node, different: int) -> list[Node]:
    """The stored path below ``path`` when ``node`` is reached, which so many ``different`` prompts
    share.

    A node is worth storing when several requests share it and it is not short (shorter ones go
    into the next below), or when it is too long for one forward: it is computed piece by piece.
    """
    n = node.stop - (path[-1].stop if path else 0)
    shared = different > 1 and n >= _SHORTEST_SHARED
    repeated = node.requests > 1 and n >= _SHORTEST_REPEATED
    return [*path, node] if shared or repeated or n > _PREFILL_TOKENS else path


def _same_prompt(a: Request, b: Request) -> bool:
    return a.ids == b.ids and a.adapter is b.adapter


def _joined(spans: list[slice], device: str) -> slice | torch.Tensor:
    """One slice where the spans touch, else the indices of their tokens."""
    if all(a.stop == b.start for a, b in itertools.pairwise(spans)):
        return slice(spans[0].start, spans[-1].stop)
    return torch.cat([torch.arange(s.start, s.stop) for s in spans]).to(device)


def _neighbours(ranges: list[tuple[slice, Adapter]]) -> list[tuple[slice, Adapter]]:
    """Touching ranges of one adapter as one."""
    joined: list[tuple[slice, Adapter]] = []
    for span, adapter in ranges:
        if joined and joined[-1][1] is adapter and joined[-1][0].stop == span.start:
            joined[-1] = (slice(joined[-1][0].start, span.stop), adapter)
        else:
            joined.append((span, adapter))
    return joined
