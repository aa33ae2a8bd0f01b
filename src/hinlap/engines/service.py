"""Any OpenAI-compatible chat endpoint, asked with bounded concurrency, patience and money."""

from __future__ import annotations

import email.utils
import functools
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hinlap.core.counting import counted
from hinlap.core.errors import EngineError, HinlapError, MissingExtraError, ServiceSetupError
from hinlap.core.messages import Completion, Finish, Prompt, Sampling
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.tokens import estimate_tokens

if TYPE_CHECKING:
    import openai

LONGEST_WAIT_SECONDS = 120.0
"""A service that asks for more patience than this is given up."""
_GIVE_UP_AFTER = 3
"""Requests in a row that fail after all retries: then the service counts as down."""
_SENT_WITHOUT_ANSWER = ("ReadTimeout", "WriteTimeout", "ReadError", "RemoteProtocolError")
"""What ends a request that may have reached the service. By name: the package that raises them
changes with openai's version."""
_MESSAGE_OVERHEAD_TOKENS = 8
_TEMPLATE_TOKENS = 64
"""What a chat template may add once (a system message of its own), in the bound on costs."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where and how to ask. The key is read from the environment when asking, never kept."""

    base_url: str
    model: str
    key_env: str
    prices: Prices
    concurrency: int = 4
    timeout_seconds: float = 60.0
    max_retries: int = 5


