"""The report: one self-contained HTML file with charts and every item's outputs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from hinlap.app.app import metric_label
from hinlap.app.chain import ItemResult, Status
from hinlap.app.declaration import AppSpec
from hinlap.data.whole_file import write_whole
from hinlap.engines.catalogue import EMBEDDED
from hinlap.workflows.comparison import Comparison, Figure, RouteResult
from hinlap.workflows.numbers import short, with_interval
from hinlap.workflows.wording import label

_LONGEST_INPUT = 6000
_COLOURS = ("#2f6db5", "#c4572e", "#3a8f5c", "#8a5fb0", "#b08d2f", "#5b7083")


def write_report(comparison: Comparison, spec: AppSpec, path: Path) -> None:
    """Writes the page; the one before stays whole until the new one is."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    language = spec.language

    def say(key: str, **values: object) -> str:
        return label(key, language, **values)

    page = environment.get_template("report.html.j2").render(
        c=comparison,
        spec=spec,
        say=say,
        short=short,
        with_interval=with_interval,
        charts=_quality_charts(comparison, spec),
        cost_chart=_cost_chart(comparison),
        items=_items(comparison, spec),
        colours=_colours(comparison),
        statuses=list(Status),
        small_model=any(EMBEDDED in route.model for route in comparison.routes),
        volume=comparison.assumptions["requests_per_month"] * comparison.assumptions["months"],
    )
    write_whole(path, page.encode())


def _colours(comparison: Comparison) -> dict[str, str]:
    return {
        route.name: _COLOURS[index % len(_COLOURS)] for index, route in enumerate(comparison.routes)
    }


def _quality_charts(comparison: Comparison, spec: AppSpec) -> list[dict[str, Any]]:
    colours = _colours(comparison)
    charts = []
    for metric in spec.metrics:
        figures = {
            route.name: route.quality[metric.key]
            for route in comparison.routes
            if metric.key in route.quality
        }
        if not any(f.interval.value is not None for f in figures.values()):
            continue
        first = next(iter(figures.values()))
        charts.append(
            {
                "key": metric.key,
                "decides": metric.key == comparison.decide_by,
                "higher": first.higher_is_better,
                "svg": _intervals_svg(figures, colours, comparison.premade.get(metric.key)),
            }
        )
    return charts


