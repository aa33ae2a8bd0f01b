"""Self-instruct end to end against a real server: what comes out, SIGKILL, an engine that repeats
itself, money, the several draws, bad input."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.core.errors import BudgetError, EngineError, InputError, UserError
from hinlap.core.messages import Completion, Finish, Prompt
from hinlap.core.progress import Silent
from hinlap.core.rows import Origin, Row
from hinlap.data.manifest import read_manifest
from hinlap.data.row_files import read_rows
from hinlap.data.self_instruct.seeds import SeedTask
from hinlap.engines.local import LocalEngine
from hinlap.engines.scripted import ScriptedEngine
from hinlap.store.store import Store
from hinlap.workflows.data_engine import OpenWriter, Writer, open_writer
from hinlap.workflows.filter_rows import filter_rows
from hinlap.workflows.round_journal import RoundJournal, journal_path
from hinlap.workflows.self_instruct import SelfInstructJob, language_of
from hinlap.workflows.self_instruct import self_instruct as run_job
from hinlap.workflows.self_instruct_options import SelfInstructOptions
from hinlap.workflows.self_instruct_rounds import SelfInstructReport, write_tasks

SEEDS = [
    SeedTask("s0", "Add the numbers in the list.", (("1, 2", "3"),), False),
    SeedTask("s1", "Name a famous river in Asia.", (("", "The Mekong."),), False),
    SeedTask("s2", "Is this review kind or cruel?", (("I liked it.", "kind"),), True),
    SeedTask("s3", "Explain how rain is made.", (("", "Water rises, cools and falls."),), False),
]
NOUNS = ["boat", "tiger", "lamp", "bread", "train", "window", "garden", "pepper", "cloud", "piano"]
VERBS = ["count", "compare", "describe", "praise", "sort", "translate", "question", "forget"]


def answer(content: str, draw: str) -> str:
    """A model's answer as a function of what it is asked and of the draw."""
    rng = random.Random(hashlib.sha256(f"{content}/{draw}".encode()).hexdigest())
    if "Answer:" in content:
        return "Yes" if rng.random() < 0.3 else "No"
    if "Label:" in content:
        return "Label: kind\nInput: So good.\nLabel: cruel\nInput: So bad."
    if "Input:" in content:
        if rng.random() < 0.15:
            return "I do not know."
        return f"Input: none\nOutput: {' '.join(rng.sample(NOUNS, 4))}"
    first = int(re.search(r"from (\d+) to", content)[1])  # type: ignore[index]
    lines = []
    for number in range(first, first + 4):
        words = [rng.choice(VERBS).title(), *rng.sample(NOUNS, 3), rng.choice(VERBS)]
        lines.append(f"{number}. {' '.join(words)}.")
    lines.append(f"{first + 4}. Draw a picture of a cat.")
    return "Here they are:\n" + "\n".join(lines)


def scripted(says: Callable[[str], str] | None = None, name: str = "scripted") -> ScriptedEngine:
    def reply(prompt: Prompt) -> str:
        content = prompt.messages[0].content
        return says(content) if says else answer(content, "")

    return ScriptedEngine(reply, name=name)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., SelfInstructReport]:
    """Runs the rounds with an engine in this process: write(options, engine, seeds=...)."""

    def run(
        options: SelfInstructOptions, engine: Any = None, seeds: list[SeedTask] = SEEDS
    ) -> SelfInstructReport:
        store = Store(tmp_path / "store.db")
        journal = RoundJournal(tmp_path / "out.jsonl", "run")
        try:
            writer = OpenWriter(engine or scripted())
            return write_tasks(seeds, options, writer, store, journal, Silent())
        finally:
            journal.close()
            store.close()

    return run


OPTIONS = SelfInstructOptions(count=12, requests=2, wanted=5)


def test_rows_are_new_solved_and_known_to_be_a_machines(
    write: Callable[..., SelfInstructReport],
) -> None:
    report = write(OPTIONS)
    assert report.stopped is None
    assert len(report.rows) == 12
    assert {row.origin for row in report.rows} == {Origin.MACHINE}
    assert all(row.output and row.labels["model"] == "scripted" for row in report.rows)
    assert not any("picture" in row.instruction for row in report.rows)
    assert all(row.labels["similarity"] <= 0.7 for row in report.rows)
    ids = [row.id for row in report.rows]
    assert len(set(ids)) == len(ids)


