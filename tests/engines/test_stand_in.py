"""The stand-in service, over real HTTP and with the real client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from tests.conftest import TEXTS

from hinlap.core.errors import EngineError
from hinlap.core.messages import Completion, Message, Prompt, Sampling
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.connection import ServiceAddress
from hinlap.engines.local import LocalEngine
from hinlap.engines.scripted import ScriptedEngine
from hinlap.engines.service import ServiceEngine
from hinlap.engines.stand_in import KEY, stand_in_service

GOOD = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def client(url: str, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=20)


def say(service: openai.OpenAI, text: str, **options: Any) -> Any:
    return service.chat.completions.create(
        model="any", messages=[{"role": "user", "content": text}], **options
    )


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> LocalEngine:
    return LocalEngine("tiny", tiny_model)


@pytest.fixture(scope="module")
def url(local: LocalEngine) -> Iterator[str]:
    with stand_in_service(local) as address:
        yield address


@pytest.fixture
def wire(url: str) -> Iterator[http.client.HTTPConnection]:
    """A bare connection, kept open from request to request."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    yield connection
    connection.close()


def post(
    wire: http.client.HTTPConnection,
    body: bytes,
    *,
    key: str = KEY,
    path: str = "/v1/chat/completions",
) -> tuple[int, Any]:
    wire.request("POST", path, body, {"Authorization": f"Bearer {key}"})
    response = wire.getresponse()
    return response.status, json.loads(response.read())


def test_the_real_client_gets_what_the_model_answers(url: str, local: LocalEngine) -> None:
    [(_, expected)] = local.generate([ask(TEXTS[0])], Sampling(max_tokens=8))
    with client(url) as service:
        got = say(service, TEXTS[0], max_tokens=8)
    assert got.choices[0].message.content == expected.text
    assert got.choices[0].finish_reason == "length"
    assert got.usage.prompt_tokens == expected.input_tokens
    assert got.usage.completion_tokens == 8


def test_sampling_and_stops_reach_the_model(url: str, local: LocalEngine) -> None:
    sampling = Sampling(max_tokens=8, temperature=0.9, top_p=0.8, seed=5)
    [(_, expected)] = local.generate([ask(TEXTS[1])], sampling)
    stop = expected.text[3:5]
    with client(url) as service:
        got = say(service, TEXTS[1], max_tokens=8, temperature=0.9, top_p=0.8, seed=5, stop=[stop])
    assert got.choices[0].message.content == expected.text[: expected.text.index(stop)]
    assert got.choices[0].finish_reason == "stop"


def test_requests_at_the_same_time_get_their_own_answers(url: str, local: LocalEngine) -> None:
    found = dict(local.generate([ask(text) for text in TEXTS], Sampling(max_tokens=6)))
    with client(url) as service, ThreadPoolExecutor(8) as threads:
        got = threads.map(lambda text: say(service, text, max_tokens=6), TEXTS)
        texts = [answer.choices[0].message.content for answer in got]
    assert texts == [found[index].text for index in range(len(TEXTS))]


def test_a_request_with_other_sampling_is_not_mixed_in(url: str, local: LocalEngine) -> None:
    with client(url) as service, ThreadPoolExecutor(4) as threads:
        got = threads.map(lambda most: say(service, TEXTS[0], max_tokens=most), (1, 2, 3, 4))
        assert [answer.usage.completion_tokens for answer in got] == [1, 2, 3, 4]


def test_the_service_engine_works_against_it(url: str, local: LocalEngine) -> None:
    address = ServiceAddress(url, "any", "K", Prices(1.0, 1.0, 1.0))
    engine = ServiceEngine(address, Budget(1.0), environment={"K": KEY})
    sampling = Sampling(max_tokens=5)
    prompts = [ask(text) for text in TEXTS[:4]]
    over_http = {i: c.text for i, c in engine.generate(prompts, sampling)}
    assert over_http == {i: c.text for i, c in local.generate(prompts, sampling)}
    assert engine.budget.spent_usd > 0


def test_a_wrong_key_is_refused(url: str) -> None:
    with client(url, key="wrong") as service, pytest.raises(openai.AuthenticationError):
        say(service, "hello")


def test_a_connection_goes_on_after_a_refused_request(wire: http.client.HTTPConnection) -> None:
    body = json.dumps(GOOD).encode()
    assert post(wire, body, key="wrong")[0] == 401
    assert post(wire, body, path="/v1/nothing")[0] == 404
    assert post(wire, body)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b'{"messages": []}',
        b'{"messages": "hello"}',
        b'{"messages": [1]}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "user", "content": null}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}',
        b'{"messages": [{"role": "wizard", "content": "hello"}]}',
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"max_tokens": "many"},
                {"max_tokens": -1},
                {"max_tokens": float("inf")},
                {"temperature": "hot"},
                {"temperature": -1},
                {"top_p": 2},
                {"stop": [1]},
                {"stop": 5},
            )
        ),
    ],
    ids=lambda body: body.decode("latin-1")[-50:] or "empty",
)
def test_a_bad_body_is_a_bad_request(wire: http.client.HTTPConnection, body: bytes) -> None:
    status, answer = post(wire, body)
    assert status == 400
    assert answer["error"]["message"]


@pytest.mark.parametrize("length", ["-1", "many", str(2**40)])
def test_a_body_of_impossible_length_is_a_bad_request(
    wire: http.client.HTTPConnection, length: str
) -> None:
    wire.putrequest("POST", "/v1/chat/completions")
    wire.putheader("Content-Length", length)
    wire.endheaders()
    assert wire.getresponse().status == 400


def test_a_prompt_over_the_window_is_a_bad_request_with_the_reason(url: str) -> None:
    with client(url) as service, pytest.raises(openai.BadRequestError, match="window of 512"):
        say(service, "boats " * 600)


def test_a_model_that_breaks_down_is_a_server_error() -> None:
    def broken(prompt: Prompt) -> str:
        raise EngineError("memory ran out")

    with (
        stand_in_service(ScriptedEngine(broken)) as url,
        client(url) as service,
        pytest.raises(openai.InternalServerError, match="memory ran out"),
    ):
        say(service, "hello")


def test_requests_that_arrive_together_share_a_batch() -> None:
    batches: list[int] = []

    class Counting(ScriptedEngine):
        def generate(self, prompts: Any, sampling: Sampling) -> Iterator[tuple[int, Completion]]:
            batches.append(len(prompts))
            first_is_running.set()
            others_wait.wait(10)
            return super().generate(prompts, sampling)

    first_is_running, others_wait = threading.Event(), threading.Event()
    engine = Counting(lambda prompt: "yes")
    with stand_in_service(engine) as url, client(url) as service, ThreadPoolExecutor(5) as threads:
        first = threads.submit(say, service, "0")
        assert first_is_running.wait(10)
        others = [threads.submit(say, service, str(number)) for number in range(1, 5)]
        threading.Timer(0.3, others_wait.set).start()
        for future in (first, *others):
            assert future.result().choices[0].message.content == "yes"
    assert batches == [1, 4]


def test_it_is_gone_when_its_block_ends() -> None:
    with stand_in_service(ScriptedEngine(lambda prompt: "yes")) as url, client(url) as service:
        assert say(service, "hello").choices[0].message.content == "yes"
    with client(url) as service, pytest.raises(openai.APIConnectionError):
        say(service, "hello")


def test_its_threads_end_with_its_block() -> None:
    before = set(threading.enumerate())
    with stand_in_service(ScriptedEngine(lambda prompt: "yes")):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before
