"""Numbers as tables and reports show them."""

from __future__ import annotations

from hinlap.stats.bootstrap import Interval


def short(value: float | None) -> str:
    """Three significant figures, all those of a whole part under 1e15; a dash where undefined.

    >>> short(0.123456), short(None), short(1234.5), short(0.0), short(1e200)
    ('0.123', '–', '1,234', '0', '1e+200')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def with_interval(interval: Interval) -> str:
    """``value [low, high]``."""
    if interval.value is None or interval.low is None:
        return short(interval.value)
    return f"{short(interval.value)} [{short(interval.low)}, {short(interval.high)}]"


def exact(value: float | None) -> str:
    """Six significant figures, to compare with a published one; a dash where undefined.

    >>> exact(26.3312345), exact(0.5), exact(None)
    ('26.3312', '0.5', '–')
    """
    return "–" if value is None else f"{value:.6g}"


def exact_with_interval(interval: Interval) -> str:
    """``value [low, high]``, the value as `exact`."""
    if interval.value is None or interval.low is None:
        return exact(interval.value)
    return f"{exact(interval.value)} [{short(interval.low)}, {short(interval.high)}]"
