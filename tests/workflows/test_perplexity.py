from __future__ import annotations

import gzip
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Silent
from hinlap.metrics.scores import Scores
from hinlap.workflows.compare_runs import compare_runs
from hinlap.workflows.perplexity import measure_perplexity
from hinlap.workflows.score_files import Request, score_files

WINDOW, STRIDE = 32, 8


def measure(
    model: Path, text: Path, window: int | None = None, stride: int | None = None, **options: Any
) -> dict[str, Scores]:
    wanted = {"field": None, "dtype": "float32", "progress": Silent(), **options}
    found = measure_perplexity(str(model), text, window=window, stride=stride, **wanted)
    return {scores.name: scores for scores in found.scores}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(TEXTS * 2), encoding="utf-8")
    return file


@pytest.mark.parametrize("stride", [STRIDE, WINDOW], ids=["overlapping", "side by side"])
def test_the_loss_is_that_of_a_plain_loop_over_rolling_windows(
    tiny_model: Path, text: Path, stride: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text.read_text())["input_ids"]])
    nats, count, hits, new, end = 0.0, 0, 0, 1, min(WINDOW + 1, len(ids))
    while new < end:
        read = ids[max(0, end - WINDOW - 1) : end - 1]
        with torch.inference_mode():
            logits = model(input_ids=read[None]).logits[0, new - end :]
        wanted = ids[new:end]
        nats += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        count += len(wanted)
        hits += int((logits.argmax(-1) == wanted).sum())
        new, end = end, min(end + stride, len(ids))

    scores = measure(tiny_model, text, WINDOW, stride)

    assert count == len(ids) - 1
    assert scores["loss"].value == pytest.approx(nats / count, abs=1e-5)
    assert scores["perplexity"].value == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert scores["token_accuracy"].value == pytest.approx(hits / count)
    size, words = len(text.read_bytes()), len(text.read_text().split())
    assert scores["bits_per_byte"].value == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert scores["word_perplexity"].value == pytest.approx(math.exp(nats / words), rel=1e-5)
    assert f"window:{WINDOW}|stride:{stride}" in scores["loss"].signature


@pytest.mark.parametrize("stride", [STRIDE, WINDOW, 1])
def test_every_token_word_and_byte_is_weighed_once(
    tiny_model: Path, text: Path, stride: int
) -> None:
    from transformers import AutoTokenizer

    whole = text.read_text("utf-8")
    tokens = AutoTokenizer.from_pretrained(tiny_model)(whole)["input_ids"]
    sums = measure(tiny_model, text, WINDOW, stride)["loss"].stats.sum(axis=0)
    assert sums[1] == len(tokens)
    assert sums[2:4].tolist() == pytest.approx([len(whole.split()), len(whole.encode())])


Files = Callable[..., Path]


@pytest.fixture
def scored(tmp_path: Path) -> Files:
    """scored(model, "first text", ...) is the file that hinlap metrics perplexity writes."""
    made = itertools.count()

    def run(model: Path, *texts: str, field: str | None = "text", **options: Any) -> Path:
        text, file = (tmp_path / f"{next(made)}.{kind}" for kind in ("txt", "json"))
        rows = [json.dumps({"text": t}) for t in texts] if field else texts
        text.write_text("\n".join(rows), encoding="utf-8")
        request = Request(model=str(model), text=text, field=field, window=WINDOW, **options)
        score_files("perplexity", request).write(file)
        return file

    return run


@pytest.fixture
def other_tokenizer(tiny_model: Path, tmp_path: Path) -> Path:
    """The same model, its tokenizer without the second half of its merges."""
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = merges[: len(merges) // 2]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


@pytest.mark.parametrize("field", ["text", None], ids=["rows", "running text"])
def test_two_models_with_one_tokenizer_are_compared_by_every_figure(
    tiny_model: Path, scored: Files, field: str | None
) -> None:
    a = scored(tiny_model, *TEXTS, field=field)
    b = scored(tiny_model, *TEXTS, field=field, dtype="bfloat16")
    systems = [json.loads(file.read_text())["system"] for file in (a, b)]
    assert [system.split("|")[-1] for system in systems] == ["float32", "bfloat16"]
    compared = compare_runs([a, b])
    assert (len(compared.metrics), compared.refused) == (6, {})


def test_models_with_other_tokenizers_are_compared_per_word_and_byte_of_rows(
    tiny_model: Path, other_tokenizer: Path, scored: Files
) -> None:
    compared = compare_runs([scored(model, *TEXTS) for model in (tiny_model, other_tokenizer)])
    assert {each.metric for each in compared.metrics} == {
        *("word_perplexity", "byte_perplexity", "bits_per_byte")
    }
    assert compared.refused.keys() == {"loss", "perplexity", "token_accuracy"}
    assert compared.refused["loss"].count("|tok:") == 2


def test_windows_of_other_tokens_are_not_the_same_items(
    tiny_model: Path, other_tokenizer: Path, scored: Files
) -> None:
    files = [scored(model, *TEXTS, field=None) for model in (tiny_model, other_tokenizer)]
    with pytest.raises(InputError, match=r"measured in different ways: .*\|windows\|tok:"):
        compare_runs(files)


def test_other_texts_are_not_compared(tiny_model: Path, scored: Files) -> None:
    files = [scored(tiny_model, *TEXTS[:4]), scored(tiny_model, *TEXTS[4:])]
    with pytest.raises(InputError, match="scored against different references"):
        compare_runs(files)


def test_rows_of_a_jsonl_are_items(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    lines = "\n".join(json.dumps({"text": t}) for t in [*TEXTS, ""])
    file.write_bytes(gzip.compress(lines.encode()))
    loss = measure(tiny_model, file, field="text")["loss"]
    assert loss.n == len(TEXTS) + 1
    assert loss.items[-1] is None
    assert loss.notes == {"empty texts": 1}


@pytest.mark.parametrize(("window", "stride"), [(8, 9), (1, 1), (8, 0), (100_000, 8)], ids=str)
def test_windows_that_cannot_be_are_refused(
    tiny_model: Path, text: Path, window: int, stride: int
) -> None:
    with pytest.raises(UserError, match="window of"):
        measure(tiny_model, text, window, stride)


def test_an_empty_text_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "empty.txt"
    file.write_text(" \n")
    with pytest.raises(InputError, match="the text is empty"):
        measure(tiny_model, file)


def test_bytes_that_are_no_utf8_are_refused_by_line(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8") as caught:
        measure(tiny_model, file)
    assert str(caught.value.where).endswith("latin.txt:3")


def test_a_row_without_the_field_is_refused_by_line(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a b"}\n{"other": 1}\n')
    with pytest.raises(InputError, match="there is no field 'text'"):
        measure(tiny_model, file, field="text")