def test_classification_rows_share_a_group_and_come_from_labels(
    write: Callable[..., SelfInstructReport],
) -> None:
    report = write(OPTIONS)
    judged = [row for row in report.rows if row.labels["is_classification"]]
    assert {row.output for row in judged} == {"kind", "cruel"}
    assert all(row.group for row in judged)
    assert not any(row.group for row in report.rows if not row.labels["is_classification"])


def test_the_table_of_yields_adds_up(write: Callable[..., SelfInstructReport]) -> None:
    yields = write(OPTIONS).yields
    step = {"instructions": "new", "answers": ""}
    for name, kept in step.items():
        counts = {what: number for (own, what), number in yields.items() if own == name}
        falls = sum(n for what, n in counts.items() if what not in ("read", "asked", kept))
        if name == "instructions":
            assert counts["read"] == falls + counts["new"]
            assert (
                counts["keyword (image, file, video ...)"] == yields["requests for tasks", "asked"]
            )
        else:
            assert counts["asked"] == yields["instructions", "new"]
            unread = counts.get("unreadable", 0)
            assert counts["read"] == falls - unread + yields["rows", "kept"]
    assert next(iter(yields)) == ("requests for tasks", "asked")
    assert list(yields)[-1] == ("rows", "kept")


def test_more_rows_begin_with_the_same_ones(
    write: Callable[..., SelfInstructReport], tmp_path: Path
) -> None:
    few = write(OPTIONS)
    journal_path(tmp_path / "out.jsonl").unlink()
    many = write(SelfInstructOptions(count=30, requests=2, wanted=5))
    assert many.rows[: len(few.rows)] == few.rows


def test_an_engine_that_repeats_itself_is_stopped(
    write: Callable[..., SelfInstructReport],
) -> None:
    def same(content: str) -> str:
        if "Answer:" in content:
            return "No"
        if "Input:" in content:
            return "Input: none\nOutput: Forty."
        return "9. Count the boats of the old harbour.\n10. Count the boats of the old harbour."

    report = write(OPTIONS, scripted(same))
    assert len(report.rows) == 1
    assert isinstance(report.stopped, EngineError)
    assert "5 rounds in a row gave nothing: none of its 20 instructions was new" in str(
        report.stopped
    )
    assert "--patience 10" in report.stopped.hint
    assert report.rounds == 6


@pytest.mark.parametrize(
    ("says", "why"),
    [("", "could be read"), ("1. Name a long river.", "no usable answer to any")],
)
def test_why_nothing_came_of_it_is_said(
    write: Callable[..., SelfInstructReport], says: str, why: str
) -> None:
    turn = iter(range(1000))

    def unusable(content: str) -> str:
        if "Input:" in content or "Answer:" in content:
            return "?"
        words = " ".join(random.Random(next(turn)).sample(NOUNS, 6))
        return says.replace("long river", words)

    report = write(OPTIONS, scripted(unusable))
    assert report.rows == ()
    assert why in str(report.stopped)


def test_machine_tasks_are_shown_after_the_first_round(
    write: Callable[..., SelfInstructReport],
) -> None:
    engine = scripted()
    report = write(SelfInstructOptions(count=12, requests=2, wanted=5, human=2, machine=2), engine)
    asked = [p.messages[0].content for p in engine.asked]
    lists = [text.split("\n\n", 1)[1] for text in asked if text.startswith("Here are")]
    assert len(report.rows) == 12
    by_people = {seed.instruction for seed in SEEDS}
    shown = [[line.split(". ", 1)[1] for line in text.splitlines()] for text in lists]
    # machine places of the first round are filled by people's tasks
    assert all(set(texts) <= by_people and len(texts) == 4 for texts in shown[:2])
    assert all(len(set(texts) - by_people) == 2 for texts in shown[2:])


def test_topics_and_personas_take_turns(write: Callable[..., SelfInstructReport]) -> None:
    report = write(
        SelfInstructOptions(
            count=12, requests=3, wanted=5, topics=("tea", "snow"), personas=("a nurse",)
        ),
        seeds=[],
    )
    assert {row.labels["topic"] for row in report.rows} == {"tea", "snow"}
    assert {row.labels["persona"] for row in report.rows} == {"a nurse"}


