"""A radix tree over token sequences: what requests share, found once. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens that the same requests share.

    tokens:   its own tokens, (n,), at depths ``start`` to ``start + n`` of its sequences.
    ends:     sequences (by index) whose last token is this node's last.
    total:    tokens of this node and all below it.
    requests: sequences at or below it.
    """

    tokens: Tokens
    start: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    total: int = 0
    requests: int = 0

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)

    def path(self) -> list[Node]:
        """From the top (without the empty root) down to this node."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def below(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def prefix_tree(sequences: Sequence[Tokens]) -> Node:
    """The empty root above all ``sequences``; equal sequences end in one node.

    Sorting brings sequences with a common prefix together, so each needs only be compared with
    its neighbour. An empty sequence ends in the root.
    """
    root = Node(np.empty(0, np.int64), 0)
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    last = root
    before: Tokens = root.tokens
    for index in order:
        sequence = sequences[index]
        shared = common_prefix(before, sequence)
        last = _ancestor_at(last, shared)
        if shared < len(sequence):
            child = Node(sequence[shared:], shared, last)
            last.children.append(child)
            last = child
        last.ends.append(index)
        before = sequence
    _count(root)
    return root


def common_prefix(a: Tokens, b: Tokens) -> int:
    """How many first tokens both share."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def _ancestor_at(node: Node, depth: int) -> Node:
    """The node on the way up that stops at ``depth``; one that runs past it is split there."""
    while node.start >= depth and node.parent is not None:
        node = node.parent
    if node.stop == depth:
        return node
    cut = depth - node.start
    top = Node(node.tokens[:cut], node.start, node.parent, [node])
    assert node.parent is not None  # the root is empty, so it is never split
    node.parent.children[-1] = top  # sorted order: the node being split is its parent's last child
    node.parent, node.tokens, node.start = top, node.tokens[cut:], depth
    return top


def _count(root: Node) -> None:
    for node in reversed(list(root.below())):
        node.total = len(node.tokens) + sum(child.total for child in node.children)
        node.requests = len(node.ends) + sum(child.requests for child in node.children)
