"""A new app's folder, working from the first command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hinlap.app.app import FILE_NAME
from hinlap.app.declaration import json_schema
from hinlap.core.errors import AppError

TEMPLATES = Path(__file__).parent / "new_app"


def init_app(folder: Path, language: str) -> list[Path]:
    """Writes app.yaml, data/train.jsonl, data/test.jsonl and app.schema.json; gives their paths.

    Raises AppError when one of them is there already: nothing is overwritten.
    """
    source = TEMPLATES / language
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    schema = Path("app.schema.json")
    for name in [*files, schema]:
        if (folder / name).exists():
            raise AppError(
                "there is a file of that name already",
                where=str(folder / name),
                hint=f"choose another folder, or edit that {FILE_NAME}",
            )
    written = []
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
        written.append(target)
    (folder / schema).write_text(
        json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return [*written, folder / schema]