@dataclass
class ServiceEngine:
    """One model behind an OpenAI-compatible address.

    Retries time-outs, lost connections, 408, 409, 429 and 5xx with doubling waits, or as long as
    Retry-After says; a latency is that of the attempt that succeeded. Every attempt has its place
    in the budget: one that timed out counts as the most it could cost. Raises ServiceSetupError
    for a missing or refused key, an unknown model or address; BudgetError at the cap;
    EngineError when the service is down. Whatever was answered before has been yielded.

    identity: names the model behind an address that changes (a stand-in), for the cache.
    """

    address: ServiceAddress
    budget: Budget
    sleep: Callable[[float], None] = time.sleep
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    identity: str = ""

    @property
    def name(self) -> str:
        return self.address.model

    @property
    def digest(self) -> str:
        place = self.identity or f"service/{self.address.base_url}/{self.address.model}"
        return hashlib.sha256(place.encode()).hexdigest()

    def render(self, prompt: Prompt) -> str:
        return json.dumps(self._body(prompt, None), ensure_ascii=False, indent=2)

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(
            estimate_tokens(message.content) + _MESSAGE_OVERHEAD_TOKENS
            for message in prompt.messages
        )

    def worst_usd(self, prompt: Prompt, sampling: Sampling) -> float:
        """What one request costs at the most: no tokenizer makes more tokens than bytes."""
        most_tokens = _TEMPLATE_TOKENS + sum(
            len(message.content.encode("utf-8", "replace")) + _MESSAGE_OVERHEAD_TOKENS
            for message in prompt.messages
        )
        return self.address.prices.cost_usd(most_tokens, sampling.max_tokens)

    def check_key(self) -> None:
        """Raises ServiceSetupError when the environment variable with the key is not set."""
        self._key()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        client = self._client
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(prompts)):
            todo.put(index)
        done: queue.SimpleQueue[tuple[int, Completion] | Exception | None] = queue.SimpleQueue()
        stop = threading.Event()
        failures_in_a_row = [0]

        def work() -> None:
            try:
                while not stop.is_set():
                    index = todo.get_nowait()
                    completion, down = self._ask(client, prompts[index], sampling)
                    done.put((index, completion))
                    failures_in_a_row[0] = failures_in_a_row[0] + 1 if down else 0
                    if failures_in_a_row[0] >= _GIVE_UP_AFTER:
                        raise EngineError(
                            f"{_GIVE_UP_AFTER} requests in a row failed: {completion.error}",
                            where=self.address.base_url,
                            hint="run the same command again later; what was answered is kept",
                        )
            except queue.Empty:
                pass
            except Exception as error:  # handed to the caller's thread, which raises it
                stop.set()
                done.put(error)
            finally:
                done.put(None)

        workers = min(self.address.concurrency, len(prompts))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        failure: Exception | None = None
        try:
            running = workers
            while running:
                event = done.get()
                if event is None:
                    running -= 1
                elif isinstance(event, Exception):
                    failure = failure or event
                else:
                    yield event
        finally:
            stop.set()  # the caller stopped early: no new requests
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Closes its connections, if any were opened."""
        if "_client" in self.__dict__:
            self._client.close()

    @functools.cached_property
    def _client(self) -> openai.OpenAI:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", "service") from error
        return openai.OpenAI(
            api_key=self._key(),
            base_url=self.address.base_url,
            max_retries=0,
            timeout=self.address.timeout_seconds,
        )

    def _key(self) -> str:
        key = self.environment.get(self.address.key_env, "").strip()
        if not key:
            raise ServiceSetupError(
                f"the environment variable {self.address.key_env} with the service's key is not "
                "set",
                where=self.address.base_url,
                hint=f"export {self.address.key_env}=… (in your shell, not in a file of the app)",
            )
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ServiceSetupError(
                f"the key in {self.address.key_env} holds a character that no key has (a space, "
                "a line end, a letter outside ASCII)",
                where=self.address.base_url,
                hint="copy the key again, without quotes or anything around it",
            )
        return key

    def _body(self, prompt: Prompt, sampling: Sampling | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": [asdict(message) for message in prompt.messages],
        }
        if sampling is not None:
            body["max_tokens"] = sampling.max_tokens
            body["temperature"] = sampling.temperature
            body["top_p"] = sampling.top_p
            body["seed"] = sampling.seed + sampling.repeat
            if sampling.stop:
                body["stop"] = list(sampling.stop[:4])  # the API takes four
        return body

    def _ask(
        self, client: openai.OpenAI, prompt: Prompt, sampling: Sampling
    ) -> tuple[Completion, bool]:
        """One answer, FAILED when retries are used up, and whether the service was down."""
        import openai

        body = self._body(prompt, sampling)
        worst = self.worst_usd(prompt, sampling)
        wait = 1.0
        for attempt in range(self.address.max_retries + 1):
            try:
                completion = self._request(client, body, self.count_tokens(prompt), worst)
                return _cut_at_stops(completion, sampling.stop), False
            except openai.APITimeoutError:
                reason = f"no answer within {self.address.timeout_seconds:g} s"
                pause = wait
            except openai.APIConnectionError as error:
                reason = f"no connection ({error.__cause__ or error})"
                pause = wait
            except openai.APIStatusError as error:
                reason = f"HTTP {error.status_code}: {self._message(error)}"
                final = self._final_error(error, reason)
                if final is not None:
                    raise final from None
                if "max_completion_tokens" in reason and "max_tokens" in body:
                    # newer models of OpenAI refuse the older name that other servers know
                    body["max_completion_tokens"] = body.pop("max_tokens")
                    continue
                if error.status_code in (400, 413, 422):
                    return _failed(reason), False
                pause = _retry_after(error.response.headers.get("retry-after"), wait)
            except (openai.OpenAIError, ValueError) as error:  # a body that is no such answer
                return _failed(self._redacted(f"the answer cannot be read: {error}")), False
            if pause > LONGEST_WAIT_SECONDS:
                return _failed(f"{reason}; it asks to wait {pause:.0f} s"), True
            if attempt < self.address.max_retries:
                self.sleep(pause)
                wait = min(wait * 2, 30.0)
        retries = counted(self.address.max_retries, "retry", "retries")
        return _failed(f"{reason} (after {retries})"), True

    def _request(
        self, client: openai.OpenAI, body: dict[str, Any], estimated_tokens: int, worst: float
    ) -> Completion:
        """One request and its place in the budget: an answer costs its tokens, one that was sent
        but got no answer counts as ``worst`` (it may be billed), a refused one costs nothing.

        Raises what openai raises, and ValueError for an answer that cannot be read.
        """
        import openai

        self.budget.reserve(worst)
        actual, unanswered = 0.0, False
        began = time.perf_counter()
        try:
            response = client.chat.completions.create(**body)
            completion = _completion(response, time.perf_counter() - began)
            completion = replace(
                completion,
                input_tokens=completion.input_tokens or estimated_tokens,
                error=self._redacted(completion.error),
            )
            actual = self.address.prices.cost_usd(
                completion.input_tokens, completion.output_tokens, completion.cached_input_tokens
            )
            return completion
        except openai.APIConnectionError as error:  # a time-out is one, too
            unanswered = type(error.__cause__).__name__ in _SENT_WITHOUT_ANSWER
            raise
        finally:
            if unanswered:
                self.budget.settle_unanswered(worst)
            else:
                self.budget.settle(worst, actual)

    def _final_error(self, error: openai.APIStatusError, reason: str) -> HinlapError | None:
        """What no retry mends, as the error to raise; None for what may pass."""
        if error.status_code in (401, 403):
            return ServiceSetupError(
                f"the service refuses the key in {self.address.key_env} ({reason})",
                where=self.address.base_url,
                hint="check that key, its project and its rights",
            )
        if error.status_code == 404:
            return ServiceSetupError(
                f"the service knows no model {self.address.model!r} at this address ({reason})",
                where=self.address.base_url,
                hint="check model and base_url in app.yaml",
            )
        if error.status_code == 402 or error.code == "insufficient_quota":
            return ServiceSetupError(
                f"the account has no credit left ({reason})",
                where=self.address.base_url,
                hint="add credit, then run the same command again; answers paid for are kept",
            )
        return None

    def _message(self, error: openai.APIStatusError) -> str:
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return self._redacted(str(message or error.response.text or "no message"))[:300]

    def _redacted(self, text: str) -> str:
        key = self.environment.get(self.address.key_env, "").strip()
        return _storable(text.replace(key, "•••") if key else text)


def _completion(response: Any, seconds: float) -> Completion:
    """Raises ValueError when the body lacks what the API promises."""
    choices = getattr(response, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    content = getattr(message, "content", 0)  # 0: no such field; None: nothing said
    if not choices or not isinstance(content, str | None):
        raise ValueError("no choices with a text in the response")
    reason = getattr(choices[0], "finish_reason", None)
    usage = getattr(response, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    refusal = getattr(message, "refusal", None)
    text = _storable(content or "")
    finish = Finish.LENGTH if reason == "length" else Finish.STOP
    error = ""
    if refusal or reason == "content_filter":
        finish = Finish.REFUSED
        error = _storable(str(refusal or "stopped by the service's content filter"))
    input_tokens = _count(usage, "prompt_tokens")
    return Completion(
        text=text,
        finish=finish,
        input_tokens=input_tokens,
        output_tokens=_count(usage, "completion_tokens") or estimate_tokens(text),
        seconds=seconds,
        cached_input_tokens=min(input_tokens, _count(details, "cached_tokens")),
        error=error,
    )


def _count(usage: object, field: str) -> int:
    """A token count as the service tells it; 0 where it tells none, or nonsense."""
    value = getattr(usage, field, None)
    return value if isinstance(value, int) and value > 0 else 0


def _storable(text: str) -> str:
    """Half of a surrogate pair (a cut emoji) can be neither stored nor printed."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut_at_stops(completion: Completion, stops: Sequence[str]) -> Completion:
    """Some servers ignore ``stop``, and the API takes only four."""
    cut = min((at for s in stops if (at := completion.text.find(s)) >= 0), default=-1)
    if cut < 0 or completion.finish is Finish.REFUSED:
        return completion
    return replace(completion, text=completion.text[:cut], finish=Finish.STOP)


def _failed(reason: str) -> Completion:
    return Completion(
        text="",
        finish=Finish.FAILED,
        input_tokens=0,
        output_tokens=0,
        seconds=0.0,
        error=reason,
    )


def _retry_after(header: str | None, fallback: float) -> float:
    """Seconds to wait by a Retry-After header (a number or a date), else ``fallback``."""
    if not header:
        return fallback
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    date = email.utils.parsedate_tz(header)
    try:
        return fallback if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):  # a year that no calendar has
        return fallback
