"""Original files from an address: fetched once, known by their digest, refused when changed."""

from __future__ import annotations

import gzip
import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.conftest import reply, serving, serving_pages

from hinlap.benchmarks.benchmark import Benchmark
from hinlap.benchmarks.table import BENCHMARKS
from hinlap.core.errors import EngineError, InputError
from hinlap.core.progress import Silent
from hinlap.data.sources.fetch import Fetcher
from hinlap.data.sources.pinned import Pinned, beside, is_pinned, pinned_file

BODY = b"a\tb\n1\t2\n"
DIGEST = hashlib.sha256(BODY).hexdigest()
FETCHER = Fetcher(allow_private=True, sleep=lambda _: None)


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HINLAP_CACHE", str(folder))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_and_then_lies_in_the_cache(cache: Path) -> None:
    heard = Heard()
    with serving_pages({"/1/rows.tsv": (200, "text/plain", BODY)}) as url:
        pinned = Pinned("set/rows.tsv", f"{url}/1/rows.tsv", DIGEST)
        place = pinned_file(pinned, None, heard, FETCHER)
    assert place.read_bytes() == BODY
    assert place == pinned_file(pinned, None, heard, FETCHER)  # the server is gone
    assert heard.said == [f"fetching {pinned.address}"]
    assert files(cache) == ["rows.tsv"]
    assert is_pinned(place, pinned)


def test_a_changed_file_is_refused_and_not_kept(cache: Path) -> None:
    with serving_pages({"/rows.tsv": (200, "text/plain", BODY + b"3\t4\n")}) as url:
        pinned = Pinned("set/rows.tsv", f"{url}/rows.tsv", DIGEST)
        with pytest.raises(InputError, match="not the pinned revision") as caught:
            pinned_file(pinned, None, Silent(), FETCHER)
    assert DIGEST[:16] in str(caught.value)
    assert "--data" in caught.value.hint
    assert files(cache) == []


@pytest.mark.parametrize(("status", "kind"), [(404, InputError), (503, EngineError)])
def test_a_server_that_fails_is_told_with_what_to_do(
    cache: Path, status: int, kind: type[InputError | EngineError]
) -> None:
    with serving_pages({"/rows.tsv": (status, "text/plain", b"no")}) as url:
        pinned = Pinned("set/rows.tsv", f"{url}/rows.tsv", DIGEST)
        with pytest.raises(kind) as caught:
            pinned_file(pinned, None, Silent(), FETCHER)
    assert "--data" in caught.value.hint
    assert files(cache) == []


def test_an_answer_that_breaks_off_is_not_kept(cache: Path) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY) + 10))
        request.end_headers()
        request.wfile.write(BODY)

    with serving(cut) as url:
        pinned = Pinned("set/rows.tsv", f"{url}/rows.tsv", DIGEST)
        with pytest.raises((InputError, EngineError)):
            pinned_file(pinned, None, Silent(), FETCHER)
    assert files(cache) == []


def test_nobody_listening_is_told(cache: Path) -> None:
    with serving(reply) as url:
        address = f"{url}/rows.tsv"
    with pytest.raises(EngineError) as caught:
        pinned_file(Pinned("set/rows.tsv", address, DIGEST), None, Silent(), FETCHER)
    assert "--data" in caught.value.hint


def test_a_file_without_an_address_says_where_to_look() -> None:
    with pytest.raises(InputError, match="no address") as caught:
        pinned_file(Pinned("set/rows.tsv"), None, Silent(), FETCHER)
    assert "bench list" in caught.value.hint


def test_a_folder_is_not_left_for_the_net(tmp_path: Path) -> None:
    pinned = Pinned("set/rows.tsv", "http://127.0.0.1:9/rows.tsv", DIGEST, also=("set/part.tsv",))
    with pytest.raises(InputError, match="no such file"):
        pinned_file(pinned, tmp_path, Silent(), FETCHER)
    (tmp_path / "set").mkdir()
    packed = tmp_path / "set/part.tsv.gz"
    packed.write_bytes(gzip.compress(BODY))
    assert pinned_file(pinned, tmp_path, Silent(), FETCHER) == packed
    assert is_pinned(packed, pinned)


def test_another_file_of_the_same_set_lies_beside_or_in_the_cache(tmp_path: Path) -> None:
    body = b"x\n"
    with serving_pages(
        {"/a.tsv": (200, "text/plain", BODY), "/b.tsv": (200, "text/plain", body)}
    ) as url:
        first = Pinned("set/a.tsv", f"{url}/a.tsv", DIGEST)
        other = Pinned("set/b.tsv", f"{url}/b.tsv", hashlib.sha256(body).hexdigest())
        found = pinned_file(first, None, Silent(), FETCHER)
        fetched = pinned_file(other, None, Silent(), FETCHER)
    assert beside(found, other) == fetched
    mine = tmp_path / "a.tsv"
    mine.write_bytes(BODY)
    (tmp_path / "b.tsv").write_bytes(b"mine\n")
    assert beside(mine, other).read_bytes() == b"mine\n"


FETCHED = [b for b in BENCHMARKS.values() if any(f.address for f in b.files)]


@pytest.mark.parametrize("benchmark", FETCHED, ids=lambda b: b.name)
def test_addresses_name_one_commit_and_a_digest(benchmark: Benchmark) -> None:
    for file in benchmark.files:
        _, owner, name, commit, *_ = file.address.removeprefix("https://").split("/")
        assert owner
        assert name
        assert len(commit) == 40
        assert int(commit, 16)
        assert len(file.sha256) == 64
        assert int(file.sha256, 16)


def test_what_is_here_whole_has_the_pinned_digest() -> None:
    shared = Path(__file__).parents[3] / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the public data sets are not here")
    for name in ("crows-pairs", "winogender"):
        for file in BENCHMARKS[name].files:
            assert is_pinned(shared / file.path, file)
