"""One HTML page from its template, style and script: self-contained, nothing from elsewhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse

_FOLDER = Path(__file__).parent


def page(
    name: str, language: str, say: Mapping[str, str], start: Mapping[str, Any]
) -> HTMLResponse:
    """``NAME.html.j2`` with ``NAME.css`` and ``NAME.js`` in it. Only these two may act in it.

    say:   the page's words. start: what the script begins with; any text may stand in it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    nonce = secrets.token_urlsafe(16)
    html = environment.get_template(f"{name}.html.j2").render(
        language=language,
        say=say,
        nonce=nonce,
        style=Markup((_FOLDER / f"{name}.css").read_text(encoding="utf-8")),  # noqa: S704  our own
        script=Markup((_FOLDER / f"{name}.js").read_text(encoding="utf-8")),  # noqa: S704  our own
        start=_script_json({"say": dict(say), **start}),
    )
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _script_json(value: object) -> Markup:
    """JSON that no text in it can end the script element of."""
    raw = json.dumps(value, ensure_ascii=False)
    return Markup(raw.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704
