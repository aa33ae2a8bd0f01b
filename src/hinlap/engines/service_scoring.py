"""Weighing given texts by a server's echo: `/completions` with `echo` and `logprobs`.

vLLM answers so. llama.cpp's server refuses `echo` or gives log-probabilities of new tokens only
(its issue 27174), OpenAI gives none for prompts any more: these are told, never guessed around.

Where the continuation begins is found by spelling what was sent with the echoed tokens, byte by
byte. `text_offset` is not enough: vLLM adds up the lengths of tokens decoded one by one, the
beginning-of-text token too, so that it drifts wherever a letter is cut over tokens (Thai).
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hinlap.core.errors import EngineError, ModelError
from hinlap.core.messages import Continuation, Prompt, TokenLogprobs
from hinlap.engines.budget import Budget, Prices
from hinlap.engines.connection import Connection, ServiceAddress, Unanswered, in_parallel
from hinlap.engines.rendering import render_plain

if TYPE_CHECKING:
    import openai

KEY_ENV = "HINLAP_SCORING_KEY"
"""Holds the key of a server given by its address alone; not set where it wants none."""
UNKNOWN_TOKEN = -1
LIKELIER_EXISTS = -1
_STANDS_FOR_MINUS_INFINITY = -9999.0
_ROUNDING_NATS = 1e-5
_MOST_PLACES = 200
"""Ways to spell a run of cut letters that are followed at once; beyond them tokens are counted."""
_SPECIAL_TOKENS = 2
"""A tokenizer's beginning-of-text token, in the bound on costs, and one more."""
_CAN_DO = "vLLM's server can: name one, or weigh by a model of this machine (`hinlap models`)"


@dataclass(frozen=True)
class Echo:
    """What a server says of one text: its tokens, and perhaps one that it made up after them.

    logprobs: nats; None where nothing stands before the token.
    greedy:   whether it was the likeliest; None where the server's words do not tell.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    greedy: tuple[bool | None, ...]
    prompt_tokens: int


@dataclass
class ServiceScorer:
    """One model behind an OpenAI-compatible address, as one who weighs texts.

    A context is rendered without any chat template: that is the server's, and it does not apply
    it here. Such servers name no token ids (each is -1), and cut no context that is over their
    window: they refuse it. ``ranks`` knows greedy choices only (0, else -1), and is empty where
    the server's words are ambiguous.

    Raises ModelError for a server that cannot weigh texts, or refuses one; EngineError for one
    that is down or whose words do not hold together; ServiceSetupError and BudgetError as
    `Connection.ask`. Nothing is weighed by half: one failure ends the call.
    """

    address: ServiceAddress
    budget: Budget
    sleep: Callable[[float], None] = time.sleep
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @property
    def name(self) -> str:
        return self.address.model

    @property
    def digest(self) -> str:
        """Of address and name: what a server changes behind them is not seen."""
        place = f"scoring/{self.address.base_url}/{self.address.model}"
        return hashlib.sha256(place.encode()).hexdigest()

    def render(self, prompt: Prompt) -> str:
        return render_plain(prompt)

    def score(self, pairs: Sequence[Continuation]) -> list[TokenLogprobs]:
        rendered = [(self.render(pair.context), pair.text) for pair in pairs]
        return self._score(rendered, [pair.context.raw for pair in pairs])

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogprobs]:
        """Each (context, continuation) as raw text. White space at the context's end belongs to
        the continuation, as does a token that spans the border."""
        return self._score(pairs, [True] * len(pairs))

    def _score(self, pairs: Sequence[tuple[str, str]], raw: Sequence[bool]) -> list[TokenLogprobs]:
        for context, text in pairs:
            if not text.strip():
                raise ModelError("an empty text cannot be weighed", where=self.name)
            if not _is_utf8(context + text):
                raise ModelError(
                    "a text with half of a surrogate pair cannot be sent",
                    where=self.name,
                    hint="mend the text: a character was cut in two",
                )
        _ = self._connection.client  # opened once, before the threads ask
        found = dict(
            in_parallel(
                len(pairs), self.address.concurrency, lambda i: self._weigh(*pairs[i], raw=raw[i])
            )
        )
        return [found[index] for index in range(len(pairs))]

    def close(self) -> None:
        """Closes its connections, if any were opened."""
        self._connection.close()

    @functools.cached_property
    def _connection(self) -> Connection:
        return Connection(
            self.address, self.budget, self.sleep, self.environment, key_optional=True
        )

    def _weigh(self, context: str, text: str, *, raw: bool) -> TokenLogprobs:
        before, whole = context.rstrip() if raw else context.rstrip(" "), context + text
        echo = self._echo(whole)
        size = len(before.encode())
        firsts, count = spelled(echo.tokens, whole, size)
        if len(firsts) != 1 and before:
            firsts = self._counted(before, echo, firsts)
            count = count or echo.prompt_tokens
        if len(firsts) != 1:
            raise EngineError(
                "the tokens that the server echoes do not spell the text that was sent",
                where=self.address.base_url,
                hint="a server started with --return-tokens-as-token-ids must be started without",
            )
        [first] = firsts
        logprobs = echo.logprobs[first:count]
        known = [value for value in logprobs if value is not None]
        if not known or len(known) < len(logprobs):
            raise ModelError(
                "the text's first token stands first of all: it has no log-probability",
                where=self.name,
                hint="give a context that ends before the text's first token",
            )
        greedy = echo.greedy[first:count]
        ranks = () if None in greedy else tuple(0 if g else LIKELIER_EXISTS for g in greedy)
        return TokenLogprobs((UNKNOWN_TOKEN,) * len(known), tuple(known), ranks)

    def _counted(self, before: str, echo: Echo, possible: Sequence[int]) -> list[int]:
        """The continuation's first token by the tokens of the context alone, where token texts
        leave it open (letters cut over tokens) or do not spell the text (a tokenizer that
        normalises). Empty where the two echoes do not agree."""
        alone = self._echo(before)
        count = alone.prompt_tokens
        if echo.tokens[:count] != alone.tokens[:count] or count >= echo.prompt_tokens:
            return []
        return [count] if count in possible or not possible else []

    def _echo(self, text: str) -> Echo:
        body = {
            "model": self.address.model,
            "prompt": text,
            "max_tokens": 1,  # not every server takes 0
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }

        def request(client: openai.OpenAI) -> tuple[Echo, float]:
            answer = client.post("/completions", cast_to=object, body=body)
            return _read(answer, text, self.address.base_url), self._cost_usd(answer, text)

        try:
            echo, _ = self._connection.ask(
                request, worst_usd=self._cost_usd(None, text), cost_usd=lambda done: done[1]
            )
        except Unanswered as failure:
            if failure.down:
                raise EngineError(
                    failure.reason,
                    where=self.address.base_url,
                    hint="run the same command again later; what was weighed is kept",
                ) from None
            if "echo" in failure.reason or "logprob" in failure.reason:
                raise _cannot(self.address.base_url, failure.reason) from None
            raise ModelError(
                f"the server does not weigh a text of {len(text):,} characters: {failure.reason}",
                where=self.address.base_url,
                hint="shorten the text or its context if it is over the server's window",
            ) from None
        return echo

    def _cost_usd(self, answer: object, text: str) -> float:
        """By the server's count of tokens; by the bound, a token a byte, where it says none."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if not isinstance(tokens, int) or tokens < 1:
            tokens = len(text.encode()) + _SPECIAL_TOKENS
        return self.address.prices.cost_usd(tokens, 1)


def scorer_at(address: str, environment: dict[str, str] | None = None) -> ServiceScorer:
    """Of `http://host:8000/v1#model-name`; a key is read from HINLAP_SCORING_KEY. Raises
    ModelError where the address does not name host and model, or holds a password."""
    base_url, _, model = address.partition("#")
    if "@" in base_url:
        raise ModelError(
            "a name or password in an address would stand in files and messages",
            where=base_url.rpartition("@")[2],
            hint=f"leave it out; a key is read from {KEY_ENV}",
        )
    try:
        host = urllib.parse.urlsplit(base_url).hostname
    except ValueError:
        host = None
    if not host or not model:
        raise ModelError(
            "not the address of a model behind a server",
            where=address,
            hint="write it as http://host:8000/v1#model-name",
        )
    where = ServiceAddress(base_url.rstrip("/"), model, KEY_ENV, Prices(0.0, 0.0, 0.0))
    if environment is None:
        return ServiceScorer(where, Budget(0.0))
    return ServiceScorer(where, Budget(0.0), environment=environment)


def spelled(tokens: Sequence[str], text: str, border: int) -> tuple[list[int], int]:
    """(possible indices of the first token at or over ``border``, number of tokens that spell
    ``text``); ([], 0) when they do not spell it, or in too many ways (long runs of cut letters).

    border: in bytes of ``text``'s UTF-8.
    A token's text is that of its bytes, with U+FFFD for cut letters; or "" until a later token
    holds the whole letters (newer vLLM); or lacks the space that it begins with (SentencePiece).
    The first token may be a special one, the last may be new.

    >>> spelled(["<s>", "A", " boat", "!"], "A boat", 1)
    ([2], 3)
    >>> spelled(["�", "�", "ข"], "กข", 3)
    ([2], 3)
    """
    raw = text.encode()
    if not raw:
        return [], 0
    edges: list[set[tuple[int, int]]] = []
    places = {0}
    for index, token in enumerate(tokens):
        step = {(at, end) for at in places for end in _ends(raw, at, token)}
        if index == 0:
            step.add((0, 0))
        edges.append(step)
        places = {end for _, end in step}
        if len(places) > _MOST_PLACES:
            return [], 0
    for count in (len(tokens) - 1, len(tokens)):
        if count > 0 and any(end == len(raw) for _, end in edges[count - 1]):
            return _crossings(edges[:count], len(raw), border), count
    return [], 0


def _ends(raw: bytes, at: int, token: str) -> set[int]:
    """Where ``token`` may end that begins at byte ``at``."""
    if not token:
        return {at}
    ends = set()
    for spelling in (token.encode("utf-8", "replace"), b" " + token.encode("utf-8", "replace")):
        if raw.startswith(spelling, at):
            ends.add(at + len(spelling))
    if "\ufffd" in token:
        for space in (0, 1) if raw[at : at + 1] == b" " else (0,):
            begin = at + space
            longest = min(len(raw), begin + 4 * len(token))
            for end in range(begin + 1, longest + 1):
                if raw[begin:end].decode("utf-8", "replace") == token:
                    ends.add(end)
    return ends


def _crossings(edges: Sequence[set[tuple[int, int]]], size: int, border: int) -> list[int]:
    """Indices at which some way through ``edges`` to ``size`` first meets ``border``. Tokens
    without text before one that spans it may hold its first letters: they are possible, too."""
    alive: list[set[tuple[int, int]]] = []
    goals = {size}
    for step in reversed(edges):
        kept = {(at, end) for at, end in step if end in goals}
        alive.append(kept)
        goals = {at for at, _ in kept}
    alive.reverse()
    met: set[int] = set()
    short: set[int] = {0}  # places short of the border, or on it with nothing read beyond it
    empties: dict[int, set[int]] = {}  # place -> indices of the tokens without text just before
    for index, step in enumerate(alive):
        on: set[int] = set()
        next_empties: dict[int, set[int]] = {}
        for at, end in step:
            if at not in short:
                continue
            if at == border and not (index == 0 and end == 0):
                met.add(index)
            elif at < border < end:
                met |= {index} | empties.get(at, set())
            else:
                on.add(end)
                if at == end and index > 0:
                    next_empties.setdefault(end, set()).update({index} | empties.get(at, set()))
        short, empties = on, next_empties
    return sorted(met)


def _read(answer: object, text: str, where: str) -> Echo:
    """Raises ValueError for what is no completion, ModelError for one without an echo or its
    log-probabilities, EngineError for one that does not hold together."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
        raise ValueError("no choices with a text in the response")
    said: Any = choice.get("logprobs")
    tokens = said.get("tokens") if isinstance(said, dict) else None
    logprobs = said.get("token_logprobs") if isinstance(said, dict) else None
    if not isinstance(tokens, list) or not isinstance(logprobs, list) or not tokens:
        raise _cannot(where, "it returns no log-probabilities")
    if len(tokens) < 2:
        raise _cannot(where, "it returns log-probabilities of new tokens only")
    if not choice["text"].startswith(text):
        raise EngineError(
            "the text that the server echoes is not the text that was sent",
            where=where,
            hint="the server cuts or changes prompts: look at its settings",
        )
    offsets, tops = said.get("text_offset"), said.get("top_logprobs")
    if not all(isinstance(token, str) for token in tokens) or len(logprobs) != len(tokens):
        raise _broken(where, "tokens and log-probabilities do not match")
    if isinstance(offsets, list) and not (
        len(offsets) == len(tokens)
        and all(isinstance(at, int) for at in offsets)
        and offsets == sorted(offsets)
    ):
        raise _broken(where, "text offsets go backwards")
    values = [_nats(value, index, where) for index, value in enumerate(logprobs)]
    if not isinstance(tops, list) or len(tops) != len(tokens):
        tops = [None] * len(tokens)
    usage = answer.get("usage") if isinstance(answer, dict) else None
    told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(told, int) or not len(tokens) - 1 <= told <= len(tokens):
        told = len(tokens) - 1
    greedy = tuple(map(_greedy, tokens, values, tops))
    return Echo(tuple(tokens), tuple(values), greedy, told)


def _nats(value: object, index: int, where: str) -> float | None:
    if value is None and index == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _broken(where, f"token {index} has the log-probability {value!r}")
    if not math.isfinite(value) or not _STANDS_FOR_MINUS_INFINITY < value <= _ROUNDING_NATS:
        raise _broken(where, f"token {index} has the log-probability {value!r}")
    return min(float(value), 0.0)


def _greedy(token: str, value: float | None, top: object) -> bool | None:
    """Two tokens with the same text (cut letters) share one entry: then it is not known."""
    if value is None or not isinstance(top, dict) or not top:
        return None
    rivals = [v for v in top.values() if isinstance(v, int | float)]
    if len(rivals) != len(top) or (len(rivals) == 1 and (not token or "\ufffd" in token)):
        return None
    return value >= max(rivals)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cannot(where: str, why: str) -> ModelError:
    return ModelError(f"the server cannot weigh given texts: {why}", where=where, hint=_CAN_DO)


def _broken(where: str, what: str) -> EngineError:
    return EngineError(
        f"the server's log-probabilities cannot be used: {what}",
        where=where,
        hint="look at the server's log and version",
    )
