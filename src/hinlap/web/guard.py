"""Who may talk to a page served on this machine: only the person who was given its address.

A server on loopback can be reached by every page in every browser tab of this machine, and by
every user of it. Three checks, each enough against one of them: a random token (other users), the
Host header (pages whose name was rebound to 127.0.0.1), the Origin header (pages that send).
"""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-hinlap-token"
_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_MOST_BODY_BYTES = 8 * 2**20
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def new_token() -> str:
    """Fit for an address."""
    return secrets.token_urlsafe(24)


class Guard:
    """Passes on what comes from the page itself, and answers 403 to the rest.

    A page is asked for with `?token=`; all else carries the token in a header, which a foreign
    page cannot set without asking first (CORS), and is never allowed to.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, Headers(scope=scope))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if refused is not None:
            await refused(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in _OWN_NAMES and host not in _OWN_NAMES:
            return PlainTextResponse("this host name is not served here", 403)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("another page may not use this one", 403)
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("another page may not use this one", 403)
        if not secrets.compare_digest(self._said(scope, headers), self._token):
            return PlainTextResponse(
                "wrong or missing token: open the address that the terminal shows", 403
            )
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return PlainTextResponse("send JSON", 415)
            length = headers.get("content-length", "")
            if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
                return PlainTextResponse("the body is too large, or its length is not told", 413)
        return None

    def _said(self, scope: Scope, headers: Headers) -> bytes:
        if scope["path"] == "/":
            raw: bytes = scope["query_string"]
            query = parse_qs(raw.decode("latin-1"))
            return query.get("token", [""])[0].encode()
        return headers.get(TOKEN_HEADER, "").encode()
