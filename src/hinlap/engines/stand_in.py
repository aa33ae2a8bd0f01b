"""A local OpenAI-compatible server in the place of a paid service, for runs without a key.

It runs the embedded model behind real HTTP, so that the service route's whole way (client,
concurrency, token counts, prices, budget) is exercised. Its answers say nothing about a paid
service's quality or speed, and every table says that it is a stand-in.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

from hinlap.core.messages import Completion, Engine, Finish, Message, Prompt, Role, Sampling

KEY = "stand-in"
_GATHER_SECONDS = 0.05
_MOST_BODY_BYTES = 16 * 2**20


class BadRequest(ValueError):
    """The request's body is not one this endpoint takes."""


@dataclass(frozen=True)
class _Job:
    prompt: Prompt
    sampling: Sampling
    answer: Future[Completion]


class _Batcher:
    """Answers requests that arrive together in one batch (one model, one thread)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def answer(self, prompt: Prompt, sampling: Sampling) -> Completion:
        job = _Job(prompt, sampling, Future())
        self._jobs.put(job)
        return job.answer.result()

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [first]
            deadline = time.monotonic() + _GATHER_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                try:
                    job = self._jobs.get(timeout=left)
                except queue.Empty:
                    break
                if job is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
            for sampling in {job.sampling: None for job in jobs}:
                self._run([job for job in jobs if job.sampling == sampling], sampling)

    def _run(self, jobs: list[_Job], sampling: Sampling) -> None:
        try:
            for index, completion in self._engine.generate([j.prompt for j in jobs], sampling):
                jobs[index].answer.set_result(completion)
        except Exception as error:  # each waiting request gets it as a 500
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)


@contextmanager
def stand_in_service(engine: Engine) -> Iterator[str]:
    """Starts the server on a free loopback port; gives its base URL; stops it at the end."""
    batcher = _Batcher(engine)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                raw = self._body()
                if self.path.rstrip("/") != "/v1/chat/completions":
                    self._send(404, _error("unknown path", "not_found"))
                    return
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    self._send(401, _error("wrong key", "invalid_api_key"))
                    return
                completion = batcher.answer(*read_request(raw))
                if completion.finish is Finish.FAILED:
                    self._send(400, _error(completion.error, "invalid_request_error"))
                else:
                    self._send(200, _response(engine.name, completion))
            except BadRequest as error:
                self._send(400, _error(str(error), "invalid_request_error"))
            except BrokenPipeError:
                pass  # the client went away
            except Exception as error:  # told to the client, not printed into the user's terminal
                self._send(500, _error(str(error), "server_error"))

        def log_message(self, format: str, *args: object) -> None:
            """Silent: it runs inside the user's command."""

        def _body(self) -> bytes:
            """All of it: what is left unread would be taken for the connection's next request."""
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
                self.close_connection = True
                raise BadRequest("the body is too large, or its length is not told")
            return self.rfile.read(int(length))

        def _send(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        batcher.close()


def read_request(raw: bytes) -> tuple[Prompt, Sampling]:
    """Prompt and sampling of a chat completion request. Raises BadRequest."""
    try:
        body = json.loads(raw)
        messages = tuple(
            Message(message["role"], message["content"]) for message in body["messages"]
        )
        stop = body.get("stop") or ()
        sampling = Sampling(
            max_tokens=int(body.get("max_tokens") or 128),
            temperature=float(body.get("temperature") or 0.0),
            top_p=float(body.get("top_p") or 1.0),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=int(body.get("seed") or 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadRequest(f"not a chat completion request: {error}") from error
    if not messages:
        raise BadRequest("messages is empty")
    if not all(isinstance(m.content, str) and m.role in get_args(Role) for m in messages):
        raise BadRequest("each message needs a role (system, user or assistant) and a text")
    if sampling.max_tokens < 1 or not sampling.temperature >= 0 or not 0 < sampling.top_p <= 1:
        raise BadRequest("max_tokens, temperature or top_p is out of range")
    if not all(isinstance(stop, str) and stop for stop in sampling.stop):
        raise BadRequest("stop must be a text or a list of texts")
    return Prompt(messages), sampling


def _response(model: str, completion: Completion) -> dict[str, Any]:
    return {
        "id": "stand-in",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text},
                "finish_reason": "length" if completion.finish is Finish.LENGTH else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": completion.input_tokens,
            "completion_tokens": completion.output_tokens,
            "total_tokens": completion.input_tokens + completion.output_tokens,
        },
    }


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": kind}}
