"""Kernels give the numbers and gradients of the plain expressions they stand in for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from hinlap.tuning import kernels, replacing


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with the compiled kernels, and without."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "kernels", lambda: None)
    elif kernels.kernels() is None:
        pytest.skip("no AVX-512 or no C compiler here")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_()


def same(
    ours: Callable[..., torch.Tensor],
    plain: Callable[..., torch.Tensor],
    *inputs: torch.Tensor,
    tolerance: float = 1e-5,
) -> None:
    """Equal outputs, and equal gradients of a weighted sum of them."""
    copies = [each.detach().clone().requires_grad_(each.requires_grad) for each in inputs]
    one, two = ours(*inputs), plain(*copies)
    assert torch.allclose(one.float(), two.float(), atol=tolerance, rtol=tolerance)
    weights = torch.linspace(-1, 1, one.numel()).view_as(one)
    (one * weights).sum().backward()
    (two * weights).sum().backward()
    for mine, theirs in zip(inputs, copies, strict=True):
        if mine.requires_grad:
            assert mine.grad is not None
            assert theirs.grad is not None
            assert torch.allclose(mine.grad, theirs.grad, atol=10 * tolerance, rtol=10 * tolerance)


@pytest.fixture(params=["ours", "torch's"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose product of frozen weights it is that LoRA adds to."""
    if request.param == "torch's":
        monkeypatch.setattr(kernels, "_multiplying", lambda *_: None)


