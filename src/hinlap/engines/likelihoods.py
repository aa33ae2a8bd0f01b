"""What logits say: the sum that makes them probabilities, the likeliest token, ranks."""

from __future__ import annotations

import torch

from hinlap.engines.native import Kernels, kernels

_ROWS = {"cpu": 16, "cuda": 64}
"""Rows of logits that are looked at together: few, to save memory and stay in a CPU's cache."""


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(M,) log-sum-exp of (M, V) logits, float32, and (M,) tokens of the highest. A row's sum is
    not finite where one of its logits is no number."""
    found = _kernels_for(logits)
    if found is not None:
        return found.likeliest(logits)
    scores = logits.float()
    return scores.logsumexp(-1), scores.argmax(-1)


def log_sums(logits: torch.Tensor) -> torch.Tensor:
    """(M,) log-sum-exp of (M, V) logits, float32."""
    found = _kernels_for(logits)
    if found is not None:
        return found.likeliest(logits)[0]
    size = _ROWS[logits.device.type]
    starts = range(0, len(logits), size)
    return torch.cat([logits[start : start + size].float().logsumexp(-1) for start in starts])


def ranks_of(logits: torch.Tensor, rows: torch.Tensor, chosen: torch.Tensor) -> list[int]:
    """How many logits of its row stand above each chosen one; a slice at a time, to save memory."""
    size = _ROWS[logits.device.type]
    ranks: list[int] = []
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        above = logits[rows[part]].float() > chosen[part, None]
        ranks += above.view(torch.uint8).sum(-1, dtype=torch.int32).tolist()
    return ranks


def _kernels_for(logits: torch.Tensor) -> Kernels | None:
    found = kernels() if logits.device.type == "cpu" else None
    return found if found is not None and found.takes(logits.dtype) else None
