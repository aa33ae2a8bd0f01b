from __future__ import annotations

import contextlib
import json
import math
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.benchmarks.benchmark import Given
from hinlap.benchmarks.local import explain, read_local
from hinlap.core.errors import AppError, HinlapError, InputError, UserError
from hinlap.core.progress import Silent
from hinlap.store.store import Store
from hinlap.workflows.bench import BenchOptions, find_benchmark, read_benchmark, run_bench
from hinlap.workflows.bench_asking import ask_model

CHOICE = "data: items.jsonl\nkind: choice\n"
BIRDS = [
    {"question": "Which bird swims?", "choices": ["penguin", "swift"], "answer": 0},
    {"question": "นกชนิดใดบินไม่ได้", "choices": ["กา", "นกกระจอกเทศ"], "answer": "B"},
    {"question": "Which is smallest?", "choices": ["crow", "wren", "owl"], "answer": "wren"},
]


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, rows: list[Any] | str = BIRDS) -> Path:
        if not isinstance(rows, str):
            rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / "items.jsonl").write_text(rows, encoding="utf-8")
        (tmp_path / "birds.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "birds.yaml"

    return write


def items_of(path: Path) -> list[Any]:
    return read_benchmark(read_local(path), BenchOptions(), Silent())[2]


def test_the_right_choice_is_told_by_place_letter_or_text(local: Callable[..., Path]) -> None:
    items = items_of(local(CHOICE))
    assert [item.facts["right"] for item in items] == ["penguin", "นกกระจอกเทศ", "wren"]
    assert [item.id for item in items] == ["1", "2", "3"]
    assert items[0].texts[1].question == "Question: Which bird swims?\nAnswer:"
    assert [text.text for text in items[0].texts] == [" penguin", " swift"]
    assert [text.label for text in items[0].texts] == ["A (right)", "B"]


def test_choices_may_stand_in_fields_and_the_prompt_is_a_template(
    local: Callable[..., Path],
) -> None:
    rows = [{"q": "2 + 2?", "A": 3, "B": 4, "right": "B", "subject": "sums", "id": "one"}]
    text = CHOICE + (
        "question: q\nchoices: [A, B]\nanswer: right\ngroup: subject\n"
        'prompt: "{{ subject }}: {{ q }} (A) {{ A }} (B) {{ B }} ="\n'
    )
    (item,) = items_of(local(text, rows))
    assert (item.id, item.group, item.facts["right"]) == ("one", "sums", "4")
    assert item.texts[0].question == "sums: 2 + 2? (A) 3 (B) 4 ="


def test_accuracies_and_probability_by_hand(local: Callable[..., Path]) -> None:
    path = local(CHOICE)
    items = items_of(path)
    given = [
        Given(nats=(-2.0, -1.0)),  # wrong; per byte -2/7 and -1/5: wrong too
        Given(nats=(-3.0, -4.0)),  # wrong; per byte of Thai -3/6 and -4/36: right
        Given(nats=(-1.0, -1.0, -9.0)),  # of equals the first, which is wrong; per byte too
    ]
    scores = {s.name: s for s in read_local(path).measure(items, given)}
    assert scores["choice_accuracy"].items == (0.0, 0.0, 0.0)
    assert scores["choice_accuracy_norm"].items == (0.0, 1.0, 0.0)
    first = math.exp(-2) / (math.exp(-2) + math.exp(-1))
    assert scores["choice_probability"].items[0] == pytest.approx(first)
    said = explain(items[0], given[0], {"choice_probability": first})
    assert (
        said == "Of the choices B is the likeliest; the right choice has 27% of their probability."
    )


ANSWER = "data: items.jsonl\nkind: answer\nanswer: answers\n"
CAPITALS = [
    {"id": "fr", "question": "Capital of France?", "answers": ["Paris"]},
    {"id": "th", "question": "เมืองหลวงของไทย", "answers": ["กรุงเทพฯ", "กรุงเทพมหานคร"]},
]


def test_answers_are_scored_by_the_metrics_that_are_named(local: Callable[..., Path]) -> None:
    path = local(ANSWER + "metrics: [exact_match, token_f1, rougeL, bleu]\nstop: []\n", CAPITALS)
    benchmark = read_local(path)
    assert benchmark.sampling is not None
    assert benchmark.sampling.stop == ()
    scores = {
        s.name: s
        for s in benchmark.measure(
            items_of(path), [Given(answers=(" Paris ",)), Given(answers=(None,))]
        )
    }
    assert list(scores) == ["exact_match", "token_f1", "rougeL", "bleu"]
    assert scores["exact_match"].items == (1.0, 0.0)
    assert scores["token_f1"].notes["failed answers, scored as empty"] == 1


@pytest.mark.parametrize(
    ("text", "rows", "words", "where"),
    [
        (CHOICE + "kidn: 3\n", BIRDS, "unknown field", "birds.yaml:3"),
        ("data: items.jsonl\n", BIRDS, "this field is missing", "birds.yaml:1"),
        (CHOICE + "max_tokens: 5\n", BIRDS, "kind choice has no max_tokens", "birds.yaml:1"),
        (ANSWER + "metrics: [meteor]\n", CAPITALS, "Input should be", "birds.yaml:4"),
        (ANSWER + "max_tokens: 0\n", CAPITALS, "greater than or equal to 1", "birds.yaml:4"),
        ("data: other.jsonl\nkind: choice\n", BIRDS, "no such data file", "birds.yaml:1"),
        (CHOICE + "prompt: '{{ nothing }}'\n", BIRDS, "names 'nothing'", "birds.yaml:3"),
        (CHOICE + "prompt: '{{ question'\n", BIRDS, "does not parse", "birds.yaml:3"),
        ("kind: [\n", BIRDS, "not valid YAML", "birds.yaml"),
        (CHOICE, "", "there are no items", "items.jsonl"),
        (CHOICE, "5\n", "where a JSON object is meant", "items.jsonl:1"),
        (CHOICE, "{\n", "not JSON", "items.jsonl:1"),
        (CHOICE, [{"question": "a", "answer": 0}], "no field 'choices'", "items.jsonl:1"),
        (CHOICE, [BIRDS[0], {**BIRDS[1], "answer": "C"}], "none of the 2 choices", "jsonl:2"),
        (CHOICE, [{**BIRDS[0], "answer": 2}], "none of the 2 choices", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "answer": -1}], "none of the 2 choices", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "answer": True}], "not a text", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "choices": ["a"]}], "only one choice", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "choices": ["a", "a"]}], "are the same", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "choices": []}], "not a list of texts", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "question": " "}], "is empty", "items.jsonl:1"),
        (CHOICE, [{**BIRDS[0], "id": "x"}] * 2, "the id 'x' stands at", "items.jsonl:2"),
        (CHOICE, [{**BIRDS[0], "choices": ["B", "A"], "answer": "A"}],
         "read as letter or as text", "items.jsonl:1"),
        (ANSWER, [{"question": "a", "answers": []}], "not a list of texts", "items.jsonl:1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(
    local: Callable[..., Path], text: str, rows: Any, words: str, where: str
) -> None:
    path = local(text, rows)
    with pytest.raises((AppError, InputError), match=words) as caught:
        items_of(path)
    assert where in str(caught.value)


