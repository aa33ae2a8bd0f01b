"""Variants end to end: what is asked once, what a kill leaves, split sides, bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hinlap.core.rows import BadRow, Origin, Row
from hinlap.data.manifest import read_manifest
from hinlap.data.row_files import read_rows
from hinlap.data.splits import sides_of

COUNT = 30


def says(content: str) -> str:
    number = re.search(r"number (\d+)", content)
    of = number[1] if number else "0"
    if "into Thai" in content:
        return f"Instruction: เล่าเรื่องของสิ่งที่ {of}\nOutput: นี่คือเรื่องของสิ่งที่ {of} ที่เล่ากันมา"
    if "harder" in content:
        return "I cannot."
    return f"Instruction: What can be told of number {of} and its thing?"


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    lines = [
        {"id": f"r{i}", "instruction": f"Tell the story of the thing number {i}.", "input": "",
         "output": f"This is the story of the thing number {i}.", "origin": "human"}
        for i in range(COUNT)
    ]  # fmt: skip
    talk = {**lines[0], "id": "talk", "history": [["Hello.", "Hi."]]}
    text = "".join(json.dumps(line) + "\n" for line in [*lines, talk])
    file.write_text(text + '{"id": "cut", "instr')
    return file


@pytest.fixture
def model(chat_server: Any, chat_answer: Any) -> Any:
    chat_server.answer = lambda body: chat_answer(says(body["messages"][0]["content"]))
    return chat_server


def command(file: Path, url: str, *more: str) -> list[str]:
    return ["data", "augment", str(file), "--model", f"{url}#m", "--out", "out.jsonl", *more]


def rows_of(path: Path) -> list[Row]:
    found = list(read_rows(path))
    assert not any(isinstance(row, BadRow) for row in found)
    return [row for row in found if isinstance(row, Row)]


KINDS = ("--kind", "paraphrase", "--kind", "translate:th", "--kind", "harder")


def test_variants_stand_beside_their_parents_on_one_side_of_a_split(
    tmp_path: Path, rows_file: Path, model: Any, hinlap_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = (*KINDS, "--with-originals", "--licence", "mit")
    ended = hinlap_here(*command(rows_file, model.url, *more))
    assert ended.returncode == 0, ended.stderr
    assert "60 variants of 30 rows in out.jsonl" in ended.stdout
    assert "30  unreadable" in ended.stdout
    assert "1 conversation of several turns left out" in ended.stderr
    assert "rows.jsonl:32: left out" in ended.stderr
    rows = rows_of(tmp_path / "out.jsonl")
    assert len(rows) == 3 * COUNT
    derived = [row for row in rows if row.origin is Origin.DERIVED]
    assert len(derived) == 2 * COUNT
    assert {row.labels["model"] for row in derived} == {"m"}
    sides = sides_of(rows, "key", {"train": 0.5, "test": 0.5}).sides
    by_id = {row.id: side for row, side in zip(rows, sides, strict=True)}
    assert set(by_id.values()) == {"train", "test"}
    assert all(by_id[row.id] == by_id[row.parent] for row in derived)
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest is not None
    assert (manifest.rows, manifest.licence) == (90, "MIT")
    assert manifest.parents[0].path == "rows.jsonl"


def test_killed_it_ends_as_an_unbroken_run_and_asks_for_the_rest_only(
    tmp_path: Path, rows_file: Path, model: Any, hinlap_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command(rows_file, model.url, "--kind", "paraphrase", "--temperature", "0")
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    assert hinlap_here(*arguments).returncode == 0
    asked = len(model.seen)
    assert asked == COUNT
    broken = tmp_path / "broken"
    broken.mkdir()
    answer, running = model.answer, []

    def dying(body: dict[str, Any]) -> Any:
        if len(model.seen) == asked + 15:
            running[0].send_signal(signal.SIGKILL)
        return answer(body)

    model.answer = dying
    running.append(
        subprocess.Popen(
            [sys.executable, "-m", "hinlap.cli.main", *arguments], cwd=broken,
            env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    )  # fmt: skip
    assert running[0].wait(60) == -signal.SIGKILL
    assert not (broken / "out.jsonl").exists()
    model.answer = answer
    monkeypatch.chdir(broken)
    assert hinlap_here(*arguments).returncode == 0
    assert (broken / "out.jsonl").read_bytes() == (tmp_path / "whole" / "out.jsonl").read_bytes()
    assert len(model.seen) <= asked + COUNT + 8  # under way, or answered and not yet written


def test_a_second_variant_that_repeats_the_first_is_dropped(
    tmp_path: Path, rows_file: Path, model: Any, hinlap_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("--kind", "paraphrase", "--draws", "2", "--limit", "4")
    ended = hinlap_here(*command(rows_file, model.url, *more))
    assert ended.returncode == 0, ended.stderr
    assert "4  repeats another variant" in ended.stdout
    assert "hinlap data mix" in ended.stdout
    assert len(rows_of(tmp_path / "out.jsonl")) == 4


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--kind", "easier"), "no kind 'easier'", 2),
        (("--kind", "harder"), "no variant of 30 rows could be used: 30 asked, 30 unreadable", 2),
        (("--kind", "harder", "--out", "out.csv"), ".jsonl", 2),
        (("--kind", "harder", "--out", "rows.jsonl"), "the file exists", 2),
        (("--kind", "harder", "--out", "rows.jsonl", "--overwrite"), "replace the rows", 2),
        (("--kind", "harder", "--draws", "2", "--temperature", "0"), "--draws", 2),
        (("--kind", "paraphrase", "--limit", "0"), "--limit", 2),
        (("--kind", "paraphrase", "--usd-in", "1", "--usd-out", "1", "--budget-usd", "0.0001"),
         "--budget-usd: the next request", 2),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_nothing_written(
    tmp_path: Path, rows_file: Path, model: Any, hinlap_here: Any,
    monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], said: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = rows_file.read_bytes()
    ended = hinlap_here(*command(rows_file, model.url, *more))
    assert ended.returncode == code
    assert said in ended.stderr
    assert rows_file.read_bytes() == before
    assert not list(tmp_path.glob("*out*"))
