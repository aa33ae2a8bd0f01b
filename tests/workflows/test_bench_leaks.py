from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.errors import InputError, UserError
from hinlap.core.progress import Silent
from hinlap.data.row_texts import row_texts
from hinlap.workflows.bench import BenchOptions
from hinlap.workflows.bench_leaks import LeakReport, leaked_items

RULES = [("punctuation:no_comma", {})]
PROMPTS = {
    "a": "Write a short and cheerful letter to the keeper of the old lighthouse about the lamp",
    "b": "Write a riddle about the sea",
    "c": "Why?",
    "d": "เขียนจดหมายถึงเจ้าของบ้านเช่าเรื่องก๊อกน้ำรั่วในห้องครัวและห้องน้ำ",
}
ROWS: list[dict[str, Any]] = [
    {"instruction": "Name a colour.", "output": "Blue."},
    {"messages": [{"role": "user", "content": f"Please: {PROMPTS['a']}, thanks"}]},
    {"instruction": "write a RIDDLE, about the sea!", "output": "I am salt."},
    {"instruction": "x", "input": f"ช่วย{PROMPTS['d'][:50]}", "output": "Why?"},
    {"instruction": PROMPTS["a"], "output": "Dear keeper"},
]


def check(folder: Path, training: Path) -> LeakReport:
    data = folder / "items.jsonl"
    rows = [
        {"key": key, "prompt": prompt, "instruction_id_list": ["punctuation:no_comma"],
         "kwargs": [{}]}
        for key, prompt in PROMPTS.items()
    ]  # fmt: skip
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return leaked_items(BENCHMARKS["instructions"], BenchOptions(data), training, Silent())


def as_jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_items_are_found_wherever_their_text_stands(tmp_path: Path) -> None:
    report = check(tmp_path, as_jsonl(tmp_path / "train.jsonl"))
    assert report.leaked == ["a", "b", "d"]
    assert (report.items, report.rows, list(report.unchecked)) == (4, 5, ["c"])
    by_item = {leak.item: leak for leak in report.leaks}
    # the whole prompt stands in line 5, and nearly so in line 2
    assert (by_item["a"].line, by_item["a"].rows, by_item["a"].overlap.similarity) == (5, 2, 1.0)
    assert (by_item["b"].line, by_item["b"].part) == (3, "prompt")
    assert by_item["b"].overlap.shared == "write a riddle about the sea"
    assert by_item["d"].line == 4
    first, *_ = lines = list(report.lines())
    assert "3 of 3 items (100.0%)" in first
    assert any("1 item too short to tell" in line for line in lines)


@pytest.mark.parametrize("kind", ["jsonl.gz", "json", "csv", "txt", "txt in UTF-16", "tsv.gz"])
def test_every_kind_of_file_gives_the_same_items(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"train.{kind.split()[0]}"
    texts = [PROMPTS["a"], "nothing here", "Write a riddle about the sea.", PROMPTS["d"]]
    if kind == "jsonl.gz":
        path.write_bytes(gzip.compress(as_jsonl(tmp_path / "x.jsonl").read_bytes()))
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif kind.startswith("txt"):
        path.write_text("\n".join(texts), encoding="utf-16" if "16" in kind else "utf-8")
    else:
        with (gzip.open if kind.endswith("gz") else open)(path, "wt", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if "tsv" in kind else ",")
            writer.writerows([["n", "text"], *([n, text] for n, text in enumerate(texts))])
    assert check(tmp_path, path).leaked == ["a", "b", "d"]


def test_a_clean_training_set_is_said_to_be_clean(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("The riddle about the sea was written.\n")
    report = check(tmp_path, path)
    assert report.leaks == []
    assert next(report.lines()).startswith("instructions: 0 of 3 items (0.0%) stand in")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.jsonl", b'{"a": "b"}\n{\n', "not JSON"),
        ("train.json", b'[{"a": "b"},', "cut"),
        ("train.json", b"[1]", "where an object is meant"),
        ("train.jsonl", b"\n", "the file is empty"),
        ("train.csv", b"text\n", "there are no rows"),
        ("train.csv", b"n,text\n1\n", "1 cell, where the first line names 2"),
        ("train.txt", b"good\n\xff\xfe\n", "not UTF-8"),
        ("train.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999)[:-12], "gzip data is broken"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        check(tmp_path, path)
    assert name in caught.value.where


def test_a_folder_and_a_running_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder, not a file"):
        check(tmp_path, tmp_path)
    with pytest.raises(UserError, match="one running text"):
        leaked_items(BENCHMARKS["wikitext-2"], BenchOptions(tmp_path), tmp_path, Silent())


def test_texts_of_a_row_are_all_it_holds_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    deep = '{"a":' * 900 + '"bottom"' + "}" * 900
    path.write_text(json.dumps({"a": ["x", {"b": "y", "n": 5}], "c": "z"}) + "\n\n" + deep + "\n")
    assert list(row_texts(path, Silent())) == [(1, ["x", "y", "z"]), (3, ["bottom"])]


def test_the_command_prints_what_leaked(tmp_path: Path, hinlap_here: Callable[..., Any]) -> None:
    training = tmp_path / "train.txt"
    training.write_text("Write a riddle about a clock in exactly 4 lines.\n")
    done = hinlap_here("bench", "instructions", "--check-leaks", training)
    assert done.returncode == 0, done.stderr
    assert "1 of 160 items" in done.stdout
    assert "write a riddle about a clock in exactly 4 lines" in done.stdout
