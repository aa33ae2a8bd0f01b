"""``hinlap data import`` and ``convert``: bad rows, kills, full disks, and sets of a hub."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import reply

from hinlap.core.rows import Row
from hinlap.data.manifest import read_manifest, verified
from hinlap.data.row_files import read_rows, write_rows

Run = Callable[..., Any]
DATA = Path(__file__).parents[2].parent / "shared/data"


def records(path: Path, count: int, size: int = 20) -> list[dict[str, str]]:
    rows = [
        {"instruction": f"Question {n}?", "input": "", "output": f"Answer {n} {'x' * size}"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return rows


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_good_rows_go_on_and_bad_ones_are_kept_aside(hinlap_here: Run, tmp_path: Path) -> None:
    source = tmp_path / "raw.jsonl"
    records(source, 3)
    source.write_text(source.read_text("utf-8") + '{"instruction": "a"}\nno json\n', "utf-8")
    done = hinlap_here("data", "import", source, "--out", tmp_path / "a.jsonl", "--licence", "mit")
    assert done.returncode == 0
    assert "3 rows in" in done.stdout
    assert f"{source}:4: no 'output'" in done.stdout
    bad_lines = (tmp_path / "a.jsonl.bad.jsonl").read_text("utf-8").splitlines()
    bad = [json.loads(line) for line in bad_lines]
    assert bad[0] == {
        "where": f"{source}:4", "reason": "no 'output'", "record": {"instruction": "a"},
    }  # fmt: skip
    assert bad[1]["where"] == f"{source}:5"
    manifest = verified(tmp_path / "a.jsonl")
    assert manifest is not None
    assert (manifest.rows, manifest.licence, manifest.counts["bad_rows"]) == (3, "MIT", 2)
    assert manifest.parents[0].sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_strict_stops_and_leaves_nothing(hinlap_here: Run, tmp_path: Path) -> None:
    source = tmp_path / "raw.jsonl"
    records(source, 3)
    source.write_text(source.read_text("utf-8") + "no json\n", "utf-8")
    done = hinlap_here("data", "import", source, "--out", tmp_path / "a.jsonl", "--strict")
    assert done.returncode == 2
    assert f"{source}:4: not JSON" in done.stderr
    assert names_in(tmp_path) == {"raw.jsonl"}


def test_a_file_in_the_way_is_left(hinlap_here: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "raw.jsonl", tmp_path / "a.jsonl"
    records(source, 3)
    out.write_text("mine")
    done = hinlap_here("data", "import", source, "--out", out)
    assert (done.returncode, out.read_text()) == (2, "mine")
    assert names_in(tmp_path) == {"raw.jsonl", "a.jsonl"}
    done = hinlap_here("data", "import", source, "--out", source, "--overwrite")
    assert (done.returncode, "one of the sources" in done.stderr) == (2, True)
    assert hinlap_here("data", "import", source, "--out", out, "--overwrite").returncode == 0


def test_several_files_a_pattern_and_copies(hinlap_here: Run, tmp_path: Path) -> None:
    records(tmp_path / "raw-1.jsonl", 3)
    records(tmp_path / "raw-2.jsonl", 4)
    out = tmp_path / "a.parquet"
    done = hinlap_here("data", "import", tmp_path / "raw-*.jsonl", "--out", out)
    assert "3 ids came twice and got a number behind" in done.stdout
    rows = [row for row in read_rows(out) if isinstance(row, Row)]
    assert len({row.id for row in rows}) == len(rows) == 7


def test_a_group_comes_from_a_column(hinlap_here: Run, tmp_path: Path) -> None:
    source = tmp_path / "raw.csv"
    source.write_text("instruction,output,article\na,b,7\nc,d,8\n", "utf-8")
    out = tmp_path / "a.jsonl"
    hinlap_here("data", "import", source, "--out", out, "--group", "article")
    assert [row.group for row in read_rows(out) if isinstance(row, Row)] == ["7", "8"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "--out", "a.jsonl"], "there is no such file"),
        (["no-*.jsonl", "--out", "a.jsonl"], "no file goes by this pattern"),
        (["raw.jsonl", "--out", "a.txt"], "rows are written to files that end in"),
        (["raw.jsonl", "--out", "a.jsonl", "--format", "x"], "no format 'x'"),
        (["raw.jsonl", "--out", "a.jsonl", "--map", "x"], "is not one name for another"),
        (["raw.jsonl", "--out", "a.jsonl", "--map", "output=none"], "there is no column 'none'"),
        (["raw.jsonl", "--out", "a.jsonl", "--group", "none"], "not one row could be read"),
        (["hf:a b", "--out", "a.jsonl"], "no address of a data set"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_left(
    hinlap_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    records(tmp_path / "raw.jsonl", 3)
    done = hinlap_here("data", "import", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert names_in(tmp_path) == {"raw.jsonl"}


def killed_until_done(command: list[str], out: Path, part: Path) -> int:
    """Kills the command whenever its partial file has grown, until it ends; how often."""
    kills = size = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            grown = part.stat().st_size if part.exists() else 0
            if kills < 3 and grown > size + 9_000_000:
                os.kill(process.pid, signal.SIGKILL)
                size, kills = grown, kills + 1
                break
            time.sleep(0.002)
        if process.wait() == 0:
            return kills


@pytest.mark.parametrize("ending", ["jsonl", "json.gz", "csv"])
def test_killed_it_goes_on_without_loss_or_repetition(tmp_path: Path, ending: str) -> None:
    source, out = tmp_path / f"raw.{ending}", tmp_path / "a.jsonl"
    rows = records(tmp_path / "plain.jsonl", 60_000, 600)
    rows[7]["output"] = rows[50_000]["output"] = ""
    bad = {"instruction": "bad"}
    if ending == "jsonl":
        lines = [json.dumps(row) + "\n" for row in rows]
        lines[30_000:30_000] = [json.dumps(bad) + "\n"] * 5
        source.write_text("".join(lines), "utf-8")
    elif ending == "csv":
        lines = [f"{row['instruction']},,{row['output']}\n" for row in rows]
        lines[30_000:30_000] = ["bad\n"] * 5
        source.write_text("instruction,input,output\n" + "".join(lines), "utf-8")
    else:
        source.write_bytes(
            gzip.compress(json.dumps([*rows[:30_000], *[bad] * 5, *rows[30_000:]]).encode(), 1)
        )
    command = [sys.executable, "-m", "hinlap.cli.main", "data", "import", str(source)]
    kills = killed_until_done([*command, "--out", str(out)], out, tmp_path / ".a.jsonl.part")
    assert kills >= 1
    found = [(row.instruction, row.output) for row in read_rows(out) if isinstance(row, Row)]
    assert found == [(row["instruction"], row["output"]) for row in rows]
    assert len((tmp_path / "a.jsonl.bad.jsonl").read_bytes().splitlines()) == 5
    manifest = verified(out)
    assert manifest is not None
    assert (manifest.rows, manifest.counts["bad_rows"]) == (60_000, 5)
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """The first run may write 18 MB to one file."""
    source, out = tmp_path / "raw.jsonl", tmp_path / "a.jsonl"
    records(source, 40_000, 500)
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (18_000_000,) * 2)\n"
        "from hinlap.cli.main import main\n"
        "sys.argv = ['hinlap', *sys.argv[1:]]\n"
        "main()\n"
    )
    arguments = ["data", "import", str(source), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "could not be written" in done.stderr) == (1, True), done.stderr
    assert "run the same command" in done.stderr
    assert not out.exists()
    done = subprocess.run(
        [sys.executable, "-m", "hinlap.cli.main", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "going on" in done.stderr
    assert len(out.read_bytes().splitlines()) == 40_000


def hub(files: dict[str, bytes], sha: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """The hub's two endpoints: what a revision holds, and a file of it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path in (f"/api/datasets/a/set/revision/{name}" for name in ("v1", sha)):
            told = {
                "_id": "1", "id": "a/set", "sha": sha, "private": False, "gated": False,
                "disabled": False, "downloads": 0, "likes": 0, "tags": [],
                "cardData": {"license": "cc-by-sa-3.0"},
                "siblings": [{"rfilename": name} for name in files],
            }  # fmt: skip
            reply(request, json.dumps(told).encode(), Content_Type="application/json")
            return
        name = path.removeprefix(f"/datasets/a/set/resolve/{sha}/")
        if name not in files:
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such set"}
            reply(request, b"{}", 404, **missing)
            return
        etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        head = {"ETag": etag, "X-Repo-Commit": sha, "Content-Type": "text/plain"}
        if request.command == "HEAD":
            request.send_response(200)
            for key, value in {**head, "Content-Length": str(len(files[name]))}.items():
                request.send_header(key, value)
            request.end_headers()
            return
        reply(request, files[name], **head)

    return answer


