"""Fetching from the web with limits: bytes, seconds, and where an address may lead.

The host is resolved once, every address it has is checked, and the connection goes to the very
address that was checked, so a name cannot point elsewhere a moment later. Redirects are followed
by hand and each hop is checked again. Proxy variables of the environment are ignored, because a
proxy would resolve the name by itself and the check would mean nothing; SSL_CERT_FILE is honoured.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version

import httpcore
import httpx

from hinlap.core.counting import counted
from hinlap.core.errors import EngineError, HinlapError, InputError
from hinlap.data.sources.article import redact

ATTEMPTS = 3
REDIRECTS = 5
WAIT_SECONDS_CAP = 30.0


def user_agent() -> str:
    """``hinlap/<version>``."""
    try:
        return f"hinlap/{version('hinlap')}"
    except PackageNotFoundError:
        return "hinlap/0"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer. ``url`` is where redirects ended, header names are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Such as ``text/html``; "" when the server does not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """As declared in the Content-Type header, or ""."""
        message = Message()
        message["Content-Type"] = self.headers.get("content-type", "")
        return message.get_content_charset("") or ""

    def checked(self) -> Fetched:
        """Itself when the status is 2xx; otherwise raises.

        InputError for 3xx and 4xx, EngineError for 429 and 5xx.
        """
        where = redact(self.url)
        if 200 <= self.status < 300:
            return self
        if self.status == 429:
            after = self.headers.get("retry-after", "")
            raise EngineError(
                "the server says there were too many requests (429)",
                where=where,
                hint=f"try again after {after} s" if after.isdigit() else "try again later",
            )
        if self.status >= 500:
            raise EngineError(
                f"the server failed (HTTP {self.status})", where=where, hint="try again later"
            )
        hints = {
            401: "the page wants a login, which cannot be given here",
            403: "the server refuses programs or wants a login",
            404: "check the address",
            410: "the page is gone for good",
        }
        raise InputError(
            f"the server refuses (HTTP {self.status})",
            where=where,
            hint=hints.get(self.status, "check the address"),
        )


def system_resolver(host: str, port: int) -> Sequence[str]:
    """All addresses of ``host`` by the system's own resolver, without repeats."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def is_public(address: str) -> bool:
    """Whether ``address`` is one anybody on the internet may reach.

    Not public: private, loopback, link-local, multicast, reserved, unspecified, and any IPv6
    form (mapped, NAT64, 6to4) that leads to such an IPv4 address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in ipaddress.IPv6Network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


@dataclass(frozen=True)
class Fetcher:
    """Gets web addresses within limits.

    timeout_seconds: for one ``get`` in all: resolving, redirects, retries and the last byte.
    max_bytes:       of one answer, after decompression.
    allow_private:   whether addresses inside this machine or network may be fetched.
    """

    timeout_seconds: float = 20.0
    max_bytes: int = 5_000_000
    allow_private: bool = False
    resolve: Callable[[str, int], Sequence[str]] = system_resolver
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    network: httpcore.NetworkBackend = field(default_factory=httpcore.SyncBackend)

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Fetched:
        """The answer at ``url``, whatever its status (see ``Fetched.checked``).

        429 and 5xx are tried again, up to three times in all, as long as the wait the server
        asks for fits the time. ``headers`` are not sent on to another site by a redirect.
        Raises InputError (address refused, unknown or too large), EngineError (time is up, the
        connection broke).
        """
        deadline = self.clock() + self.timeout_seconds
        try:
            target = httpx.URL(url)
            target = target.copy_merge_params(dict(params)) if params else target
        except (httpx.InvalidURL, ValueError, TypeError):
            raise InputError("this is not a web address", where=redact(url)) from None
        for attempt in range(1, ATTEMPTS + 1):
            fetched = self._follow(target, headers or {}, deadline)
            if fetched.status not in (429, 500, 502, 503, 504):
                break
            wait = self._wait_seconds(fetched, attempt)
            if attempt == ATTEMPTS or self.clock() + wait >= deadline:
                break
            self.sleep(wait)
        return fetched

    def _wait_seconds(self, fetched: Fetched, attempt: int) -> float:
        asked = fetched.headers.get("retry-after", "").strip()
        if asked.isdecimal():
            return float(asked[:9])
        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - self.wall_clock())
        except (ValueError, TypeError, IndexError, OverflowError):
            return min(2.0 ** (attempt - 1), WAIT_SECONDS_CAP)

    def _follow(self, url: httpx.URL, headers: Mapping[str, str], deadline: float) -> Fetched:
        start = url
        for _ in range(REDIRECTS + 1):
            fetched = self._one(url, headers, deadline)
            location = fetched.headers.get("location", "")
            if fetched.status not in (301, 302, 303, 307, 308) or not location:
                return fetched
            try:
                following = url.join(location)
            except (httpx.InvalidURL, ValueError, TypeError):
                raise InputError(
                    "the server redirects to something that is no address", where=redact(str(url))
                ) from None
            if _origin(following) != _origin(url):
                headers = {}
            url = following
        raise InputError(
            f"redirected more than {REDIRECTS} times", where=redact(str(start)),
            hint="give the address it should end at",
        )  # fmt: skip

    def _one(self, url: httpx.URL, headers: Mapping[str, str], deadline: float) -> Fetched:
        where = redact(str(url))

        def remaining() -> float:
            left = deadline - self.clock()
            if left <= 0:
                raise httpcore.ReadTimeout("time is up")
            return left

        try:
            addresses = self._checked_addresses(url, remaining)
            return self._exchange(url, headers, addresses, remaining)
        except httpcore.TimeoutException:
            raise EngineError(
                f"no complete answer within {self.timeout_seconds:g} s",
                where=where,
                hint="try again later, or give it longer with --timeout",
            ) from None
        except httpcore.ConnectError as error:
            raise EngineError(
                f"no connection ({error})",
                where=where,
                hint="check the address and the network (proxies are not used)",
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, zlib.error):
            raise EngineError(
                "the server broke off or sent something that is not HTTP",
                where=where,
                hint="try again later",
            ) from None

    def _checked_addresses(self, url: httpx.URL, remaining: Callable[[], float]) -> Sequence[str]:
        where = redact(str(url))
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError("only http and https addresses are fetched", where=where)
        if not 0 < _port(url) < 65536:
            raise InputError(f"there is no port {url.port}", where=where, hint="1 to 65535")
        if url.userinfo:
            raise InputError(
                "the address holds a user name or password",
                where=where,
                hint="leave out what stands before the @; pages behind a login are not fetched",
            )
        host = url.raw_host.decode("ascii").strip("[]")
        addresses = self._resolved(host, _port(url), where, remaining)
        for address in () if self.allow_private else addresses:
            if not is_public(address):
                raise InputError(
                    f"the host {host} is at {address}, a private or local address",
                    where=where,
                    hint="such addresses are fetched only with --allow-private",
                )
        return addresses

    def _resolved(
        self, host: str, port: int, where: str, remaining: Callable[[], float]
    ) -> Sequence[str]:
        answers: list[Sequence[str]] = []
        errors: list[Exception] = []

        def ask() -> None:
            try:
                answers.append(self.resolve(host, port))
            except (OSError, UnicodeError) as error:
                errors.append(error)

        # The system's resolver knows no time limit; a thread that is late is left behind.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(remaining())
        if errors:
            temporary = getattr(errors[0], "errno", None) == socket.EAI_AGAIN
            kind: type[HinlapError] = EngineError if temporary else InputError
            raise kind(
                f"the host {host} is not known",
                where=where,
                hint="check the spelling, and that this machine has a network",
            )
        if not answers:
            raise httpcore.ReadTimeout("the name was not resolved in time")
        if not answers[0]:
            raise InputError(f"the host {host} has no address", where=where)
        return answers[0]

    def _exchange(
        self,
        url: httpx.URL,
        headers: Mapping[str, str],
        addresses: Sequence[str],
        remaining: Callable[[], float],
    ) -> Fetched:
        sent = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": user_agent(),
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            **headers,
        }
        pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(),
            network_backend=_PinnedBackend(self.network, addresses, remaining),
        )
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=_port(url), target=url.raw_path
        )
        with pool, pool.stream("GET", target, headers=list(sent.items())) as answer:
            names = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in answer.headers
            }
            size = names.get("content-length", "")
            body = b""
            too_large = size.isdecimal() and int(size[:18]) > self.max_bytes
            if not too_large:
                encoding = names.get("content-encoding", "").strip().lower()
                chunks = _inflated(answer.iter_stream(), encoding, self.max_bytes)
                parts = bytearray()
                for chunk in chunks:
                    remaining()
                    parts += chunk
                    if len(parts) > self.max_bytes:
                        too_large = True
                        break
                body = bytes(parts)
            if too_large:
                raise InputError(
                    f"the answer is larger than {counted(self.max_bytes, 'byte')}",
                    where=redact(str(url)),
                    hint="raise the limit with --max-bytes, if it should be fetched",
                )
            return Fetched(str(url), answer.status, names, body)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, _port(url)


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _inflated(chunks: Iterable[bytes], encoding: str, limit: int) -> Iterator[bytes]:
    """``chunks`` decompressed, never more than ``limit`` + 1 bytes at a time."""
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpcore.RemoteProtocolError(f"unasked-for encoding {encoding}")
    inflater = zlib.decompressobj(wbits=47)  # 47: gzip or zlib, by its first bytes
    for chunk in chunks:
        while chunk:
            yield inflater.decompress(chunk, limit + 1)
            chunk = inflater.unconsumed_tail
            if inflater.eof:
                chunk = inflater.unused_data
                inflater = zlib.decompressobj(wbits=47)


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever the host's name says by now."""

    def __init__(
        self,
        network: httpcore.NetworkBackend,
        addresses: Sequence[str],
        remaining: Callable[[], float],
    ) -> None:
        self._network = network
        self._addresses = addresses
        self._remaining = remaining

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        problem: Exception = httpcore.ConnectError("no address")
        for tried, address in enumerate(self._addresses):
            share = self._remaining() / (len(self._addresses) - tried)
            try:
                stream = self._network.connect_tcp(
                    address, port, share, local_address, socket_options
                )
                return _TimedStream(stream, self._remaining)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every operation ends when the whole time is up, so dripping cannot stretch
    it."""

    def __init__(self, stream: httpcore.NetworkStream, remaining: Callable[[], float]) -> None:
        self._stream = stream
        self._remaining = remaining

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._remaining())
        return _TimedStream(stream, self._remaining)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
