"""Per-request rules inside a batch: where each row stops and how its next token is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from hinlap.core.errors import EngineError
from hinlap.core.messages import Sampling

_TAIL_TOKENS = 24


class RowStops:
    """transformers' stopping criterion: a row is done once its answer holds a stop string.

    ended: new tokens of each row that is done, by row; what follows them is padding.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], prompt_width: int) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._from = prompt_width
        self.ended: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        # a stop string may span tokens: look at the last few as text, not at the last token
        tail = input_ids[:, max(self._from, input_ids.shape[1] - _TAIL_TOKENS) :]
        texts = self._tokenizer.batch_decode(tail, skip_special_tokens=True)
        done = [any(stop in text for stop in self._stops) for text in texts]
        for row in range(len(done)):
            if done[row]:
                self.ended.setdefault(row, input_ids.shape[1] - self._from)
        return torch.tensor(done, device=input_ids.device)


class NumbersOnly:
    """transformers' logits processor that ends the batch at a score that is not a number, which
    the greedy choice would take for the best token. Raises EngineError."""

    def __init__(self, model: str) -> None:
        self._model = model

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if bool(scores.isnan().any()):
            raise not_numbers(self._model)
        return scores


def not_numbers(model: str) -> EngineError:
    return EngineError(
        "the model gives log-probabilities that are not numbers",
        where=model,
        hint="its weights are broken or overflow in this precision",
    )


class RowSampler:
    """transformers' logits processor that draws each row by its own generator.

    Adds Gumbel noise to the filtered log-probabilities, so that the greedy choice after it is a
    draw from them (Gumbel-max). Seeded by the request's seed, repeat and prompt: an answer does
    not depend on what else is in the batch. The repetition penalty (Keskar et al. 2019, CTRL)
    counts a row's own tokens and no padding.
    """

    def __init__(self, sampling: Sampling, rows: list[list[int]], mask: torch.Tensor) -> None:
        self._sampling = sampling
        self._mask = mask
        self._generators = [torch.Generator().manual_seed(_seed(sampling, row)) for row in rows]

    @property
    def needed(self) -> bool:
        return self._sampling.temperature > 0 or self._sampling.repetition_penalty != 1.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        sampling = self._sampling
        scores = scores.float()
        if sampling.repetition_penalty != 1.0:
            scores = self._penalised(input_ids, scores)
        if sampling.temperature > 0:
            scores = _filtered(scores / sampling.temperature, sampling.top_k, sampling.top_p)
            noise = torch.stack(
                [
                    -torch.empty(scores.shape[1]).exponential_(generator=generator).log()
                    for generator in self._generators
                ]
            )
            scores = scores + noise.to(scores.device)
        return scores

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for row in range(input_ids.shape[0]):
            own = torch.ones(input_ids.shape[1], dtype=torch.bool, device=input_ids.device)
            own[: self._mask.shape[1]] = self._mask[row].bool()
            seen = torch.unique(input_ids[row, own])
            values = scores[row, seen]
            penalty = self._sampling.repetition_penalty
            scores[row, seen] = torch.where(values < 0, values * penalty, values / penalty)
        return scores


def _filtered(scores: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """(B, V) scores with everything outside top-k and the nucleus at minus infinity."""
    if 0 < top_k < scores.shape[1]:
        kth = scores.topk(top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, float("-inf"))
    if top_p < 1.0:
        ordered, order = scores.sort(dim=-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        outside = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, before >= top_p)
        scores = scores.masked_fill(outside, float("-inf"))
    return scores


def _seed(sampling: Sampling, row: list[int]) -> int:
    text = f"{sampling.seed}/{sampling.repeat}/{','.join(map(str, row))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