# of 5 to 7 there is no compiled kernel; 1 and 7 rows: not whole tiles
@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 50])
@pytest.mark.parametrize(
    ("width", "outs", "rank"),
    [
        *[(5, [7], 3), (5, [4, 2, 1], 3), (32, [16], 3), (80, [64, 16, 32], 8)],
        *[(16, [48, 16], 21), (16, [80, 144, 64], 9), (16, [16] * 8, 1)],
    ],
)
def test_lora_products(biased: bool, rows: int, width: int, outs: list[int], rank: int) -> None:
    weight = drawn(sum(outs), width, seed=1).detach()
    bias = drawn(sum(outs), seed=2).detach() if biased else None
    frozen = kernels.FrozenWeight(weight, bias, pack=False)
    count = len(outs)

    def ours(x: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        return torch.cat(kernels.LoraProducts.apply(x, frozen, 2.0, *pairs), -1)

    def plain(x: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        added = [2.0 * (x @ a.T) @ b.T for a, b in zip(pairs[:count], pairs[count:], strict=True)]
        return functional.linear(x, weight, bias) + torch.cat(added, -1)

    downs = [drawn(rank, width, seed=10 + i) for i in range(count)]
    ups = [drawn(out, rank, seed=20 + i) for i, out in enumerate(outs)]
    x = (drawn(1, rows, width).detach() / width).requires_grad_()
    same(ours, plain, x, *downs, *ups)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("rank", [3, 8, 64])
def test_lora_products_in_bfloat16_are_as_near_as_rounding_allows(rank: int) -> None:
    outs, rows, width = [64, 32], 51, 96
    weight = drawn(sum(outs), width, seed=1).detach().bfloat16()
    frozen = kernels.FrozenWeight(weight, None, pack=False)
    x = drawn(1, rows, width).detach().bfloat16()
    pairs = [drawn(rank, width, seed=10 + i).detach() for i in range(2)]
    pairs += [drawn(out, rank, seed=20 + i).detach() for i, out in enumerate(outs)]
    mine = [each.clone().requires_grad_() for each in (x, *pairs)]
    true = [each.double().requires_grad_() for each in (x, *pairs)]
    one = torch.cat(kernels.LoraProducts.apply(mine[0], frozen, 2.0, *mine[1:]), -1)
    a, b, c, d = true[1:]
    added = torch.cat([(true[0] @ a.T) @ c.T, (true[0] @ b.T) @ d.T], -1)
    two = true[0] @ weight.double().T + 2 * added
    weights = drawn(1, rows, sum(outs), seed=3).detach().bfloat16()
    (one * weights).sum().backward()
    (two * weights.double()).sum().backward()
    for ours, exact in ((one, two), *((a.grad, b.grad) for a, b in zip(mine, true, strict=True))):
        assert ours is not None
        assert exact is not None
        assert (ours.double() - exact).abs().max() < 2**-6 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_products_round_the_same_with_any_number_of_threads(dtype: torch.dtype) -> None:
    native = kernels.kernels()
    if native is None or not native.multiplies(dtype):
        pytest.skip("torch's own products may part")
    x, weight, grad = (drawn(*n, seed=1).detach().to(dtype) for n in ((77, 64), (96, 64), (77, 96)))
    frozen = kernels.FrozenWeight(weight, None, pack=False)
    downs, ups = [drawn(8, 64)] * 2, [drawn(n, 8, seed=n) for n in (64, 32)]
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            inputs = [each.detach().clone().requires_grad_() for each in (x, *downs, *ups)]
            out = torch.cat(kernels.LoraProducts.apply(inputs[0], frozen, 2.0, *inputs[1:]), -1)
            out.backward(grad)
        finally:
            torch.set_num_threads(before)
        results.append((out, *(each.grad for each in inputs)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "width", "out"),
    # 1,040 and 2,064: sums over more than are taken at once; 400: more rows than one task's
    [(1, 16, 16), (7, 48, 80), (400, 64, 176), (50, 2064, 176), (13, 32, 2064), (385, 1040, 48)],
)
def test_products_with_frozen_weights(dtype: torch.dtype, rows: int, width: int, out: int) -> None:
    x, grad, weight, bias = (
        drawn(*shape, seed=i).detach().to(dtype)
        for i, shape in enumerate([(rows, width), (rows, out), (out, width), (out,)])
    )
    frozen = kernels.FrozenWeight(weight, bias, pack=False)
    exact = x.double() @ weight.double().T + bias.double(), grad.double() @ weight.double()
    unit = 2e-6 if dtype == torch.float32 else 2**-8
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            results.append((frozen.times(x), frozen.back(grad)))
        finally:
            torch.set_num_threads(before)
        for mine, true in zip(results[-1], exact, strict=True):
            assert (mine.double() - true).abs().max() < 2 * unit * true.abs().max()
    native = kernels.kernels()
    if native is not None and native.multiplies(dtype):  # a resumed training rounds as the first
        assert all(torch.equal(results[0][i], each[i]) for each in results for i in (0, 1))


def test_a_product_of_no_rows() -> None:
    """A step's forward may read nothing in its last layer."""
    frozen = kernels.FrozenWeight(torch.ones(32, 16), None, pack=False)
    assert frozen.times(torch.ones(0, 16)).shape == (0, 32)
    assert frozen.back(torch.ones(0, 32)).shape == (0, 16)
    x, pairs = torch.ones(0, 16, requires_grad=True), (drawn(4, 16), drawn(32, 4))
    [found] = kernels.LoraProducts.apply(x, frozen, 2.0, *pairs)
    assert found.shape == (0, 32)
    found.sum().backward()
    assert not any(each.grad.any() for each in (x, *pairs))


def test_lora_products_whose_input_needs_no_gradient() -> None:
    down, up = drawn(2, 4), drawn(3, 2)
    x, weight = torch.ones(2, 4), torch.ones(3, 4)
    frozen = kernels.FrozenWeight(weight, None, pack=False)
    kernels.LoraProducts.apply(x, frozen, 1.0, down, up)[0].sum().backward()
    assert down.grad is not None
    assert up.grad is not None


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="no bfloat16 products in oneDNN here",
)
@pytest.mark.parametrize("rows", [1, 37, 700])
def test_packed_weights_give_the_plain_products(rows: int) -> None:
    weight, bias = drawn(48, 40).detach().bfloat16(), drawn(48, seed=1).detach().bfloat16()
    plain = kernels.FrozenWeight(weight, bias, pack=False)
    packed = kernels.FrozenWeight(weight, bias, pack=True)
    x, grad = (
        drawn(rows, 40, seed=2).detach().bfloat16(),
        drawn(rows, 48, seed=3).detach().bfloat16(),
    )
    for one, other in (
        (packed.times(x), plain.times(x)),
        (packed.back(grad), plain.back(grad)),
    ):
        assert torch.allclose(one.float(), other.float(), rtol=2**-7, atol=2**-7)


def test_the_last_feed_forward_layer_skips_what_nothing_reads() -> None:
    layer, whole = (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SiLU()) for _ in range(2))
    layer.load_state_dict(whole.state_dict())
    rows: list[int] = []
    layer[0].register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[1]))
    replacing._only_what_is_read(layer)
    x, read = drawn(1, 6, 4), torch.tensor([1, 4, 5])
    kernels.set_sequences((4, 2), read)
    same(lambda x: layer(x)[:, read], lambda x: whole(x)[:, read], x)
    for one, other in zip(layer.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)
    kernels.set_sequences((4, 2))
    same(layer, whole, drawn(1, 6, 4))
    assert rows == [3, 6]