def _intervals_svg(
    figures: Mapping[str, Figure], colours: Mapping[str, str], premade: Figure | None
) -> Markup:
    """A dot and its interval per route on one scale from 0; premade outputs as a dashed line."""
    top = max(
        [1e-9]
        + [f.interval.high or f.interval.value or 0.0 for f in figures.values()]
        + ([premade.interval.value or 0.0] if premade else [])
    )
    top = _round_up(top)
    left, width, row = 128, 300, 26
    height = row * len(figures) + 30

    def x(value: float) -> float:
        return left + width * value / top

    parts = [f'<svg viewBox="0 0 {left + width + 90} {height}" role="img">']
    for tick in (0.0, top / 2, top):
        parts.append(
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 22}"/>'
            f'<text class="tick" x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">'
            f"{short(tick)}</text>"
        )
    if premade and premade.interval.value is not None:
        at = x(premade.interval.value)
        parts.append(
            f'<line class="premade" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{height - 22}"/>'
        )
    for index, (name, figure) in enumerate(figures.items()):
        y = row * index + 18
        value, low, high = figure.interval.value, figure.interval.low, figure.interval.high
        parts.append(
            f'<text class="name" x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        )
        if value is None:
            parts.append(f'<text class="tick" x="{left + 4}" y="{y + 4}">–</text>')
            continue
        if low is not None and high is not None:
            parts.append(
                f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" '
                f'stroke="{colours[name]}" stroke-width="6" stroke-opacity=".35" '
                'stroke-linecap="round"/>'
            )
        parts.append(
            f'<circle cx="{x(value):.1f}" cy="{y}" r="5" fill="{colours[name]}"/>'
            f'<text class="value" x="{left + width + 10}" y="{y + 4}">{short(value)} '
            f'<tspan class="tick">n={figure.interval.n}</tspan></text>'
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704  names are escaped above


def _cost_chart(comparison: Comparison) -> Markup | None:
    """Total USD by number of requests, both on a logarithmic scale."""
    costs = {r.name: r.cost for r in comparison.routes if r.cost is not None}
    if len(costs) < 2:
        return None
    colours = _colours(comparison)
    volumes = [10.0**e for e in range(2, 8)]
    totals = {
        name: [cost.fixed_usd + cost.per_request_usd * v for v in volumes]
        for name, cost in costs.items()
    }
    positive = [t for row in totals.values() for t in row if t > 0]
    if not positive:
        return None
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    left, width, height = 70, 420, 230

    def x(volume: float) -> float:
        return left + width * (math.log10(volume) - 2) / 5

    def y(usd: float) -> float:
        return 12 + (height - 44) * (high - math.log10(usd)) / (high - low)

    parts = [f'<svg viewBox="0 0 {left + width + 130} {height}" role="img">']
    for exponent in range(low, high + 1):
        at = y(10.0**exponent)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">'
            f"{short(10.0**exponent)} $</text>"
        )
    for volume in volumes:
        parts.append(
            f'<text class="tick" x="{x(volume):.1f}" y="{height - 10}" text-anchor="middle">'
            f"{volume:,.0f}</text>"
        )
    ends = []
    for name, row in totals.items():
        points = " ".join(
            f"{x(v):.1f},{y(t):.1f}" for v, t in zip(volumes, row, strict=True) if t > 0
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2.5"/>'
        )
        if row[-1] > 0:
            ends.append((y(row[-1]), name))
    last = -99.0
    for at, name in sorted(ends):
        last = max(at + 4, last + 14)  # labels of lines that end together stand apart
        parts.append(
            f'<text class="name" x="{left + width + 8}" y="{last:.1f}" fill="{colours[name]}">'
            f"{escape(name)}</text>"
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704  names are escaped above


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1.0, 2.0, 2.5, 5.0, 10.0):
        if value <= step * power * (1 + 1e-9):
            return step * power
    return 10.0 * power


def _items(comparison: Comparison, spec: AppSpec) -> list[dict[str, Any]]:
    by_route: dict[str, dict[str, ItemResult]] = {
        route.name: {item.example.id: item for item in route.items} for route in comparison.routes
    }
    rows = []
    for example in comparison.examples:
        title = example.labels.get("title") or example.inputs.get("title") or example.id
        rows.append(
            {
                "id": example.id,
                "title": title,
                "inputs": {name: _shortened(text) for name, text in example.inputs.items()},
                "wanted": dict(example.wanted),
                "labels": {
                    metric.label: value
                    for metric in spec.metrics
                    if metric.label and (value := metric_label(metric, example))
                },
                "routes": [
                    _cell(route, by_route[route.name].get(example.id), spec, example.id)
                    for route in comparison.routes
                    if route.items
                ],
            }
        )
    return rows


def _shortened(text: str) -> str:
    """An input as the report shows it: a megabyte of it would only weigh the page down."""
    if len(text) <= _LONGEST_INPUT:
        return text
    return f"{text[:_LONGEST_INPUT]} … ({len(text):,})"


def _cell(
    route: RouteResult, item: ItemResult | None, spec: AppSpec, identity: str
) -> dict[str, Any]:
    steps = []
    for step in item.steps if item else ():
        scores = [
            f"{metric.metric} {short(route.quality[metric.key].per_item[identity])}"
            for metric in spec.metrics
            if metric.step == step.step
            and metric.key in route.quality
            and identity in route.quality[metric.key].per_item
        ]
        steps.append(
            {
                "name": step.step,
                "status": step.status.value,
                "output": step.output,
                "error": step.error,
                "scores": scores,
            }
        )
    return {"name": route.name, "status": item.status.value if item else None, "steps": steps}
