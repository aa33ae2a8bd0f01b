from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hinlap.benchmarks.benchmark import Given
from hinlap.benchmarks.instructions import INSTRUCTIONS, explain, measure, read
from hinlap.core.errors import InputError
from hinlap.core.messages import Sampling
from hinlap.core.progress import Silent
from hinlap.metrics.constraints import KINDS
from hinlap.store.store import Store
from hinlap.workflows.bench import BenchOptions, read_benchmark, run_bench
from hinlap.workflows.bench_asking import ask_model
from hinlap.workflows.bench_leaks import parts_of


def row(**changes: Any) -> dict[str, Any]:
    return {
        "key": 1000,
        "prompt": "Write a riddle, without commas, in less than 5 words.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"num_words": 5, "relation": "less than", "keyword": None}],
    } | changes


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "input_data.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def test_the_packaged_items_are_read_without_a_data_folder() -> None:
    _, _, items = read_benchmark(INSTRUCTIONS, BenchOptions(), Silent())
    groups = [item.group for item in items]
    assert (groups.count("English"), groups.count("Thai")) == (120, 40)
    assert len({item.question for item in items}) == 160
    used = {declared["id"] for item in items for declared in item.facts["constraints"]}
    # all but those that a language detector decides, which the packaged items do without
    detected = ["language:response_language", "change_case:english_capital",
                "change_case:english_lowercase"]  # fmt: skip
    assert used == KINDS.keys() - detected
    assert all(1 <= len(item.facts["constraints"]) <= 3 for item in items)
    assert parts_of(items[0]) == [("prompt", items[0].question)]


def test_a_folder_without_the_file_leaves_the_packaged_items(tmp_path: Path) -> None:
    file, _, _ = read_benchmark(INSTRUCTIONS, BenchOptions(tmp_path), Silent())
    assert file == INSTRUCTIONS.own


def test_the_papers_file_is_read_and_grouped_by_kind(tmp_path: Path) -> None:
    one = row(key=1, instruction_id_list=["punctuation:no_comma"], kwargs=[{}])
    first, second = read(written(tmp_path, row(), one))
    assert (first.id, first.group, second.group) == ("1000", "several kinds", "punctuation")
    assert first.facts["constraints"][1] == {
        "id": "length_constraints:number_words", "num_words": 5, "relation": "less than"
    }  # fmt: skip


def test_the_figures_are_those_of_the_paper(tmp_path: Path) -> None:
    rows = [row(key=n) for n in range(4)]
    items = read(written(tmp_path, *rows))
    answers = [
        "What am I?",  # both kept
        "Sure, here it is:\nWhat am I?",  # both kept without the first line
        "Me, a riddle",  # one of two, also loosely
        None,
    ]
    scores = {s.name: s for s in measure(items, [Given(answers=(answer,)) for answer in answers])}
    assert {name: s.value for name, s in scores.items()} == {
        "helpful_strict": 1 / 4,
        "helpful_loose": 2 / 4,
        "helpful_strict_constraints": 3 / 8,
        "helpful_loose_constraints": 5 / 8,
    }
    assert scores["helpful_strict_constraints"].items == (1.0, 0.0, 0.5, 0.0)
    assert scores["helpful_strict"].notes == {"failed answers, nothing kept": 1}


def test_an_item_says_which_constraints_were_kept(tmp_path: Path) -> None:
    (item,) = read(written(tmp_path, row()))
    said = explain(item, Given(answers=("One, two.\nWhat now?",)), {})
    assert said == ("punctuation:no_comma kept loosely only; length_constraints:number_words kept.")
    assert explain(item, Given(answers=(None,)), {}).startswith("There is no answer")


def test_constraints_weigh_alike_whatever_item_they_are_of(tmp_path: Path) -> None:
    one = row(key=1, instruction_id_list=["punctuation:no_comma"], kwargs=[{}])
    items = read(written(tmp_path, row(), one))
    scores = measure(items, [Given(answers=("a, b, c d e f",)), Given(answers=("a",))])
    by_name = {s.name: s.value for s in scores}
    assert by_name["helpful_strict"] == 1 / 2
    assert by_name["helpful_strict_constraints"] == 1 / 3


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"kwargs": [{}]}, "not of one length"),
        ({"instruction_id_list": [], "kwargs": []}, "no constraint"),
        ({"instruction_id_list": ["a:b", "a:c"]}, "there is no constraint 'a:b'"),
        ({"kwargs": [{}, {"num_words": 5}]}, "has the settings num_words"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    tmp_path: Path, bad: dict[str, Any], words: str
) -> None:
    path = written(tmp_path, row(), row(key=2, **bad))
    with pytest.raises(InputError, match=words) as caught:
        read(path)
    assert caught.value.where == f"{path}:2"


def test_files_that_are_none_of_instructions_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"key": 1, "prompt": "a"})
    with pytest.raises(InputError, match="lacks instruction_id_list, kwargs"):
        read(path)
    path.write_text("{\n")
    with pytest.raises(InputError, match="not JSON"):
        read(path)
    path.write_text("5\n")
    with pytest.raises(InputError, match="lacks key"):
        read(path)


def test_ids_that_come_twice_and_empty_files_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, row(), row())
    with pytest.raises(InputError, match="'1000' stands there 2 times"):
        read_benchmark(INSTRUCTIONS, BenchOptions(path), Silent())
    path.write_text("\n")
    with pytest.raises(InputError, match="no items"):
        read_benchmark(INSTRUCTIONS, BenchOptions(path), Silent())


def test_a_run_is_measured_and_comes_again_from_the_store(tmp_path: Path, tiny_model: Path) -> None:
    data = written(tmp_path, *(row(key=n, prompt=f"Riddle number {n}") for n in range(3)))
    benchmark = replace(INSTRUCTIONS, sampling=Sampling(max_tokens=24))
    store = Store(tmp_path / "store.db")
    make = ask_model(str(tiny_model), "float32", 0, store, Silent())
    runs = [
        run_bench(benchmark, make, BenchOptions(data, chat=True), store, Silent()) for _ in range(2)
    ]
    assert runs[0].given == runs[1].given
    assert all(had.answers[0] is not None for had in runs[0].given)
    assert [figure.interval.n for figure in runs[0].figures] == [3] * 4
    store.close()


def test_a_window_too_small_for_the_answers_is_a_counted_case(
    tmp_path: Path, tiny_model: Path
) -> None:
    data = written(tmp_path, row())
    benchmark = replace(INSTRUCTIONS, sampling=Sampling(max_tokens=600))
    store = Store(tmp_path / "store.db")
    make = ask_model(str(tiny_model), "float32", 0, store, Silent())
    run = run_bench(benchmark, make, BenchOptions(data, chat=True), store, Silent())
    assert run.given[0].answers == (None,)
    assert run.figures[0].scores.notes == {"failed answers, nothing kept": 1}
    assert any("failed, such as" in note for note in run.notes)
    store.close()
