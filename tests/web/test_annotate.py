from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from hinlap.core.messages import Completion, Finish, Prompt
from hinlap.core.progress import Silent
from hinlap.core.rows import Origin, Row
from hinlap.data.manifest import Manifest, file_sha256, read_manifest, write_manifest
from hinlap.data.row_files import read_rows, write_rows
from hinlap.engines.scripted import ScriptedEngine
from hinlap.store.store import Store
from hinlap.web.annotate import annotation_app
from hinlap.web.annotate_words import _WORDS
from hinlap.web.guidelines import sections
from hinlap.workflows.annotate import Annotating, annotating
from hinlap.workflows.drafts import Drafter

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;'\""
ROWS = [
    Row("a", "Name a fruit.", "Mango.", labels={"category": "open_qa"}),
    Row("b", "Say yes in Thai.", "", "ใช่ไหม"),
    Row("c", HOSTILE, HOSTILE, labels={"category": HOSTILE}),
    Row("d", "And then?", "Rain.", system="Be brief.", history=(("What came?", "Wind."),)),
]
TOKEN = "right-token"
ORIGIN = "http://127.0.0.1:8000"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_rows(tmp_path / "set.jsonl", ROWS)
    return tmp_path / "set.jsonl"


@pytest.fixture
def work(path: Path) -> Iterator[Annotating]:
    with annotating(path, Silent()) as opened:
        yield opened


@pytest.fixture
def page(work: Annotating) -> TestClient:
    return client(work)


def client(work: Annotating, **headers: str) -> TestClient:
    app = annotation_app(work, TOKEN, annotator="mali")
    told = {"X-Hinlap-Token": TOKEN, "Origin": ORIGIN, **headers}
    return TestClient(app, base_url=ORIGIN, headers=told)


@contextmanager
def drafting(path: Path, engine: ScriptedEngine) -> Iterator[Annotating]:
    with annotating(path, Silent()) as opened:
        store = Store(path.parent / "store.db")
        drafter = Drafter(engine, store)
        try:
            yield Annotating(opened.desk, drafter)
        finally:
            drafter.close()
            store.close()


def ask(page: TestClient, path: str, expected: int = 200, /, **body: Any) -> dict[str, Any]:
    answer = page.post(f"/api/{path}", json=body)
    assert answer.status_code == expected, answer.text
    found: dict[str, Any] = answer.json()
    return found


def save(
    page: TestClient, key: str, output: str, version: int = 0, status: int = 200
) -> dict[str, Any]:
    fields = {"instruction": "Why?", "input": "", "output": output, "category": ""}
    body = {"key": key, "fields": fields, "version": version, "annotator": "mali", "seconds": 3.0}
    return ask(page, "save", status, **body)


# ---------------------------------------------------------------- who may


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=right-tokenx"])
def test_without_the_token_there_is_no_page(page: TestClient, query: str) -> None:
    answer = page.get(f"/{query}")
    assert answer.status_code == 403
    assert "mali" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Hinlap-Token": "wrong"}, 403),
        ({"X-Hinlap-Token": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": str(10**9)}, 413),
    ],
)
def test_nobody_else_writes(work: Annotating, headers: dict[str, str], status: int) -> None:
    fields = {"instruction": "Why?", "input": "", "output": "So.", "category": ""}
    body = json.dumps({"key": "a", "fields": fields, "version": 0, "annotator": "evil"})
    answer = client(work, **{"Content-Type": "application/json", **headers}).post(
        "/api/save", content=body
    )
    assert answer.status_code == status
    assert work.desk.entries == []


def test_the_token_in_an_address_opens_the_page_alone(page: TestClient) -> None:
    answer = page.post(f"/api/state?token={TOKEN}", json={}, headers={"X-Hinlap-Token": ""})
    assert answer.status_code == 403
    assert page.get(f"/?token={TOKEN}").status_code == 200


def test_a_tunnel_to_another_port_and_localhost_work(work: Annotating) -> None:
    through = client(work, Host="localhost:4444", Origin="http://localhost:4444")
    assert ask(through, "state")["counts"]["todo"] == 4


