"""Per-request rules: how a row's next token is chosen, what it may be, and where the row ends."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from hinlap.core.errors import EngineError, MissingExtraError, UserError
from hinlap.core.messages import Sampling
from hinlap.engines.likelihoods import likeliest

Array = np.ndarray[Any, np.dtype[Any]]

_LOOKED_AT_FIRST = 512
_GAMMA = 0x9E3779B97F4A7C15  # the odd number nearest 2**64 / golden ratio


class End(enum.Enum):
    """Why a row ended: an ending token, a stop string or a finished constraint, no more room."""

    TOKEN = "token"
    STOP = "stop"
    LENGTH = "length"


class Constraint(Protocol):
    """What the next token may be."""

    def forbid(self, scores: torch.Tensor) -> None:
        """Sets the (V,) scores of tokens that may not come next to minus infinity."""
        ...

    def accept(self, token: int) -> None: ...

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        ...


class JsonConstraint:
    """Only tokens that keep the answer a beginning of JSON after a schema, by llguidance.

    Raises UserError when llguidance cannot follow the schema.
    """

    def __init__(self, tokenizer: Any, schema: str) -> None:
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(json.loads(schema))
            matcher = LLMatcher(tokenizer, grammar)
            problem = matcher.get_error()
        except ValueError as error:
            problem = str(error)
        if problem:
            raise UserError(
                f"the JSON schema cannot be followed: {problem}",
                hint="keep to JSON schema 2020-12 without what llguidance does not know",
            )
        self._matcher = matcher

    def forbid(self, scores: torch.Tensor) -> None:
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = torch.from_numpy(np.unpackbits(mask, bitorder="little").astype(bool))
        n = min(len(allowed), len(scores))
        scores[:n].masked_fill_(~allowed[:n].to(scores.device), float("-inf"))
        scores[n:] = float("-inf")  # padding of the vocabulary is no token

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise EngineError(
                f"the answer left its JSON schema: {self._matcher.get_error()}",
                hint="this is a fault of ours or of llguidance: please report the schema",
            )

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_stopped())


def constraint_tokenizer(tokenizer: Any, eos: Sequence[int]) -> Any:
    """llguidance's view of a tokenizer: about a second, so make it once."""
    try:
        import llguidance.hf
    except ImportError as error:
        raise MissingExtraError("llguidance", "local") from error
    try:
        return llguidance.hf.from_tokenizer(tokenizer, eos_token=list(eos))
    except ValueError as error:
        raise UserError(
            f"this model's tokenizer cannot be held to a JSON schema: {error}",
            hint="choose a model with a fast tokenizer",
        ) from error


