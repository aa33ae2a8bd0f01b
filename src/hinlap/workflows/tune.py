"""Tune a model by a recipe, or by an app's fine-tuned route: data, training, what comes out."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hinlap.core.counting import counted
from hinlap.core.errors import InputError
from hinlap.core.progress import Progress
from hinlap.core.rows import BadRow, Row
from hinlap.data.leaks import NEAR_COPY, refuse_test_set
from hinlap.data.manifest import file_sha256, read_manifest
from hinlap.data.near_duplicates import near_duplicates
from hinlap.data.row_files import read_rows
from hinlap.data.sources.hub_set import PREFIX
from hinlap.engines.catalogue import model_folder, weights_digest
from hinlap.engines.places import cache_folder
from hinlap.tuning.lessons import Encoded, encode_lessons, encode_texts, lesson_of
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.tune import Job, tune
from hinlap.tuning.tuned import Taught, Tuned
from hinlap.workflows.data_import import ImportOptions, import_rows


@dataclass(frozen=True)
class TuneOptions:
    """How to run a recipe.

    data:       files of rows; none takes the recipe's own source.
    out:        folder of the tuned model.
    teach_with: names of files that may teach although they hold the test rows of a split.
    trackers:   tensorboard, mlflow, wandb.
    """

    data: tuple[Path, ...] = ()
    out: Path = Path("tuned")
    teach_with: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sides:
    """Rows that teach, and rows that measure: of other groups, and no near copies."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    taught: tuple[Taught, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


def tune_recipe(recipe: Recipe, options: TuneOptions, progress: Progress) -> tuple[Tuned, Sides]:
    """Raises InputError, LeakError, ModelError, UserError as reading, `tune` and the model do."""
    sides = read_sides(recipe, options, progress)
    job = job_of(recipe, sides, progress)
    return tune(job, options.out, progress, trackers=options.trackers), sides


def read_sides(recipe: Recipe, options: TuneOptions, progress: Progress) -> Sides:
    """The recipe's rows, parted by its seed: groups stay together, near copies of rows that measure
    do not teach. The rows that measure are the same however many teach."""
    files = options.data or (_own_source(recipe, progress),)
    rows: list[Row] = []
    taught = []
    for file in files:
        refuse_test_set(file, options.teach_with, "--teach-with names")
        found = list(_read(file, recipe, progress))
        rows += found
        manifest = read_manifest(file)
        taught.append(
            Taught(
                path=str(file),
                sha256=manifest.sha256 if manifest else file_sha256(file),
                rows=len(found),
                licence=manifest.licence if manifest else "",
                source=manifest.source if manifest else "",
                revision=manifest.revision if manifest else "",
            )
        )
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group or row.id, []).append(row)
    order = list(groups)
    random.Random(f"{recipe.seed}/held out").shuffle(order)
    held_out: list[Row] = []
    while order and len(held_out) < recipe.held_out_rows:
        if len(order) == 1 and not held_out:
            break  # one example: it teaches
        held_out += groups[order.pop()]
    kept = set(order)
    train = [row for row in rows if (row.group or row.id) in kept]
    if recipe.rows is not None:
        train = train[: recipe.rows]
    dropped = {}
    if held_out and recipe.format != "text":
        pairs = near_duplicates(
            [row.asked() for row in train], [row.asked() for row in held_out], threshold=NEAR_COPY
        )
        twins = {i for i, _, _ in pairs}
        if twins:
            dropped["near copies of rows that measure"] = len(twins)
            train = [row for i, row in enumerate(train) if i not in twins]
            progress.say(
                f"tuning: {counted(len(twins), 'row')} left out, near copies of held-out ones"
            )
    if len(train) == 1:
        progress.say("tuning: there is one example; a model learns it by heart and little else")
    return Sides(tuple(train), tuple(held_out), tuple(taught), dropped)


