from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hinlap.app.declaration import json_schema
from hinlap.cli.main import COMMANDS
from hinlap.core.version import __version__
from hinlap.workflows.load import load

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
KEY = "sk-test"

NUMBER = {"type": "number"}
MAYBE = {"type": ["number", "null"]}
COUNTS = ("ok", "unreadable", "refused", "truncated", "failed")


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


COMPARISON = fields(
    routes=listed(
        fields(
            name={"type": "string"},
            status={"enum": ["measured", "partial", "unavailable"]},
            model={"type": "string"},
            quality={
                "type": "object",
                "additionalProperties": fields(value=MAYBE, low=MAYBE, high=MAYBE),
            },
            latency_seconds=fields(p50=MAYBE, p95=MAYBE),
            cost_per_1000_usd=MAYBE,
            data_leaves_machine={"type": ["boolean", "null"]},
            tokens=fields(input=NUMBER, output=NUMBER),
            counts={
                **fields(**{key: {"type": "integer"} for key in COUNTS}),
                "additionalProperties": False,
            },
        )
    ),
    pairs=listed(
        fields(
            a={"type": "string"},
            b={"type": "string"},
            metric={"type": "string"},
            difference=MAYBE,
            low=MAYBE,
            high=MAYBE,
            verdict={"enum": ["better", "worse", "not decisive"]},
        )
    ),
    decision=fields(
        route={"type": ["string", "null"]},
        reasons={"type": "array", "items": {"type": "string"}},
    ),
)


def repeatable(body: dict[str, Any]) -> str:
    """An answer that depends on the request alone, a riddle for half of them."""
    mark = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
    text = body["messages"][-1]["content"].partition(": ")[2]
    riddle = "I am the thing in this news, and all talk of me today. What am I?"
    return f"{mark[:6]} {riddle if mark[0] in '01234567' else text}"


