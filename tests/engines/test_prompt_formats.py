"""Prompt formats against the texts of their originals, and a model asked by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CHAT_TEMPLATE, make_tiny_model

from hinlap.core.errors import ModelError
from hinlap.core.messages import Completion, Finish, Message, Prompt, Sampling, raw_prompt
from hinlap.core.progress import Silent
from hinlap.engines.catalogue import CATALOGUE, known_prompt_format
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool, open_local, open_scorer
from hinlap.engines.prompt_formats import (
    FORMATS,
    end_token,
    format_of,
    takes_input,
    use_format,
)
from hinlap.tuning.lessons import Lesson, encode_lessons

ALPACA, DOLLY = FORMATS["alpaca"], FORMATS["dolly"]
INTRO = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
PAIRED = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request."
)
ASKED = {"role": "user", "content": "Sum up."}
GIVEN = {"role": "user", "content": "สรุปข่าวนี้", "input": "A ferry\n\nturned back."}
ANSWER = {"role": "assistant", "content": "ใช่ It did."}
SYSTEM = {"role": "system", "content": "Be short."}
LONG = Sampling(max_tokens=60)

# by the format strings of the originals: train.py's PROMPT_DICT with output and eos_token, and
# training/consts.py's PROMPT_NO_INPUT_FORMAT and PROMPT_WITH_INPUT_FORMAT
GOLDEN = [
    ("alpaca", [ASKED], f"{INTRO}\n\n### Instruction:\nSum up.\n\n### Response:", "<|im_end|>"),
    (
        "alpaca",
        [GIVEN],
        f"{PAIRED}\n\n### Instruction:\nสรุปข่าวนี้\n\n"
        "### Input:\nA ferry\n\nturned back.\n\n### Response:",
        "<|im_end|>",
    ),
    ("dolly", [ASKED], f"{INTRO}\n\n### Instruction:\nSum up.\n\n### Response:\n", "\n\n### End"),
    (
        "dolly",
        [GIVEN],
        f"{INTRO}\n\n### Instruction:\nสรุปข่าวนี้\n\n"
        "Input:\nA ferry\n\nturned back.\n\n### Response:\n",
        "\n\n### End",
    ),
]
# conversations that the originals do not know
LONGER = [
    (
        "dolly",
        [SYSTEM, ASKED, ANSWER, GIVEN],
        f"{INTRO}\n\n### Instruction:\nBe short.\n\nSum up.\n\n### Response:\nใช่ It did.\n\n"
        "### End\n\n### Instruction:\nสรุปข่าวนี้\n\nInput:\nA ferry\n\nturned back.\n\n"
        "### Response:\n",
        "\n\n### End",
    ),
    (
        "alpaca",
        [SYSTEM, ASKED, ANSWER, GIVEN],
        f"{INTRO}\n\n### Instruction:\nBe short.\n\nSum up.\n\n### Response:ใช่ It did."
        "<|im_end|>\n\n### Instruction:\nสรุปข่าวนี้\n\n### Input:\nA ferry\n\nturned back.\n\n"
        "### Response:",
        "<|im_end|>",
    ),
    (
        "alpaca",
        [SYSTEM],
        f"{INTRO}\n\n### Instruction:\nBe short.\n\n### Response:",
        "<|im_end|>",
    ),
    (
        "dolly",
        [ASKED, SYSTEM],
        f"{INTRO}\n\n### Instruction:\nSum up.\n\n### Instruction:\nBe short.\n\n### Response:\n",
        "\n\n### End",
    ),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without a chat template."""
    return make_tiny_model(tmp_path_factory.mktemp("plain") / "neox", "gpt_neox", chat=False)


@pytest.fixture(scope="module")
def dolly_like(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As databricks/dolly-v2: the special tokens in its vocabulary, no chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_special_tokens({"additional_special_tokens": list(DOLLY.special_tokens)})
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    torch.manual_seed(3)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    folder = tmp_path_factory.mktemp("dolly") / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def rendered(tokenizer: Any, messages: list[Mapping[str, str]], *, prompt: bool) -> str:
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    )


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def answer_of(engine: LocalEngine, prompt: Prompt, sampling: Sampling) -> Completion:
    ((_, completion),) = engine.generate([prompt], sampling)
    return completion