def job_of(recipe: Recipe, sides: Sides, progress: Progress) -> Job:
    """The rows as sequences, for the recipe's model. Raises ModelError, InputError."""
    from hinlap.tuning.bases import Base, fresh_tokenizer, tokenizer_for

    if recipe.method == "scratch":
        texts = [_text(row) for row in sides.train]
        tokenizer = fresh_tokenizer(texts, recipe.fresh)
        length = min(recipe.max_length, recipe.fresh.window)
        return Job(
            recipe,
            None,
            tokenizer,
            encode_texts(texts, tokenizer, length),
            encode_texts([_text(row) for row in sides.held_out], tokenizer, length),
            sides.taught,
        )
    folder = model_folder(recipe.model, progress)
    base = Base(recipe.model, folder, weights_digest(folder))
    tokenizer = tokenizer_for(recipe, base)
    _check_length(recipe, folder)

    def encoded(rows: Sequence[Row]) -> Encoded:
        if recipe.format == "text":
            return encode_texts([_text(row) for row in rows], tokenizer, recipe.max_length)
        return encode_lessons([lesson_of(row) for row in rows], tokenizer, recipe.max_length)

    train = encoded(sides.train)
    left_out = dict(train.left_out)
    for why, count in sides.dropped.items():
        left_out[why] = left_out.get(why, 0) + count
    return Job(
        recipe,
        base,
        tokenizer,
        replace(train, left_out=left_out),
        encoded(sides.held_out),
        sides.taught,
    )


def _check_length(recipe: Recipe, folder: Path) -> None:
    from hinlap.engines.local import LocalEngine

    window = LocalEngine(recipe.model, folder).context_length
    if recipe.max_length > window:
        raise InputError(
            f"{recipe.max_length} tokens are more than the window of {recipe.model} ({window})",
            where="max_length",
            hint=f"set it to {window} or less",
        )


def _own_source(recipe: Recipe, progress: Progress) -> Path:
    """The recipe's data set from the hub, imported once into the cache."""
    source = recipe.data.source
    if not source:
        raise InputError(
            f"the recipe {recipe.name!r} names no data",
            where="--data",
            hint="give a file of rows (JSONL, CSV, Parquet; any format of `hinlap data import`)",
        )
    if not source.startswith(PREFIX):
        return Path(source)
    address = f"{source}@{recipe.data.revision}" if recipe.data.revision else source
    name = address.removeprefix(PREFIX).replace("/", "--").replace("@", "-")
    target = cache_folder() / "data" / f"{name}.jsonl"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        options = ImportOptions(format=recipe.data.format)
        command = f"hinlap tune {recipe.name}"
        import_rows([address], target, options, command=command, progress=progress)
    return target


def _read(file: Path, recipe: Recipe, progress: Progress) -> list[Row]:
    if recipe.data.column:
        return _documents(file, recipe.data.column)
    rows, bad = [], 0
    for found in read_rows(file, format=recipe.data.format):
        if isinstance(found, BadRow):
            bad += 1
            if bad == 1:
                progress.say(f"{found.where}: {found.reason}")
        else:
            rows.append(found)
    if bad:
        progress.say(f"{file}: {counted(bad, 'record')} that could not be read left out")
    if not rows:
        raise InputError("there is no row in it", where=str(file))
    return rows


def _documents(file: Path, column: str) -> list[Row]:
    """One document a record, from one column."""
    from hinlap.data.containers import read_records

    rows = []
    for number, record in enumerate(read_records(file)):
        text = record.fields.get(column) if not record.reason else None
        if isinstance(text, str) and text.strip():
            rows.append(Row(str(record.fields.get("id", number)), "", text.strip()))
    if not rows:
        raise InputError(
            f"no record has text in a column {column!r}",
            where=str(file),
            hint="name the column with --set data.column=NAME",
        )
    return rows


def _text(row: Row) -> str:
    return row.output if not row.instruction else row.content()


def changes_of(settings: Sequence[str]) -> dict[str, Any]:
    """``field=value`` settings; values as JSON where they are, else text. Raises InputError."""
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise InputError("expected FIELD=VALUE", where=f"--set {setting}")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes
