"""Serving a page to this machine alone, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from hinlap.core.errors import InputError

HOST = "127.0.0.1"
_GRACE_SECONDS = 2


def bind(port: int) -> socket.socket:
    """A socket on loopback; port 0 takes any free one. Raises InputError where it is taken."""
    # named TCP, so that asyncio sends small answers at once (Nagle's wait is 40 ms a request)
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
        bound.listen()  # now: whoever is told the address may come before the server runs
    except (OSError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else "not a port"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            reason = "it is taken by another program"
        raise InputError(
            f"port {port} cannot be used: {reason}",
            where="--port",
            hint="name another, or leave it out: a free one is found",
        ) from None
    return bound


def serve(app: ASGIApp, bound: socket.socket) -> None:
    """Returns after Ctrl-C or SIGTERM, when what was being answered is answered."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ws="none",
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands both on when it has closed
            uvicorn.Server(config).run(sockets=[bound])
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
