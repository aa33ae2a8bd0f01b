"""The service engine against a real HTTP server on loopback."""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS, ChatServer, ok

from hinlap.core.errors import BudgetError, EngineError, HinlapError, ServiceSetupError
from hinlap.core.messages import Completion, Finish, Message, Prompt, Sampling
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.connection import LONGEST_WAIT_SECONDS, ServiceAddress
from hinlap.engines.local import LocalEngine
from hinlap.engines.service import ServiceEngine

KEY = "sk-test-5f3a9c"
PRICES = Prices(input=1.0, output=4.0, cached_input=0.1)
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


GREEDY = Sampling()
PROMPTS = [ask(f"question {number}") for number in range(8)]


def problem(status: int, message: str = "no", code: str = "", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, names, {"error": {"message": message, "code": code or None}}


def question(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.fixture
def sleeps() -> list[float]:
    """Seconds that the engine was told to wait, in order; nobody waits."""
    return []


@pytest.fixture
def engine(chat_server: ChatServer, sleeps: list[float]) -> ServiceEngine:
    return make_engine(chat_server.url, sleeps)


def make_engine(
    url: str,
    sleeps: list[float],
    *,
    cap_usd: float = 1.0,
    concurrency: int = 1,
    timeout_seconds: float = 5.0,
    max_retries: int = 2,
    prices: Prices = PRICES,
    key: str = KEY,
) -> ServiceEngine:
    address = ServiceAddress(
        base_url=url,
        model="test-model",
        key_env="TEST_KEY",
        prices=prices,
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        max_retries=max_retries,
    )
    engine = ServiceEngine(
        address, Budget(cap_usd), sleep=sleeps.append, environment={"TEST_KEY": key}
    )
    _MADE.append(engine)
    return engine


_MADE: list[ServiceEngine] = []


@pytest.fixture(autouse=True)
def _connections_are_closed() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().close()


def answers(
    engine: ServiceEngine, prompts: list[Prompt], sampling: Sampling = GREEDY
) -> list[Completion]:
    found = dict(engine.generate(prompts, sampling))
    return [found[index] for index in range(len(prompts))]


def answer(engine: ServiceEngine, sampling: Sampling = GREEDY) -> Completion:
    return answers(engine, PROMPTS[:1], sampling)[0]


def in_turn(*replies: tuple[int, dict[str, str], Any]) -> Answer:
    """Gives ``replies`` one after the other; the last for ever."""
    left = list(replies)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def test_the_answer_and_its_tokens_are_the_service_s(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: ok("A town.", prompt_tokens=31, completion_tokens=7)
    got = answer(engine)
    assert (got.text, got.finish) == ("A town.", Finish.STOP)
    assert (got.input_tokens, got.output_tokens) == (31, 7)


def test_what_is_spent_is_usage_times_price(chat_server: ChatServer, engine: ServiceEngine) -> None:
    chat_server.answer = lambda body: ok("x", prompt_tokens=1000, completion_tokens=500)
    answers(engine, PROMPTS[:2])
    assert engine.budget.spent_usd == pytest.approx(2 * (1000 * 1.0 + 500 * 4.0) / 1e6)


def test_cached_tokens_are_billed_at_the_cached_price(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    status, headers, body = ok("x", prompt_tokens=1000, completion_tokens=0)
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 800}
    chat_server.answer = lambda _: (status, headers, body)
    got = answer(engine)
    assert got.cached_input_tokens == 800
    output = got.output_tokens * 4.0
    assert engine.budget.spent_usd == pytest.approx((200 * 1.0 + 800 * 0.1 + output) / 1e6)


@pytest.mark.parametrize("usage", [None, "none", {}, {"prompt_tokens": "many"}])
def test_an_answer_without_readable_usage_is_billed_by_the_estimate(
    chat_server: ChatServer, engine: ServiceEngine, usage: object
) -> None:
    status, headers, body = ok("A town.")
    body["usage"] = usage
    chat_server.answer = lambda _: (status, headers, body)
    got = answer(engine)
    assert got.input_tokens == engine.count_tokens(PROMPTS[0])
    assert got.output_tokens > 0


def test_the_request_carries_what_the_sampling_says(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    answer(engine, Sampling(max_tokens=9, temperature=0.5, top_p=0.8, stop=("\n",), seed=3))
    [body] = chat_server.seen
    wanted = {"model": "test-model", "max_tokens": 9, "temperature": 0.5, "top_p": 0.8}
    assert body.items() >= (wanted | {"seed": 3}).items()
    assert body["stop"] == ["\n"]
    assert body["messages"] == [{"role": "user", "content": "question 0"}]
    assert chat_server.keys == [f"Bearer {KEY}"]


def test_another_repeat_asks_with_another_seed(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    for repeat in (0, 1):
        answer(engine, Sampling(repeat=repeat))
    assert chat_server.seen[0]["seed"] != chat_server.seen[1]["seed"]


def test_answers_belong_to_their_prompts_whatever_the_order(chat_server: ChatServer) -> None:
    chat_server.answer = lambda body: ok(f"to {question(body)}")
    engine = make_engine(chat_server.url, [], concurrency=4)
    assert [a.text for a in answers(engine, PROMPTS)] == [f"to question {n}" for n in range(8)]


def test_retry_after_is_waited_in_seconds(
    chat_server: ChatServer, engine: ServiceEngine, sleeps: list[float]
) -> None:
    chat_server.answer = in_turn(problem(429, Retry_After="7"), ok("late"))
    assert answer(engine).text == "late"
    assert sleeps == [7.0]


def test_retry_after_is_waited_until_a_date(
    chat_server: ChatServer, engine: ServiceEngine, sleeps: list[float]
) -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    chat_server.answer = in_turn(problem(503, Retry_After=date), ok("late"))
    assert answer(engine).text == "late"
    assert len(sleeps) == 1
    assert 0 < sleeps[0] <= 60


@pytest.mark.parametrize("header", ["soon", "Thu, 99 Foo 12345", "Fri, 31 Dec 99999 23:59:59 GMT"])
def test_an_unreadable_retry_after_waits_as_without_one(
    chat_server: ChatServer, engine: ServiceEngine, sleeps: list[float], header: str
) -> None:
    chat_server.answer = in_turn(problem(429, Retry_After=header), ok("late"))
    assert answer(engine).text == "late"
    assert sleeps == [1.0]


def test_a_retry_after_beyond_all_patience_fails_the_item(
    chat_server: ChatServer, engine: ServiceEngine, sleeps: list[float]
) -> None:
    chat_server.answer = lambda body: problem(429, Retry_After=str(LONGEST_WAIT_SECONDS + 1))
    got = answer(engine)
    assert got.finish is Finish.FAILED
    assert "asks to wait 121 s" in got.error
    assert sleeps == []


def test_waits_double_from_try_to_try(chat_server: ChatServer, sleeps: list[float]) -> None:
    chat_server.answer = in_turn(*[problem(500)] * 6, ok("at last"))
    assert answer(make_engine(chat_server.url, sleeps, max_retries=6)).text == "at last"
    assert sleeps == [1, 2, 4, 8, 16, 30]


def test_server_errors_fail_the_item_when_retries_are_used_up(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: problem(500, "internal trouble")
    got = answer(engine)
    assert got.finish is Finish.FAILED
    assert got.error == "HTTP 500: internal trouble (after 2 retries)"
    assert len(chat_server.seen) == 3


@pytest.mark.parametrize("reply", [problem(400), problem(500), (200, {}, b"{}")])
def test_a_failed_item_costs_nothing(
    chat_server: ChatServer, engine: ServiceEngine, reply: Any
) -> None:
    chat_server.answer = lambda body: reply
    assert answer(engine).finish is Finish.FAILED
    assert engine.budget.spent_usd == 0


def test_a_late_answer_is_asked_for_again(chat_server: ChatServer, sleeps: list[float]) -> None:
    release = threading.Event()

    def slow_first(body: dict[str, Any]) -> Any:
        if len(chat_server.seen) == 1:
            release.wait(10)
        return ok("in time")

    chat_server.answer = slow_first
    engine = make_engine(chat_server.url, sleeps, timeout_seconds=0.3)
    assert answer(engine).text == "in time"
    release.set()
    assert sleeps == [1.0]
    late = engine.worst_usd(PROMPTS[0], GREEDY)
    assert engine.budget.unanswered == (1, late)
    assert engine.budget.spent_usd == pytest.approx(late + PRICES.cost_usd(10, 5))


def test_a_late_answer_that_may_be_billed_leaves_no_room_under_the_cap(
    chat_server: ChatServer,
) -> None:
    release = threading.Event()

    def never(body: dict[str, Any]) -> Any:
        release.wait(10)
        return ok("too late")

    chat_server.answer = never
    worst = make_engine(chat_server.url, []).worst_usd(PROMPTS[0], GREEDY)
    engine = make_engine(chat_server.url, [], timeout_seconds=0.3, cap_usd=1.5 * worst)
    with pytest.raises(BudgetError):
        answer(engine)
    release.set()
    assert len(chat_server.seen) == 1


def test_an_answer_lost_on_the_way_may_be_billed(chat_server: ChatServer) -> None:
    def lost(body: dict[str, Any]) -> Any:
        raise ConnectionResetError  # the server hangs up

    chat_server.answer = lost
    engine = make_engine(chat_server.url, [], max_retries=0)
    assert answer(engine).finish is Finish.FAILED
    assert engine.budget.unanswered == (1, engine.worst_usd(PROMPTS[0], GREEDY))


def test_answers_that_are_always_late_fail_with_the_reason(chat_server: ChatServer) -> None:
    release = threading.Event()

    def never(body: dict[str, Any]) -> Any:
        release.wait(10)
        return ok("too late")

    chat_server.answer = never
    engine = make_engine(chat_server.url, [], timeout_seconds=0.3, max_retries=1)
    got = answer(engine)
    release.set()
    assert got.finish is Finish.FAILED
    assert got.error == "no answer within 0.3 s (after 1 retry)"
    worst = engine.worst_usd(PROMPTS[0], GREEDY)
    assert engine.budget.spent_usd == pytest.approx(2 * worst)
    assert engine.budget.unanswered == (2, pytest.approx(2 * worst))


def test_three_refused_connections_in_a_row_end_the_run(sleeps: list[float]) -> None:
    with socket.socket() as closed:  # bound but not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        engine = make_engine(url, sleeps)
        with pytest.raises(EngineError, match="3 requests in a row failed: no connection"):
            answers(engine, PROMPTS)
    assert len(sleeps) == 3 * 2
    assert engine.budget.spent_usd == 0  # no request reached anyone


def test_a_success_between_failures_goes_on(chat_server: ChatServer, sleeps: list[float]) -> None:
    def every_third_works(body: dict[str, Any]) -> Any:
        return ok("good") if int(question(body)[-1]) % 3 == 2 else problem(500)

    chat_server.answer = every_third_works
    engine = make_engine(chat_server.url, sleeps, max_retries=0)
    found = [a.finish for a in answers(engine, PROMPTS)]
    assert found.count(Finish.STOP) == 2
    assert found.count(Finish.FAILED) == 6


def test_what_was_answered_before_the_end_has_been_given(chat_server: ChatServer) -> None:
    chat_server.answer = in_turn(ok("one"), ok("two"), problem(401))
    given: list[tuple[int, Completion]] = []
    with pytest.raises(ServiceSetupError):
        given.extend(make_engine(chat_server.url, []).generate(PROMPTS, GREEDY))
    assert [completion.text for _, completion in given] == ["one", "two"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (problem(401, "bad key"), "refuses the key in TEST_KEY"),
        (problem(403, "not allowed"), "refuses the key in TEST_KEY"),
        (problem(404, "no such model"), "knows no model 'test-model'"),
        (problem(402, "pay first"), "no credit left"),
        (problem(429, "quota", code="insufficient_quota"), "no credit left"),
    ],
    ids=["401", "403", "404", "402", "insufficient_quota"],
)
def test_what_only_the_user_can_mend_ends_the_run_at_once(
    chat_server: ChatServer, engine: ServiceEngine, sleeps: list[float], reply: Any, words: str
) -> None:
    chat_server.answer = lambda body: reply
    with pytest.raises(ServiceSetupError, match=words) as caught:
        answers(engine, PROMPTS)
    assert caught.value.hint
    assert len(chat_server.seen) == 1
    assert sleeps == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_fails_that_item_only(
    chat_server: ChatServer, engine: ServiceEngine, status: int
) -> None:
    def one_is_bad(body: dict[str, Any]) -> Any:
        return problem(status, "too long") if question(body) == "question 2" else ok("good")

    chat_server.answer = one_is_bad
    found = answers(engine, PROMPTS[:4])
    assert [a.finish for a in found].count(Finish.STOP) == 3
    assert found[2].error == f"HTTP {status}: too long"
    assert len(chat_server.seen) == 4


def test_many_refused_requests_do_not_mean_that_the_service_is_down(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: problem(400, "too long")
    assert all(a.finish is Finish.FAILED for a in answers(engine, PROMPTS))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{not json",
        b"[1, 2]",
        b'"text"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": "x"}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": ["a", "b"]}}]}',
        b"\xff\xfe",
    ],
    ids=lambda body: body.decode("latin-1")[:60] or "empty",
)
def test_a_malformed_body_fails_that_item_only(
    chat_server: ChatServer, engine: ServiceEngine, body: bytes
) -> None:
    chat_server.answer = lambda sent: (
        (200, {}, body) if question(sent) == "question 0" else ok("good")
    )
    first, second = answers(engine, PROMPTS[:2])
    assert first.finish is Finish.FAILED
    assert "cannot be read" in first.error
    assert second.text == "good"


def test_a_filtered_answer_is_refused(chat_server: ChatServer, engine: ServiceEngine) -> None:
    chat_server.answer = lambda body: ok("I was ab", finish="content_filter")
    got = answer(engine)
    assert got.finish is Finish.REFUSED
    assert "content filter" in got.error


def test_a_refusal_keeps_the_service_s_words(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    status, headers, body = ok("")
    body["choices"][0]["message"] |= {"content": None, "refusal": "I cannot help with that."}
    chat_server.answer = lambda _: (status, headers, body)
    got = answer(engine)
    assert (got.finish, got.error) == (Finish.REFUSED, "I cannot help with that.")


def test_a_refused_answer_with_a_stop_string_stays_refused(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: ok("I was\nab", finish="content_filter")
    assert answer(engine, Sampling(stop=("\n",))).finish is Finish.REFUSED


def test_a_cut_answer_is_marked_as_cut(chat_server: ChatServer, engine: ServiceEngine) -> None:
    chat_server.answer = lambda body: ok("one two th", finish="length")
    assert answer(engine).finish is Finish.LENGTH


def test_stops_that_the_server_ignores_are_cut_here(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: ok("one\ntwo###three", finish="length")
    got = answer(engine, Sampling(stop=("###", "\n")))
    assert (got.text, got.finish) == ("one", Finish.STOP)


def test_stops_beyond_the_four_that_the_api_takes_are_cut_here(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: ok("one END two")
    got = answer(engine, Sampling(stop=("a!", "b!", "c!", "d!", "END")))
    assert got.text == "one "
    assert chat_server.seen[0]["stop"] == ["a!", "b!", "c!", "d!"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_run_at_once_than_allowed(
    chat_server: ChatServer, concurrency: int
) -> None:
    lock, running, most = threading.Lock(), [0], [0]
    all_in = threading.Barrier(concurrency)

    def counted(body: dict[str, Any]) -> Any:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        all_in.wait(10)  # each waits until as many as allowed are here
        with lock:
            running[0] -= 1
        return ok("good")

    chat_server.answer = counted
    engine = make_engine(chat_server.url, [], concurrency=concurrency)
    assert len(answers(engine, PROMPTS[:6])) == 6
    assert most[0] == concurrency


def test_eight_at_once_never_spend_more_than_the_cap(chat_server: ChatServer) -> None:
    sampling = Sampling(max_tokens=10)
    probe = make_engine(chat_server.url, [], concurrency=8)
    worst = probe.worst_usd(PROMPTS[0], sampling)
    tokens = 64 + 8 + len("question 0")  # what a chat template may add, and a token a byte
    engine = make_engine(chat_server.url, [], concurrency=8, cap_usd=10.5 * worst)
    billed = []

    def dearest(body: dict[str, Any]) -> Any:
        billed.append(PRICES.cost_usd(tokens, 10))
        return ok("x", prompt_tokens=tokens, completion_tokens=10)

    chat_server.answer = dearest
    given: list[tuple[int, Completion]] = []
    with pytest.raises(BudgetError, match="budget_usd"):
        given.extend(engine.generate(PROMPTS * 5, sampling))
    assert sum(billed) <= engine.budget.cap_usd
    assert engine.budget.spent_usd == pytest.approx(sum(billed))
    assert len(given) == len(billed) == 10


@pytest.mark.parametrize("text", [*TEXTS, "1 2 3 4 5 6 7", "!@#$%^&*()", "😀😃😄", ""])
def test_the_worst_case_is_not_under_a_real_tokenizer_s_count(tiny_model: Path, text: str) -> None:
    engine = make_engine("http://127.0.0.1/v1", [], prices=Prices(1e6, 0.0, 0.0))
    tokens = LocalEngine("tiny", tiny_model).count_tokens(ask(text))  # of few and short tokens
    assert engine.worst_usd(ask(text), GREEDY) >= tokens


def test_nothing_is_asked_when_the_first_request_could_cross_the_cap(
    chat_server: ChatServer,
) -> None:
    with pytest.raises(BudgetError):
        answer(make_engine(chat_server.url, [], cap_usd=1e-9))
    assert chat_server.seen == []


def test_a_missing_key_is_told_before_anything_is_asked(chat_server: ChatServer) -> None:
    engine = make_engine(chat_server.url, [], key="  ")
    with pytest.raises(ServiceSetupError, match="export TEST_KEY"):
        engine.check_key()
    with pytest.raises(ServiceSetupError, match="TEST_KEY"):
        answer(engine)
    assert chat_server.seen == []


@pytest.mark.parametrize("key", ["sk-กุญแจ", "sk-line\nbreak", "sk two", "“sk-quoted”"])
def test_a_key_that_no_header_can_carry_is_told_without_showing_it(
    chat_server: ChatServer, key: str
) -> None:
    with pytest.raises(ServiceSetupError, match="TEST_KEY") as caught:
        answer(make_engine(chat_server.url, [], key=key))
    assert key[3:] not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
@pytest.mark.parametrize("padding", ["", "x" * 285])
def test_a_key_that_the_server_echoes_is_in_no_message(
    chat_server: ChatServer, engine: ServiceEngine, status: int, padding: str
) -> None:
    chat_server.answer = lambda body: problem(status, f"{padding}your key {KEY} is odd")
    assert KEY[:8] not in message_of(engine)


def test_a_key_echoed_as_plain_text_is_in_no_message(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    chat_server.answer = lambda body: (400, {}, f"Bearer {KEY} was sent".encode())
    assert KEY not in message_of(engine)


def test_a_key_echoed_in_a_refusal_is_in_no_message(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    status, headers, body = ok("")
    body["choices"][0]["message"] |= {"refusal": f"not for {KEY}"}
    chat_server.answer = lambda _: (status, headers, body)
    assert KEY not in message_of(engine)


def test_the_key_is_not_in_the_engine_s_repr(engine: ServiceEngine) -> None:
    answer(engine)
    assert KEY not in repr(engine)
    assert KEY not in json.dumps([engine.name, engine.digest, engine.render(PROMPTS[0])])


def message_of(engine: ServiceEngine) -> str:
    """What the user reads of a request that failed, whichever way."""
    try:
        return answer(engine).error
    except HinlapError as error:
        return f"{error} {error.what} {error.where} {error.hint}"


def test_an_address_of_its_own_has_a_digest_of_its_own(chat_server: ChatServer) -> None:
    one, two = make_engine("http://a/v1", []), make_engine("http://b/v1", [])
    assert one.digest != two.digest
    assert one.digest == make_engine("http://a/v1", [], cap_usd=9.0).digest


def test_a_model_that_wants_max_completion_tokens_gets_them(
    chat_server: ChatServer, engine: ServiceEngine
) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if "max_tokens" in body:
            return problem(400, "Unsupported parameter: use 'max_completion_tokens' instead.")
        return ok(f"up to {body['max_completion_tokens']}")

    chat_server.answer = reply
    assert answer(engine, Sampling(max_tokens=9)).text == "up to 9"