def rows_of(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def compared(hinlap_here: Run, app: Path, *more: str) -> dict[str, Any]:
    file = app / "comparison.json"
    ended = hinlap_here("compare", app, "--json", file, *more, TEST_KEY=KEY)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def test_help_names_every_command(hinlap: Run) -> None:
    ended = hinlap("--help")
    assert ended.returncode == 0
    for name, does in COMMANDS.items():
        assert f"  {name} " in ended.stdout
        assert does in " ".join(ended.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(hinlap_here: Run, name: str) -> None:
    ended = hinlap_here(name, "-h")
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"Usage: hinlap {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_appears_in_the_papers(name: str) -> None:
    papers = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"hinlap {name}" in paper.read_text("utf-8") for paper in papers)


def test_the_version_is_told(hinlap_here: Run) -> None:
    assert hinlap_here("--version").stdout.strip() == f"hinlap, version {__version__}"


def test_schema_prints_the_schema_of_the_declaration(hinlap_here: Run) -> None:
    assert json.loads(hinlap_here("schema").stdout) == json_schema()


def test_models_lists_the_names_and_what_they_need(hinlap_here: Run) -> None:
    ended = hinlap_here("models")
    assert ended.returncode == 0
    assert "smollm2-135m-instruct (embedded)" in ended.stdout
    assert "pythia-12b" in ended.stdout


@pytest.mark.parametrize("language", ["en", "th"])
def test_init_writes_an_app_that_loads(hinlap_here: Run, tmp_path: Path, language: str) -> None:
    ended = hinlap_here("init", tmp_path / "new" / "app", "--language", language)
    assert ended.returncode == 0, ended.stderr
    assert f"next: hinlap compare {tmp_path / 'new' / 'app'}" in ended.stdout
    app = load(tmp_path / "new" / "app")
    assert {spec.kind for spec in app.spec.routes.values()} == {
        "zero-shot",
        "few-shot",
        "service",
        "fine-tuned",
    }
    assert app.train
    assert app.test


def test_init_writes_the_schema_that_its_first_line_names(hinlap_here: Run, tmp_path: Path) -> None:
    hinlap_here("init", tmp_path)
    first = (tmp_path / "app.yaml").read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=app.schema.json"
    assert json.loads((tmp_path / "app.schema.json").read_text("utf-8")) == json_schema()


def test_init_touches_nothing_that_is_there(hinlap_here: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("mine")
    ended = hinlap_here("init", tmp_path)
    assert ended.returncode == 2
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["test.jsonl"]
    assert (tmp_path / "data" / "test.jsonl").read_text() == "mine"


def test_run_answers_each_input_in_order(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    chat_server.answer = lambda body: chat_answer("ตอบ: " + body["messages"][-1]["content"])
    file = small_app / "in.csv"
    file.write_text("id,text\na,ข่าว 🐘\nb,News\n", "utf-8")
    ended = hinlap_here("run", small_app, "--route", "remote", "--input", file, TEST_KEY=KEY)
    rows = rows_of(ended.stdout)
    assert [row["id"] for row in rows] == ["a", "b"]
    assert rows[0] == {
        "id": "a",
        "status": "ok",
        "summary": "ตอบ: Summarise: ข่าว 🐘",
        "riddle": "ตอบ: Riddle about: ตอบ: Summarise: ข่าว 🐘",
    }


def test_run_takes_the_file_of_the_app_as_well_as_its_folder(
    hinlap_here: Run, small_app: Path
) -> None:
    given = ("--route", "remote", "--input", small_app / "data" / "test.jsonl")
    by_folder = hinlap_here("run", small_app, *given, TEST_KEY=KEY)
    by_file = hinlap_here("run", small_app / "app.yaml", *given, TEST_KEY=KEY)
    assert by_folder.stdout == by_file.stdout
    assert len(rows_of(by_file.stdout)) == 6


def test_run_asks_nothing_twice(hinlap_here: Run, small_app: Path, chat_server: Any) -> None:
    given = ("--route", "remote", "--input", small_app / "data" / "test.jsonl")
    hinlap_here("run", small_app, *given, TEST_KEY=KEY)
    asked = len(chat_server.seen)
    hinlap_here("run", small_app, *given, "--out", small_app / "out.jsonl", TEST_KEY=KEY)
    assert len(chat_server.seen) == asked
    assert len(rows_of((small_app / "out.jsonl").read_text("utf-8"))) == 6


def test_run_ends_with_code_1_when_the_service_gives_out_but_writes_what_it_has(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    good = iter(range(7))

    def answer(body: dict[str, Any]) -> Any:
        if next(good, None) is not None:
            return chat_answer(repeatable(body))
        return 503, {"Retry-After": "0"}, {"error": {"message": "down"}}

    chat_server.answer = answer
    given = ("--route", "remote", "--input", small_app / "data" / "test.jsonl")
    ended = hinlap_here("run", small_app, *given, TEST_KEY=KEY)
    assert ended.returncode == 1
    assert "requests in a row failed: HTTP 503" in ended.stderr
    assert [row["status"] for row in rows_of(ended.stdout)].count("ok") == 1


def test_show_prints_the_exact_prompt_and_its_token_count(
    hinlap_here: Run, small_app: Path, tiny_model: Path
) -> None:
    from transformers import AutoTokenizer

    file = small_app / "app.yaml"
    text = file.read_text("utf-8")
    route = f"routes:\n  open: {{kind: few-shot, k: 1, model: {tiny_model}}}\n"
    file.write_text(text.replace("routes:\n", route), "utf-8")
    ended = hinlap_here("show", small_app, "--route", "open", "--item", "3", "--step", "summary")
    assert ended.returncode == 0, ended.stderr
    app = load(small_app)
    messages = [
        {"role": "user", "content": f"Summarise: {app.train[0].inputs['text']}"},
        {"role": "assistant", "content": app.train[0].wanted["summary"].strip()},
        {"role": "user", "content": f"Summarise: {app.test[2].inputs['text']}"},
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    exact = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    count = len(tokenizer(exact, add_special_tokens=False)["input_ids"])
    head, _, shown = ended.stdout.partition("\n")
    assert head.startswith("--- summary · row-6 · ")
    assert head.endswith(f" · {count} tokens, up to 20 for the answer")
    assert shown == exact + "\n"


def test_show_prints_the_body_that_a_service_gets_without_key_or_request(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    ended = hinlap_here("show", small_app, "--route", "remote", "--item", "row-5")
    assert ended.returncode == 0, ended.stderr
    parts = ended.stdout.split("--- ")[1:]
    bodies = [json.loads(part.partition("\n")[2]) for part in parts]
    assert [body["model"] for body in bodies] == ["test-model"] * 2
    assert "about" in parts[0].splitlines()[0]
    test = load(small_app).test[1]
    assert bodies[0]["messages"][-1]["content"] == f"Summarise: {test.inputs['text']}"
    assert bodies[1]["messages"][-1]["content"] == f"Riddle about: {test.wanted['summary']}".strip()
    assert chat_server.seen == []


def test_compare_writes_json_of_the_promised_shape(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    chat_server.answer = lambda body: chat_answer(repeatable(body))
    found = compared(hinlap_here, small_app)
    jsonschema.validate(found, COMPARISON)
    assert [route["name"] for route in found["routes"]] == ["remote", "remote-shots"]
    for route in found["routes"]:
        assert sum(route["counts"].values()) == found["items"] == 6
        assert set(route["quality"]) == {"summary.rougeL", "riddle.is_riddle"}
        assert route["tokens"] == {"input": 120, "output": 60}
        assert route["cost_per_1000_usd"] == pytest.approx(1000 * (20 * 1 + 10 * 2) / 1e6)
    assert found["decision"]["route"] in {"remote", "remote-shots"}
    assert "nan" not in (small_app / "comparison.json").read_text("utf-8").lower()


def test_compare_writes_the_same_shape_for_routes_that_are_unavailable(
    hinlap_here: Run, small_app: Path
) -> None:
    file = small_app / "comparison.json"
    ended = hinlap_here("compare", small_app, "--json", file)
    assert ended.returncode == 2
    found = json.loads(file.read_text("utf-8"))
    jsonschema.validate(found["routes"], COMPARISON["properties"]["routes"])
    assert {route["status"] for route in found["routes"]} == {"unavailable"}
    assert found["decision"]["route"] is None


def test_compare_takes_fewer_items_and_routes(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    found = compared(hinlap_here, small_app, "--limit", "2", "--route", "remote-shots")
    assert [route["name"] for route in found["routes"]] == ["remote-shots"]
    assert found["items"] == 2
    assert {len(body["messages"]) for body in chat_server.seen} == {5}


def test_one_item_is_said_in_the_singular(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    chat_server.answer = lambda body: (400, {}, {"error": {"message": "no"}})
    file = small_app / "one.jsonl"
    file.write_text('{"text": "News"}\n', "utf-8")
    given = ("--route", "remote")
    ran = hinlap_here("run", small_app, *given, "--input", file, TEST_KEY=KEY)
    compared = hinlap_here("compare", small_app, *given, "--limit", "1", TEST_KEY=KEY)
    assert "remote: 1 item to test-model" in ran.stderr
    assert "not ok: 1 of 1 item; " in ran.stderr
    assert compared.stdout.splitlines()[0].rstrip() == "small · 1 item"
    said = ran.stderr + compared.stderr + compared.stdout
    assert "1 items" not in said + (small_app / "report.html").read_text("utf-8")


def test_compare_measures_on_other_items(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    other = small_app / "other.jsonl"
    other.write_text('{"id": "ใหม่", "text": "ข่าวใหม่ 🎈", "summary": "ใหม่"}\n', "utf-8")
    found = compared(hinlap_here, small_app, "--test", str(other), "--route", "remote")
    assert [item["id"] for item in found["routes"][0]["items"]] == ["ใหม่"]


def test_a_cached_answer_has_the_latency_of_its_making(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    def slow(body: dict[str, Any]) -> Any:
        time.sleep(0.03)
        return chat_answer(repeatable(body))

    chat_server.answer = slow
    first = compared(hinlap_here, small_app)
    asked = len(chat_server.seen)
    second = compared(hinlap_here, small_app)
    assert len(chat_server.seen) == asked
    for before, after in zip(first["routes"], second["routes"], strict=True):
        assert after["latency_seconds"] == before["latency_seconds"]
        assert after["latency_seconds"]["p50"] >= 2 * 0.03


def steady(comparison: dict[str, Any]) -> dict[str, Any]:
    """What of a comparison does not depend on the clock or on how often it was run."""
    changing = {"latency_seconds", "output_tokens_per_second", "spent_usd"}
    routes = [
        {name: value for name, value in route.items() if name not in changing}
        for route in comparison["routes"]
    ]
    return {
        **{name: comparison[name] for name in ("app_digest", "items", "pairs", "decision")},
        "routes": routes,
    }


def test_a_killed_comparison_goes_on_and_ends_as_an_unbroken_one(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    unbroken = Path(shutil.copytree(small_app, small_app.with_name("unbroken")))
    answered: list[dict[str, Any]] = []
    lock, held = threading.Lock(), threading.Event()

    def seven_answers(body: dict[str, Any]) -> Any:
        with lock:
            if len(answered) < 7:
                answered.append(body)
                return chat_answer(repeatable(body))
        held.wait(60)
        return 500, {}, {}

    chat_server.answer = seven_answers
    command = [sys.executable, "-m", "hinlap.cli.main", "compare", str(small_app)]
    with subprocess.Popen(
        command,
        env={**os.environ, "TEST_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 50
        while stored(small_app) < 7:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    held.set()

    asked = len(chat_server.seen)
    chat_server.answer = lambda body: chat_answer(repeatable(body))
    resumed = compared(hinlap_here, small_app)
    again = chat_server.seen[asked:]
    assert not any(body in answered for body in again)
    assert len(again) == 24 - 7
    assert steady(resumed) == steady(compared(hinlap_here, unbroken))


def stored(app: Path) -> int:
    """How many answers the store of the app holds; none while it is being made."""
    file = app / ".hinlap" / "hinlap.db"
    if not file.is_file():
        return 0
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("select count(*) from answers").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
    return int(count)


def test_answers_sent_to_a_full_disk_are_told_and_kept(small_app: Path, chat_server: Any) -> None:
    items = small_app / "data" / "test.jsonl"
    given = ["run", str(small_app), "--route", "remote", "--input", str(items)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "hinlap.cli.main", *given],
            env={**os.environ, "TEST_KEY": KEY},
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert ended.returncode == 1
    assert "Exception ignored" not in ended.stderr
    assert stored(small_app) == len(chat_server.seen)
    assert "No space left on device" in ended.stderr
