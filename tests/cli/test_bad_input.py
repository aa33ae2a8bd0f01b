"""What a user can get wrong, and what can fail around the program: one clear message each."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
KEY = "sk-test-0123456789-never-to-be-seen"


def assert_told(ended: Any, code: int, *words: str, by: str = "hinlap") -> None:
    """One message on stderr that says what and what to do, the right exit code, no traceback.

    by: the program, or the route of a comparison that failed while the others went on.
    """
    assert "Traceback" not in ended.stderr + ended.stdout
    assert ended.returncode == code, ended.stderr
    [teller] = re.findall(r"^(\S+): .*\n  → ", ended.stderr, re.MULTILINE)
    assert teller == by
    assert ended.stderr.count("  → ") == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def written(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                yield file, file.read_bytes()


def assert_key_nowhere(ended: Any, folder: Path) -> None:
    assert KEY not in ended.stdout + ended.stderr
    assert [file for file, content in written(folder) if KEY.encode() in content] == []


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def add_row(file: Path, **row: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def stored(app: Path) -> int:
    """How many answers the store of the app holds."""
    connection = sqlite3.connect(app / ".hinlap" / "hinlap.db")
    (count,) = connection.execute("select count(*) from answers").fetchone()
    connection.close()
    return int(count)


def wrong_yaml(app: Path) -> None:
    edit(app / "app.yaml", "inputs: [text]", "inputs: [text")


def unknown_field(app: Path) -> None:
    edit(app / "app.yaml", "max_tokens: 20", "max_token: 20")


def missing_examples(app: Path) -> None:
    (app / "data" / "test.jsonl").unlink()


def example_in_both(app: Path) -> None:
    row = json.loads((app / "data" / "test.jsonl").read_text("utf-8").splitlines()[0])
    add_row(app / "data" / "train.jsonl", **(row | {"id": "copy"}))


def near_copy_in_both(app: Path) -> None:
    text = " ".join(f"word{index}" for index in range(60))
    add_row(app / "data" / "train.jsonl", id="one", text=text)
    add_row(app / "data" / "test.jsonl", id="two", text=text.replace("word30", "changed"))


def empty_article(app: Path) -> None:
    add_row(app / "data" / "test.jsonl", id="empty", text=" \n")


def not_utf8(app: Path) -> None:
    with (app / "data" / "test.jsonl").open("ab") as stream:
        stream.write('{"text": "ข่าว"}\n'.encode("cp874"))


def unknown_name_in_template(app: Path) -> None:
    edit(app / "app.yaml", "{{ text }}", "{{ article }}")


def sandbox_escape(app: Path) -> None:
    edit(app / "app.yaml", "{{ text }}", "{{ ''.__class__.__mro__ }}")


def hidden_sandbox_escape(app: Path) -> None:
    edit(app / "app.yaml", "{{ text }}", "{{ text|attr('__cla' ~ 'ss__') }}")


def no_such_metric(app: Path) -> None:
    edit(app / "app.yaml", "metric: is_riddle", "metric: is-riddle")


MISTAKES = [
    (wrong_yaml, "app.yaml:3: not valid YAML"),
    (unknown_field, "app.yaml:6: steps.0.max_token: unknown field"),
    (missing_examples, "examples.test: the examples file 'data/test.jsonl' is not there"),
    (example_in_both, "train.jsonl:5 and"),
    (near_copy_in_both, "a training example is a near copy of a test item"),
    (empty_article, "test.jsonl:7: the input 'text' is empty"),
    (not_utf8, "test.jsonl:7: not UTF-8 (byte 0xa2)"),
    (unknown_name_in_template, "steps.0.prompt: the template names 'article'"),
    (sandbox_escape, "app.yaml:5: steps.0.prompt: the template reaches for '__"),
    (no_such_metric, "metrics.1.metric: no metric 'is-riddle'"),
]


@pytest.mark.parametrize(
    ("spoil", "words"), MISTAKES, ids=[spoil.__name__ for spoil, _ in MISTAKES]
)
def test_a_mistake_in_the_app_is_told_before_anything_is_asked(
    hinlap_here: Run,
    small_app: Path,
    chat_server: Any,
    spoil: Callable[[Path], None],
    words: str,
) -> None:
    spoil(small_app)
    ended = hinlap_here("compare", small_app, TEST_KEY=KEY)
    assert_told(ended, 2, words)
    assert chat_server.seen == []
    assert not (small_app / ".hinlap").exists()


def test_a_real_process_ends_with_code_2_and_no_traceback(hinlap: Run, small_app: Path) -> None:
    sandbox_escape(small_app)
    assert_told(hinlap("compare", small_app), 2, "app.yaml:5: steps.0.prompt")


def test_an_escape_hidden_from_the_check_is_stopped_while_running(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    hidden_sandbox_escape(small_app)
    items = small_app / "data" / "test.jsonl"
    ended = hinlap_here("run", small_app, "--route", "remote", "--input", items, TEST_KEY=KEY)
    assert_told(ended, 2, "the prompt of step 'summary'", "unsafe")
    assert chat_server.seen == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.jsonl", b'{"txt": "a"}\n', "in.jsonl:1: the input 'text' is missing"),
        ("in.jsonl", b'{"text": ""}\n', "in.jsonl:1: the input 'text' is empty"),
        ("in.jsonl", b'{"text": "\xff"}\n', "in.jsonl:1: not UTF-8"),
        ("in.jsonl", b"", "in.jsonl: no items in it"),
        ("in.csv", b"text\n", "in.csv: no items in it"),
        ("in.txt", b"text\n", "unknown kind of file '.txt'"),
        ("in.jsonl", b"{'text': 1}\n", "in.jsonl:1: not JSON"),
    ],
)
def test_a_mistake_in_the_inputs_is_told(
    hinlap_here: Run,
    small_app: Path,
    chat_server: Any,
    name: str,
    content: bytes,
    words: str,
) -> None:
    (small_app / name).write_bytes(content)
    ended = hinlap_here(
        "run", small_app, "--route", "remote", "--input", small_app / name, TEST_KEY=KEY
    )
    assert_told(ended, 2, words)
    assert chat_server.seen == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "APP", "--route", "nosuch", "--input", "IN"], "no route 'nosuch'"),
        (["run", "APP", "--route", "remote", "--input", "nowhere.jsonl"], "nowhere.jsonl: cannot"),
        (["run", "APP", "--route", "remote", "--input", "IN", "--out", "no/o.jsonl"], "no such fo"),
        (["run", "nowhere", "--route", "remote", "--input", "IN"], "nowhere: no such file"),
        (["show", "APP", "--route", "remote", "--item", "99"], "no item '99'"),
        (["show", "APP", "--route", "remote", "--item", "0"], "no item '0'"),
        (["show", "APP", "--route", "remote", "--step", "nosuch"], "no step 'nosuch'"),
        (["compare", "APP", "--route", "nosuch"], "no route 'nosuch'"),
        (["compare", "APP", "--json", "no/o.json"], "there is no such folder"),
        (["compare", "APP", "--test", "TRAIN"], "the same example stands in train and test"),
        (["init", "APP"], "there is a file of that name already"),
        (["models", "pull", "no-such-model"], "no model 'no-such-model'"),
    ],
)
def test_a_mistake_in_the_command_is_told(
    hinlap_here: Run, small_app: Path, chat_server: Any, arguments: list[str], words: str
) -> None:
    items = str(small_app / "data" / "test.jsonl")
    names = {"APP": str(small_app), "IN": items, "TRAIN": str(small_app / "data" / "train.jsonl")}
    ended = hinlap_here(*(names.get(part, part) for part in arguments), TEST_KEY=KEY)
    assert_told(ended, 2, words)
    assert chat_server.seen == []


@pytest.mark.parametrize(
    ("examples", "hint"),
    [
        ("{train: data/train.jsonl}", "add examples.test to app.yaml, or give the id of a train"),
        ("{}", "add examples.test to app.yaml\n"),
    ],
)
def test_show_without_test_items_says_that_there_are_none(
    hinlap_here: Run, small_app: Path, examples: str, hint: str
) -> None:
    edit(small_app / "app.yaml", "{train: data/train.jsonl, test: data/test.jsonl}", examples)
    ended = hinlap_here("show", small_app, "--route", "remote")
    assert_told(ended, 2, "--item: no item '1': the app has no test items", hint)


@pytest.mark.parametrize(
    "arguments", [["compare"], ["nosuch"], ["compare", "x", "--colour"], ["run", "x"]]
)
def test_a_command_line_that_does_not_parse_ends_with_code_2(
    hinlap_here: Run, arguments: list[str]
) -> None:
    ended = hinlap_here(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Usage: hinlap")
    assert "Error: " in ended.stderr


def test_a_long_article_fails_alone_and_the_others_are_answered(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if len(str(body)) > 900_000:
            return 400, {}, {"error": {"message": f"maximum context length is 128000 ({KEY})"}}
        return chat_answer("A short one 🎈 สั้น")

    chat_server.answer = answer
    edit(small_app / "app.yaml", "max_retries: 2", "max_retries: 2\n    budget_usd: 50")
    file = small_app / "in.jsonl"
    add_row(file, id="long", text="word " * 210_000)
    add_row(file, id="thai", text="ช้าง 🐘 เดินข้ามถนน")
    ended = hinlap_here("run", small_app, "--route", "remote", "--input", file, TEST_KEY=KEY)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert rows[1]["riddle"] == "A short one 🎈 สั้น"
    assert "not ok: 1 of 2 items; the first, long: failed: HTTP 400: maximum" in ended.stderr
    assert ended.returncode == 0
    assert_key_nowhere(ended, small_app)


def test_a_request_that_could_cross_the_cap_is_not_sent(
    hinlap_here: Run, small_app: Path, chat_server: Any
) -> None:
    edit(small_app / "app.yaml", "max_retries: 2", "max_retries: 2\n    budget_usd: 0.00004")
    ended = hinlap_here("compare", small_app, "--route", "remote", TEST_KEY=KEY)
    assert_told(
        ended,
        2,
        "budget_usd",
        "raise budget_usd in app.yaml",
        "answers paid for are kept",
        by="remote",
    )
    assert len(chat_server.seen) < 12


def test_no_key_is_told_by_the_name_of_its_variable(hinlap_here: Run, small_app: Path) -> None:
    ended = hinlap_here("compare", small_app, "--route", "remote")
    assert_told(
        ended, 2, "TEST_KEY with the service's key is not set", "export TEST_KEY=", by="remote"
    )


def test_each_route_that_fails_is_told_once_and_by_its_name(
    hinlap_here: Run, small_app: Path
) -> None:
    ended = hinlap_here("compare", small_app)
    tellers = re.findall(r"^(\S+): .* is not set$", ended.stderr, re.MULTILINE)
    assert tellers == ["remote", "remote-shots"]
    assert ended.returncode == 2


@pytest.mark.parametrize("key", ["sk-…", "sk-a b", "sk-a\nb", "“sk-a”"])
def test_a_key_that_cannot_be_one_is_told_without_showing_it(
    hinlap_here: Run, small_app: Path, chat_server: Any, key: str
) -> None:
    ended = hinlap_here("compare", small_app, "--route", "remote", TEST_KEY=key)
    assert_told(ended, 2, "the key in TEST_KEY holds a character that no key has", by="remote")
    assert key not in ended.stderr
    assert chat_server.seen == []


def test_a_wrong_key_is_told_and_stays_secret_although_the_service_repeats_it(
    hinlap: Run, small_app: Path, chat_server: Any
) -> None:
    message = f"Incorrect API key provided: {KEY}. " + "x" * 230 + KEY
    chat_server.answer = lambda body: (401, {}, {"error": {"message": message}})
    ended = hinlap(
        "compare", small_app, "--route", "remote", "--json", small_app / "c.json", TEST_KEY=KEY
    )
    assert_told(
        ended, 2, "the service refuses the key in TEST_KEY (HTTP 401", "check that key", by="remote"
    )
    assert_key_nowhere(ended, small_app)
    found = (small_app / "c.json").read_text("utf-8")
    assert "never-to" not in found
    assert json.loads(found)["routes"][0]["status"] == "unavailable"
    assert chat_server.keys[0] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "the service refuses the key in TEST_KEY"), (402, "the account has no credit left")],
)
def test_a_refusal_halfway_keeps_the_answers_and_counts_the_rest_as_failed(
    hinlap_here: Run,
    small_app: Path,
    chat_server: Any,
    chat_answer: Any,
    status: int,
    words: str,
) -> None:
    good = iter(range(8))

    def answer(body: dict[str, Any]) -> Any:
        if (number := next(good, None)) is not None:
            return chat_answer(f"I am number {number}. What am I?")
        return status, {}, {"error": {"message": "no more"}}

    chat_server.answer = answer
    edit(small_app / "app.yaml", "max_retries: 2", "max_retries: 2\n    concurrency: 1")
    file = small_app / "c.json"
    ended = hinlap_here("compare", small_app, "--route", "remote", "--json", file, TEST_KEY=KEY)
    assert_told(ended, 2, words, by="remote")
    [route] = json.loads(file.read_text("utf-8"))["routes"]
    assert route["status"] == "partial"
    assert (route["counts"]["ok"], route["counts"]["failed"]) == (2, 4)
    assert route["quality"]["summary.rougeL"]["n"] == 6
    assert route["quality"]["riddle.is_riddle"]["n"] == 2
    errors = {item["steps"][-1]["error"] for item in route["items"][2:]}
    assert errors == {f"not answered: {words} (HTTP {status}: no more)"}
    assert stored(small_app) == 8


def test_a_429_is_waited_out(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    replies = iter([(429, {"Retry-After": "0"}, {"error": {"message": "slow down"}})] * 2)
    chat_server.answer = lambda body: next(replies, None) or chat_answer(str(body["messages"]))
    ended = hinlap_here("compare", small_app, "--route", "remote", TEST_KEY=KEY)
    assert ended.returncode == 0, ended.stderr
    assert len(chat_server.seen) == 14


def test_a_request_that_timed_out_is_noted_with_what_it_may_cost(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    release = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        if len(chat_server.seen) == 1:
            release.wait(10)
        return chat_answer("A short one.")

    chat_server.answer = answer
    edit(small_app / "app.yaml", "timeout_seconds: 5", "timeout_seconds: 0.5\n    concurrency: 1")
    edit(small_app / "app.yaml", "max_retries: 2", "max_retries: 0")
    file = small_app / "c.json"
    ended = hinlap_here("compare", small_app, "--route", "remote", "--json", file, TEST_KEY=KEY)
    release.set()
    assert ended.returncode == 0, ended.stderr
    [route] = json.loads(file.read_text("utf-8"))["routes"]
    assert route["counts"]["failed"] == 1
    assert route["notes"][-1].startswith("1 request got no answer")
    # one answer to the second step: its prompts are equal, and asked once
    answered = (5 + 1) * (10 * 1.0 + 5 * 2.0) / 1e6
    assert route["spent_usd"] > answered + 20 * 2.0 / 1e6


@pytest.mark.parametrize("status", [429, 500])
def test_a_service_that_is_down_is_told_and_what_it_answered_is_kept(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any, status: int
) -> None:
    good = iter(range(5))

    def answer(body: dict[str, Any]) -> Any:
        if next(good, None) is not None:
            return chat_answer(f"Answer to {len(str(body))}")
        return status, {"Retry-After": "0"}, {"error": {"message": f"down, {KEY}"}}

    chat_server.answer = answer
    edit(small_app / "app.yaml", "max_retries: 2", "max_retries: 2\n    concurrency: 1")
    ended = hinlap_here("compare", small_app, "--route", "remote", TEST_KEY=KEY)
    assert_told(
        ended, 1, f"HTTP {status}: down, •••", "run the same command again later", by="remote"
    )
    assert_key_nowhere(ended, small_app)
    assert stored(small_app) == 5
    assert (small_app / "report.html").is_file()


@pytest.mark.parametrize(
    "reply",
    [
        (200, {}, b"<html>not an API</html>"),
        (200, {}, {"choices": []}),
        (200, {}, {"choices": [{"message": {"role": "assistant", "content": None}}]}),
    ],
    ids=["a page", "no choices", "no text"],
)
def test_an_answer_that_is_none_is_counted_and_told(
    hinlap_here: Run, small_app: Path, chat_server: Any, reply: Any
) -> None:
    chat_server.answer = lambda body: reply
    file = small_app / "data" / "test.jsonl"
    ended = hinlap_here("run", small_app, "--route", "remote", "--input", file, TEST_KEY=KEY)
    assert "Traceback" not in ended.stderr
    statuses = {json.loads(line)["status"] for line in ended.stdout.splitlines()}
    assert statuses <= {"failed", "unreadable"}
    assert re.search(r"not ok: 6 of 6 items|requests in a row failed", ended.stderr)


def test_letters_that_cannot_be_stored_do_no_harm(
    hinlap_here: Run, small_app: Path, chat_server: Any, chat_answer: Any
) -> None:
    chat_server.answer = lambda body: chat_answer("half of an emoji \ud83d.")
    file = small_app / "data" / "test.jsonl"
    ended = hinlap_here("run", small_app, "--route", "remote", "--input", file, TEST_KEY=KEY)
    assert ended.returncode == 0, ended.stderr
    assert '"half of an emoji' in ended.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte; the test is skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_the_next_run_goes_on(
    hinlap: Run,
    hinlap_here: Run,
    small_app: Path,
    small_disk: Path,
    chat_server: Any,
    chat_answer: Any,
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        mark = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return chat_answer(mark + " word" * 8000)

    chat_server.answer = answer
    app = small_app.rename(small_app.with_name("elsewhere"))
    subprocess.run(["cp", "-r", app, small_disk / "app"], check=True)
    app = small_disk / "app"
    ended = hinlap("compare", app, TEST_KEY=KEY)
    assert_told(ended, 1, "hinlap.db: the store cannot be used", "the disk is full: free some")
    kept, asked = stored(app), len(chat_server.seen)
    assert 0 < kept <= asked < 24
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ended = hinlap_here("compare", app, TEST_KEY=KEY)
    assert ended.returncode == 0, ended.stderr
    assert len(chat_server.seen) - asked == 24 - kept


def test_a_full_disk_under_the_answers_is_told_and_they_are_kept(
    hinlap_here: Run, small_app: Path
) -> None:
    file = small_app / "data" / "test.jsonl"
    ended = hinlap_here(
        "run", small_app, "--route", "remote", "--input", file, "--out", "/dev/full", TEST_KEY=KEY
    )
    assert_told(ended, 1, "No space left on device", "the free space")
    assert stored(small_app) > 0