class Chooser:
    """Draws one row's next tokens.

    Adds Gumbel noise to the filtered log-probabilities, so that the greedy choice after it is a
    draw from them (Gumbel-max). The noise of a token comes from the request's seed, repeat and
    prompt, the place in the answer and the token's id alone: an answer does not depend on what
    else is in the batch, nor on the order of nearly equal scores. The repetition penalty (Keskar
    et al. 2019, CTRL) counts the row's own tokens, prompt and answer.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None
    ) -> None:
        self._sampling = sampling
        self._constraint = constraint
        self._seed = _seed(sampling, prompt) if sampling.temperature > 0 else 0
        self._drawn = 0
        self._seen = sorted(set(prompt)) if sampling.repetition_penalty != 1.0 else []

    @property
    def complete(self) -> bool:
        return self._constraint is not None and self._constraint.complete

    @property
    def _greedy(self) -> bool:
        sampling = self._sampling
        plain = sampling.temperature <= 0 and sampling.repetition_penalty == 1.0
        return plain and self._constraint is None

    @property
    def _plainly_drawn(self) -> bool:
        """By temperature and filters alone: such rows are filtered side by side."""
        sampling = self._sampling
        plain = sampling.repetition_penalty == 1.0 and self._constraint is None
        return plain and sampling.temperature > 0

    @staticmethod
    def choose_all(
        choosers: Sequence[Chooser], logits: torch.Tensor, model: str
    ) -> tuple[list[int], list[float]]:
        """One token a row from (B, V) logits, and its log-probability in nats under the model
        itself (before penalty, temperature and filters). Raises EngineError for a logit that is
        not a number, which a greedy choice would take for the best."""
        with torch.inference_mode():
            sums, tokens = likeliest(logits)
            if not bool(sums.isfinite().all()):
                raise not_numbers(model)
            scores = logits if all(each._greedy for each in choosers) else logits.float()
            together: dict[tuple[float, int, float], list[int]] = {}
            for row, chooser in enumerate(choosers):
                if chooser._plainly_drawn:
                    sampling = chooser._sampling
                    way = (sampling.temperature, sampling.top_k, sampling.top_p)
                    together.setdefault(way, []).append(row)
                elif not chooser._greedy:
                    tokens[row] = chooser._choose(scores[row].clone())
            for (temperature, top_k, top_p), rows in together.items():
                part = scores if len(rows) == len(choosers) else scores[rows]
                if temperature != 1.0:
                    part = part / temperature
                filtered = kept(part, top_k, top_p)
                for row, (left, ids) in zip(rows, filtered, strict=True):
                    tokens[row] = choosers[row]._draw(left, ids)
            chosen = scores.gather(1, tokens[:, None])[:, 0].float() - sums
        picked: list[int] = tokens.tolist()
        for chooser, token in zip(choosers, picked, strict=True):
            chooser._accept(token)
        return picked, chosen.tolist()

    def _choose(self, scores: torch.Tensor) -> int:
        sampling = self._sampling
        if self._seen:
            seen = torch.tensor(self._seen, device=scores.device)
            values, penalty = scores[seen], sampling.repetition_penalty
            scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
        if self._constraint is not None:
            self._constraint.forbid(scores)
        if sampling.temperature > 0:
            scaled = (scores / sampling.temperature)[None]
            return self._draw(*kept(scaled, sampling.top_k, sampling.top_p)[0])
        return int(scores.argmax())

    def _draw(self, scores: torch.Tensor, tokens: torch.Tensor) -> int:
        """One of ``tokens`` by their filtered scores."""
        noise = gumbel_noise(self._seed, self._drawn, tokens.cpu().numpy())
        self._drawn += 1
        return int(tokens[(scores.double().cpu() + torch.from_numpy(noise)).argmax()])

    def _accept(self, token: int) -> None:
        if self._sampling.repetition_penalty != 1.0:
            self._seen.append(token)
        if self._constraint is not None:
            self._constraint.accept(token)


class Ending:
    """Where an answer ends: an ending token, a stop string (which may span tokens), no room."""

    def __init__(self, tokenizer: Any, eos: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._eos = frozenset(eos)

    def reached(
        self, new: Sequence[int], room: int, stops: Sequence[str], complete: bool
    ) -> End | None:
        """None when the row goes on. complete: its constraint lets nothing follow."""
        if new[-1] in self._eos:
            return End.TOKEN
        if complete:
            return End.STOP
        if stops:
            # a token is a byte at least; a few more for a character that the cut splits
            tail = new[-(max(len(stop.encode()) for stop in stops) + 4) :]
            text = self._tokenizer.decode(tail, skip_special_tokens=True)
            if any(stop in text for stop in stops):
                return End.STOP
        return End.LENGTH if len(new) >= room else None


def not_numbers(model: str) -> EngineError:
    return EngineError(
        "the model gives log-probabilities that are not numbers",
        where=model,
        hint="its weights are broken or overflow in this precision",
    )


def kept(scores: torch.Tensor, top_k: int, top_p: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each row of (B, V) scores those in the top-k and the nucleus, and their tokens.

    The nucleus (Holtzman et al. 2020) is the fewest likeliest tokens, of the top-k, whose
    probabilities reach ``top_p``.
    """
    if not 0 < top_k < scores.shape[-1]:
        tokens = torch.arange(scores.shape[-1], device=scores.device)
        return [(row, tokens) for row in scores] if top_p >= 1.0 else _nucleus(scores, top_p)
    least = scores.topk(top_k).values[:, -1:]
    found = []
    for row, inside in zip(scores, scores >= least, strict=True):
        tokens = inside.nonzero()[:, 0]
        left = row[tokens]
        if top_p < 1.0:
            ((left, order),) = _nucleus(left[None], top_p)
            tokens = tokens[order]
        found.append((left, tokens))
    return found


def _nucleus(scores: torch.Tensor, top_p: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(B, V) to each row's nucleus and its tokens, likeliest first. It is looked for among some of
    the likeliest first, since sorting a whole vocabulary takes longer than many a forward."""
    vocabulary = scores.shape[-1]
    whole = scores.logsumexp(-1, keepdim=True)
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    rows = list(range(len(scores)))
    size = min(_LOOKED_AT_FIRST, vocabulary)
    while rows:
        ordered, order = scores[rows].topk(size)
        weights = (ordered - whole[rows]).exp()
        reached = weights.cumsum(-1)
        enough = (reached[:, -1] >= top_p).tolist()
        counts = (reached - weights < top_p).sum(-1).tolist()
        for place, row in enumerate(rows):
            if enough[place] or size == vocabulary:
                inside = slice(0, counts[place])
                found[row] = (ordered[place, inside], order[place, inside])
        rows = [row for row in rows if row not in found]
        size = min(size * 8, vocabulary)
    return [found[row] for row in range(len(scores))]


def gumbel_noise(seed: int, place: int, tokens: Array) -> Array:
    """Standard Gumbel noise, a function of its arguments alone: splitmix64 (Steele et al. 2014,
    "Fast Splittable Pseudorandom Number Generators") over the tokens' ids, seeded by the place."""
    start = _mixed(np.array([(seed + place * _GAMMA) % 2**64], np.uint64))
    bits = _mixed(start + tokens.astype(np.uint64) * np.uint64(_GAMMA))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(-np.log(-np.log(uniform)))


def _mixed(state: Array) -> Array:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def _seed(sampling: Sampling, prompt: Sequence[int]) -> int:
    text = f"{sampling.seed}/{sampling.repeat}/{','.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
