"""Train equals serve: what is kept beside a tuned model, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CHAT_TEMPLATE, make_tiny_model

from hinlap.core.errors import ModelError
from hinlap.core.messages import Message, Prompt, Sampling
from hinlap.engines.local import LocalEngine
from hinlap.engines.prompt_formats import FORMATS, use_format
from hinlap.engines.prompt_record import RECORD, check_prompt_record, write_prompt_record

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # peft reads a name given up since
)

HELLO = Prompt((Message("user", "hello"),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("plain") / "llama", "llama", chat=False)


@pytest.fixture
def tuned(plain: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A model folder as tuning by a format leaves it; "": without a chat template."""

    def make(name: str) -> Path:
        folder = Path(shutil.copytree(plain, tmp_path / f"tuned-{name}"))
        tokenizer = tokenizer_of(folder)
        if name == "own":
            tokenizer.chat_template = CHAT_TEMPLATE
        elif name:
            use_format(tokenizer, FORMATS[name])
        tokenizer.save_pretrained(folder)
        write_prompt_record(folder, tokenizer, name or "text")
        return folder

    return make


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def change_template(folder: Path, old: str, new: str) -> None:
    file = folder / "chat_template.jinja"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["alpaca", "dolly", "own", ""])
def test_an_untouched_folder_opens(tuned: Callable[[str], Path], name: str) -> None:
    folder = tuned(name)
    check_prompt_record(folder, tokenizer_of(folder))
    assert LocalEngine("tuned", folder).encode_prompt(HELLO)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("alpaca", "### Input:\nThe ferry"),
        ("dolly", "\n\nInput:\nThe ferry"),
        ("own", "please:\n\nThe ferry"),
        ("", "please:\n\nThe ferry"),
    ],
)
def test_the_probe_holds_thai_english_and_an_input(
    tuned: Callable[[str], Path], name: str, asked: str
) -> None:
    folder = tuned(name)
    kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    assert kept["prompt_format"] == (name or "text")
    assert asked in kept["text"]
    assert "สรุปข่าวนี้" in kept["text"]
    tokenizer = tokenizer_of(folder)
    assert tokenizer(kept["text"], add_special_tokens=not name).input_ids == kept["ids"]


def test_without_a_record_nothing_is_checked(plain: Path) -> None:
    check_prompt_record(plain, tokenizer_of(plain))


def test_another_template_is_refused_by_the_first_token_that_differs(
    tuned: Callable[[str], Path],
) -> None:
    folder = tuned("own")
    change_template(folder, "<|im_start|>assistant", "<|im_start|>robot")
    with pytest.raises(ModelError) as caught:
        LocalEngine("tuned", folder).encode_prompt(HELLO)
    kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    now = tokenizer_of(folder)
    other = now(kept["text"].removesuffix("assistant\n") + "robot\n").input_ids
    place = next(n for n, (a, b) in enumerate(zip(kept["ids"], other, strict=False)) if a != b)
    was, becomes = kept["ids"][place], other[place]
    assert str(caught.value) == (
        f"{folder}: prompts are made otherwise than in tuning (prompt format own): token {place} "
        f"of the probe was {now.decode([was])!r} (id {was}), now {now.decode([becomes])!r} "
        f"(id {becomes})\n  → put back the tokenizer's files as tuning wrote them "
        "(tokenizer.json, tokenizer_config.json, chat_template.jinja), name no other prompt "
        "format, or tune again"
    )


def test_a_prompt_that_ends_early_is_refused(tuned: Callable[[str], Path]) -> None:
    folder = tuned("dolly")
    change_template(folder, "{{- turn.before + '### Response:\\n' -}}", "")
    with pytest.raises(ModelError, match=r"was '#' \(id \d+\), now nothing"):
        LocalEngine("tuned", folder).encode_prompt(HELLO)


def test_a_template_that_differs_elsewhere_is_refused_too(tuned: Callable[[str], Path]) -> None:
    folder = tuned("alpaca")
    change_template(folder, "== 'system'", "== 'developer'")  # no such message in the probe
    with pytest.raises(ModelError, match="the chat template is not the one of tuning"):
        LocalEngine("tuned", folder).encode_prompt(HELLO)