def test_a_set_of_the_hub_is_fetched_at_a_revision(hinlap: Run, tmp_path: Path) -> None:
    records(tmp_path / "t.jsonl", 4)
    train = (tmp_path / "t.jsonl").read_bytes()
    write_rows(tmp_path / "t.parquet", [Row("p", "Asked?", "Answered.")])
    files = {
        "README.md": b"# set", "data/train-00000-of-00001.jsonl": train,
        "data/test-00000-of-00001.parquet": (tmp_path / "t.parquet").read_bytes(),
    }  # fmt: skip
    sha = "0123456789abcdef0123456789abcdef01234567"
    out = tmp_path / "a.jsonl"
    with serving_heads(hub(files, sha)) as url:
        there = {
            "HF_ENDPOINT": url, "HF_HUB_OFFLINE": None, "HINLAP_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        done = hinlap("data", "import", "hf:a/set@v1", "--out", out, **there)
        assert (done.returncode, "it has 2 files of data" in done.stderr) == (2, True), done.stderr
        done = hinlap("data", "import", "hf:a/set@v1:train", "--out", out, **there)
        assert done.returncode == 0, done.stderr
        manifest = read_manifest(out)
        assert manifest is not None
        assert (manifest.source, manifest.revision) == ("hf:a/set", sha)
        assert (manifest.rows, manifest.licence) == (4, "CC-BY-SA-3.0")
        test = tmp_path / "b.jsonl"
        done = hinlap("data", "import", "hf:a/set@v1:data/test*.parquet", "--out", test, **there)
        assert [row.id for row in read_rows(test) if isinstance(row, Row)] == ["p"]
        done = hinlap("data", "import", "hf:a/none@v1", "--out", tmp_path / "c.jsonl", **there)
        assert (done.returncode, "the hub does not give it" in done.stderr) == (2, True)
    done = hinlap("data", "import", "hf:a/set@v1", "--out", tmp_path / "c.jsonl", **there)
    assert (done.returncode, "cannot be reached" in done.stderr) == (1, True), done.stderr


@contextmanager
def serving_heads(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real server on loopback that also answers HEAD, as the hub's client asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_convert_says_what_is_lost_and_what_does_not_fit(hinlap_here: Run, tmp_path: Path) -> None:
    rows = [
        Row("1", "Add.", "3", input="1, 2", labels={"topic": "sums"}),
        Row("2", "And?", "4", history=(("1?", "2"),)),
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    out = tmp_path / "m.jsonl"
    done = hinlap_here("data", "convert", tmp_path / "a.jsonl", "--to", "messages", "--out", out)
    assert "messages does not hold: labels, of 1 row" in done.stdout
    assert "messages does not hold: border of instruction and input, of 1 row" in done.stdout
    back = [row.messages() for row in read_rows(out) if isinstance(row, Row)]
    assert back == [row.messages() for row in rows]
    dolly = tmp_path / "d.csv"
    done = hinlap_here("data", "convert", tmp_path / "a.jsonl", "--to", "dolly", "--out", dolly)
    assert "1 record left out" in done.stdout
    assert "a.jsonl:2: a conversation: Dolly has room for one turn" in done.stdout
    assert (
        dolly.read_text("utf-8") == 'id,instruction,context,response,topic\n1,Add.,"1, 2",3,sums\n'
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_dolly_goes_through_alpaca_and_back_unchanged(hinlap_here: Run, tmp_path: Path) -> None:
    source = DATA / "dolly/databricks-dolly-15k.sample.jsonl.gz"
    there, back = tmp_path / "a.jsonl", tmp_path / "d.jsonl"
    assert hinlap_here("data", "convert", source, "--to", "alpaca", "--out", there).returncode == 0
    done = hinlap_here("data", "convert", there, "--to", "dolly", "--out", back)
    assert "9,009 rows" in done.stdout
    assert "does not hold" not in done.stdout
    assert list(read_rows(back)) == list(read_rows(source))
