"""The plain path, for architectures whose requests cannot share a forward: transformers' own
`generate`, and one forward a text. Slow and right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from hinlap.engines.decoding import Chooser, End, Ending, not_numbers
from hinlap.engines.generation import Generated, Request
from hinlap.engines.likelihoods import log_sums, ranks_of
from hinlap.engines.scoring import Weighed
from hinlap.engines.weights import Weights, telling_out_of_memory


def generate_plainly(
    weights: Weights, requests: Sequence[Request], ending: Ending
) -> Iterator[tuple[int, Generated]]:
    """Each request by itself, with transformers' own cache."""
    for index, request in enumerate(requests):
        if request.room <= 0:
            yield index, Generated((), End.LENGTH, 0, (), 0.0, 1)
        else:
            yield index, _generate_one(weights, request, ending)


def _generate_one(weights: Weights, request: Request, ending: Ending) -> Generated:
    began = time.perf_counter()
    chooser = Chooser(request.sampling, request.ids, request.constrain and request.constrain())
    new: list[int] = []
    logprobs: list[float] = []
    state: dict[str, Any] = {}
    ids = torch.tensor([request.ids], device=weights.device)
    ended = None
    while ended is None:
        with telling_out_of_memory(weights.name), torch.inference_mode():
            out = weights.model(input_ids=ids, use_cache=True, **state)
        state = _state(out)
        (token,), (logprob,) = Chooser.choose_all([chooser], out.logits[:, -1], weights.name)
        new.append(token)
        logprobs.append(logprob)
        ended = ending.reached(new, request.room, request.sampling.stop, chooser.complete)
        if state:
            ids = torch.tensor([[token]], device=weights.device)
        else:  # it keeps nothing between tokens
            ids = torch.cat([ids, torch.tensor([[token]], device=weights.device)], dim=1)
    kept = new[:-1] if ended is End.TOKEN else new
    seconds = time.perf_counter() - began
    return Generated(tuple(kept), ended, len(new), tuple(logprobs[: len(kept)]), seconds, 1)


def _state(out: Any) -> dict[str, Any]:
    """What a model's output hands on to its next token, by the names transformers uses.

    Its own keys only: from 5.24 on an output answers to older names, too, that its model ignores.
    """
    own = set(out.keys())
    names = ("past_key_values", "cache", "cache_params")
    return {name: out[name] for name in names if name in own and out[name] is not None}


def weigh_plainly(
    weights: Weights, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[Weighed]:
    """One forward a pair."""
    results = []
    for context, text in pairs:
        ids = torch.tensor([[*context, *text][:-1]], device=weights.device)
        with telling_out_of_memory(weights.name), torch.inference_mode():
            logits = weights.model(input_ids=ids, use_cache=False).logits[0]
        logits = logits[len(context) - 1 :].float()  # (T, V)
        targets = torch.tensor(text, device=weights.device)
        chosen = logits.gather(1, targets[:, None])[:, 0]
        values = chosen - log_sums(logits)
        if not bool(torch.isfinite(values).all()):
            raise not_numbers(weights.name)
        rows = torch.arange(len(text), device=weights.device)
        results.append(Weighed(tuple(values.tolist()), tuple(ranks_of(logits, rows, chosen))))
    return results
