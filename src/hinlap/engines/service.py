"""Any OpenAI-compatible chat endpoint, asked with bounded concurrency, patience and money."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hinlap.core.errors import EngineError
from hinlap.core.messages import Completion, Finish, Prompt, Sampling
from hinlap.engines.budget import Budget
from hinlap.engines.connection import (
    Connection,
    ServiceAddress,
    Unanswered,
    in_parallel,
    storable,
)
from hinlap.engines.tokens import estimate_tokens

if TYPE_CHECKING:
    import openai

_GIVE_UP_AFTER = 3
"""Requests in a row that fail after all retries: then the service counts as down."""
_MESSAGE_OVERHEAD_TOKENS = 8
_TEMPLATE_TOKENS = 64
"""What a chat template may add once (a system message of its own), in the bound on costs."""


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
            estimate_tokens(message.text) + _MESSAGE_OVERHEAD_TOKENS for message in prompt.messages
        )

    def worst_usd(self, prompt: Prompt, sampling: Sampling) -> float:
        """What one request costs at the most: no tokenizer makes more tokens than bytes."""
        most_tokens = _TEMPLATE_TOKENS + sum(
            len(message.text.encode("utf-8", "replace")) + _MESSAGE_OVERHEAD_TOKENS
            for message in prompt.messages
        )
        return self.address.prices.cost_usd(most_tokens, sampling.max_tokens)

    def check_key(self) -> None:
        """Raises ServiceSetupError when the environment variable with the key is not set."""
        self._connection.key()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        _ = self._connection.client  # opened once, before the threads ask
        failures_in_a_row = [0]

        def give_up(answer: tuple[Completion, bool]) -> None:
            completion, down = answer
            failures_in_a_row[0] = failures_in_a_row[0] + 1 if down else 0
            if failures_in_a_row[0] >= _GIVE_UP_AFTER:
                raise EngineError(
                    f"{_GIVE_UP_AFTER} requests in a row failed: {completion.error}",
                    where=self.address.base_url,
                    hint="run the same command again later; what was answered is kept",
                )

        def ask(index: int) -> tuple[Completion, bool]:
            return self._ask(prompts[index], sampling)

        found = in_parallel(len(prompts), self.address.concurrency, ask, give_up)
        for index, (completion, _) in found:
            yield index, completion

    def close(self) -> None:
        """Closes its connections, if any were opened."""
        self._connection.close()

    @functools.cached_property
    def _connection(self) -> Connection:
        return Connection(self.address, self.budget, self.sleep, self.environment)

    def _body(self, prompt: Prompt, sampling: Sampling | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": [
                {"role": "user" if m.role == "text" else m.role, "content": m.text}
                for m in prompt.messages
            ],
        }
        if sampling is not None:
            body["max_tokens"] = sampling.max_tokens
            body["temperature"] = sampling.temperature
            body["top_p"] = sampling.top_p
            body["seed"] = sampling.seed + sampling.repeat
            if sampling.stop:
                body["stop"] = list(sampling.stop[:4])  # the API takes four
        return body

    def _ask(self, prompt: Prompt, sampling: Sampling) -> tuple[Completion, bool]:
        """One answer, FAILED when retries are used up, and whether the service was down."""
        body = self._body(prompt, sampling)
        estimated_tokens = self.count_tokens(prompt)

        def request(client: openai.OpenAI) -> Completion:
            began = time.perf_counter()
            response = client.chat.completions.create(**body)
            completion = _completion(response, time.perf_counter() - began)
            return replace(
                completion,
                input_tokens=completion.input_tokens or estimated_tokens,
                error=self._connection.redacted(completion.error),
            )

        def cost_usd(answer: Completion) -> float:
            return self.address.prices.cost_usd(
                answer.input_tokens, answer.output_tokens, answer.cached_input_tokens
            )

        while True:
            try:
                completion = self._connection.ask(
                    request, worst_usd=self.worst_usd(prompt, sampling), cost_usd=cost_usd
                )
            except Unanswered as failure:
                if "max_completion_tokens" in failure.reason and "max_tokens" in body:
                    # newer models of OpenAI refuse the older name that other servers know
                    body["max_completion_tokens"] = body.pop("max_tokens")
                    continue
                return _failed(failure.reason), failure.down
            return _cut_at_stops(completion, sampling.stop), False


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
    text = storable(content or "")
    finish = Finish.LENGTH if reason == "length" else Finish.STOP
    error = ""
    if refusal or reason == "content_filter":
        finish = Finish.REFUSED
        error = storable(str(refusal or "stopped by the service's content filter"))
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
