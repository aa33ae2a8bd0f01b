"""The radix tree over token sequences: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinlap.engines.prefix_tree import Node, Tokens, common_prefix, prefix_tree

sequences_of_tokens = st.lists(
    # few tokens, so that beginnings are shared; some beyond a byte and beyond two
    st.lists(st.sampled_from([0, 1, 2, 255, 256, 70_000]), max_size=8),
    max_size=12,
)


def tree(sequences: Sequence[Sequence[int]]) -> Node:
    return prefix_tree([tokens(s) for s in sequences])


def tokens(values: Sequence[int]) -> Tokens:
    return np.asarray(values, np.int64)


def along(node: Node) -> list[int]:
    """The tokens from the root down to a node's end."""
    return [int(t) for part in node.path() for t in part.tokens]


@given(sequences_of_tokens)
def test_every_sequence_is_its_path_s_tokens_joined(sequences: list[list[int]]) -> None:
    found = {index: along(node) for node in tree(sequences).below() for index in node.ends}
    assert found == dict(enumerate(sequences))


@given(sequences_of_tokens)
def test_siblings_start_with_different_tokens(sequences: list[list[int]]) -> None:
    for node in tree(sequences).below():
        first = [int(child.tokens[0]) for child in node.children]
        assert len(set(first)) == len(first)


@given(sequences_of_tokens)
def test_a_node_is_split_only_where_sequences_part_or_end(sequences: list[list[int]]) -> None:
    root = tree(sequences)
    for node in root.below():
        assert node is root or node.ends or len(node.children) > 1


@given(sequences_of_tokens)
def test_totals_count_tokens_and_requests_at_and_below(sequences: list[list[int]]) -> None:
    for node in tree(sequences).below():
        below = list(node.below())
        assert node.total == sum(len(n.tokens) for n in below)
        assert node.requests == sum(len(n.ends) for n in below)


@given(sequences_of_tokens)
def test_a_tree_holds_each_beginning_once(sequences: list[list[int]]) -> None:
    beginnings = {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}
    assert tree(sequences).total == len(beginnings)


@given(sequences_of_tokens)
def test_nodes_know_where_they_stand(sequences: list[list[int]]) -> None:
    for node in tree(sequences).below():
        for child in node.children:
            assert child.parent is node
            assert child.start == node.stop


@given(sequences_of_tokens, st.randoms())
@settings(max_examples=50)
def test_the_order_of_the_sequences_does_not_matter(sequences: list[list[int]], random) -> None:  # type: ignore[no-untyped-def]
    other = random.sample(sequences, len(sequences))

    def shape(sequences: list[list[int]]) -> set[tuple[tuple[int, ...], int]]:
        return {(tuple(along(n)), len(n.ends)) for n in tree(sequences).below()}

    assert shape(sequences) == shape(other)


def test_equal_sequences_end_in_one_node() -> None:
    root = tree([[5, 6], [5, 6], [5, 6]])
    [node] = root.children
    assert sorted(node.ends) == [0, 1, 2]
    assert node.total == 2


def test_an_empty_sequence_ends_in_the_root() -> None:
    root = tree([[], [5], []])
    assert sorted(root.ends) == [0, 2]
    assert root.requests == 3


def test_no_sequences_make_an_empty_root() -> None:
    root = tree([])
    assert (root.children, root.ends, root.total) == ([], [], 0)


def test_a_beginning_of_another_ends_above_it() -> None:
    root = tree([[5, 6, 7], [5, 6]])
    [above] = root.children
    [below] = above.children
    assert (above.tokens.tolist(), above.ends) == ([5, 6], [1])
    assert (below.tokens.tolist(), below.ends, below.start) == ([7], [0], 2)


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [([], [], 0), ([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 9, 3], 1), ([4], [5], 0)],
)
def test_what_two_sequences_begin_with_together(a: list[int], b: list[int], shared: int) -> None:
    assert common_prefix(tokens(a), tokens(b)) == shared
    assert common_prefix(tokens(b), tokens(a)) == shared