def test_whole_tasks_at_once_as_alpaca_asks(write: Callable[..., SelfInstructReport]) -> None:
    turn = iter(range(1000))

    def whole(content: str) -> str:
        assert content.count("Task: ") == 3
        rng = random.Random(next(turn))
        tasks = [
            f"Task: {' '.join(rng.sample(NOUNS, 6))}\nInput: none\nOutput: {rng.choice(NOUNS)}"
            for _ in range(3)
        ]
        return "\n###\n".join([*tasks, "Task: one more without an"])

    report = write(SelfInstructOptions(count=6, way="whole", requests=2), scripted(whole))
    assert len(report.rows) == 6
    assert report.yields["instructions", "begun, not whole"] == 2 * report.rounds
    assert "is_classification" not in report.rows[0].labels


@pytest.mark.parametrize("best_by", ["likelihood", "agreement"])
def test_the_best_of_several_draws_is_kept(tmp_path: Path, best_by: str) -> None:
    """Drawn: one long answer, two alike. The model holds the long one likelier per token."""

    class Drawing(ScriptedEngine):
        def generate(self, prompts: Any, sampling: Any) -> Any:
            for index, prompt in enumerate(prompts):
                content = prompt.messages[0].content
                said = answer(content, "")
                if "Input:" in content:
                    said = (
                        "Input: none\nOutput: "
                        + (["a long and likely answer", "short one here", "short one there"])[
                            sampling.repeat
                        ]
                    )
                elif "Answer:" in content:
                    said = "No"
                yield index, Completion(said, Finish.STOP, 1, 1, 0.0)

    engine = Drawing(lambda p: "", weigh=lambda pair: -1.0 if "likely" in pair.text else -2.0)
    store = Store(tmp_path / "store.db")
    journal = RoundJournal(tmp_path / "out.jsonl", "run")
    options = SelfInstructOptions(
        count=3,
        requests=1,
        wanted=5,
        draws=3,
        best_by=best_by,  # type: ignore[arg-type]
    )
    report = write_tasks(SEEDS, options, OpenWriter(engine), store, journal, Silent())
    journal.close()
    store.close()
    wanted = "a long and likely answer" if best_by == "likelihood" else "short one here"
    assert {row.output for row in report.rows} == {wanted}
    assert report.yields["answers", "not the best draw"] == 2 * report.yields["instructions", "new"]


# --- a real process against a real server -------------------------------------------------------