def test_the_page_loads_nothing_from_elsewhere_and_runs_its_own_script_only(
    page: TestClient,
) -> None:
    answer = page.get(f"/?token={TOKEN}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "http://" not in answer.text.replace("http-equiv", "")
    assert "https://" not in answer.text
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert answer.text.count("<script") == answer.text.count(f'nonce="{nonce}"') - 1  # the style
    assert page.get(f"/?token={TOKEN}").headers["content-security-policy"] != policy


def test_hostile_text_stays_text(page: TestClient) -> None:
    html = page.get(f"/?token={TOKEN}").text  # the category of row c is in it
    assert html.count("<script") == 2
    assert "onerror=alert(2)>" in html.replace("\\u003c", "<")
    assert "<img" not in html
    row = ask(page, "row", key="c")
    assert row["fields"]["instruction"] == HOSTILE


def test_guidelines_are_markdown_without_html() -> None:
    found = sections(
        "# All\n<script>alert(1)</script> *kind* [x](javascript:alert(1)) [ok](https://e.example)\n"
        "![pic](https://e.example/x.png)\n\n## `qa`\nShort.\n### More\ntext\n## Other\nlast"
    )
    assert [section.category for section in found] == ["", "qa", ""]
    html = found[0].html
    assert "<script" not in html
    assert "<em>kind</em>" in html
    assert 'href="javascript' not in html
    assert "<img" not in html
    assert '<a href="https://e.example" target="_blank" rel="noopener noreferrer">ok</a>' in html
    assert "<h3>More</h3>" in found[1].html


# ---------------------------------------------------------------- what it does


def test_a_save_is_in_the_log_before_it_is_said(page: TestClient, path: Path) -> None:
    done = save(page, "a", "So.")
    assert (done["saved"], done["action"], done["row"]["version"]) == (1, "corrected", 1)
    (line,) = Path(f"{path}.annotations.jsonl").read_text().splitlines()
    assert json.loads(line)["fields"]["output"] == "So."


def test_the_second_tab_is_told_and_then_has_its_way(page: TestClient) -> None:
    save(page, "a", "One.")
    told = save(page, "a", "Two.", status=409)
    assert told["conflict"]["fields"]["output"] == "One."
    assert told["conflict"]["by"] == "mali"
    changed = ask(page, "state", since=0)["changed"]
    assert changed == {"a": {"by": "mali", "number": 1}}
    save(page, "a", "Two.", version=told["conflict"]["number"])
    assert ask(page, "row", key="a")["fields"]["output"] == "Two."


def test_two_at_once_on_one_row_one_is_told(work: Annotating) -> None:
    codes: list[int] = []

    def write(output: str) -> None:
        fields = {"instruction": "Why?", "input": "", "output": output, "category": ""}
        body = {"key": "a", "fields": fields, "version": 0, "annotator": output}
        codes.append(client(work).post("/api/save", json=body).status_code)

    threads = [threading.Thread(target=write, args=(f"answer {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 409, 409, 409, 409, 409]
    assert len(work.desk.entries) == 1


def test_rows_are_shown_with_all_that_came_before(page: TestClient) -> None:
    row = ask(page, "row", key="d")
    assert (row["system"], row["history"]) == ("Be brief.", [["What came?", "Wind."]])
    assert ask(page, "step", start=1, by=1, status="todo", query="thai")["key"] == "b"
    assert ask(page, "list", query="ใช่", status="")["rows"][0]["key"] == "b"
    assert ask(page, "step", start=0, by=1, status="flagged") == {"key": ""}


def test_skip_flag_undo_report_and_finish(page: TestClient, path: Path) -> None:
    ask(page, "save", key="a", action="skip", version=0, annotator="mali")
    ask(page, "save", key="b", action="flag", reason="unclear", version=0, annotator="mali")
    ask(page, "save", 400, key="c", action="flag", reason=" ", version=0, annotator="mali")
    save(page, "new-00000000000a", "From nothing.")
    assert ask(page, "undo", annotator="mali")["action"] == "written"
    assert ask(page, "undo", annotator="mali")["row"]["key"] == "b"
    assert ask(page, "undo", 400, annotator="somchai")["error"] == "there is nothing to undo"
    save(page, "b", "ใช่", version=ask(page, "row", key="b")["version"])
    rows = ask(page, "report")["rows"]
    assert {k: n for k, n in rows.items() if n} == {"written": 1, "skipped": 1}
    assert ask(page, "finish", annotator="mali") == {"written": True}
    assert ask(page, "finish", annotator="mali") == {"written": False}
    by_id = {row.id: row for row in read_rows(path) if isinstance(row, Row)}
    assert (by_id["b"].output, by_id["b"].origin) == ("ใช่", Origin.HUMAN)
    assert by_id["c"] == ROWS[2]


def test_the_manifest_keeps_what_was_known_and_names_the_version_before(path: Path) -> None:
    before = file_sha256(path)
    write_manifest(path, Manifest(before, 4, licence="cc-by-sa-3.0", source="hf:x/y"))
    with annotating(path, Silent()) as work:
        save(client(work), "a", "So.")
        assert work.finish("mali")
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.sha256, manifest.rows) == (file_sha256(path), 4)
    assert (manifest.licence, manifest.source) == ("cc-by-sa-3.0", "hf:x/y")
    assert [(p.sha256, p.rows) for p in manifest.parents] == [(before, 4)]
    assert manifest.counts == {"corrected": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no json", b"[]", b"[" * 5000, b'{"key": 3}', b'{"key": "a"}', b'{"key": "nope"}',
        b'{"key": "a", "fields": {"instruction": 1}}',
        b'{"key": "a", "fields": {"output": "x", "instruction": "y"}, "version": "1"}',
        b'{"key": "a", "fields": {"output": "x", "instruction": "y"}, "seconds": 1e999}',
        b'{"key": "a", "fields": {"output": "x", "instruction": "y"}, "seconds": true}',
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_in_words(
    work: Annotating, page: TestClient, body: bytes
) -> None:
    answer = page.post("/api/save", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert work.desk.entries == []


# ---------------------------------------------------------------- languages


def test_both_languages_have_every_word_and_the_same_places(page: TestClient) -> None:
    for english, thai in _WORDS.values():
        assert english.strip()
        assert thai.strip()
        assert set(_places(english)) == set(_places(thai))


def _places(text: str) -> list[str]:
    return [part.partition("}")[0] for part in text.split("{")[1:]]


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ("", "th-TH,th;q=0.9,en;q=0.8", "th"),
        ("", "de,fr;q=0.5", "en"),
        ("", "de,th;q=0.5", "th"),
        ("&lang=th", "en", "th"),
        ("&lang=xx", "en", "en"),
    ],
)
def test_the_language_is_asked_for_or_the_browsers(
    page: TestClient, query: str, accept: str, expected: str
) -> None:
    html = page.get(f"/?token={TOKEN}{query}", headers={"Accept-Language": accept}).text
    assert f'<html lang="{expected}">' in html
    assert ("บันทึก" in html) == (expected == "th")


# ---------------------------------------------------------------- drafts


def drafted(page: TestClient, key: str, instruction: str) -> dict[str, Any]:
    fields = {"instruction": instruction, "input": "", "output": "", "category": ""}
    deadline = time.monotonic() + 10
    while (found := ask(page, "draft", key=key, fields=fields))["status"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def drafted_again(page: TestClient, key: str, instruction: str) -> dict[str, Any]:
    fields = {"instruction": instruction, "input": "", "output": "", "category": ""}
    assert ask(page, "draft", key=key, fields=fields, again=True)["status"] == "pending"
    return drafted(page, key, instruction)


def test_drafts_come_ahead_and_are_never_asked_for_twice(path: Path) -> None:
    engine = ScriptedEngine(lambda prompt: f"draft of {prompt.messages[-1].content}")
    with drafting(path, engine) as work:
        assert drafted(client(work), "a", "Name a fruit.")["text"] == "draft of Name a fruit."
        deadline = time.monotonic() + 10
        while len(engine.asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    asked = [prompt.messages[-1].content for prompt in engine.asked]
    assert asked == ["Name a fruit.", "Say yes in Thai.\n\nใช่ไหม"]  # the next row's, unasked
    with drafting(path, engine) as work:  # another process, the same store
        page = client(work)
        assert drafted(page, "a", "Name a fruit.")["text"] == "draft of Name a fruit."
        assert drafted(page, "b", "Say yes in Thai.")["status"] == "ready"  # another question
    assert len([a for a in engine.asked if a.messages[-1].content == "Name a fruit."]) == 1


def test_a_draft_goes_by_the_whole_conversation(path: Path) -> None:
    engine = ScriptedEngine(lambda prompt: " / ".join(m.content for m in prompt.messages))
    with drafting(path, engine) as work:
        found = drafted(client(work), "d", "And then?")
    assert found["text"] == "Be brief. / What came? / Wind. / And then?"


@pytest.mark.parametrize("how", ["says", "raises", "empty"])
def test_a_draft_that_fails_is_told_and_can_be_asked_again(path: Path, how: str) -> None:
    tries: list[Prompt] = []

    def answer(prompt: Prompt) -> str | Completion:
        tries.append(prompt)
        if len(tries) > 1:
            return "better"
        if how == "raises":
            raise RuntimeError("out of luck")
        if how == "empty":
            return "  "
        return Completion("", Finish.FAILED, 0, 0, 0.0, error="out of luck")

    write_rows(path, ROWS[:1])  # so that none is drafted ahead
    with drafting(path, ScriptedEngine(answer, name=how)) as work:
        page = client(work)
        found = drafted(page, "a", "Name a fruit.")
        assert found["status"] == "failed"
        assert "out of luck" in found["error"] or how == "empty"
        assert drafted(page, "a", "Name a fruit.")["status"] == "failed"  # not by itself
        save(page, "a", "So.")  # the work goes on
        if how != "empty":  # what the model said, though it was nothing, is in the store
            again = drafted_again(page, "a", "Name a fruit.")
            assert again["text"] == "better"


# ---------------------------------------------------------------- a real process


@contextmanager
def serving(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The command, its address, its token."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "hinlap.cli.main", "data", "annotate", str(path), *options],
        cwd=path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("open"), line + (process.stderr.read() if process.stderr else "")
        address, _, token = line.split()[1].partition("?token=")
        yield process, address, token
    finally:
        process.kill()
        process.communicate()


def post(address: str, token: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{address}api/{path}", json=body, headers={"X-Hinlap-Token": token})


def writes(key: str, output: str) -> dict[str, Any]:
    fields = {"instruction": "Why?", "input": "", "output": output, "category": ""}
    return {"key": key, "fields": fields, "version": 0, "annotator": "mali"}


def test_killed_while_writing_nothing_saved_is_lost(path: Path) -> None:
    told: list[str] = []

    def write_on(address: str, token: str) -> None:
        for number in range(10_000):
            key = f"new-{number:012x}"
            try:
                answer = post(address, token, "save", writes(key, f"answer {number}"))
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                told.append(key)

    with serving(path, "--annotator", "mali") as (process, address, token):
        thread = threading.Thread(target=write_on, args=(address, token))
        thread.start()
        while len(told) < 20 and thread.is_alive():
            time.sleep(0.01)
        assert len(told) >= 20
        os.kill(process.pid, signal.SIGKILL)
        thread.join()
    assert [row for row in read_rows(path) if isinstance(row, Row)] == ROWS  # not rewritten yet
    ended = subprocess.run(
        [sys.executable, "-m", "hinlap.cli.main", "data", "annotate", str(path), "--finish"],
        cwd=path.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"written: {path}" in ended.stdout
    after = {row.id for row in read_rows(path) if isinstance(row, Row)}
    assert set(told) <= after
    assert len(after - set(told)) <= len(ROWS) + 1  # one may have been saved and not told


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_a_signal_it_writes_the_set_and_reports(path: Path, sent: signal.Signals) -> None:
    with serving(path) as (process, address, token):
        assert address.startswith("http://127.0.0.1:")
        assert post(address, token, "save", writes("b", "ใช่")).status_code == 200
        assert httpx.get(address).status_code == 403
        process.send_signal(sent)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "1 written" in out
    assert "Traceback" not in err
    by_id = {row.id: row for row in read_rows(path) if isinstance(row, Row)}
    assert by_id["b"].output == "ใช่"


def test_a_port_that_is_taken_is_told(path: Path, hinlap: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = hinlap("data", "annotate", path, "--port", str(port))
    assert ended.returncode == 2
    assert f"port {port} cannot be used: it is taken by another program" in ended.stderr


# ---------------------------------------------------------------- a real browser


def test_a_person_at_the_keyboard(path: Path, browser: Any, chat_server: Any) -> None:
    url = f"{chat_server.url}#test-model"
    with serving(path, "--annotator", "มะลิ", "--model", url) as (process, address, token):
        browser.open(f"{address}?token={token}")
        browser.until("document.querySelector('#place').textContent === 'Row 1'")
        browser.until("document.querySelector('#draft').textContent === 'An answer.'")
        browser.key("ฟ", "KeyA")  # a, on a Thai keyboard: the draft as it is
        browser.until("document.querySelector('#place').textContent === 'Row 2'")
        assert "Saved · draft accepted" in browser.text("#said")
        browser.until("!document.querySelector('[data-do=use]').disabled")
        browser.key("e")  # edit the draft
        browser.write(" Or not.")
        browser.key("Enter", ctrl=True)
        browser.until("document.querySelector('#place').textContent === 'Row 3'")
        # hostile text is shown as it stands, and did nothing
        assert browser.value("#instruction").startswith("</script><script>alert(1)")
        browser.key("f", alt=True)
        browser.until("document.querySelector('#flag-dialog').open")
        browser.key("2", "Digit2")
        browser.until("document.querySelector('#place').textContent === 'Row 4'")
        browser.key("u")  # undo the flag
        browser.until("document.querySelector('#place').textContent === 'Row 3'")
        browser.key("n")
        browser.until("document.querySelector('#place').textContent === 'A new row'")
        browser.write("open_qa")
        browser.eval("document.querySelector('#instruction').focus()")
        browser.write("ถามอะไรดี")
        browser.eval("document.querySelector('#output').focus()")
        browser.write("โทร 081-234-5678")
        browser.until("document.querySelector('#checks').textContent.includes('081-234-5678')")
        browser.key("Enter", ctrl=True)
        browser.until("document.querySelector('#count').textContent.startsWith('3 of 5')")
        assert browser.value("#category") == "open_qa"  # stays for the next one
        # another saved the row that is open: told, and not overwritten
        browser.key("Escape")
        browser.key("j")
        browser.until("document.querySelector('#place').textContent === 'Row 3'")
        browser.eval("document.querySelector('#output').focus()")
        browser.write("mine")
        version = post(address, token, "row", {"key": "c"}).json()["version"]
        theirs = {**writes("c", "theirs"), "version": version, "annotator": "somchai"}
        assert post(address, token, "save", theirs).status_code == 200
        browser.key("Enter", ctrl=True)
        browser.until("document.querySelector('#banner').textContent.includes('somchai')")
        assert "theirs" in browser.text("#banner blockquote")
        browser.eval("document.querySelectorAll('#banner button')[1].click()")
        browser.until("document.querySelector('#banner').hidden")
        assert "mine" in post(address, token, "row", {"key": "c"}).json()["fields"]["output"]
        # on a phone, in Thai, nothing is wider than the screen
        browser.size(390, 844, dark=True)
        browser.open(f"{address}?token={token}&lang=th")
        browser.until("document.querySelector('#place').textContent.startsWith('แถว')")
        assert browser.eval("document.documentElement.scrollWidth") <= 390
        unexpected = [problem for problem in browser.problems if "409" not in problem]
        assert unexpected == []
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert "drafts accepted unchanged" in out
    rows = {row.instruction: row for row in read_rows(path) if isinstance(row, Row)}
    assert (rows["Name a fruit."].output, rows["Name a fruit."].origin) == (
        "An answer.",
        Origin.MACHINE,
    )
    assert rows["Say yes in Thai."].output == "An answer. Or not."
    assert rows["ถามอะไรดี"].labels == {"category": "open_qa"}
