"""The page of a check: per gate its counts, plots, and examples to look through."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hinlap.core.rows import Row
from hinlap.core.version import __version__
from hinlap.data.gates.gate import Bars, Finding, GateReport
from hinlap.data.gates.personal import masked
from hinlap.data.gates.table import GATES
from hinlap.data.whole_file import write_whole
from hinlap.workflows.data_check import Check, shown_detail

EXAMPLES_PER_KIND = 100
_LONGEST_TEXT = 1_500
_ABOUT = {
    "duplicates": "Copies weigh more than other rows, and leak where a split parts them.",
    "overlap": "A model that has seen the test is measured by its memory.",
    "answers": "What is learned is how to answer: emptiness, refusals and broken ends, too.",
    "lengths": "What does not fit the window is cut when it teaches.",
    "languages": "Rows answered in another language than asked teach to answer so.",
    "personal": "Shown masked, here and in every output. --fix --mask writes the set without it.",
    "balance": "What is rare is learned badly; what is common is answered everywhere.",
    "formats": "Where the answer is not what was asked for, the model learns not to listen.",
}


def write_page(check: Check, path: Path) -> None:
    """One HTML file that needs nothing from outside; personal data is masked in it. Of each kind
    the first 100 findings are shown. Raises as ``whole_file``."""
    data = json.dumps({"gates": [_examples(check, r) for r in check.reports]}, ensure_ascii=True)
    page = Environment(
        loader=PackageLoader("hinlap.workflows", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    ).get_template("data_check_page.html.j2")
    text = page.render(
        check=check,
        removed=len(check.removed()),
        gates=GATES,
        about=_ABOUT,
        bars=_bars,
        share=lambda count: _share(count, len(check.rows)),
        removes=_removes,
        most=EXAMPLES_PER_KIND,
        version=__version__,
        # ASCII JSON; "<" as an escape, so that no text can end the script
        data=Markup(data.replace("<", "\\u003c")),  # noqa: S704  made by json.dumps above
    )
    write_whole(path, text.encode("utf-8", "replace"))


def _share(count: int, n: int) -> str:
    part = 100 * count / n
    return f"{part:.0f}%" if part >= 10 else f"{part:.1f}%" if part >= 0.1 else f"{part:.2f}%"


def _removes(report: GateReport, kind: str) -> bool:
    return any(finding.removes for finding in report.findings if finding.kind == kind)


def _examples(check: Check, report: GateReport) -> dict[str, Any]:
    by_kind: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        if len(by_kind[finding.kind]) < EXAMPLES_PER_KIND:
            by_kind[finding.kind].append(finding)
    return {
        "name": report.name,
        "findings": [
            {
                "kind": finding.kind,
                "detail": shown_detail(finding),
                "removes": finding.removes,
                "row": _row(check.rows[finding.row], finding.row),
                "other": None
                if finding.other is None
                else _row(check.rows[finding.other], finding.other),
            }
            for kind in report.counts
            for finding in by_kind[kind]
        ],
    }


def _row(row: Row, index: int) -> dict[str, Any]:
    return {
        "id": masked(row.id),
        "number": index + 1,
        "instruction": _excerpt(row.instruction),
        "input": _excerpt(row.input),
        "output": _excerpt(row.output, end=True),
    }


def _excerpt(text: str, *, end: bool = False) -> str:
    """Masked before it is shortened, so that no half of a number is left; with its end if asked."""
    plain = masked(text)
    if len(plain) <= _LONGEST_TEXT:
        return plain
    if end:
        return f"{plain[: _LONGEST_TEXT - 400]} […] {plain[-400:]}"
    return f"{plain[:_LONGEST_TEXT]} […]"


def _bars(figure: Bars) -> Markup:
    """One bar a label, its count behind it."""
    left, width, row = 170, 250, 22
    top = max([1, *figure.counts])
    parts = [
        f'<svg class="bars" viewBox="0 0 {left + width + 70} {row * len(figure.labels)}" '
        f'role="img" aria-label="{escape(figure.title)}">'
    ]
    for index, (label, count) in enumerate(zip(figure.labels, figure.counts, strict=True)):
        y = row * index
        name = masked(label)
        short = name if len(name) <= 24 else name[:23] + "…"
        length = max(1.5 if count else 0, width * count / top)
        parts.append(
            f'<text class="name" x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(short)}'
            f"<title>{escape(name)}</title></text>"
            f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="14" rx="2"/>'
            f'<text class="tick" x="{left + length + 6:.1f}" y="{y + 15}">{count:,}</text>'
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704  labels are escaped above
