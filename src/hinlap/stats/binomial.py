"""How surprising a share is when each item had a given chance."""

from __future__ import annotations

import math


def binomial_p(hits: int, n: int, chance: float = 0.5) -> float | None:
    """Two-sided exact binomial test: the probability of all outcomes no likelier than this one.

    hits of n items, each with ``chance`` in (0, 1). Range (0, 1]. Undefined (None): no items.
    Peer: scipy.stats.binomtest

    >>> round(binomial_p(60, 100), 6)
    0.056888
    >>> binomial_p(0, 0)
    """
    if n == 0:
        return None
    if not 0 <= hits <= n or not 0 < chance < 1:
        raise ValueError(f"{hits} of {n} items at a chance of {chance}")
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(chance) + (n - k) * math.log1p(-chance)
        for k in range(n + 1)
    ]  # fmt: skip
    # outcomes as likely as this one up to rounding count in, as in R and scipy
    most = logs[hits] + 1e-7
    return min(1.0, math.fsum(math.exp(log) for log in logs if log <= most))
