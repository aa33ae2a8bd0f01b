"""The rule that picks a route: limits first, then quality, ties to the cheaper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hinlap.app.declaration import LimitsSpec
from hinlap.stats.paired import Verdict

_LIMITS = ("leaves", "cost", "p95", "usable")
"""The objections that a user's limits make; the others no limit could lift."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the rule looks at. Unknown figures are None.

    quality: of the metric that decides. chance: its value by guessing, None where that has no
    meaning; low: lower end of its interval.
    """

    name: str
    measured: bool
    stand_in: bool
    usable_share: float
    quality: float | None
    low: float | None
    chance: float | None
    cost_per_1000_usd: float | None
    p95_seconds: float | None
    data_leaves_machine: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """One step of the rule; ``wording`` turns key and values into a sentence."""

    key: str
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """route: None when no route was available, or none that was keeps the limits; the last
    reason says which."""

    route: str | None
    reasons: tuple[Reason, ...]


def decide(
    candidates: Sequence[Candidate],
    limits: LimitsSpec,
    *,
    higher_is_better: bool,
    verdict: Callable[[str, str], tuple[Verdict, int | None]],
) -> Decision:
    """Picks among ``candidates``; ties go to the cheaper, then to the one declared first.

    verdict(a, b): how a stands against b on the deciding metric, and how many items would decide
    where that is open.
    """
    reasons: list[Reason] = []
    allowed = []
    for candidate in candidates:
        objection = _objection(candidate, limits)
        if objection is None:
            allowed.append(candidate)
        else:
            reasons.append(objection)
    if not allowed:
        limited = any(reason.key in _LIMITS for reason in reasons)
        return Decision(None, (*reasons, Reason("no_route" if limited else "none_available")))
    sign = 1.0 if higher_is_better else -1.0
    best = max(allowed, key=lambda c: sign * (c.quality or 0.0))
    tied = []
    for candidate in allowed:
        stands, needed = verdict(best.name, candidate.name)
        if candidate is best:
            tied.append(candidate)
        elif stands == "better":
            reasons.append(_reason("worse", route=candidate.name, best=best.name))
        else:
            tied.append(candidate)
            key = "tie" if needed is not None else "tie_no_number"
            reasons.append(_reason(key, best=best.name, route=candidate.name, items=str(needed)))
    chosen = min(tied, key=lambda c: (c.cost_per_1000_usd is None, c.cost_per_1000_usd or 0.0))
    if len(allowed) == 1:
        reasons.append(_reason("only", route=chosen.name))
    elif len(tied) > 1:
        reasons.append(
            _reason("cheapest", route=chosen.name, cost=_money(chosen.cost_per_1000_usd))
        )
    else:
        reasons.append(_reason("best", route=chosen.name))
    if chosen.chance is not None and (chosen.low is None or chosen.low <= chosen.chance):
        reasons.append(_reason("chance", route=chosen.name, chance=f"{chosen.chance:.0%}"))
    return Decision(chosen.name, tuple(reasons))


def _objection(candidate: Candidate, limits: LimitsSpec) -> Reason | None:
    """Why a route cannot be chosen at all, or None."""
    name = candidate.name
    cost, p95 = candidate.cost_per_1000_usd, candidate.p95_seconds
    if not candidate.measured:
        return _reason("not_measured", route=name)
    if candidate.stand_in:
        return _reason("stand_in", route=name)
    if limits.data_stays_on_machine and candidate.data_leaves_machine:
        return _reason("leaves", route=name)
    if limits.cost_per_1000_usd is not None and (cost is None or cost > limits.cost_per_1000_usd):
        return _reason(
            "cost", route=name, cost=_money(cost), limit=_money(limits.cost_per_1000_usd)
        )
    if limits.p95_seconds is not None and (p95 is None or p95 > limits.p95_seconds):
        return _reason(
            "p95",
            route=name,
            p95="unknown" if p95 is None else f"{p95:.2f}",
            limit=f"{limits.p95_seconds:g}",
        )
    if candidate.usable_share < limits.usable_share:
        return _reason(
            "usable",
            route=name,
            share=f"{candidate.usable_share:.0%}",
            limit=f"{limits.usable_share:.0%}",
        )
    if candidate.quality is None:
        return _reason("no_quality", route=name)
    return None


def _reason(key: str, **values: str) -> Reason:
    return Reason(key, tuple(values.items()))


def _money(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
