"""What is asked of a model and what comes back."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant", "text"]
"""text: no message but raw text, to be continued as it stands (see `raw_prompt`)."""


@dataclass(frozen=True, slots=True)
class Message:
    """input: what a user's message is about, for prompt formats with a place of its own for it."""

    role: Role
    content: str
    input: str = ""

    @property
    def text(self) -> str:
        """Content and input as one text, a blank line between them."""
        return f"{self.content}\n\n{self.input}" if self.input else self.content


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to be continued. How it becomes tokens is the engine's matter."""

    messages: tuple[Message, ...]

    @property
    def raw(self) -> bool:
        """Whether it is text to be continued as it stands, past any chat template."""
        return len(self.messages) == 1 and self.messages[0].role == "text"


def raw_prompt(text: str) -> Prompt:
    """Text that a local model continues as it stands; a service is sent it as a user's message.
    "" is the beginning of a text."""
    return Prompt((Message("text", text),))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is drawn.

    max_tokens:         new tokens at the most, at least 1.
    temperature:        0 is greedy.
    top_p:              (0, 1]; 1 keeps all.
    top_k:              0 keeps all.
    repetition_penalty: 1 is none (services do not take it).
    stop:               the answer ends before the first of these; they are not part of it.
    seed:               of this request; together with ``repeat`` it names one draw.
    repeat:             0 for the first draw of a prompt, 1 for the second ...
    json_schema:        a JSON schema (as JSON text) that the answer is held to while it is
                        written; "" for none. Local engines only.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    repeat: int = 0
    json_schema: str = ""


class Finish(enum.StrEnum):
    """Why an answer ended. Only STOP is a whole answer."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    seconds:             wall time of the call that made it, when it was made (a cached answer
                         keeps the time of its making; ``cached`` tells).
    batch_size:          how many answers that call made at once; only 1 is a latency.
    cached_input_tokens: the part of ``input_tokens`` a service billed at its cached price.
    error:               one sentence, when ``finish`` is FAILED or REFUSED.
    logprobs:            nats of the tokens made under the model itself, a stop string's included,
                         from local engines when the answer is made; not kept in the cache.
    """

    text: str
    finish: Finish
    input_tokens: int
    output_tokens: int
    seconds: float
    batch_size: int = 1
    cached: bool = False
    cached_input_tokens: int = 0
    error: str = ""
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text to be weighed as the answer to a prompt."""

    context: Prompt
    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities in nats of a continuation's tokens, one each, in order.

    tokens: ids; -1 from engines that do not say them.
    ranks:  how many tokens the model held likelier than each (0: its greedy choice, -1: one or
            more, their number unknown); empty from engines that do not say.
    cut:    first tokens of the context left out because context and text were over the window.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    ranks: tuple[int, ...] = ()
    cut: int = 0

    @property
    def total(self) -> float:
        """Their sum: the log-likelihood of the continuation in nats, at most 0."""
        return sum(self.logprobs)

    @property
    def greedy(self) -> bool | None:
        """Whether greedy choices alone give this text; None where ranks are unknown."""
        return all(rank == 0 for rank in self.ranks) if self.ranks else None


class Engine(Protocol):
    """A model that can answer: local weights, a paid service, a scripted fake."""

    @property
    def name(self) -> str:
        """Model and revision as a reader knows them."""
        ...

    @property
    def digest(self) -> str:
        """Names what decides an answer besides prompt and sampling; part of the cache key."""
        ...

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        """(index of the prompt, its answer), each once, as soon as it is done, in any order.

        As soon as: what is done can be kept before the next is begun. A prompt that cannot be
        answered comes back FAILED with its reason; an engine raises only when none can be.
        """
        ...

    def render(self, prompt: Prompt) -> str:
        """The exact text (or request body) the model would see."""
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the rendered prompt; a rough estimate where the tokenizer is not known."""
        ...


@runtime_checkable
class EachEngine(Engine, Protocol):
    """An engine that takes every prompt with a sampling of its own."""

    def generate_each(
        self, requests: Sequence[tuple[Prompt, Sampling]]
    ) -> Iterator[tuple[int, Completion]]:
        """As `Engine.generate`."""
        ...


class Scorer(Protocol):
    """Weighs given texts, and may be unable to answer."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def score(self, pairs: Sequence[Continuation]) -> list[TokenLogprobs]:
        """The log-probabilities of each pair's text, in order. A context over the window is cut
        from the left. Raises ModelError when a text alone does not fit, or is empty."""
        ...


@runtime_checkable
class ScoringEngine(Engine, Scorer, Protocol):
    """An engine that can also weigh a given text. Most services cannot: ask by type."""
