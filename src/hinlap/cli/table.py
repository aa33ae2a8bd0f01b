"""The decision table on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hinlap.app.chain import Status
from hinlap.app.declaration import AppSpec
from hinlap.workflows.comparison import UNAVAILABLE, Comparison, RouteResult
from hinlap.workflows.numbers import short, with_interval
from hinlap.workflows.wording import label


def print_comparison(comparison: Comparison, spec: AppSpec) -> None:
    """Routes as columns (they are few, the figures are many), then the decision in words."""
    lang = spec.language
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(
        title=f"{comparison.app} · {label('items', lang, n=len(comparison.examples))}",
        title_justify="left",
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("")
    for route in comparison.routes:
        chosen = route.name == comparison.decision.route
        name = route.name + (f" ({label('stand_in_mark', lang)})" if _stand_in(route) else "")
        table.add_column(f"▶ {name}" if chosen else name, style="green" if chosen else None)
    for name, cells in rows(comparison, spec):
        table.add_row(name, *cells)
    console.print(table)
    if comparison.premade:
        figures = ", ".join(
            f"{key} {with_interval(f.interval)}" for key, f in comparison.premade.items()
        )
        console.print(f"{label('premade', lang)}: {figures}", highlight=False, markup=False)
    for step in comparison.cheapest:
        text = label("from_requests", lang, n=f"{step.requests:,.0f}", route=step.route)
        console.print(f"{label('volume', lang)}: {text}", highlight=False, markup=False)
    console.print()
    if comparison.decide_by is None:
        console.print(label("no_decide", lang))
        return
    chosen_route = comparison.decision.route
    head = label("take", lang, route=chosen_route) if chosen_route else label("take_none", lang)
    console.print(head, style="bold", markup=False)
    for reason in comparison.reasons:
        console.print(f"  · {reason}", highlight=False, markup=False)
    console.print(
        label("rule", lang, by=comparison.decide_by), style="dim", highlight=False, markup=False
    )


def rows(comparison: Comparison, spec: AppSpec) -> list[tuple[str, list[str]]]:
    """Row name and one cell per route."""
    lang = spec.language
    routes = comparison.routes
    found = [(label("model", lang), [route.model for route in routes])]
    for metric in spec.metrics:
        arrow = "↑"
        cells = []
        for route in routes:
            figure = route.quality.get(metric.key)
            cells.append(
                f"{with_interval(figure.interval)} n={figure.interval.n}" if figure else "–"
            )
            if figure and not figure.higher_is_better:
                arrow = "↓"
        mark = " ★" if metric.key == comparison.decide_by else ""
        found.append((f"{metric.key} {arrow}{mark}", cells))
    found += [
        (
            label("latency", lang),
            [f"{short(r.latency.p50)} / {short(r.latency.p95)} n={r.latency.n}" for r in routes],
        ),
        (
            label("cost", lang),
            [
                ("≈ " if _stand_in(r) else "") + short(r.cost.per_1000_usd) if r.cost else "–"
                for r in routes
            ],
        ),
        (label("tokens", lang), [f"{r.input_tokens:,} / {r.output_tokens:,}" for r in routes]),
        (
            label("privacy", lang),
            [
                label("yes" if r.traits.data_leaves_machine else "no", lang) if r.traits else "–"
                for r in routes
            ],
        ),
        (
            label("examples", lang),
            [str(r.traits.examples_needed) if r.traits else "–" for r in routes],
        ),
        (
            label("lock_in", lang),
            [label(f"lock_in.{r.traits.lock_in}", lang) if r.traits else "–" for r in routes],
        ),
        (label("counts", lang), [_counts(route, comparison, spec) for route in routes]),
    ]
    return found


def _counts(route: RouteResult, comparison: Comparison, spec: AppSpec) -> str:
    lang = spec.language
    if route.status == UNAVAILABLE:
        return f"{label(route.status, lang)}: {route.reason.splitlines()[0]}"
    parts = [
        f"{route.counts[status.value]} {label(status.value, lang)}"
        for status in Status
        if route.counts[status.value]
    ]
    text = ", ".join(parts)
    return f"{label(route.status, lang)}: {text}" if route.reason else text


def _stand_in(route: RouteResult) -> bool:
    return bool(route.traits and route.traits.stand_in)