def test_gradients_that_lie_side_by_side_are_not_copied() -> None:
    """Those of a gated activation do; others are put together."""
    both = torch.arange(24.0).view(2, 3, 4)
    left, right = both.split((1, 3), -1)
    assert kernels._beside([left, right]).data_ptr() == both.data_ptr()
    assert torch.equal(kernels._beside([left, right]), both)
    for parts in ([right, left], [left, right.clone()], [left, right[..., ::2]]):
        assert torch.equal(kernels._beside(parts), torch.cat(parts, -1))


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("width", [6, 50, 600])
def test_rms_norm(width: int, learns: bool) -> None:
    same(
        lambda x, w: kernels.RmsNorm.apply(x, w, 1e-5, torch.float32),
        lambda x, w: functional.rms_norm(x, (width,), w, 1e-5),
        drawn(2, 30, width),
        drawn(width, seed=1).detach().requires_grad_(learns),
    )


def test_rms_norm_of_wide_numbers_in_bfloat16() -> None:
    """As the sums over layers of a frozen bfloat16 model: rounded where torch's operations do."""
    x, weight = drawn(2, 30, 50), drawn(50, seed=1).detach().bfloat16()
    found = kernels.RmsNorm.apply(x, weight, 1e-5, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    scale = (x.double().square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    exact = x.double() * scale * weight.double()
    assert ((found.double() - exact).abs() < 2**-7 * exact.abs() + 1e-6).all()
    grad = drawn(2, 30, 50, seed=2).detach().bfloat16()
    found.backward(grad)
    mine, x.grad = x.grad, None
    exact.backward(grad.double())
    assert mine is not None
    assert x.grad is not None
    assert torch.allclose(mine, x.grad, atol=1e-5)


@pytest.mark.parametrize("width", [6, 50, 600])
def test_a_gated_activation(width: int) -> None:
    same(
        lambda g, u: kernels.GatedSilu.apply(g, u),
        lambda g, u: functional.silu(g) * u,
        drawn(40, width),
        drawn(40, width, seed=1),
    )


def test_a_gated_activation_of_joined_lora_products() -> None:
    weight = drawn(8, 5, seed=1).detach()
    frozen = kernels.FrozenWeight(weight, None, pack=False)

    def ours(x: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        gate, up = kernels.LoraProducts.apply(x, frozen, 2.0, *pairs)
        return kernels.GatedSilu.apply(gate, up)

    def plain(x: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        a, b, c, d = pairs
        gate = x @ weight[:4].T + 2 * (x @ a.T) @ c.T
        return functional.silu(gate) * (x @ weight[4:].T + 2 * (x @ b.T) @ d.T)

    pairs = [drawn(3, 5, seed=10), drawn(3, 5, seed=11), drawn(4, 3, seed=12), drawn(4, 3, seed=13)]
    same(ours, plain, drawn(1, 6, 5), *pairs)


@pytest.mark.parametrize("rows", [1, 5, 600])  # 600: more than are computed at a time
def test_the_head_s_loss(rows: int) -> None:
    targets = torch.randint(11, (rows,), generator=torch.Generator().manual_seed(3))
    same(
        lambda h, w: kernels.HeadLoss.apply(h, w, targets)[0][None] / rows,
        lambda h, w: functional.cross_entropy(h @ w.T, targets, reduction="sum")[None] / rows,
        drawn(rows, 4),
        drawn(11, 4, seed=1),
    )


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="no bfloat16 products in oneDNN here",
)
@pytest.mark.parametrize("pack", [False, True])
def test_the_loss_of_a_frozen_head(pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_HEAD_ROWS", 20)  # at a time
    weight = drawn(40, 48, seed=1).detach().bfloat16()
    hidden, targets = drawn(50, 48).detach().bfloat16(), torch.arange(50) % 40
    mine, true = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    frozen = kernels.FrozenWeight(weight, None, pack=pack)
    nats, hits = kernels.HeadLoss.apply(mine, weight, targets, frozen)
    logits = true @ weight.double().T
    exact = functional.cross_entropy(logits, targets, reduction="sum")
    (nats / 50).backward()
    (exact / 50).backward()
    assert nats.item() == pytest.approx(exact.item(), rel=1e-3)
    assert abs(int(hits) - int((logits.argmax(-1) == targets).sum())) <= 1
    assert mine.grad is not None
    assert true.grad is not None
    assert (mine.grad.double() - true.grad).abs().max() < 2**-6 * true.grad.abs().max()


def test_the_head_counts_first_choices() -> None:
    weight = torch.eye(3)
    hidden = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]], requires_grad=True)
    nats, hits = kernels.HeadLoss.apply(hidden, weight, torch.tensor([0, 1, 0]))
    assert int(hits) == 2
    level = torch.zeros(3, 3, requires_grad=True)  # the first of equal ones is the choice
    assert int(kernels.HeadLoss.apply(level, weight, torch.tensor([0, 1, 2]))[1]) == 1
    plain = functional.cross_entropy(hidden, torch.tensor([0, 1, 0]), reduction="sum")
    assert nats.item() == pytest.approx(plain.item())


def plain_attention(lengths: tuple[int, ...]) -> Callable[..., torch.Tensor]:
    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        each = zip(*(x.split(lengths, 2) for x in (q, k, v)), strict=True)
        return torch.cat(
            [
                functional.scaled_dot_product_attention(
                    *parts, is_causal=True, scale=0.3, enable_gqa=True
                )
                for parts in each
            ],
            2,
        ).transpose(1, 2)

    return plain


# 49, 130 and 300: several blocks of queries; 8 and 40: no compiled kernel; 80: not whole tiles
@pytest.mark.parametrize("width", [8, 16, 40, 64, 80])
@pytest.mark.parametrize("lengths", [(1,), (7,), (300,), (5, 1, 130, 4), (48, 49, 47, 65)])
def test_attention_within_sequences(lengths: tuple[int, ...], width: int) -> None:
    same(
        lambda q, k, v: kernels.CausalAttention.apply(q, k, v, lengths, 0.3),
        plain_attention(lengths),
        drawn(1, 6, sum(lengths), width),
        drawn(1, 2, sum(lengths), width, seed=1),
        drawn(1, 2, sum(lengths), width, seed=2),
    )


def attention_after(
    shared: int, lengths: tuple[int, ...], window: int | None = None
) -> Callable[..., torch.Tensor]:
    """One mask over all tokens: which others each of them sees."""
    places = torch.arange(shared + sum(lengths))
    text = torch.cat([torch.full((n,), i) for i, n in enumerate((shared, *lengths))])
    position = torch.cat([torch.arange(shared), *(shared + torch.arange(n) for n in lengths)])
    sees = (text[:, None] == text) | (text == 0)
    sees &= places <= places[:, None]
    sees &= position[:, None] - position < (window or len(places))

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=sees, scale=0.3, enable_gqa=True
        ).transpose(1, 2)

    return plain


def packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return kernels.packed_attention(None, q, k, v, None, scaling=0.3)[0]


# 24, 130: within a block of queries, over some; 40: no compiled kernel
@pytest.mark.parametrize("width", [16, 40, 80])
@pytest.mark.parametrize("shared", [2, 24, 48, 130])
@pytest.mark.parametrize("lengths", [(1,), (1, 1), (7, 300, 2), (48, 49, 47, 65)])
def test_attention_of_sequences_that_begin_alike(
    lengths: tuple[int, ...], shared: int, width: int
) -> None:
    count = shared + sum(lengths)
    kernels.set_sequences(lengths, shared=shared)
    same(
        packed,
        attention_after(shared, lengths),
        drawn(1, 6, count, width),
        drawn(1, 2, count, width, seed=1),
        drawn(1, 2, count, width, seed=2),
    )


@pytest.mark.parametrize("window", [None, 30])
@pytest.mark.parametrize("shared", [10, 1026])
def test_long_sequences_that_begin_alike(shared: int, window: int | None) -> None:
    lengths = (4, 1020, 3)  # 1,024 tokens are the bound of the kernel
    kernels.set_sequences(lengths, shared=shared)
    same(
        lambda q, k, v: kernels.packed_attention(
            None, q, k, v, None, scaling=0.3, sliding_window=window
        )[0],
        attention_after(shared, lengths, window),
        *(drawn(1, 2, shared + sum(lengths), 16, seed=i) for i in range(3)),
    )


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("shared", [0, 26, 52])
def test_attention_in_bfloat16_is_as_near_as_rounding_allows(shared: int, width: int) -> None:
    """As the model lays heads out: those of a token side by side."""
    lengths = (1, 77, 130)
    count = shared + sum(lengths)
    kernels.set_sequences(lengths, shared=shared)
    q, k, v = (
        drawn(1, count, heads, width, seed=heads).detach().bfloat16().transpose(1, 2)
        for heads in (6, 3, 2)
    )
    inputs = [q, k[:, :2], v]
    ours = [each.clone().requires_grad_() for each in inputs]
    exact = [each.double().requires_grad_() for each in inputs]
    weights = drawn(1, count, 6, width, seed=9).detach().bfloat16()
    one = packed(*ours)
    two = attention_after(shared, lengths)(*exact)
    (one * weights).sum().backward()
    (two * weights.double()).sum().backward()
    for mine, true in ((one, two), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))):
        assert mine is not None
        assert true is not None
        assert (mine.double() - true).abs().max() < 2**-6 * true.abs().max()


