"""Finding a model's files: what is refused and why, and what names its weights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.conftest import make_tiny_model

from hinlap.core.errors import ModelError
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.engines.catalogue import CATALOGUE, model_folder, weights_digest
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool

HELLO = Prompt((Message("user", "hello"),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def find(model: object) -> Path:
    return model_folder(str(model), Silent())


def test_a_folder_that_transformers_wrote_is_a_model(model: Path) -> None:
    assert find(model) == model


def test_a_folder_with_only_pickled_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled weights .*pytorch_model\.bin.*never loaded"):
        find(model)


def test_pickled_weights_beside_safetensors_are_not_touched(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"not even a pickle")
    engine = LocalEngine("tiny", find(model))
    assert len(list(engine.generate([HELLO], Sampling(max_tokens=1)))) == 1


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_folder_without_a_whole_model_is_refused(model: Path, missing: str) -> None:
    (model / missing).unlink()
    with pytest.raises(ModelError, match="not a model") as caught:
        find(model)
    assert caught.value.where == str(model)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="not a model"):
        find(tmp_path / "empty")


@pytest.mark.parametrize("name", ["smollm3", "no such model", "../secret", "", "a/b/c", "x.gguf"])
def test_an_unknown_name_is_refused_with_the_way_to_the_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ModelError) as caught:
        find(name)
    assert "hinlap models" in caught.value.hint or "not a model" in caught.value.what


def test_a_catalogue_model_larger_than_the_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hinlap.engines.catalogue.machine_memory_bytes", lambda: 8e9)
    with pytest.raises(ModelError, match=r"about 31\.5 GB of memory; 8\.0 GB are free"):
        find("qwen2.5-7b-instruct")


def test_a_folder_larger_than_the_memory_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hinlap.engines.catalogue.machine_memory_bytes", lambda: 0.5e9)
    with pytest.raises(ModelError, match="of memory"):
        find(model)


def test_several_gguf_files_need_a_choice(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"several GGUF files: a\.gguf, b\.gguf"):
        find(tmp_path)


def test_a_broken_gguf_file_is_refused_and_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="GGUF"):
        find(file)
    assert list((own_cache / "models").iterdir()) == []


def test_remote_code_stays_off(model: Path) -> None:
    trace = model / "ran"
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Evil: ...\n")
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    }
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        list(LocalEngine("evil", find(model)).generate([HELLO], Sampling(max_tokens=1)))
    assert not trace.exists()


def test_a_tokenizer_s_remote_code_stays_off(model: Path) -> None:
    trace = model / "ran"
    (model / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Evil: ...\n")
    file = model / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    file.write_text(json.dumps(settings))
    engine = LocalEngine("evil", find(model))
    with contextlib.suppress(ModelError):
        engine.render(HELLO)
    assert not trace.exists()


def change_a_byte(file: Path, at: int) -> None:
    """One other byte, the same size, and a time of change that cannot be the old one."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    stamp = file.stat().st_mtime_ns + 1_000_000_000
    file.write_bytes(content)
    os.utime(file, ns=(stamp, stamp))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_one_changed_byte_is_another_digest(model: Path, file: str) -> None:
    before = weights_digest(model)
    change_a_byte(model / file, -100)
    assert weights_digest(model) != before


def test_a_chat_template_is_part_of_the_digest(model: Path) -> None:
    before = weights_digest(model)
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert weights_digest(model) != before


def test_a_copy_of_a_model_has_its_digest(model: Path, tmp_path: Path) -> None:
    assert weights_digest(shutil.copytree(model, tmp_path / "copy")) == weights_digest(model)


def test_a_digest_is_remembered_and_a_broken_memory_is_no_harm(
    model: Path, own_cache: Path
) -> None:
    before = weights_digest(model)
    assert before in (own_cache / "digests.json").read_text()
    (own_cache / "digests.json").write_text("{broken")
    assert weights_digest(model) == before


def test_routes_that_name_one_model_share_its_engine(model: Path) -> None:
    pool = EnginePool(Silent())
    assert pool.local(str(model)) is pool.local(str(model))


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
def test_every_entry_says_what_a_user_must_know(entry: object) -> None:
    assert all(getattr(entry, name) for name in ("hub_id", "parameters", "context", "licence"))
    assert getattr(entry, "kind", "") in ("base", "instruct")


def test_a_model_without_a_chat_template_is_asked_plainly(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "plain", "llama", chat=False)
    assert LocalEngine("plain", folder).render(HELLO) == "hello\n"
