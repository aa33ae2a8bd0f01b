from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS

from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Silent
from hinlap.metrics.scores import Scores
from hinlap.workflows.perplexity import measure_perplexity

WINDOW, STRIDE = 32, 8


def measure(
    model: Path, text: Path, window: int | None = None, stride: int | None = None, **options: Any
) -> dict[str, Scores]:
    wanted = {"field": None, "dtype": "float32", "progress": Silent(), **options}
    found = measure_perplexity(str(model), text, window=window, stride=stride, **wanted)
    return {scores.name: scores for scores in found}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(TEXTS * 2), encoding="utf-8")
    return file


@pytest.mark.parametrize("stride", [STRIDE, WINDOW], ids=["overlapping", "side by side"])
def test_the_loss_is_that_of_transformers_recipe(tiny_model: Path, text: Path, stride: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer(text.read_text())["input_ids"]])
    nats, count, hits, done = 0.0, 0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + WINDOW, ids.shape[1])
        labels = ids[0, begin:end].clone()
        labels[: len(labels) - (end - done)] = -100
        with torch.inference_mode():
            logits = model(input_ids=ids[:, begin:end]).logits[0, :-1]
        wanted = labels[1:]
        kept = wanted != -100
        nats += float(
            torch.nn.functional.cross_entropy(logits[kept], wanted[kept], reduction="sum")
        )
        count += int(kept.sum())
        hits += int((logits[kept].argmax(-1) == wanted[kept]).sum())
        done = end
        if end == ids.shape[1]:
            break

    scores = measure(tiny_model, text, WINDOW, stride)

    assert scores["loss"].value == pytest.approx(nats / count, abs=1e-5)
    assert scores["perplexity"].value == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert scores["token_accuracy"].value == pytest.approx(hits / count)
    size, words = len(text.read_bytes()), len(text.read_text().split())
    assert scores["bits_per_byte"].value == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert scores["word_perplexity"].value == pytest.approx(math.exp(nats / words), rel=1e-5)
    assert f"window:{WINDOW}|stride:{stride}" in scores["loss"].signature


def test_more_context_is_never_fewer_tokens(tiny_model: Path, text: Path) -> None:
    beside, over = (measure(tiny_model, text, WINDOW, s)["loss"] for s in (WINDOW, STRIDE))
    assert over.stats[:, 1].sum() >= beside.stats[:, 1].sum()


def test_rows_of_a_jsonl_are_items(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    lines = "\n".join(json.dumps({"text": t}) for t in [*TEXTS, ""])
    file.write_bytes(gzip.compress(lines.encode()))
    loss = measure(tiny_model, file, field="text")["loss"]
    assert loss.n == len(TEXTS) + 1
    assert loss.items[-1] is None
    assert loss.notes == {"texts too short to be weighed": 1}


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
