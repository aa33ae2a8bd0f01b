"""WikiText-2: transformers' recipe as the peer, line ends, windows, what cannot be weighed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TEXTS, make_tiny_model

from hinlap.benchmarks.wikitext2 import WIKITEXT_2, running_text
from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Silent
from hinlap.workflows.bench import BenchOptions, BenchRun
from hinlap.workflows.bench_show import shown_item

ORIGINAL = " \n = A Town = \n \n" + "".join(f" {text} \n" for text in TEXTS) + " \n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "wikitext-2"
    folder.mkdir(parents=True)
    (folder / "wiki.test.raw.joined.txt").write_text(running_text(ORIGINAL), encoding="utf-8")
    return folder.parent


def recipe(folder: Path, text: str, window: int, stride: int) -> tuple[float, int]:
    """Nats and tokens of transformers' documented loop for perplexity with a stride."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    length, before = ids.size(1), 0
    nats, tokens = 0.0, 0
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        piece = ids[:, begin:end]
        target = piece.clone()
        target[:, : -(end - before)] = -100
        with torch.no_grad():
            loss = net(piece, labels=target).loss
        counted = int((target[:, 1:] != -100).sum())  # the shift inside takes no more away
        nats, tokens = nats + float(loss) * counted, tokens + counted
        before = end
        if end == length:
            break
    return nats, tokens


def perplexity(run: BenchRun) -> float:
    found = {figure.scores.name: figure.scores.value for figure in run.figures}
    assert set(found) == {
        "loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte",
    }  # fmt: skip
    value = found["perplexity"]
    assert value is not None
    return value


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_perplexity_is_the_recipes(
    architecture: str, data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    # a window of 128 tokens: nine windows over the text
    model = make_tiny_model(
        tmp_path / architecture, architecture, chat=False, more={"max_position_embeddings": 128}
    )
    done = measured("wikitext-2", model, data)
    nats, tokens = recipe(model, running_text(ORIGINAL), 128, 64)
    assert sum(given.tokens[0] for given in done.given) == tokens
    assert perplexity(done) == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert len(done.items) > 3


def test_a_tokenizer_that_begins_texts_with_a_token_has_it_read_and_the_first_word_weighed(
    data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    model = make_tiny_model(
        tmp_path / "begins", "llama", chat=False, more={"max_position_embeddings": 128}
    )
    file = model / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    start = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            start,
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            "<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
        },
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    done = measured("wikitext-2", model, data)
    nats, tokens = recipe(model, running_text(ORIGINAL), 128, 64)
    assert sum(given.tokens[0] for given in done.given) == tokens
    assert perplexity(done) == pytest.approx(math.exp(nats / tokens), rel=1e-5)


def test_figures_per_word_and_byte_divide_the_same_nats(
    tiny_model: Path, data: Path, measured: Callable[..., BenchRun]
) -> None:
    done = measured("wikitext-2", tiny_model, data)
    nats = -sum(given.nats[0] for given in done.given)
    text = running_text(ORIGINAL)
    found = {figure.scores.name: figure.scores.value for figure in done.figures}
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / len(text.split())))
    bits = nats / len(text.encode()) / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits)


def test_line_ends_of_windows_and_the_original_lines_are_the_same_text(
    tiny_model: Path, data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    done = measured("wikitext-2", tiny_model, data)
    ended = tmp_path / "ended.txt"
    ended.write_bytes(running_text(ORIGINAL).replace("\n", "\r\n").encode())
    original = tmp_path / "wiki.test.raw"
    original.write_text(ORIGINAL, encoding="utf-8")
    for file in (ended, original):
        assert measured("wikitext-2", tiny_model, file).given == done.given


def test_a_limit_counts_windows_and_the_last_window_may_be_short(
    data: Path, tmp_path: Path, measured: Callable[..., BenchRun]
) -> None:
    model = make_tiny_model(
        tmp_path / "narrow", "llama", chat=False, more={"max_position_embeddings": 128}
    )
    whole = measured("wikitext-2", model, data)
    some = measured("wikitext-2", model, data, limit=2)
    assert some.given == list(whole.given)[:2]
    assert [given.tokens[0] for given in some.given] == [127, 64]  # not the very first token
    assert whole.given[-1].tokens[0] < 64


def test_windows_weighed_are_not_weighed_again(
    tiny_model: Path, data: Path, measured: Callable[..., BenchRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hinlap.engines.local import LocalEngine

    done = measured("wikitext-2", tiny_model, data)

    def never(*_: object) -> None:
        raise AssertionError("weighed again")

    monkeypatch.setattr(LocalEngine, "score_tokens", never)
    assert measured("wikitext-2", tiny_model, data).given == done.given


@pytest.mark.parametrize("text", ["", " \n\n", "a"])
def test_a_text_with_nothing_to_foresee_is_refused(
    tiny_model: Path, tmp_path: Path, text: str, measured: Callable[..., BenchRun]
) -> None:
    file = tmp_path / "short.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="nothing to foresee"):
        measured("wikitext-2", tiny_model, file)


@pytest.mark.parametrize("settings", [{"chat": True}, {"shots": 2}], ids=["chat", "shots"])
def test_a_running_text_takes_no_chat_and_no_shots(
    tiny_model: Path, data: Path, settings: dict[str, object], measured: Callable[..., BenchRun]
) -> None:
    with pytest.raises(UserError, match="as it stands"):
        measured("wikitext-2", tiny_model, data, **settings)


def test_there_is_no_item_to_show(data: Path) -> None:
    with pytest.raises(UserError, match="one running text"):
        shown_item(WIKITEXT_2, 0, None, BenchOptions(data), Silent())


def test_the_whole_split_is_the_recipes(shared: Path) -> None:
    from hinlap.data.text_file import read_utf8

    file = shared / "wikitext-2/wiki.test.raw.joined.txt.gz"
    text = running_text(read_utf8(file).replace("\r\n", "\n"))
    assert text.startswith("\n\n = Robert Boulter = \n\n\n\n\n Robert Boulter is an English film ,")
    # 4,358 rows, 1,467 of them empty: 1,290,590 bytes of the original wiki.test.raw, less 2 for
    # each row of white space, and 2 between rows
    assert len(text.encode()) == 1_290_590 - 2 * 1_467 + 2 * 4_357
    assert len(text.split()) == 241_211
