"""The compiled kernels give torch's numbers, and torch does the work where they cannot be had."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from hinlap.engines import native, tree_attention
from hinlap.engines.tree_attention import Inside, KeysValues, Layout, Own, Rows, Stored

needs_kernels = pytest.mark.skipif(
    native.kernels() is None, reason="no AVX-512 or no C compiler here"
)
STORED = [(0, 100), (100, 30)]  # where two runs begin, and how long they are
PRECISIONS = [torch.float32, torch.bfloat16]


def found(dtype: torch.dtype) -> native.Kernels:
    kernels = native.kernels()
    assert kernels is not None
    if not kernels.takes(dtype):
        pytest.skip("this processor does not multiply bfloat16")
    return kernels


def near(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """Within a rounding of the precision, against float64."""
    assert ours.shape == exact.shape
    unit = 4e-7 if ours.dtype == torch.float32 else 2**-8
    assert float((ours.double() - exact).abs().max()) < 8 * unit * float(exact.abs().max())


@needs_kernels
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 16, 17, 64])
@pytest.mark.parametrize(
    ("width", "outputs"),
    [(576, 192), (70, 7), (1, 1), (96, 2), (77, 9), (1034, 35)],  # many words go by pieces
)
def test_products_and_gates_of_few_rows(
    dtype: torch.dtype, rows: int, width: int, outputs: int
) -> None:
    kernels = found(dtype)
    torch.manual_seed(0)
    x, w, up = (torch.randn(n, width).to(dtype) for n in (rows, outputs, outputs))
    bias = torch.randn(outputs).to(dtype)
    exact = x.double() @ w.double().T
    near(kernels.linear(x, (w, None))[0], exact)
    one, two = kernels.linear(x[None], (w, bias), (up, None))
    near(one, (exact + bias.double())[None])
    near(two, (x.double() @ up.double().T)[None])
    small = w / width
    gates = functional.silu(x.double() @ small.double().T) * (x.double() @ up.double().T)
    near(kernels.gated(x, small, up), gates)


@needs_kernels
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("fewest", "most"), [(2, 8), (9, 64)])  # one order of sums for each
def test_a_row_has_the_same_product_beside_any_others(
    dtype: torch.dtype, fewest: int, most: int
) -> None:
    kernels = found(dtype)
    torch.manual_seed(0)
    x, w = torch.randn(most, 1200).to(dtype), torch.randn(30, 1200).to(dtype)
    (together,) = kernels.linear(x, (w, None))
    for first in range(1, most - fewest + 1):
        some = slice(first, first + fewest)
        assert torch.equal(kernels.linear(x[some], (w, None))[0], together[some])


@needs_kernels
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("width", [1, 7, 16, 4099])
def test_likeliest_tokens_and_sums(dtype: torch.dtype, width: int) -> None:
    kernels = found(dtype)
    torch.manual_seed(0)
    logits = (8 * torch.randn(5, width)).to(dtype)
    logits[3] = logits[3, 0]  # of equal ones the first
    logits[4] = -1e4
    sums, places = kernels.likeliest(logits)
    exact = logits.double().logsumexp(-1)
    assert float((sums.double() - exact).abs().max()) < 2e-6 * float(exact.abs().max())
    assert places.tolist() == logits.float().argmax(-1).tolist()
    for wrong in (float("nan"), float("inf")):
        logits[1, -1] = wrong
        assert kernels.likeliest(logits)[0].isfinite().tolist() == [True, False, True, True, True]
    logits[2] = float("-inf")
    assert not kernels.likeliest(logits)[0][2].isfinite()


@needs_kernels
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tokens", [1, 5, 300])  # many go by all threads
def test_small_layers(dtype: torch.dtype, tokens: int) -> None:
    kernels = found(dtype)
    torch.manual_seed(0)
    x, w = torch.randn(tokens, 90).to(dtype), torch.randn(90).to(dtype)
    exact = functional.rms_norm(x.double(), (90,), w.double(), 1e-5)
    near(kernels.rms_norm(x, w, 1e-5), exact)
    gate, up = (8 * torch.randn(2, tokens, 90)).to(dtype)
    exact = functional.silu(gate.double()) * up.double()
    near(kernels.silu_times(gate.clone(), up), exact)
    q = torch.randn(1, tokens, 3, 48).to(dtype).transpose(1, 2)
    cos, sin = torch.randn(2, 1, tokens, 48).to(dtype)
    half = torch.cat([-q[..., 24:], q[..., :24]], -1).double()
    exact = q.double() * cos.double()[:, None] + half * sin.double()[:, None]
    near(kernels.rotate(q, cos, sin), exact)


def test_a_gate_far_below_zero_is_closed_and_what_is_no_number_stays_none() -> None:
    if native.kernels() is None:
        pytest.skip("no AVX-512 or no C compiler here")
    gate = torch.tensor([-1e4, -200.0, -90.0, 90.0, 1e4, float("nan")])
    done = found(torch.float32).silu_times(gate, torch.ones(6))
    assert done[:3].abs().max() < 1e-30
    assert done[3:5].tolist() == [90.0, 1e4]
    assert done[5].isnan()


def layouts(dtype: torch.dtype, width: int, wide: bool = False) -> dict[str, Layout]:
    """40 tokens that look at what the engine lets them look at; wide: the same in float32."""
    random.seed(1)
    torch.manual_seed(1)

    def numbers(*shape: int) -> torch.Tensor:
        made = torch.randn(shape).to(dtype)
        return made.float() if wide else made

    kv = [KeysValues(s, n, [numbers(2, n, width)], [numbers(2, n, width)]) for s, n in STORED]
    tree = torch.ones(40, 40, dtype=torch.bool).tril()
    for place in range(5, 40):
        tree[place, random.sample(range(place), place // 2)] = False
    ends = [slice(0, 1), slice(1, 30), slice(30, 40)]
    far = torch.arange(40) + 130
    lengths = [random.randrange(1, 90) for _ in range(40)]
    blocks = [[numbers(40, 2, 96, width)] for _ in range(2)]
    rows = Rows(*blocks, used=40, lengths=torch.tensor(lengths), longest=max(lengths))
    return {
        "chain": Layout(torch.arange(40), own=[Own(slice(0, 40))]),
        "tree": Layout(tree.sum(-1) - 1, own=[Own(slice(0, 40), tree)]),
        "shared": Layout(
            far,
            own=[Own(each) for each in ends],
            inside=[Inside(slice(30, 40), slice(0, 1)), Inside(slice(1, 30), slice(0, 1))],
            stored=[
                Stored(slice(0, 40), kv[0]),
                Stored(torch.tensor([0, 2, 3, 17, 39]), kv[1]),
            ],
        ),
        "decoding": Layout(
            far + torch.tensor(lengths),
            rows=rows,
            stored=[Stored(slice(3, 40), kv[0]), Stored(torch.tensor([1, 5, 6, 30]), kv[1])],
        ),
    }


@needs_kernels
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("width", [16, 48, 64, 128, 256])
@pytest.mark.parametrize("group", [1, 3, 8])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (25, 0.0), (0, 5.0), (130, 5.0)])
def test_attention_is_that_of_torchs_operations(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    width: int,
    group: int,
    window: int,
    softcap: float,
) -> None:
    found(dtype)
    torch.manual_seed(0)
    q = torch.randn(1, 40, 2 * group, width).to(dtype).transpose(1, 2)
    k, v = torch.randn(2, 1, 40, 2, width).to(dtype).transpose(2, 3)
    module = SimpleNamespace(layer_idx=0)
    named: dict[str, Any] = {
        "scaling": width**-0.5,
        "sliding_window": window or None,
        "softcap": softcap,
    }
    with torch.inference_mode():
        for name, layout in layouts(dtype, width).items():
            with layout:
                ours, _ = tree_attention.tree_attention(module, q, k, v, None, **named)
            with monkeypatch.context() as without, layouts(dtype, width, wide=True)[name]:
                without.setattr(tree_attention, "kernels", lambda: None)
                wide = (each.float() for each in (q, k, v))
                torchs, _ = tree_attention.tree_attention(module, *wide, None, **named)
            near(ours, torchs.double())


@needs_kernels
def test_what_is_not_of_one_precision_is_left_to_torch() -> None:
    kernels = found(torch.bfloat16)
    q, k, v = torch.randn(3, 2, 5, 16)
    assert kernels.attends(q, k, v)
    assert not kernels.attends(q, k, v.bfloat16())
    assert not kernels.attends(q.double(), k.double(), v.double())
    assert not kernels.attends(q.transpose(1, 2), k, v)
    assert not kernels.attends(q, k, v[..., :8])


@needs_kernels
def test_rows_of_another_precision_are_decoded_by_torch() -> None:
    """Blocks in bfloat16, queries in float32: architectures that keep positions exact."""
    q, k, v = torch.randn(3, 1, 2, 3, 16)
    rows = Rows(
        *([torch.zeros(3, 2, 4, 16).bfloat16()] for _ in range(2)),
        used=3,
        lengths=torch.ones(3, dtype=torch.long),
        longest=1,
    )
    with Layout(torch.zeros(3, dtype=torch.long), rows=rows):
        out, _ = tree_attention.tree_attention(SimpleNamespace(layer_idx=0), q, k, v, None)
    assert torch.allclose(out[0], v[0].transpose(0, 1), atol=2e-2)  # each sees itself alone


@needs_kernels
def test_layers_of_different_heads_are_decoded_in_one_step() -> None:
    """Two shapes for the kernels, and heads of 8 numbers that torch attends for."""
    torch.manual_seed(0)
    shapes = [(2, 16), (1, 32), (2, 8), (2, 16)]  # KV heads, numbers of each
    keys, values = ([torch.randn(3, heads, 6, n) for heads, n in shapes] for _ in range(2))
    lengths = [4, 1, 6]
    rows = Rows(keys, values, used=3, lengths=torch.tensor(lengths), longest=6)
    with Layout(torch.tensor(lengths) - 1, rows=rows):
        for layer, (heads, n) in enumerate(shapes):
            q, k, v = torch.randn(3, 1, heads, 3, n)
            module = SimpleNamespace(layer_idx=layer)
            out, _ = tree_attention.tree_attention(module, q, k, v, None)
            for row, length in enumerate(lengths):
                own = [block[layer][row, :, :length] for block in (keys, values)]
                assert torch.equal(own[0][:, -1], k[0, :, row])
                exact = functional.scaled_dot_product_attention(q[0, :, row, None], *own)
                assert torch.allclose(out[0, row], exact[:, 0], atol=1e-5)


@needs_kernels
def test_keys_that_are_no_numbers_do_not_pass_for_some() -> None:
    q, k, v = torch.randn(3, 1, 2, 6, 16)
    k[0, 1, 3, 5] = float("nan")
    with Layout(torch.arange(6), own=[Own(slice(0, 6))]):
        out, _ = tree_attention.tree_attention(SimpleNamespace(layer_idx=0), q, k, v, None)
    assert out[0, 3:, 1].isnan().all()
    assert not out[0, :3].isnan().any()
    assert not out[0, :, 0].isnan().any()


ASK = "from hinlap.engines import native; print(native.kernels() is not None)"


def asked(folder: Path, **surroundings: str) -> subprocess.Popen[str]:
    names = {**os.environ, "HINLAP_CACHE": str(folder), **surroundings}
    return subprocess.Popen([sys.executable, "-c", ASK], env=names, stdout=-1, text=True)


@needs_kernels
def test_two_processes_compile_at_once_and_leave_one_library(tmp_path: Path) -> None:
    both = [asked(tmp_path) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["True\n", "True\n"]
    assert [file.suffix for file in (tmp_path / "native").iterdir()] == [".so"]


@pytest.mark.parametrize("how", ["off", "no compiler", "a broken compiler", "no room"])
def test_without_kernels_torch_does_the_work(tmp_path: Path, how: str) -> None:
    surroundings = {"PATH": str(tmp_path)}
    if how == "off":
        surroundings = {"HINLAP_NATIVE": "0"}
    elif how == "a broken compiler":
        (tmp_path / "cc").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
        (tmp_path / "cc").chmod(0o755)
    elif how == "no room":
        surroundings = {"HINLAP_CACHE": "/dev/null/cache"}
    process = asked(tmp_path, **surroundings)
    assert process.communicate()[0] == "False\n"
    assert process.returncode == 0


@needs_kernels
def test_a_spoilt_library_is_not_used(tmp_path: Path) -> None:
    assert asked(tmp_path).communicate()[0] == "True\n"
    [library] = (tmp_path / "native").iterdir()
    library.write_bytes(b"no library")
    assert asked(tmp_path).communicate()[0] == "False\n"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral-window", "gemma", "gpt-neox"])
def test_kernels_give_a_models_own_logits(
    model_of: Callable[[str], Path], architecture: str
) -> None:
    """Loaded with all that the kernels replace, on a chain of tokens, against transformers'."""
    from transformers import AutoModelForCausalLM

    from hinlap.engines.weights import Weights

    plain = AutoModelForCausalLM.from_pretrained(model_of(architecture), dtype=torch.float32)
    ids = torch.arange(20) * 7 % 300
    with torch.inference_mode():
        exact = plain.eval()(input_ids=ids[None], use_cache=False).logits[0]
    weights = Weights("m", model_of(architecture))
    assert weights.shared
    weights.pack_for_decoding()
    layout = Layout(torch.arange(20), own=[Own(slice(0, 20))])
    assert torch.allclose(weights.forward(ids, layout, torch.arange(20)), exact, atol=1e-4)