@pytest.mark.parametrize(("name", "messages", "prompt", "ending"), GOLDEN + LONGER)
def test_a_conversation_is_laid_out_as_in_the_original(
    plain: Path, name: str, messages: list[Mapping[str, str]], prompt: str, ending: str
) -> None:
    tokenizer = tokenizer_of(plain)
    use_format(tokenizer, FORMATS[name])
    assert rendered(tokenizer, messages, prompt=True) == prompt
    whole = rendered(tokenizer, [*messages, ANSWER], prompt=False)
    assert whole == f"{prompt}ใช่ It did.{ending}"
    again = rendered(tokenizer, [*messages, ANSWER, ASKED, ANSWER], prompt=False)
    assert again.startswith(whole)
    assert again.endswith(
        f"Sum up.\n\n{prompt[prompt.rindex('### Response') :]}{ANSWER['content']}{ending}"
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "roles",
    [
        ["user", "assistant", "assistant"],
        ["user", "user", "assistant"],
        ["assistant", "user", "assistant"],
        ["system", "system", "user", "assistant"],
        ["user", "system", "assistant"],
        ["user", "assistant", "system", "user", "assistant"],
    ],
)
def test_every_prompt_is_a_beginning_of_itself_with_the_answer(
    plain: Path, name: str, roles: list[str]
) -> None:
    tokenizer = tokenizer_of(plain)
    use_format(tokenizer, FORMATS[name])
    messages = [{"role": role, "content": f"text {n}"} for n, role in enumerate(roles)]
    whole = rendered(tokenizer, messages, prompt=False)
    for place, role in enumerate(roles):
        if role == "assistant" and place:
            prompt = rendered(tokenizer, messages[:place], prompt=True)
            assert whole.startswith(f"{prompt}text {place}")
            assert all(f"text {n}" in prompt for n in range(place))


def test_what_a_tokenizer_puts_before_a_text_stands_before_the_prompt(plain: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_of(plain)
    tokenizer.bos_token = "<|im_start|>"
    use_format(tokenizer, ALPACA)  # it has a beginning token, and does not use it
    assert rendered(tokenizer, [ASKED], prompt=True).startswith("Below")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    use_format(tokenizer, ALPACA)
    prompt = rendered(tokenizer, [ASKED], prompt=True)
    assert prompt.startswith("<|im_start|>Below")
    bare = prompt.removeprefix("<|im_start|>")
    assert tokenizer(prompt, add_special_tokens=False).input_ids == tokenizer(bare).input_ids
    assert format_of(tokenizer) == ALPACA


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (ALPACA.template, True),
        (DOLLY.template, True),
        (CHAT_TEMPLATE, False),
        ("{% for m in messages %}### Input: {{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.tool.input }}{{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.get('input', '') }}{% endfor %}", True),
        ("{{ raise_exception('input') }}", False),
        ("{{ messages[3]['input'] }}", False),
        ("{{ bos_token + messages[0].input }}", True),
    ],
)
def test_a_place_for_the_input_is_found_by_rendering(template: str, expected: bool) -> None:
    assert takes_input(template) is expected


def taught_ids(tokenizer: Any, answer: str) -> list[int]:
    """What training learns of an answer."""
    turns = (Message("user", "What crossed?"), Message("assistant", answer))
    [taken] = encode_lessons([Lesson(turns)], tokenizer, 999).taken
    return list(taken.ids[taken.learnt].tolist())


def test_an_answer_is_taught_up_to_and_with_its_end(plain: Path, dolly_like: Path) -> None:
    tokenizer = tokenizer_of(plain)
    bare = tokenizer("It did.").input_ids
    assert taught_ids(tokenizer, "It did.") == [*bare, tokenizer.eos_token_id]
    use_format(tokenizer, ALPACA)
    assert taught_ids(tokenizer, "It did.") == [*bare, tokenizer.eos_token_id]
    use_format(tokenizer, DOLLY)
    *ids, last = taught_ids(tokenizer, "It did.")  # its end is several tokens: eos follows
    assert tokenizer.decode(ids) == "It did.\n\n### End"
    assert last == tokenizer.eos_token_id
    assert end_token(tokenizer, DOLLY) is None
    special = tokenizer_of(dolly_like)
    use_format(special, DOLLY)
    ids = taught_ids(special, "It did.")
    assert ids[-1] == end_token(special, DOLLY) == special.convert_tokens_to_ids("### End")
    assert special.decode(ids[:-1]) == "It did.\n\n"


def test_the_headings_of_dolly_are_one_token_each_in_the_recipes_order(
    plain: Path, dolly_like: Path
) -> None:
    special = tokenizer_of(dolly_like)
    use_format(special, DOLLY)
    ids = special(rendered(special, [ASKED, ANSWER], prompt=False)).input_ids
    size = len(tokenizer_of(plain))
    assert [token - size for token in ids if token >= size] == [1, 2, 0]  # of End, Instruction, ...


def test_without_an_ending_token_no_answer_can_be_taught(plain: Path) -> None:
    tokenizer = tokenizer_of(plain)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="the tokenizer has no ending token"):
        taught_ids(tokenizer, "It did.")


