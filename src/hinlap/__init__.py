"""Hinlap: from an idea for an LLM app to the best way to build it, measured.

app = hinlap.load_app("examples/news-riddles")
rows = app.run([{"text": "..."}], route="few-shot")
comparison = hinlap.compare(app)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hinlap.core.version import __version__

if TYPE_CHECKING:
    from hinlap.api import Application, compare, load_app

__all__ = ["Application", "__version__", "compare", "load_app"]


def __getattr__(name: str) -> Any:
    # loaded on first use: `hinlap --help` must not wait for pydantic and SQLAlchemy
    if name in __all__:
        return getattr(import_module("hinlap.api"), name)
    raise AttributeError(f"module 'hinlap' has no attribute {name!r}")
