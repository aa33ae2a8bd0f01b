from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import httpcore
import pytest
from tests.conftest import reply, serving

from hinlap.core.errors import EngineError, InputError
from hinlap.data.sources.fetch import Fetcher, is_public

PUBLIC = "93.184.216.34"


class Network(httpcore.NetworkBackend):
    """Leads a public address to a server on this machine, and remembers who was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        self.called.append(host)
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", port, timeout)


LOCAL = Fetcher(allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1", "not an address",
    ],
)  # fmt: skip
def test_private_addresses_in_every_disguise_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700::1111", f"::ffff:{PUBLIC}", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://2130706433/", "http://0x7f000001/", "http://127.1/",
        "http://0.0.0.0/", "http://169.254.169.254/latest/meta-data", "https://10.0.0.1/",
    ],
)  # fmt: skip
def test_local_addresses_are_refused_without_the_flag(url: str) -> None:
    network = Network()
    with pytest.raises(InputError, match="--allow-private"):
        Fetcher(network=network).get(url)
    assert network.called == []


def test_one_private_address_among_public_ones_is_refused() -> None:
    fetcher = Fetcher(resolve=lambda host, port: [PUBLIC, "10.0.0.1"], network=Network())
    with pytest.raises(InputError, match=r"10\.0\.0\.1"):
        fetcher.get("http://news.example/")


def test_the_connection_goes_to_the_checked_address_under_the_hosts_name() -> None:
    asked: list[str] = []
    hosts: list[str | None] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]  # a name that changes its mind

    def answer(request: BaseHTTPRequestHandler) -> None:
        hosts.append(request.headers["Host"])
        reply(request, b"hello")

    network = Network()
    with serving(answer) as url:
        port = url.rpartition(":")[2]
        got = Fetcher(resolve=resolve, network=network).get(f"http://news.example:{port}/")
    assert (got.body, asked, network.called) == (b"hello", ["news.example"], [PUBLIC])
    assert hosts == [f"news.example:{port}"]


def test_a_redirect_to_a_private_address_is_refused() -> None:
    network = Network()
    resolver = {"news.example": [PUBLIC], "127.0.0.1": ["127.0.0.1"]}

    def answer(request: BaseHTTPRequestHandler) -> None:
        reply(request, status=302, Location=f"http://127.0.0.1:{request.server.server_port}/x")  # type: ignore[attr-defined]

    with serving(answer) as url:
        fetcher = Fetcher(resolve=lambda host, port: resolver[host], network=network)
        with pytest.raises(InputError, match="private or local"):
            fetcher.get(f"http://news.example:{url.rpartition(':')[2]}/")
    assert network.called == [PUBLIC]


def test_redirects_are_followed_and_headers_stay_with_their_site() -> None:
    seen: list[tuple[str, str | None]] = []

    def far(request: BaseHTTPRequestHandler) -> None:
        seen.append((request.path, request.headers["X-Api-Key"]))
        reply(request, b"there")

    with serving(far) as elsewhere:

        def near(request: BaseHTTPRequestHandler) -> None:
            seen.append((request.path, request.headers["X-Api-Key"]))
            target = "/b" if request.path == "/a" else f"{elsewhere}/c"
            reply(request, status=301, Location=target)

        with serving(near) as here:
            got = LOCAL.get(f"{here}/a", {"X-Api-Key": "k"})
    assert (got.url, got.body) == (f"{elsewhere}/c", b"there")
    assert seen == [("/a", "k"), ("/b", "k"), ("/c", None)]


@pytest.mark.parametrize(
    ("target", "said"), [("/again", "more than 5"), ("file:///etc/passwd", "http and https")]
)
def test_redirects_without_end_or_to_files_are_refused(target: str, said: str) -> None:
    with (
        serving(lambda request: reply(request, status=302, Location=target)) as url,
        pytest.raises(InputError, match=said),
    ):
        LOCAL.get(url)


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_an_answer_is_refused(declared: bool) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if declared:
            request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(b"x" * 100_000)

    with (
        serving(answer) as url,
        pytest.raises(InputError, match=r"larger than 1,000 bytes[^$]*--max-bytes"),
    ):
        Fetcher(max_bytes=1000, allow_private=True).get(url)


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = gzip.compress(b"\0" * 3_000_000)
    with (
        serving(lambda request: reply(request, bomb, Content_Encoding="gzip")) as url,
        pytest.raises(InputError, match="larger"),
    ):
        Fetcher(max_bytes=1_000_000, allow_private=True).get(url)


def test_gzip_is_unpacked() -> None:
    body = gzip.compress(b"one ") + gzip.compress(b"two")
    with serving(lambda request: reply(request, body, Content_Encoding="gzip")) as url:
        assert LOCAL.get(url).body == b"one two"


@pytest.mark.parametrize("part", ["nothing", "headers", "body"])
def test_a_server_that_hangs_or_drips_ends_at_the_time_limit(part: str) -> None:
    over = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if part != "nothing":
            request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b""))
        drip = b"" if part == "nothing" else b"x"
        while not over.wait(0.02):
            request.wfile.write(drip)

    with serving(answer) as url:
        with pytest.raises(EngineError, match=r"within 0\.3 s[^$]*--timeout"):
            Fetcher(timeout_seconds=0.3, allow_private=True).get(url)
        over.set()


def test_a_resolver_that_hangs_ends_at_the_time_limit() -> None:
    over = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        over.wait(5)
        return []

    with pytest.raises(EngineError, match="no complete answer"):
        Fetcher(timeout_seconds=0.1, resolve=resolve).get("http://news.example/")
    over.set()


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def fetcher(self) -> Fetcher:
        return Fetcher(
            allow_private=True, clock=self.clock, wall_clock=self.clock, sleep=self.sleep
        )


@pytest.mark.parametrize("as_date", [False, True])
def test_429_waits_as_long_as_the_server_asks_and_tries_again(as_date: bool) -> None:
    time, had = Time(), 0
    after = formatdate(time.now + 3, usegmt=True) if as_date else "3"

    def answer(request: BaseHTTPRequestHandler) -> None:
        nonlocal had
        had += 1
        if had == 1:
            reply(request, status=429, Retry_After=after)
        else:
            reply(request, b"at last")

    with serving(answer) as url:
        assert time.fetcher().get(url).checked().body == b"at last"
    assert time.waits == [3.0]


def test_a_wait_longer_than_the_time_limit_is_not_begun() -> None:
    time = Time()
    with serving(lambda request: reply(request, status=429, Retry_After="86400")) as url:
        got = time.fetcher().get(url)
    assert (got.status, time.waits) == (429, [])
    with pytest.raises(EngineError, match="after 86400 s"):
        got.checked()


def test_a_server_that_keeps_failing_is_asked_three_times() -> None:
    time, had = Time(), []
    with serving(lambda request: (had.append(1), reply(request, status=500))[1]) as url:
        got = time.fetcher().get(url)
    assert (len(had), time.waits) == (3, [1.0, 2.0])
    with pytest.raises(EngineError, match="HTTP 500"):
        got.checked()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_the_users_to_mend(status: int) -> None:
    with (
        serving(lambda request: reply(request, status=status)) as url,
        pytest.raises(InputError, match=f"HTTP {status}"),
    ):
        LOCAL.get(url).checked()


def test_nobody_listening_and_broken_answers_are_told_plainly() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(EngineError, match="no connection"):
            LOCAL.get(f"http://127.0.0.1:{port}/")
    with (
        serving(lambda request: request.wfile.write(b"garbage\r\n\r\n") and None) as url,
        pytest.raises(EngineError, match="not HTTP"),
    ):
        LOCAL.get(url)


def test_an_unknown_host_is_told_plainly() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(InputError, match=r"news\.exmaple is not known"):
        Fetcher(resolve=resolve).get("http://news.exmaple/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x", "file:///etc/passwd", "http://", "nonsense", "http://a:99999/",
        "http://[1", "http://0177.0.0.1/",
    ],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        Fetcher(network=Network()).get(url)


def test_passwords_and_tokens_never_reach_a_message() -> None:
    with pytest.raises(InputError) as error:
        LOCAL.get("http://me:hunter2@127.0.0.1/?token=s3cret")
    assert "hunter2" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(lambda request: reply(request, b"direct")) as url:
        assert LOCAL.get(url).body == b"direct"


def test_it_says_who_asks() -> None:
    with serving(lambda request: reply(request, request.headers["User-Agent"].encode())) as url:
        assert LOCAL.get(url, params={"q": "ข่าว"}).body.startswith(b"hinlap/")
