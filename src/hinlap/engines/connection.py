"""Requests to one OpenAI-compatible address, with patience, a key and a budget."""

from __future__ import annotations

import email.utils
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from hinlap.core.counting import counted
from hinlap.core.errors import HinlapError, MissingExtraError, ServiceSetupError
from hinlap.engines.budget import Budget, Prices

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

LONGEST_WAIT_SECONDS = 120.0
"""A service that asks for more patience than this is given up."""
_SENT_WITHOUT_ANSWER = ("ReadTimeout", "WriteTimeout", "ReadError", "RemoteProtocolError")
"""What ends a request that may have reached the service. By name: the package that raises them
changes with openai's version."""


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


class Unanswered(Exception):
    """A request without an answer: why, and whether the service was down (or refused this one)."""

    def __init__(self, reason: str, *, down: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.down = down


@dataclass
class Connection:
    """How every request to a service is made.

    Retries time-outs, lost connections, 408, 409, 429 and 5xx with doubling waits, or as long as
    Retry-After says. Every attempt has its place in the budget: one that timed out counts as the
    most it could cost.

    key_optional: a server that may want no key is asked without one where none is set.
    """

    address: ServiceAddress
    budget: Budget
    sleep: Callable[[float], None] = time.sleep
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    key_optional: bool = False

    def ask(
        self,
        request: Callable[[openai.OpenAI], T],
        *,
        worst_usd: float,
        cost_usd: Callable[[T], float],
    ) -> T:
        """The answer that ``request`` makes with the client. It raises what openai raises, and
        ValueError for an answer that cannot be read.

        Raises Unanswered when retries are used up or the request is refused, ServiceSetupError
        for what only the user can mend, BudgetError at the cap.
        """
        client = self.client
        import openai

        wait = 1.0
        for attempt in range(self.address.max_retries + 1):
            try:
                return self._once(client, request, worst_usd, cost_usd)
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
                if error.status_code in (400, 413, 422):
                    raise Unanswered(reason, down=False) from None
                pause = _retry_after(error.response.headers.get("retry-after"), wait)
            except (openai.OpenAIError, ValueError) as error:  # a body that is no such answer
                reason = self.redacted(f"the answer cannot be read: {error}")
                raise Unanswered(reason, down=False) from None
            if pause > LONGEST_WAIT_SECONDS:
                raise Unanswered(f"{reason}; it asks to wait {pause:.0f} s", down=True)
            if attempt < self.address.max_retries:
                self.sleep(pause)
                wait = min(wait * 2, 30.0)
        retries = counted(self.address.max_retries, "retry", "retries")
        raise Unanswered(f"{reason} (after {retries})", down=True)

    @functools.cached_property
    def client(self) -> openai.OpenAI:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", "service") from error
        return openai.OpenAI(
            api_key=self.key(),
            base_url=self.address.base_url,
            max_retries=0,
            timeout=self.address.timeout_seconds,
        )

    def close(self) -> None:
        """Closes its connections, if any were opened."""
        if "client" in self.__dict__:
            self.client.close()

    def key(self) -> str:
        """Raises ServiceSetupError when the variable is not set or holds no key."""
        key = self.environment.get(self.address.key_env, "").strip()
        if not key and self.key_optional:
            return "none"  # the client insists on one
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

    def redacted(self, text: str) -> str:
        """Without the key, and fit to be stored."""
        key = self.environment.get(self.address.key_env, "").strip()
        return storable(text.replace(key, "•••") if key else text)

    def _once(
        self,
        client: openai.OpenAI,
        request: Callable[[openai.OpenAI], T],
        worst_usd: float,
        cost_usd: Callable[[T], float],
    ) -> T:
        """One request and its place in the budget: an answer costs its tokens, one that was sent
        but got no answer counts as ``worst_usd`` (it may be billed), a refused one costs nothing.
        """
        import openai

        self.budget.reserve(worst_usd)
        actual, unanswered = 0.0, False
        try:
            answer = request(client)
            actual = cost_usd(answer)
            return answer
        except openai.APIConnectionError as error:  # a time-out is one, too
            unanswered = type(error.__cause__).__name__ in _SENT_WITHOUT_ANSWER
            raise
        finally:
            if unanswered:
                self.budget.settle_unanswered(worst_usd)
            else:
                self.budget.settle(worst_usd, actual)

    def _final_error(self, error: openai.APIStatusError, reason: str) -> HinlapError | None:
        """What no retry mends, as the error to raise; None for what may pass."""
        if error.status_code in (401, 403) and self.key_optional and not self._has_key:
            return ServiceSetupError(
                f"the service wants a key ({reason})",
                where=self.address.base_url,
                hint=f"export {self.address.key_env}=… (in your shell, not in a file of the app)",
            )
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
                hint="check the model's name and the address (model and base_url in app.yaml)",
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
        return self.redacted(str(message or error.response.text or "no message"))[:300]

    @property
    def _has_key(self) -> bool:
        return bool(self.environment.get(self.address.key_env, "").strip())


def in_parallel(
    count: int,
    workers: int,
    work: Callable[[int], T],
    after: Callable[[T], None] = lambda result: None,
) -> Iterator[tuple[int, T]]:
    """(index, work(index)) for every index below ``count``, as soon as each is done.

    after: sees each result in its worker before that worker goes on.
    What either raises ends the work; it is raised here once everything under way is done and
    yielded.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(count):
        todo.put(index)
    done: queue.SimpleQueue[tuple[int, T] | Exception | None] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        try:
            while not stop.is_set():
                index = todo.get_nowait()
                result = work(index)
                done.put((index, result))
                after(result)
        except queue.Empty:
            pass
        except Exception as error:  # handed to the caller's thread, which raises it
            stop.set()
            done.put(error)
        finally:
            done.put(None)

    running = min(workers, count)
    for _ in range(running):
        threading.Thread(target=run, daemon=True).start()
    failure: Exception | None = None
    try:
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


def storable(text: str) -> str:
    """Half of a surrogate pair (a cut emoji) can be neither stored nor printed."""
    return text.encode("utf-8", "replace").decode("utf-8")


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
