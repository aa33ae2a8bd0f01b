"""LoRA adapters beside one model's weights, against PEFT merging each."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import TEXTS
from tests.engines.conftest import TokenPeer

from hinlap.core.errors import ModelError
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool

if TYPE_CHECKING:
    from hinlap.engines.weights import Weights

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # peft reads a name given up since
    "ignore:fan_in_fan_out is set to False:UserWarning",
)

_random = random.Random(5)
PREAMBLE = tuple(_random.randrange(3, 390) for _ in range(30))
PROMPTS = [(*PREAMBLE, *TEXT) for TEXT in ((8, 9, 10), (11,), (12, 13, 14, 15))]
PAIRS = [(prompt, text) for prompt in PROMPTS for text in ((20, 21, 22), (20, 30), (40,))]
ASKED = [Prompt((Message("user", text),)) for text in TEXTS[:3]]


def make_adapter(folder: Path, model: Path, seed: int, **settings: Any) -> Path:
    """A PEFT adapter as training leaves it, of random numbers large enough to matter."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | settings
    tuned = peft.get_peft_model(base, peft.LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.normal_(0, 0.2)
    tuned.save_pretrained(folder / "adapter", save_embedding_layers=False)
    return folder / "adapter"


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adapters(
    base: str, model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Path | None]:
    """None (the bare model), one on all linear layers, and one scaled by the rank's root."""
    folder, model = tmp_path_factory.mktemp("adapters"), model_of(base)
    attention = ["q_proj", "v_proj"] if base == "llama" else ["c_attn"]
    return [
        None,
        make_adapter(folder / "all", model, 1, target_modules="all-linear"),
        make_adapter(folder / "root", model, 2, target_modules=attention, use_rslora=True),
    ]


@pytest.fixture(scope="module")
def merged(base: str, adapters: list[Path | None], model_of: Callable[[str], Path]) -> list[Any]:
    return [TokenPeer(model_of(base), adapter) for adapter in adapters]


def test_adapters_and_their_base_answer_in_one_batch_as_each_merged(
    base: str,
    adapters: list[Path | None],
    merged: list[TokenPeer],
    weights_of: Callable[[str], Weights],
) -> None:
    from hinlap.engines.decoding import Ending
    from hinlap.engines.generation import Batch, Request

    weights = weights_of(base)
    beside = [adapter and weights.adapter(adapter) for adapter in adapters]
    asked = [(prompt, which) for prompt in PROMPTS for which in range(len(adapters))]
    requests = [Request(p, Sampling(max_tokens=10), 10, beside[which]) for p, which in asked]
    found = dict(Batch(weights, requests, Ending(None, [2])).run())
    expected = [merged[which].generate(prompt, 10) for prompt, which in asked]
    assert [list(found[i].tokens) for i in range(len(asked))] == expected
    assert len({tuple(answer) for answer in expected[:3]}) == 3  # they matter


def test_adapters_weigh_as_each_merged(
    base: str,
    adapters: list[Path | None],
    merged: list[TokenPeer],
    weights_of: Callable[[str], Weights],
) -> None:
    from hinlap.engines.scoring import weigh

    weights = weights_of(base)
    for adapter, peer in zip(adapters, merged, strict=True):
        beside = weights.adapter(adapter) if adapter else None
        for pair, got in zip(PAIRS, weigh(weights, PAIRS, beside), strict=True):
            logprobs, ranks = peer.weigh(*pair)
            assert got.logprobs == pytest.approx(logprobs, abs=1e-4)
            assert list(got.ranks) == ranks


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear", "use_dora": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["dora", "modules-to-save", "output-layer", "rank-pattern", "embedding"],
)
def test_what_is_more_than_plain_lora_is_merged(
    settings: dict[str, Any], model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path, model_of("llama"), 3, **settings)
    bare = LocalEngine("llama", model_of("llama"))
    engine = LocalEngine("tuned", model_of("llama"), adapter, base=bare)
    peer = TokenPeer(model_of("llama"), adapter)
    expected = [peer.weigh(*pair)[0] for pair in PAIRS]
    for scored, logprobs in zip(engine.score_tokens(PAIRS), expected, strict=True):
        assert scored.logprobs == pytest.approx(logprobs, abs=1e-4)
    assert engine._adapted[1] is None
    assert [s.logprobs for s in bare.score_tokens(PAIRS[:1])] != [tuple(expected[0])]


def test_an_adapter_of_a_model_that_cannot_share_is_merged(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path, model_of("bloom"), 3, target_modules="all-linear")
    engine = LocalEngine("tuned", model_of("bloom"), adapter)
    peer = TokenPeer(model_of("bloom"), adapter)
    for pair, scored in zip(PAIRS, engine.score_tokens(PAIRS), strict=True):
        assert scored.logprobs == pytest.approx(peer.weigh(*pair)[0], abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}], ids=["lora", "merged"])
@pytest.mark.parametrize("other", ["gpt2", "wide"])
def test_an_adapter_of_another_model_is_refused(
    other: str, settings: dict[str, Any], model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    from tests.conftest import make_tiny_model

    model = (
        make_tiny_model(tmp_path / "wide", "llama", chat=False, more={"hidden_size": 64})
        if other == "wide"
        else model_of(other)
    )
    adapter = make_adapter(tmp_path, model, 3, target_modules="all-linear", **settings)
    engine = LocalEngine("llama", model_of("llama"), adapter)
    with pytest.raises(ModelError, match="adapter is of another model"):
        engine.score_tokens(PAIRS)


def test_a_pool_loads_a_base_once_for_all_its_adapters(
    model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    one = make_adapter(tmp_path / "one", model_of("llama"), 1, target_modules="all-linear")
    two = make_adapter(tmp_path / "two", model_of("llama"), 2, target_modules="all-linear")
    pool = EnginePool(Silent())
    model = str(model_of("llama"))
    engines = [pool.local(model), pool.local(model, one), pool.local(model, two)]
    assert pool.local(model, one) is engines[1]
    texts = set()
    for engine in engines:
        found = dict(engine.generate(ASKED, Sampling(max_tokens=8)))
        texts.add("\n".join(found[i].text for i in range(len(ASKED))))
    assert len(texts) == 3
    assert len({id(engine._adapted[0]) for engine in engines}) == 1
    assert len({engine.digest for engine in engines}) == 3
