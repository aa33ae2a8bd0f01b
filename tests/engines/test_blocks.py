"""Decoder layers in one call against the same layers as transformers runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers", reason="needs hinlap[local]")

import torch
from tests.engines.conftest import SHARING

from hinlap.engines import native
from hinlap.engines.native import Kernels
from hinlap.engines.tree_attention import Keep, KeysValues, Layout, Own, Rows, Stored

if TYPE_CHECKING:
    from hinlap.engines.weights import Weights

needs_kernels = pytest.mark.skipif(
    native.kernels() is None, reason="the kernels need AVX-512 and a C compiler"
)
ONE_CALL = ["llama-one-call", "qwen2-one-call", "mistral-window-one-call"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each layer that went in one call."""
    seen: list[int] = []
    own = Kernels.block

    def counted(self: Kernels, x: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append(x.numel() // x.shape[-1])
        return own(self, x, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Kernels, "block", counted)
    return seen


def own_part(tokens: int) -> Layout:
    return Layout(torch.arange(tokens), own=[Own(slice(0, tokens))])


@needs_kernels
@pytest.mark.parametrize("name", SHARING)
def test_layers_of_the_shape_are_found(name: str, weights_of: Callable[[str], Weights]) -> None:
    """Others keep to their own code: other names or heads, norms of keys, a multiplied residual."""
    weights = weights_of(name)
    weights.pack_for_decoding()
    assert len(weights._blocks) == (2 if name in ONE_CALL else 0)


@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ONE_CALL)
@pytest.mark.parametrize("tokens", [1, 8, 9, 33])
def test_one_call_gives_the_layers_own_numbers(
    name: str, dtype: str, tokens: int, model_of: Callable[[str], Path], calls: list[int]
) -> None:
    from hinlap.engines.weights import DTYPES, Weights

    found = native.kernels()
    if found is None or not found.takes(DTYPES[dtype]):
        pytest.skip("this processor does not multiply bfloat16")
    weights = Weights(name, model_of(name), dtype)
    weights.pack_for_decoding()
    calls.clear()
    ids = torch.randint(400, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    shared = KeysValues(0, 5)
    top = Layout(torch.arange(5), own=[Own(slice(0, 5))], keep=[Keep(slice(0, 5), shared)])
    weights.forward(ids[:1] * 5, top, torch.tensor([0]))
    assert not calls  # what is kept is kept by transformers' way
    shapes = weights.key_value_shapes()

    def decoded() -> tuple[torch.Tensor, list[torch.Tensor]]:
        """All tokens are rows' newest, at several lengths, and look at the shared beginning too."""
        torch.manual_seed(2)
        lengths = torch.arange(tokens) % 11 + 1
        keys, values = (
            [torch.randn(tokens, heads, 12, width).to(DTYPES[dtype]) for heads, width, _ in shapes]
            for _ in range(2)
        )
        rows = Rows(keys, values, tokens, lengths, int(lengths.max()), tokens > 1)
        whole = Stored(slice(0, tokens), shared)
        layout = Layout(4 + lengths, rows=rows, stored=[whole])
        return weights.forward(ids, layout, torch.arange(tokens)), keys + values

    in_one_call, stored = decoded()
    together = weights.forward(ids, own_part(tokens), torch.arange(tokens))
    assert calls == [tokens] * 4
    for block in weights._blocks:
        del block.module.forward
    for ours, theirs in zip(
        (in_one_call, *stored), (lambda x: (x[0], *x[1]))(decoded()), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(together, weights.forward(ids, own_part(tokens), torch.arange(tokens)))
    assert len(calls) == 4


@needs_kernels
def test_many_tokens_and_adapters_go_by_the_layers_own_code(
    model_of: Callable[[str], Path], calls: list[int]
) -> None:
    from hinlap.engines.weights import Adapter, Weights

    weights = Weights("llama", model_of("llama-one-call"))
    weights.pack_for_decoding()
    calls.clear()
    weights.forward([5] * 65, own_part(65), torch.tensor([0]))
    weights.forward([5] * 3, own_part(3), torch.tensor([0]), [(slice(0, 1), Adapter({}))])
    assert not calls
    weights.forward([5] * 64, own_part(64), torch.tensor([0]))
    assert calls == [64, 64]


def raising(*_: object) -> torch.Tensor:
    raise TypeError


@needs_kernels
@pytest.mark.parametrize("wrong", ["other numbers", "an error"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_whose_layers_are_not_what_they_seem_keeps_its_own(
    wrong: str, dtype: str, model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.weights import Weights

    own = Kernels.block
    other = raising if wrong == "an error" else lambda *given: own(*given) * 1.01
    monkeypatch.setattr(Kernels, "block", other)
    weights = Weights("llama", model_of("llama-one-call"), dtype)
    weights.pack_for_decoding()
    assert weights.shared
    assert not weights._blocks
    assert weights.forward([5] * 3, own_part(3), torch.tensor([2])).isfinite().all()