@pytest.mark.parametrize("name", ["dolly", ""])
def test_another_vocabulary_is_refused(tuned: Callable[[str], Path], name: str) -> None:
    folder = tuned(name)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["merges"] = content["model"]["merges"][:40]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=r"token \d+ of the probe was '.+' \(id \d+\), now '.+' "):
        LocalEngine("tuned", folder).encode_prompt(HELLO)


def test_a_format_over_the_tuned_one_is_refused(tuned: Callable[[str], Path]) -> None:
    folder = tuned("dolly")
    with pytest.raises(ModelError, match=r"\(prompt format dolly\).*\n.*name no other"):
        LocalEngine("tuned", folder, prompt_format="alpaca").encode_prompt(HELLO)
    assert LocalEngine("tuned", folder, prompt_format="dolly").encode_prompt(HELLO)


def test_a_part_of_a_character_is_shown_as_the_vocabulary_writes_it(
    tuned: Callable[[str], Path],
) -> None:
    folder = tuned("")
    file = folder / RECORD
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert "\ufffd" not in "".join(kept["tokens"])
    place = next(n for n, token in enumerate(kept["tokens"]) if token.startswith("à"))
    kept["ids"][place] += 1
    file.write_text(json.dumps(kept), encoding="utf-8")
    shown = re.escape(kept["tokens"][place])
    with pytest.raises(ModelError, match=f"token {place} of the probe .* now '{shown}"):
        check_prompt_record(folder, tokenizer_of(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1, "prompt_format": "own"}', "cannot be read: 'probe'"),
        ('{"format": 2, "prompt_format": "own"}', "written by another version of Hinlap"),
    ],
)
def test_a_record_that_cannot_be_read_is_told(
    tuned: Callable[[str], Path], content: str, message: str
) -> None:
    folder = tuned("own")
    (folder / RECORD).write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        LocalEngine("tuned", folder).encode_prompt(HELLO)
    assert caught.value.where == str(folder / RECORD)


def test_a_template_that_says_the_date_is_the_same_tomorrow(
    tuned: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tuned("own")
    tokenizer = tokenizer_of(folder)
    tokenizer.chat_template = (
        "{{ strftime_now('%f') }}{% if date_string is not defined %}"
        "{% set date_string = strftime_now('%f') %}{% endif %}{{ date_string }}" + CHAT_TEMPLATE
    )
    write_prompt_record(folder, tokenizer, "own")
    check_prompt_record(folder, tokenizer)


def adapter_of(base: Path, folder: Path, name: str, *, own: bool) -> Path:
    """A PEFT adapter as tuning by a format leaves it; own: with its tokenizer."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(folder)
    tokenizer = tokenizer_of(base)
    if name:
        use_format(tokenizer, FORMATS[name])
    if own:
        tokenizer.save_pretrained(folder)
    write_prompt_record(folder, tokenizer, name or "own")
    return folder


def test_an_adapters_own_tokenizer_is_used(tuned: Callable[[str], Path], tmp_path: Path) -> None:
    base = tuned("own")
    adapter = adapter_of(base, tmp_path / "a" / "adapter", "dolly", own=True)
    engine = LocalEngine("a", base, adapter, base=LocalEngine("base", base))
    assert engine.prompt_format == "dolly"
    assert engine.render(HELLO).endswith("### Response:\n")
    assert len(list(engine.generate([HELLO], Sampling(max_tokens=2)))) == 1
    change_template(adapter, "### Instruction", "## Instruction")
    with pytest.raises(ModelError, match=re.escape(str(adapter))):
        LocalEngine("a", base, adapter).encode_prompt(HELLO)


def test_an_adapter_without_one_is_checked_against_its_base(
    tuned: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tuned("own")
    adapter = adapter_of(base, tmp_path / "a" / "adapter", "", own=False)
    assert LocalEngine("a", base, adapter).encode_prompt(HELLO)
    (base / RECORD).unlink()  # the base is asked otherwise since
    change_template(base, "<|im_end|>", "")
    assert LocalEngine("base", base).encode_prompt(HELLO)
    with pytest.raises(ModelError, match=re.escape(str(adapter))):
        LocalEngine("a", base, adapter).encode_prompt(HELLO)
