"""Where Hinlap keeps what it fetched or converted once for all projects."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$HINLAP_CACHE``, or ``hinlap`` in the user's cache folder (XDG)."""
    own = os.environ.get("HINLAP_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hinlap"