def taught(folder: Path, into: Path, prompt: Prompt, answer: str) -> Path:
    """A copy of a tiny model that answers one prompt, in dolly's format, by one answer."""
    import torch
    from transformers import AutoModelForCausalLM

    engine = LocalEngine("untaught", folder, prompt_format="dolly")
    before = engine.encode_prompt(prompt)
    after = engine.encode_texts([answer + DOLLY.before_end + DOLLY.end])[0]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    ids = torch.tensor([before + after])
    for _ in range(80):
        logits = model(input_ids=ids).logits[0, len(before) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, len(before) :])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01:
            break
    shutil.copytree(folder, into)
    model.save_pretrained(into)
    return into


@pytest.mark.parametrize("special", [True, False], ids=["one-token", "several-tokens"])
def test_an_answer_ends_at_the_formats_end_which_is_no_part_of_it(
    plain: Path, dolly_like: Path, tmp_path: Path, special: bool
) -> None:
    prompt = ask("What crossed?")
    base = dolly_like if special else plain
    folder = taught(base, tmp_path / "taught", prompt, "The boat did.")
    by_format = answer_of(LocalEngine("dolly", folder, prompt_format="dolly"), prompt, LONG)
    assert (by_format.text, by_format.finish) == ("The boat did.", Finish.STOP)
    made = len(tokenizer_of(folder)("The boat did.\n\n### End").input_ids)
    assert by_format.output_tokens == made
    as_text = raw_prompt(LocalEngine("dolly", folder, prompt_format="dolly").render(prompt))
    unaware = answer_of(LocalEngine("dolly", folder), as_text, LONG)
    assert unaware.text.startswith("The boat did.\n\n")
    assert unaware.output_tokens == LONG.max_tokens
    cut = answer_of(LocalEngine("dolly", folder, prompt_format="dolly"), prompt, Sampling(made - 2))
    assert cut.finish is Finish.LENGTH


def test_a_tuned_folder_with_the_template_needs_no_name(dolly_like: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dolly_like, tmp_path / "tuned"))
    tokenizer = tokenizer_of(folder)
    use_format(tokenizer, DOLLY)
    tokenizer.save_pretrained(folder)
    named = LocalEngine("tiny", dolly_like, prompt_format="dolly")
    tuned = LocalEngine("tiny", folder)
    assert tuned.prompt_format == named.prompt_format == "dolly"
    assert tuned.encode_prompt(ask("Hello")) == named.encode_prompt(ask("Hello"))
    assert taught_ids(tuned.tokenizer, "Yes") == taught_ids(named.tokenizer, "Yes")


def test_a_format_stands_over_a_template_and_changes_the_digest(tiny_model: Path) -> None:
    engines = [LocalEngine("tiny", tiny_model, prompt_format=name) for name in ("", *FORMATS)]
    assert len({engine.digest for engine in engines}) == 3
    assert [engine.prompt_format for engine in engines] == ["", "alpaca", "dolly"]
    assert engines[0].render(ask("Hello")).startswith("<|im_start|>user")
    assert engines[1].render(ask("Hello")).startswith("Below is")


def test_raw_text_takes_no_format(dolly_like: Path) -> None:
    engine = LocalEngine("dolly", dolly_like, prompt_format="dolly")
    assert engine.render(raw_prompt("The harbour")) == "The harbour"


def test_a_format_that_is_none_is_told(tiny_model: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_local(str(tiny_model), Silent(), prompt_format="vicuna")
    assert str(caught.value) == (
        "prompt format: there is no prompt format 'vicuna'\n  → one of: alpaca, dolly"
    )


def test_a_server_takes_no_format() -> None:
    with pytest.raises(ModelError, match="a server has its own prompt format"):
        open_scorer("http://localhost:1/v1#name", Silent(), prompt_format="dolly")


def test_models_of_the_catalogue_have_the_format_they_were_tuned_by(tmp_path: Path) -> None:
    tuned = {e.name for e in CATALOGUE.values() if e.prompt_format}
    assert tuned == {"dolly-v2-3b", "dolly-v2-7b", "dolly-v2-12b"}
    assert all(e.prompt_format in ("", *FORMATS) for e in CATALOGUE.values())
    assert known_prompt_format("dolly-v2-3b", tmp_path) == "dolly"
    assert known_prompt_format("databricks/dolly-v2-12b", tmp_path) == "dolly"
    assert known_prompt_format("pythia-2.8b", tmp_path) == ""
    assert known_prompt_format("some/model", tmp_path) == ""
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"eos_token": "x"}))
    assert known_prompt_format("dolly-v2-3b", tmp_path) == "dolly"
    settings.write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    assert known_prompt_format("dolly-v2-3b", tmp_path) == ""
    settings.unlink()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert known_prompt_format("dolly-v2-3b", tmp_path, adapter) == ""


def test_a_dolly_model_by_name_is_asked_by_its_format(
    dolly_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hinlap.engines.pool.model_folder", lambda model, progress: dolly_like)
    assert EnginePool(Silent()).local("dolly-v2-3b").prompt_format == "dolly"
    assert EnginePool(Silent()).local("pythia-2.8b").prompt_format == ""
