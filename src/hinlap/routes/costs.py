"""What a route costs: per request, once, and the volumes at which the cheapest one changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """per_request_usd: of one more request. fixed_usd: once (tuning). volume: requests over
    which the fixed part is spread."""

    per_request_usd: float
    fixed_usd: float
    volume: float

    @property
    def per_1000_usd(self) -> float:
        """USD per 1,000 requests, the fixed part included.

        >>> Cost(per_request_usd=0.001, fixed_usd=3.0, volume=30_000).per_1000_usd
        1.1
        """
        return 1000 * (self.per_request_usd + self.fixed_usd / self.volume)


def own_machine_cost(
    seconds_per_request: float, tuning_seconds: float, usd_per_hour: float, volume: float
) -> Cost:
    """Of a model on one's own machine, paid by the hour and used for one request at a time."""
    return Cost(
        per_request_usd=seconds_per_request * usd_per_hour / 3600,
        fixed_usd=tuning_seconds * usd_per_hour / 3600,
        volume=volume,
    )


@dataclass(frozen=True, slots=True)
class CheapestFrom:
    """From ``requests`` on (in all, not a month), ``route`` is the cheapest."""

    requests: float
    route: str


def cheapest_by_volume(costs: Mapping[str, Cost]) -> list[CheapestFrom]:
    """The cheapest route from the first request on, and each volume where another takes over.

    Total cost is fixed + volume * per request, so this is the lower envelope of lines: walk from
    volume 0 to the next crossing with a line that is less steep.
    """
    lines = [(c.fixed_usd, c.per_request_usd, name) for name, c in costs.items()]
    if not lines:
        return []
    current = min(lines)
    steps = [CheapestFrom(0.0, current[2])]
    at = 0.0
    while True:
        # none crosses before `at`, where the current line is the lowest: max mends rounding only
        crossings = [
            (max(at, (fixed - current[0]) / (current[1] - slope)), slope, (fixed, slope, name))
            for fixed, slope, name in lines
            if slope < current[1]
        ]
        if not crossings:
            return steps
        at, _, current = min(crossings)
        if steps[-1].requests == at:
            steps.pop()
        steps.append(CheapestFrom(at, current[2]))
