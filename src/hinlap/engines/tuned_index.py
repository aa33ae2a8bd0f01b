"""Where tuned models stand on this machine, so that `hinlap models` can list them."""

from __future__ import annotations

import os
from pathlib import Path

from hinlap.engines.places import cache_folder

_INDEX = "tuned.txt"


def remember(home: Path) -> None:
    """Adds a tuned model's folder to the list, one path a line."""
    known = remembered()
    if home.resolve() in known:
        return
    file = cache_folder() / _INDEX
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.write_text("".join(f"{each}\n" for each in [*known, home.resolve()]), "utf-8")
    temporary.replace(file)


def remembered() -> list[Path]:
    """Folders of tuned models that are still there, oldest first."""
    try:
        lines = (cache_folder() / _INDEX).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [path for line in lines if (path := Path(line)).joinpath("tuning.json").is_file()]