@pytest.mark.parametrize("shared", [0, 50])
def test_attention_rounds_the_same_with_any_number_of_threads(shared: int) -> None:
    """Else a resumed training would part from the first one."""
    kernels.set_sequences((7, 200), shared=shared)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            inputs = [drawn(1, heads, shared + 207, 16, seed=heads) for heads in (6, 3, 3)]
            out = packed(*inputs)
            out.square().sum().backward()
        finally:
            torch.set_num_threads(before)
        results.append([out, *(each.grad for each in inputs)])
    if kernels.kernels() is None:
        pytest.skip("torch's own products may part")
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_attention_hides_nothing_that_is_not_a_number() -> None:
    q, k, v = (drawn(1, 2, 60, 16, seed=i) for i in range(3))
    with torch.no_grad():
        k[0, 1, 30, 3] = float("nan")
    out = kernels.CausalAttention.apply(q, k, v, (20, 40), 0.3)
    assert out[0, :30].isfinite().all()  # nothing before it in its own sequence
    assert out[0, 30:, 1].isnan().all()
    out.sum().backward()
    assert q.grad is not None
    assert q.grad[0, 1, 30:].isnan().all()


@pytest.mark.parametrize("window", [None, 30])
def test_sequences_over_the_bound_go_by_torch_s_kernel(window: int | None) -> None:
    lengths = (4, 1030, 1026, 3, 5)  # 1,024 is the bound
    q, k, v = (drawn(1, 2, sum(lengths), 8, seed=i).detach() for i in range(3))
    kernels.set_sequences(lengths)
    ours, _ = kernels.packed_attention(None, q, k, v, None, sliding_window=window)
    begin = 0
    for length in lengths:
        own = slice(begin, begin + length)
        places = torch.arange(length)
        back = places[:, None] - places
        seen = (back >= 0) & (back < (window or length))
        plain = functional.scaled_dot_product_attention(
            q[:, :, own], k[:, :, own], v[:, :, own], attn_mask=seen
        )
        assert torch.allclose(ours[:, own], plain.transpose(1, 2), atol=1e-5)
        begin += length
    kernels.set_sequences(lengths[:-1])
    with pytest.raises(ValueError, match="tokens in sequences of"):
        kernels.packed_attention(None, q, k, v, None)


def test_attention_scores_are_not_rounded_under_autocast() -> None:
    q, k, v = (drawn(1, 2, 40, 8, seed=i).detach().bfloat16() * 4 for i in range(3))
    outside = kernels.CausalAttention.apply(q, k, v, (40,), 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        inside = kernels.CausalAttention.apply(q, k, v, (40,), 0.3)
    assert torch.equal(outside, inside)


@pytest.mark.parametrize("texts", [1, 2])
def test_rotary_positions(texts: int) -> None:
    angles = torch.linspace(0, 3, 12).view(1, 3, 4).repeat(1, 1, 2)

    def plain(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()

    same(
        lambda x: kernels.Rotary.apply(x, angles.cos(), angles.sin()), plain, drawn(texts, 2, 3, 8)
    )