def seeds_file(tmp_path: Path) -> Path:
    file = tmp_path / "seeds.jsonl"
    records = [
        {
            "id": seed.id,
            "instruction": seed.instruction,
            "instances": [{"input": i, "output": o} for i, o in seed.instances],
            "is_classification": seed.is_classification,
        }
        for seed in SEEDS
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def serve_model(chat_server: Any, chat_answer: Any) -> Counter[str]:
    """Makes the server the model of `answer`; counts each request by what decides its answer."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def reply(body: dict[str, Any]) -> Any:
        content = body["messages"][0]["content"]
        with lock:
            seen[f"{content}/{body['seed']}/{body['temperature']}"] += 1
        return chat_answer(answer(content, str(body["seed"])))

    chat_server.answer = reply
    return seen


def arguments(tmp_path: Path, url: str, *more: str) -> list[str]:
    return [
        "data", "self-instruct", "--seeds", str(seeds_file(tmp_path)), "--model", f"{url}#m",
        "--count", "40", "--requests", "2", "--tasks", "5", "--out", "out.jsonl", *more,
    ]  # fmt: skip


def test_killed_again_and_again_it_ends_as_an_unbroken_run(
    tmp_path: Path, chat_server: Any, chat_answer: Any, hinlap_here: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    serve_model(chat_server, chat_answer)
    whole = tmp_path / "whole"
    whole.mkdir()
    monkeypatch.chdir(whole)
    assert hinlap_here(*arguments(tmp_path, chat_server.url)).returncode == 0
    unbroken = (whole / "out.jsonl").read_bytes()
    assert unbroken.count(b"\n") == 40

    broken = tmp_path / "broken"
    broken.mkdir()
    seen = serve_model(chat_server, chat_answer)
    model = chat_server.answer
    running: list[subprocess.Popen[bytes]] = []
    left = [0]

    def dying(body: dict[str, Any]) -> Any:
        left[0] -= 1
        if left[0] == 0:
            running[-1].send_signal(signal.SIGKILL)
        return model(body)

    chat_server.answer = dying
    for requests in (5, 25):
        left[0] = requests
        process = subprocess.Popen(
            [sys.executable, "-m", "hinlap.cli.main", *arguments(tmp_path, chat_server.url)],
            cwd=broken, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        running.append(process)
        assert process.wait(60) == -signal.SIGKILL
        assert not (broken / "out.jsonl").exists()
    chat_server.answer = model
    monkeypatch.chdir(broken)
    ended = hinlap_here(*arguments(tmp_path, chat_server.url))
    assert ended.returncode == 0, ended.stderr
    assert (broken / "out.jsonl").read_bytes() == unbroken
    assert not journal_path(broken / "out.jsonl").exists()
    # asked again: at most what was under way (four at once) or waited to be written
    assert sum(count - 1 for count in seen.values()) <= 2 * 8


def test_a_round_cut_in_the_journal_is_done_again(
    write: Callable[..., SelfInstructReport], tmp_path: Path
) -> None:
    whole = write(OPTIONS)
    path = journal_path(tmp_path / "out.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[:-40])  # the kill came while the last line was written
    assert write(OPTIONS, scripted(lambda content: "never asked")).rows == whole.rows
    assert path.read_bytes() == content


def test_rounds_that_are_over_need_no_answers_any_more(
    write: Callable[..., SelfInstructReport], tmp_path: Path
) -> None:
    whole = write(OPTIONS)
    (tmp_path / "store.db").unlink()
    engine = scripted()
    assert write(OPTIONS, engine).rows == whole.rows
    assert engine.asked == []


def test_the_command_prints_yields_and_writes_a_manifest(
    tmp_path: Path, chat_server: Any, chat_answer: Any, hinlap_here: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    serve_model(chat_server, chat_answer)
    monkeypatch.chdir(tmp_path)
    more = ("--licence", "apache 2.0", "--json", "yields.json")
    ended = hinlap_here(*arguments(tmp_path, chat_server.url, *more))
    assert ended.returncode == 0, ended.stderr
    assert "40 rows of 40 wanted, written to out.jsonl" in ended.stdout
    assert "keyword (image, file, video ...)" in ended.stdout
    assert "4 seed tasks: every prompt shows the same" in ended.stderr
    rows = [row for row in read_rows(tmp_path / "out.jsonl") if isinstance(row, Row)]
    assert len(rows) == 40
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest is not None
    assert (manifest.rows, manifest.licence) == (40, "Apache-2.0")
    assert [parent.path for parent in manifest.parents] == ["seeds.jsonl"]
    assert manifest.command.startswith("hinlap data self-instruct")
    table = json.loads((tmp_path / "yields.json").read_text())
    assert table["rows"] == 40
    again = hinlap_here(*arguments(tmp_path, chat_server.url))
    assert again.returncode == 2
    assert "the file exists" in again.stderr
    asked = len(chat_server.seen)
    anew = hinlap_here(*arguments(tmp_path, chat_server.url, "--overwrite"))
    assert anew.returncode == 0
    assert len(chat_server.seen) == asked


def test_money_is_estimated_first_and_stops_it_cleanly(
    tmp_path: Path, chat_server: Any, chat_answer: Any, hinlap_here: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    serve_model(chat_server, chat_answer)
    monkeypatch.chdir(tmp_path)
    price = ("--usd-in", "1", "--usd-out", "2", "--max-tokens", "100", "--budget-usd")
    stopped = hinlap_here(*arguments(tmp_path, chat_server.url, *price, "0.002"))
    assert stopped.returncode == 2
    assert "the cap is 0.0020, so it may stop there" in stopped.stderr
    assert "--budget-usd: the next request could cost" in stopped.stderr
    assert "app.yaml" not in stopped.stderr
    asked = len(chat_server.seen)
    assert asked > 0
    ended = hinlap_here(*arguments(tmp_path, chat_server.url, *price, "5"))
    assert ended.returncode == 0, ended.stderr
    rows = [row for row in read_rows(tmp_path / "out.jsonl") if isinstance(row, Row)]
    assert len(rows) == 40


def test_another_command_does_not_go_on_with_a_begun_file(
    tmp_path: Path, chat_server: Any, chat_answer: Any, hinlap_here: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chat_server.answer = lambda body: chat_answer("I cannot.")
    monkeypatch.chdir(tmp_path)
    ended = hinlap_here(*arguments(tmp_path, chat_server.url))
    assert ended.returncode == 1
    assert "none of its answers held a task that could be read" in ended.stderr
    assert "nothing was written" in ended.stdout
    other = hinlap_here(*arguments(tmp_path, chat_server.url, "--seed", "1"))
    assert other.returncode == 2
    assert "begun for this file" in other.stderr
    assert "--overwrite" in other.stderr


def test_one_seed_works_and_none_says_what_is_needed(
    write: Callable[..., SelfInstructReport], tmp_path: Path
) -> None:
    assert len(write(OPTIONS, seeds=SEEDS[:1]).rows) == 12
    with pytest.raises(UserError, match="nothing to begin from"):
        run_job(SelfInstructJob(None, tmp_path / "o.jsonl", Writer("none"), OPTIONS), Silent())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--count", "0"], "--count: must be 1 or more"),
        (["--temperature", "0"], "--temperature"),
        (["--draws", "3", "--way", "whole"], "--draws"),
        (["--threshold", "2"], "--threshold"),
        (["--out", "out.txt"], ".jsonl"),
        (["--seeds", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--topics", "empty.txt"], "the file is empty"),
        (["--model", "no such model"], "no such model"),
        (["--model", "https://example.org/v1#m"], "--budget-usd"),
        (["--budget-usd", "1"], "--usd-in"),
    ],
)
def test_bad_input_is_named_and_nothing_written(
    tmp_path: Path, hinlap_here: Any, monkeypatch: pytest.MonkeyPatch, more: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    ended = hinlap_here(*arguments(tmp_path, "http://127.0.0.1:9/v1", *more))
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not list(tmp_path.glob("*out*"))


def test_a_server_that_is_down_keeps_what_was_had(
    tmp_path: Path, chat_server: Any, chat_answer: Any
) -> None:
    serve_model(chat_server, chat_answer)
    model, left = chat_server.answer, [9]

    def failing(body: dict[str, Any]) -> Any:
        left[0] -= 1
        return model(body) if left[0] >= 0 else (500, {}, {"error": {"message": "down"}})

    chat_server.answer = failing
    job = SelfInstructJob(
        seeds_file(tmp_path),
        tmp_path / "out.jsonl",
        Writer(f"{chat_server.url}#m", concurrency=1, max_retries=0),
        OPTIONS,
        store=tmp_path / "store.db",
    )
    report = run_job(job, Silent())
    assert isinstance(report.stopped, EngineError)
    chat_server.answer = model
    assert len(run_job(job, Silent()).rows) == 12


def test_prices_do_not_go_with_a_model_of_this_machine() -> None:
    with (
        pytest.raises(UserError, match="for a service"),
        open_writer(Writer("smollm2-135m-instruct", budget_usd=1.0), Silent()),
    ):
        pass


def test_thai_seeds_give_thai_rows(write: Callable[..., SelfInstructReport]) -> None:
    thai = [SeedTask("t", "บอกชื่อแม่น้ำสามสายในภาคเหนือ", (("", "ปิง วัง ยม"),), False)]

    def says(content: str) -> str:
        if content.endswith("คำตอบ:"):
            return "ไม่"
        if "ผลลัพธ์:" in content:
            return "ข้อมูล: ไม่มี\nผลลัพธ์: ช้างเป็นสัตว์ใหญ่"
        return (
            "2. บอกชื่อแม่น้ำสามสายในภาคใต้\n3. อธิบายว่าฝนตกได้อย่างไร\n"
            "4. วาดรูปช้างหนึ่งตัวให้ดู\n5. เขียนคำอวยพรวันเกิดให้เพื่อน"
        )

    options = SelfInstructOptions(count=2, language="th", requests=1)
    report = write(options, scripted(says), seeds=thai)
    assert [row.instruction for row in report.rows] == [
        "อธิบายว่าฝนตกได้อย่างไร",
        "เขียนคำอวยพรวันเกิดให้เพื่อน",
    ]
    assert {row.output for row in report.rows} == {"ช้างเป็นสัตว์ใหญ่"}
    assert {row.input for row in report.rows} == {""}
    assert report.yields["instructions", "ROUGE-L above 0.7 with the pool"] == 1
    assert report.yields["instructions", "keyword (image, file, video ...)"] == 1


def test_a_window_too_small_for_the_prompts_is_told(
    write: Callable[..., SelfInstructReport], tiny_model: Path
) -> None:
    engine = LocalEngine("tiny", tiny_model)
    report = write(OPTIONS, engine)
    assert isinstance(report.stopped, EngineError)
    assert "every request of a round failed" in str(report.stopped)
    assert "--max-tokens" in report.stopped.hint


def test_a_model_of_noise_ends_by_patience(
    write: Callable[..., SelfInstructReport], tiny_model: Path
) -> None:
    options = SelfInstructOptions(
        count=3, requests=1, human=1, machine=0, max_tokens=8, draws=2, patience=2
    )
    report = write(options, LocalEngine("tiny", tiny_model), seeds=SEEDS[:1])
    assert report.rows == ()
    assert "2 rounds in a row gave nothing" in str(report.stopped)


@pytest.mark.parametrize(("draws", "best_by"), [(3, "likelihood"), (2, "agreement"), (2, "auto")])
def test_draws_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, chat_server: Any, draws: int, best_by: Any
) -> None:
    options = SelfInstructOptions(draws=draws, best_by=best_by)
    writer = Writer(f"{chat_server.url}#m")
    job = SelfInstructJob(
        seeds_file(tmp_path), tmp_path / "out.jsonl", writer, options, store=tmp_path / "s.db"
    )
    with pytest.raises(UserError, match=r"--best-by|--draws"):
        run_job(job, Silent())
    assert not chat_server.seen


def test_the_language_is_the_seeds() -> None:
    thai = SeedTask("t", "บอกชื่อแม่น้ำสามสาย", (("", "ปิง วัง ยม"),))
    assert language_of([thai]) == "th"
    assert language_of([*SEEDS, thai]) == "en"
    assert language_of([]) == "en"


def test_an_existing_set_through_the_filters() -> None:
    rows = [
        Row("1", "Name a famous river in Asia.", "The Ping."),  # a seed's instruction
        Row("2", "Count the boats in town.", "Four."),
        Row("3", "Count the boats in town.", "Four."),
        Row("4", "Draw a boat in town.", "No."),
        Row("5", "Good or bad, this one?", "good", "So good.", group="g"),
        Row("6", "Good or bad, this one?", "bad", "So bad.", group="g"),
        Row("7", "Good or bad, this one?", "good", "So bad.", group="g"),
        Row("8", "Praise a tiger with care.", ""),
        Row("9", "", "An answer."),
    ]
    report = filter_rows(rows, SEEDS)
    assert [row.id for row in report.kept] == ["2", "5", "6"]
    assert report.yields == {
        "read": 9,
        "ROUGE-L above 0.7 with the pool": 2,
        "keyword (image, file, video ...)": 1,
        "one input with different outputs": 1,
        "no output": 1,
        "fewer than 4 or more than 150 words": 1,
        "kept": 3,
    }


def test_the_filter_command(tmp_path: Path, hinlap_here: Any) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(
        '{"instruction": "Count the boats in town.", "input": "", "output": "Four."}\n'
        '{"instruction": "Count the boats in'
    )
    ended = hinlap_here(
        "data", "self-instruct", "--only-filter", file, "--seeds", seeds_file(tmp_path),
        "--out", tmp_path / "kept.jsonl",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "1   50.0%  unreadable" in ended.stdout
    assert len(list(read_rows(tmp_path / "kept.jsonl"))) == 1
    assert read_manifest(tmp_path / "kept.jsonl").parents[0].path == "set.jsonl"  # type: ignore[union-attr]
    again = hinlap_here(
        "data", "self-instruct", "--only-filter", file, "--out", tmp_path / "kept.jsonl"
    )
    assert again.returncode == 2
    assert "the file exists" in again.stderr


def test_errors_are_those_a_user_can_mend() -> None:
    assert issubclass(BudgetError, UserError)
    assert issubclass(InputError, UserError)