def test_an_answer_of_two_readings_is_told_by_answer_is(local: Callable[..., Path]) -> None:
    rows = [{**BIRDS[0], "choices": ["B", "A"], "answer": "A"}]
    assert items_of(local(CHOICE + "answer_is: text\n", rows))[0].facts["right"] == "A"
    assert items_of(local(CHOICE + "answer_is: letter\n", rows))[0].facts["right"] == "B"


def test_a_bare_number_is_a_place_and_one_in_quotes_may_be_a_text(
    local: Callable[..., Path],
) -> None:
    numbers = {"question": "1 + 1?", "choices": ["3", "2", "1"]}
    assert items_of(local(CHOICE, [{**numbers, "answer": 1}]))[0].facts["right"] == "2"
    with pytest.raises(InputError, match="index or as text"):
        items_of(local(CHOICE, [{**numbers, "answer": "1"}]))


def test_a_name_of_a_published_benchmark_is_refused(
    local: Callable[..., Path], tmp_path: Path
) -> None:
    taken = local(CHOICE).rename(tmp_path / "squad.yaml")
    with pytest.raises(UserError, match="published benchmark"):
        find_benchmark(str(taken))
    with pytest.raises(HinlapError, match="no such file"):
        find_benchmark(str(tmp_path / "absent.yaml"))


def test_a_local_benchmark_runs_with_shots_and_again_from_the_store(
    local: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    benchmark = find_benchmark(str(local(CHOICE)))
    store = Store(tmp_path / "store.db")
    make = ask_model(str(tiny_model), "float32", 0, store, Silent())
    runs = [run_bench(benchmark, make, BenchOptions(shots=1), store, Silent()) for _ in range(2)]
    assert runs[0].given == runs[1].given
    assert [len(g.nats) for g in runs[0].given] == [len(item.texts) for item in runs[0].items]
    assert [f.scores.name for f in runs[0].figures] == [
        "choice_accuracy", "choice_accuracy_norm", "choice_probability"
    ]  # fmt: skip
    store.close()


def test_local_answers_are_generated_by_the_command(
    local: Callable[..., Path], tmp_path: Path, tiny_model: Path, hinlap_here: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = local(ANSWER + "max_tokens: 8\n", CAPITALS)
    done = hinlap_here("bench", str(path), "--model", str(tiny_model), "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "exact_match" in done.stdout
    assert "token_f1" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())["metric"] == "exact_match"
    done = hinlap_here("bench", "show", str(path), "--item", "1")
    assert "Question: เมืองหลวงของไทย\nAnswer:" in done.stdout


def test_a_killed_run_goes_on_where_it_was(
    local: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    rows = [{"question": f"Number {n}?", "answers": [str(n)]} for n in range(48)]
    path = local(ANSWER + "max_tokens: 160\nstop: []\n", rows)
    place = tmp_path / ".hinlap" / "store.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "hinlap.cli.main", "bench", path.name, "--model", str(tiny_model)],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not answers_in(place):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = answers_in(place)
    assert before > 0
    benchmark = find_benchmark(str(path))
    runs = []
    for name in (place, tmp_path / "fresh.db"):
        store = Store(name)
        make = ask_model(str(tiny_model), "float32", 0, store, Silent())
        runs.append(run_bench(benchmark, make, BenchOptions(), store, Silent()))
        store.close()
    assert runs[0].given == runs[1].given
    assert answers_in(place) == 48


def answers_in(store: Path) -> int:
    if not store.exists():
        return 0
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(store)) as found:
        return int(found.execute("SELECT count(*) FROM answers").fetchone()[0])
    return 0
