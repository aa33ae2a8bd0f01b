from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.conftest import serving_pages

from hinlap.cli.news import news
from hinlap.core.errors import EngineError, HinlapError, InputError, ServiceSetupError, StorageError
from hinlap.core.progress import Silent
from hinlap.workflows.gather_news import NewsOptions, NewsReport, gather_news

STORY = (
    "The city council voted on Tuesday to keep the old tram line open for another ten years, "
    "after a petition by thirty thousand residents and a long debate about the cost of repairs."
)
OTHER = "Two crews met inside the deepest road tunnel in the world after nine years of digging."
KEY = "0123456789abcdef0123456789abcdef"


def save(path: Path, *rows: dict[str, str]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def gather(
    out: Path, *sources: str, options: NewsOptions | None = None, key: str = ""
) -> NewsReport:
    return gather_news(
        sources, out=out, options=options or NewsOptions(), environment={"NEWSAPI_KEY": key}
    )


def rows(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in out.read_text("utf-8").split("\n") if line]


def feed(*items: tuple[str, str, str]) -> str:
    entries = "".join(
        f"<item><title>{title}</title><link>{link}</link><description>{text}</description></item>"
        for title, link, text in items
    )
    return f"<rss version='2.0'><channel><title>Paper</title>{entries}</channel></rss>"


def test_sources_of_every_kind_end_in_one_file(tmp_path: Path) -> None:
    page = f"<html><head><title>Page</title></head><body><p>{OTHER * 4}</p></body></html>"
    answer = {"status": "ok", "totalResults": 1, "articles": [
        {"title": "Api", "description": "Said the service.", "url": "https://a.example/api"}
    ]}  # fmt: skip
    pages = {
        "/feed": (200, "application/rss+xml", feed(("Feed", "https://a.example/f", STORY))),
        "/page": (200, "text/html", page),
        "/v2/everything": (200, "application/json", json.dumps(answer)),
    }
    local = save(tmp_path / "a.jsonl", {"title": "File", "text": "น้ำท่วม 🎉"})
    with serving_pages(pages) as url:
        options = NewsOptions(allow_private=True, newsapi_url=f"{url}/v2")
        sources = (f"{url}/feed", f"{url}/page", "newsapi:everything?q=x", local)
        report = gather(tmp_path / "out.jsonl", *sources, options=options, key=KEY)
    assert [row["title"] for row in rows(tmp_path / "out.jsonl")] == ["Feed", "Page", "Api", "File"]
    assert set(rows(tmp_path / "out.jsonl")[0]) == {
        "id", "title", "text", "url", "source", "published", "topic",
    }  # fmt: skip
    assert (report.written, report.failures) == (4, ())
    assert "น้ำท่วม 🎉" in (tmp_path / "out.jsonl").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_one_address_counts_once_and_the_longer_text_stays(tmp_path: Path) -> None:
    one = save(tmp_path / "1.jsonl", {"text": "Short.", "url": "http://www.a.example/x?utm_id=1"})
    two = save(tmp_path / "2.jsonl", {"text": "Much longer.", "url": "https://a.example/x/#top"})
    report = gather(tmp_path / "out.jsonl", one, two)
    assert [row["text"] for row in rows(tmp_path / "out.jsonl")] == ["Much longer."]
    assert report.duplicates[0].reason.startswith("same address as")


def test_near_copies_count_once_and_the_longer_text_stays(tmp_path: Path) -> None:
    longer = f"{STORY} Nobody objected."
    source = save(
        tmp_path / "1.jsonl",
        {"text": STORY, "url": "https://a.example/1"},
        {"text": OTHER},
        {"text": longer, "url": "https://b.example/2"},
    )
    report = gather(tmp_path / "out.jsonl", source)
    assert [row["text"] for row in rows(tmp_path / "out.jsonl")] == [longer, OTHER]
    assert report.duplicates[0].reason.startswith("near-copy (0.")


def test_the_same_words_under_different_titles_are_two_when_short(tmp_path: Path) -> None:
    items = (("One", "https://a.example/1", "Comments"), ("Two", "https://a.example/2", "Comments"))
    (tmp_path / "a.xml").write_text(feed(*items), "utf-8")
    assert gather(tmp_path / "out.jsonl", str(tmp_path / "a.xml")).written == 2


def test_ids_that_are_taken_get_a_number(tmp_path: Path) -> None:
    one = save(tmp_path / "1.jsonl", {"id": "7", "text": STORY})
    two = save(tmp_path / "2.jsonl", {"id": "7", "text": OTHER})
    gather(tmp_path / "out.jsonl", one, two)
    assert [row["id"] for row in rows(tmp_path / "out.jsonl")] == ["7", "7-2"]


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    one = save(tmp_path / "1.jsonl", {"id": "a", "text": STORY})
    two = save(tmp_path / "2.jsonl", {"text": STORY + " More."}, {"id": "b", "text": OTHER})
    gather(out, one)
    before = out.read_bytes()
    with pytest.raises(InputError, match="--append"):
        gather(out, two)
    assert out.read_bytes() == before
    report = gather(out, two, options=NewsOptions(append=True))
    assert (report.present, report.written) == (1, 1)
    assert out.read_bytes().startswith(before)
    assert [row["id"] for row in rows(out)] == ["a", "b"]
    gather(out, two, options=NewsOptions(overwrite=True))
    assert len(rows(out)) == 2
    assert rows(out)[0]["text"].endswith("More.")
    with pytest.raises(InputError, match="exclude"):
        gather(out, two, options=NewsOptions(overwrite=True, append=True))


def test_a_source_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    good = save(tmp_path / "1.jsonl", {"text": STORY})
    with serving_pages({"/feed": (500, "text/plain", "")}) as url:
        options = NewsOptions(allow_private=True, timeout_seconds=0.5)
        report = gather(tmp_path / "out.jsonl", f"{url}/feed", good, "no.jsonl", options=options)
    assert len(rows(tmp_path / "out.jsonl")) == 1
    assert [type(error) for error in report.failures] == [EngineError, InputError]
    assert [bool(source.failure) for source in report.sources] == [True, False, True]


def test_nothing_found_writes_nothing_and_says_why(tmp_path: Path) -> None:
    report = gather(tmp_path / "out.jsonl", save(tmp_path / "1.jsonl", {"title": "only"}))
    assert not (tmp_path / "out.jsonl").exists()
    assert "no article was found (1 dropped: no text)" in str(report.failures[0])


def test_limits_on_number_and_length_are_kept(tmp_path: Path) -> None:
    source = save(
        tmp_path / "1.jsonl",
        {"title": "long", "text": "x" * 1001},
        {"text": STORY},
        {"text": OTHER},
    )
    report = gather(tmp_path / "out.jsonl", source, options=NewsOptions(max_chars=1000, limit=1))
    assert [row["text"] for row in rows(tmp_path / "out.jsonl")] == [STORY]
    assert "1,000 characters" in report.dropped[0].reason


@pytest.mark.parametrize(
    "options", [NewsOptions(limit=0), NewsOptions(timeout_seconds=0), NewsOptions(max_bytes=-1)]
)
def test_limits_below_one_are_refused(tmp_path: Path, options: NewsOptions) -> None:
    with pytest.raises(InputError, match="above 0"):
        gather(tmp_path / "out.jsonl", "a.jsonl", options=options)


@pytest.mark.parametrize("name", ["out.csv", "folder.jsonl"])
def test_an_out_that_is_no_jsonl_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="--out"):
        gather(tmp_path / name, "a.jsonl")


