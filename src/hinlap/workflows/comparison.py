"""What a comparison found, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hinlap.app.chain import ItemResult, Status
from hinlap.core.errors import HinlapError
from hinlap.core.examples import Example
from hinlap.routes.costs import CheapestFrom, Cost
from hinlap.routes.decide import Decision
from hinlap.routes.route import Traits
from hinlap.stats.bootstrap import Interval
from hinlap.stats.paired import Paired, Verdict

MEASURED, PARTIAL, UNAVAILABLE = "measured", "partial", "unavailable"


@dataclass(frozen=True)
class Figure:
    """A metric's value with interval, unit-free, and all that decided it."""

    interval: Interval
    signature: str
    higher_is_better: bool
    per_item: Mapping[str, float | None]

    def as_json(self) -> dict[str, Any]:
        return {
            "value": self.interval.value,
            "low": self.interval.low,
            "high": self.interval.high,
            "n": self.interval.n,
            "signature": self.signature,
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of a whole request (all steps), asked singly and not from the cache. n requests."""

    p50: float | None
    p95: float | None
    mean: float | None
    n: int


@dataclass(frozen=True)
class RouteResult:
    """One row of the decision table. ``items`` is empty when the route was unavailable."""

    name: str
    kind: str
    status: str
    reason: str
    model: str
    traits: Traits | None
    quality: Mapping[str, Figure]
    latency: Latency
    cost: Cost | None
    input_tokens: int
    output_tokens: int
    tokens_per_second: float | None
    counts: Mapping[str, int]
    tuning_seconds: float
    spent_usd: float | None
    notes: tuple[str, ...]
    items: Sequence[ItemResult]

    @property
    def usable_share(self) -> float:
        """Share of items with an answer that could be used (cut ones count as used)."""
        total = sum(self.counts.values())
        used = self.counts.get(Status.OK, 0) + self.counts.get(Status.TRUNCATED, 0)
        return used / total if total else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "reason": self.reason,
            "model": self.model,
            "stand_in": self.traits.stand_in if self.traits else False,
            "quality": {key: figure.as_json() for key, figure in self.quality.items()},
            "latency_seconds": {
                "p50": self.latency.p50,
                "p95": self.latency.p95,
                "n": self.latency.n,
            },
            "cost_per_1000_usd": self.cost.per_1000_usd if self.cost else None,
            "cost": {
                "per_request_usd": self.cost.per_request_usd,
                "fixed_usd": self.cost.fixed_usd,
                "volume_requests": self.cost.volume,
            }
            if self.cost
            else None,
            "spent_usd": self.spent_usd,
            "data_leaves_machine": self.traits.data_leaves_machine if self.traits else None,
            "lock_in": self.traits.lock_in if self.traits else None,
            "examples_needed": self.traits.examples_needed if self.traits else None,
            "tokens": {"input": self.input_tokens, "output": self.output_tokens},
            "output_tokens_per_second": self.tokens_per_second,
            "counts": dict(self.counts),
            "tuning_seconds": self.tuning_seconds,
            "notes": list(self.notes),
            "items": [_item_json(item) for item in self.items],
        }


@dataclass(frozen=True)
class PairResult:
    """Route a against route b on one metric: figure of a minus figure of b.

    p: corrected by Holm for the pairs of this metric. items_needed: see `items_to_decide`.
    """

    a: str
    b: str
    metric: str
    paired: Paired
    p: float | None
    verdict: Verdict
    items_needed: int | None

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            "difference": self.paired.difference,
            "low": self.paired.low,
            "high": self.paired.high,
            "n": self.paired.n,
            "p": self.paired.p,
            "p_holm": self.p,
            "verdict": self.verdict,
            "items_to_decide": self.items_needed,
        }


@dataclass(frozen=True)
class Comparison:
    """All of it.

    premade: figures of the test set's own wanted outputs, where they have any: what a route could
    reach. errors: why routes are unavailable or partial, each told when it happened; a
    door's exit code is the first one's.
    """

    app: str
    app_digest: str
    language: str
    version: str
    made_at: str
    run_id: int
    examples: Sequence[Example]
    routes: Sequence[RouteResult]
    premade: Mapping[str, Figure]
    pairs: Sequence[PairResult]
    decide_by: str | None
    decision: Decision
    reasons: Sequence[str]
    cheapest: Sequence[CheapestFrom]
    assumptions: Mapping[str, float]
    errors: Sequence[HinlapError]

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {
            "app": self.app,
            "app_digest": self.app_digest,
            "hinlap_version": self.version,
            "made_at": self.made_at,
            "run": self.run_id,
            "items": len(self.examples),
            "routes": [route.as_json() for route in self.routes],
            "premade": {key: figure.as_json() for key, figure in self.premade.items()},
            "pairs": [pair.as_json() for pair in self.pairs],
            "cheapest_by_volume": [
                {"from_requests": step.requests, "route": step.route} for step in self.cheapest
            ],
            "assumptions": dict(self.assumptions),
            "decision": {
                "route": self.decision.route,
                "by": self.decide_by,
                "reasons": list(self.reasons),
            },
        }


def _item_json(item: ItemResult) -> dict[str, Any]:
    return {
        "id": item.example.id,
        "status": item.status.value,
        "steps": [
            {
                "step": step.step,
                "status": step.status.value,
                "output": step.output,
                "error": step.error,
                "input_tokens": step.completion.input_tokens if step.completion else 0,
                "output_tokens": step.completion.output_tokens if step.completion else 0,
            }
            for step in item.steps
        ],
    }
