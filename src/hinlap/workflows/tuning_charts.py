"""The drawings of a tuning's report: bars of figures, losses by step, the learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hinlap.stats.bootstrap import Interval
from hinlap.stats.learning_curve import LearningCurve
from hinlap.tuning.tuned import Tuned
from hinlap.workflows.numbers import short
from hinlap.workflows.tuning_words import say
from hinlap.workflows.wording import Language

_DRAWN_STEPS = 400


def bar_svg(interval: Interval, low: float, high: float) -> Markup:
    """A figure with its interval, on a line from ``low`` to ``high``; nothing where undefined."""
    if interval.value is None or high <= low:
        return Markup("")

    def place(value: float) -> str:
        return f"{4 + 132 * (value - low) / (high - low):.1f}"

    zero = place(0.0)
    drawn = '<line class="grid" x1="4" x2="136" y1="7" y2="7"/>'
    drawn += f'<line class="grid" x1="{zero}" x2="{zero}" y1="1" y2="13"/>'
    if interval.low is not None and interval.high is not None:
        ends = f'x1="{place(interval.low)}" x2="{place(interval.high)}"'
        drawn += f'<line class="range" {ends} y1="7" y2="7"/>'
    drawn += f'<circle cx="{place(interval.value)}" cy="7" r="3.5"/>'
    return Markup(  # noqa: S704  numbers only
        '<svg class="spread" viewBox="0 0 140 14" width="140" height="14" aria-hidden="true">'
        f"{drawn}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where values stand in a drawing of 480 by 240."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = 52.0
    right: float = 466.0
    top: float = 10.0
    bottom: float = 208.0

    def x(self, value: float) -> float:
        width = self.right - self.left
        return self.left + width * (value - self.x_low) / max(1e-12, self.x_high - self.x_low)

    def y(self, value: float) -> float:
        height = self.bottom - self.top
        return self.bottom - height * (value - self.y_low) / max(1e-12, self.y_high - self.y_low)

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        at = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="{kind}" points="{at}"/>'

    def frame(self, x_ticks: Sequence[tuple[float, str]], name: str) -> str:
        drawn = f'<svg viewBox="0 0 480 240" role="img" aria-label="{escape(name)}">'
        for value in _ticks(self.y_low, self.y_high):
            at = self.y(value)
            drawn += (
                f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{at:.1f}" '
                f'y2="{at:.1f}"/><text class="tick" x="{self.left - 7}" y="{at + 4:.1f}" '
                f'text-anchor="end">{short(value)}</text>'
            )
        for value, said in x_ticks:
            drawn += (
                f'<text class="tick" x="{self.x(value):.1f}" y="{self.bottom + 19}" '
                f'text-anchor="middle">{said}</text>'
            )
        return drawn


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two, about five."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if span / (s * power) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def losses_svg(tuned: Tuned, language: Language) -> Markup | None:
    """Loss of each step (long runs: of as many as can be seen), its running mean, and that of the
    held-out rows."""
    steps = [(k + 1.0, loss) for k, loss in enumerate(tuned.losses) if math.isfinite(loss)]
    held = [(float(e.step), e.loss) for e in tuned.evaluations if math.isfinite(e.loss)]
    if len(steps) + len(held) < 2:
        return None
    window = max(1, len(steps) // 30)
    smooth = []
    for k in range(len(steps)):
        around = steps[max(0, k - window) : k + window + 1]
        smooth.append((steps[k][0], sum(loss for _, loss in around) / len(around)))
    thin = max(1, -(-len(steps) // _DRAWN_STEPS))
    heights = [y for _, y in (*steps, *held)]
    margin = 0.05 * (max(heights) - min(heights)) or 0.1
    last = max(x for x, _ in (*steps, *held))
    plot = _Plot(0.0, max(1.0, last), max(0.0, min(heights) - margin), max(heights) + margin)
    ticks = [(x, f"{x:,.0f}") for x in _ticks(0.0, plot.x_high) if x == int(x)]
    drawn = plot.frame(ticks, say("losses", language))
    drawn += plot.line(steps[::thin], "each") + plot.line(smooth[::thin], "smooth")
    if len(held) > 1:
        drawn += plot.line(held, "held")
    for x, y in held:
        drawn += f'<circle class="held" cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" r="4"/>'
    return Markup(drawn + "</svg>")  # noqa: S704  numbers and an escaped label


def is_marked(curve: LearningCurve) -> bool:
    """Whether the drawing shows where more examples stop paying."""
    known = curve.outcome in ("enough", "still rising")
    return known and curve.enough_at is not None and curve.enough_at <= 2 * curve.sizes[-1]


def curve_svg(curve: LearningCurve) -> Markup:
    """Figures with intervals by number of examples, the fit up to twice the largest."""
    logs = [math.log10(size) for size in (*curve.sizes, 2 * curve.sizes[-1])]
    fitted: list[tuple[float, float]] = []
    for k in range(61 if curve.a is not None else 0):
        log = logs[0] + (logs[-1] - logs[0]) * k / 60
        value = curve.expected(10.0**log)
        if value is not None:
            fitted.append((log, value))
    ends = [x for i in curve.figures for x in (i.low, i.value, i.high) if x is not None]
    heights = [*ends, *(y for _, y in fitted)] or [0.0]
    margin = 0.05 * (max(heights) - min(heights)) or 0.1
    plot = _Plot(
        logs[0] - 0.03 * (logs[-1] - logs[0]), logs[-1], min(heights) - margin,
        max(heights) + margin,
    )  # fmt: skip
    shown, last = [], -1e9
    for log, size in zip(logs, (*curve.sizes, 2 * curve.sizes[-1]), strict=True):
        if plot.x(log) - last >= 60:  # numbers that stand clear of each other
            shown.append((log, f"{size:,}"))
            last = plot.x(log)
    drawn = plot.frame(shown, "learning curve")
    known = [point for point in fitted if point[0] <= logs[-2] + 1e-9]
    drawn += plot.line(known, "smooth") + plot.line(fitted[len(known) - 1 :], "beyond")
    if is_marked(curve) and curve.enough_at is not None:
        at = f"{plot.x(math.log10(curve.enough_at)):.1f}"
        drawn += f'<line class="mark" x1="{at}" x2="{at}" y1="{plot.top}" y2="{plot.bottom}"/>'
    for log, interval in zip(logs, curve.figures, strict=False):
        if interval.value is None:
            continue
        x = f"{plot.x(log):.1f}"
        if interval.low is not None and interval.high is not None:
            y1, y2 = (f"{plot.y(y):.1f}" for y in (interval.low, interval.high))
            drawn += f'<line class="range" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'
        drawn += f'<circle class="point" cx="{x}" cy="{plot.y(interval.value):.1f}" r="4"/>'
    return Markup(drawn + "</svg>")  # noqa: S704  numbers only