def test_private_addresses_are_refused_by_default(tmp_path: Path) -> None:
    report = gather(tmp_path / "out.jsonl", "http://localhost/feed")
    assert "--allow-private" in str(report.failures[0])


def test_no_key_is_told(tmp_path: Path) -> None:
    report = gather(tmp_path / "out.jsonl", "newsapi:everything?q=x")
    assert isinstance(report.failures[0], ServiceSetupError)
    assert "NEWSAPI_KEY" in str(report.failures[0])


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    gather(out, save(tmp_path / "1.jsonl", {"text": STORY}))
    before = out.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        gather(out, save(tmp_path / "2.jsonl", {"text": OTHER}), options=NewsOptions(append=True))
    assert out.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_an_interrupt_keeps_what_was_had(tmp_path: Path) -> None:
    class Interrupting(Silent):
        def say(self, message: str) -> None:
            if "2.jsonl" in message:
                raise KeyboardInterrupt

    one = save(tmp_path / "1.jsonl", {"text": STORY})
    two = save(tmp_path / "2.jsonl", {"text": OTHER})
    with pytest.raises(KeyboardInterrupt):
        gather_news(
            [one, two], out=tmp_path / "out.jsonl", options=NewsOptions(), environment={},
            progress=Interrupting(),
        )  # fmt: skip
    assert len(rows(tmp_path / "out.jsonl")) == 1


def test_the_command_tells_what_it_did_and_never_a_key(tmp_path: Path) -> None:
    error = {"status": "error", "code": "apiKeyInvalid", "message": f"{KEY} is wrong"}
    good = save(tmp_path / "1.jsonl", {"text": STORY}, {"title": "only"})
    with serving_pages({"/v2/everything": (401, "application/json", json.dumps(error))}) as url:
        result = CliRunner(env={"MY_KEY": KEY}).invoke(
            news,
            [
                good, "newsapi:everything?q=x", "--out", str(tmp_path / "out.jsonl"),
                "--allow-private", "--newsapi-url", f"{url}/v2", "--key-env", "MY_KEY",
                "--json", str(tmp_path / "report.json"),
            ],
        )  # fmt: skip
    assert isinstance(result.exception, HinlapError)
    assert result.exception.exit_code == 2
    assert "1 article from 2 sources; 1 written" in result.output
    assert "dropped 1: 1 no text" in result.output
    assert "1.jsonl, line 2: no text" in result.output
    told = result.output + str(result.exception) + (tmp_path / "report.json").read_text("utf-8")
    assert "apiKeyInvalid" in told
    assert KEY not in told
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["written"] == 1


def test_the_command_loads_nothing_heavy_until_it_runs() -> None:
    code = (
        "import sys, hinlap.cli.news; "
        "print([m for m in ('httpx', 'feedparser', 'trafilatura', 'lxml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
