"""Tune a model by a recipe, or by an app's fine-tuned route: data, training, what comes out."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hinlap.app.app import App
from hinlap.app.declaration import FineTunedSpec
from hinlap.core.counting import counted
from hinlap.core.errors import AppError, InputError, ModelError
from hinlap.core.messages import Message, Prompt
from hinlap.core.progress import Progress
from hinlap.core.rows import BadRow, Row
from hinlap.data.gates.languages import languages
from hinlap.data.leaks import NEAR_COPY, refuse_test_set
from hinlap.data.manifest import file_sha256, read_manifest
from hinlap.data.near_duplicates import near_duplicates
from hinlap.data.row_files import OwnIds, read_rows
from hinlap.data.sources.hub_set import PREFIX, fetch_hub_set
from hinlap.engines.catalogue import model_folder, weights_digest
from hinlap.engines.gguf_writing import write_gguf
from hinlap.engines.places import cache_folder
from hinlap.engines.pool import EnginePool
from hinlap.engines.tuned_index import remember
from hinlap.routes.fine_tuned import app_job, lessons, tuned_home
from hinlap.routes.route import RouteContext
from hinlap.stats.learning_curve import LEAST_SIZES, LearningCurve
from hinlap.store.store import Store
from hinlap.tuning.devices import read_devices
from hinlap.tuning.lessons import Encoded, encode_lessons, encode_texts, lesson_of
from hinlap.tuning.merging import merge_adapter
from hinlap.tuning.plan import Lengths, counted_lengths, expected_lengths, plan, plan_lines
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.shape import configuration, shape_of
from hinlap.tuning.tune import Job, tune
from hinlap.tuning.tuned import Taught, Tuned
from hinlap.workflows.data_import import ImportOptions, import_rows, now
from hinlap.workflows.measuring import Measured
from hinlap.workflows.tuning_card import TuningCard, write_tuning_card
from hinlap.workflows.tuning_measure import (
    GENERAL_SET,
    AppFigures,
    RowFigures,
    measure_app,
    measure_general,
    measure_rows,
    tuned_engine,
)
from hinlap.workflows.tuning_report import (
    AFTER,
    BEFORE,
    TUNED,
    TuningReport,
    curve_of,
    write_report,
)

ANSWERS = "answers.db"
CURVE = "curve"
MERGED = "merged"
DECIDES = "perplexity"
_LANGUAGES_READ = 2000  # rows
_MOST_HELD_OUT = 5  # a fifth of the rows at the most


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


def tune_recipe(
    recipe: Recipe, options: TuneOptions, after: After, progress: Progress
) -> tuple[Tuned, Sides]:
    """Raises InputError, LeakError, ModelError, UserError as reading, `tune` and the model do; for
    a curve that cannot be drawn before anything is trained."""
    sides = read_sides(recipe, options, progress)
    measured = bool(sides.held_out) and recipe.format != "text"
    _check_curve(after, len(sides.train), measured)
    job = job_of(recipe, sides, progress)
    return tune(job, options.out, progress, trackers=options.trackers), sides


def read_sides(recipe: Recipe, options: TuneOptions, progress: Progress) -> Sides:
    """The recipe's rows, parted by its seed: groups stay together, near copies of rows that measure
    do not teach. The rows that measure are the same however many teach."""
    files = options.data or _own_source(recipe, progress)
    # what was fetched is in Hinlap's own layout
    format = recipe.data.format if options.data else ""
    rows: list[Row] = []
    taught = []
    ids = OwnIds()
    for file in files:
        refuse_test_set(file, options.teach_with, "--teach-with names")
        found = [ids.own(row) for row in _read(file, recipe, format, progress)]
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
    most = min(recipe.held_out_rows, max(1, len(rows) // _MOST_HELD_OUT))
    while len(order) > 1 and len(held_out) < most:  # one example teaches
        held_out += groups[order.pop()]
    if most < recipe.held_out_rows:
        progress.say(
            f"tuning: {counted(len(held_out), 'row')} held out instead of {recipe.held_out_rows}: "
            f"a {_MOST_HELD_OUT}th of all at the most"
        )
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
    if len(train) == 1:
        progress.say("tuning: there is one example; a model learns it by heart and little else")
    if recipe.format != "text":
        _say_languages(train[:_LANGUAGES_READ], progress)
    return Sides(tuple(train), tuple(held_out), tuple(taught), dropped)


def _say_languages(rows: Sequence[Row], progress: Progress) -> None:
    """Rows that teach to answer in another language than that of the question."""
    found = [each for each in languages(rows).findings if each.kind == "other_language"]
    if found:
        progress.say(
            f"tuning: of {counted(len(rows), 'row')} looked at, {len(found)} are answered in "
            f"another language than asked (row {rows[found[0].row].id!r}: {found[0].detail}); "
            "`hinlap data check` shows all"
        )


def job_of(recipe: Recipe, sides: Sides, progress: Progress) -> Job:
    """The rows as sequences, for the recipe's model. Raises ModelError, InputError."""
    from hinlap.tuning.bases import Base, fresh_tokenizer, refuse_adapter, tokenizer_for

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
    refuse_adapter(recipe.model)
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


def _check_curve(after: After, rows: int, measured: bool) -> None:
    """Raises InputError where the sizes or the items do not make a curve."""
    if not after.curve:
        return
    if not (measured and after.items):
        raise InputError(
            "a learning curve needs held-out items that are measured",
            where="--curve",
            hint="hold rows out (or give the app test items), and leave --items 0 out",
        )
    if after.curve[-1] >= rows:
        raise InputError(
            f"{after.curve[-1]} is not less than the {rows} that teach, which are its last point",
            where="--curve",
            hint=f"name sizes under {rows}",
        )


def tune_app(app: App, route: str | None, after: After, context: RouteContext) -> tuple[str, Tuned]:
    """The app's fine-tuned route, trained where the route itself looks for it; its name, too.
    Raises AppError where there is none, or several and none is named."""
    name, spec = _fine_tuned(app, route)
    taught = app.train[: spec.examples]
    _check_curve(after, len(taught), bool(app.test))
    job = app_job(spec, lessons(app, taught), context.pool.local(spec.model))
    return name, tune(job, tuned_home(app, job), context.progress)


def _fine_tuned(app: App, route: str | None) -> tuple[str, FineTunedSpec]:
    tuned_routes = [n for n, s in app.spec.routes.items() if isinstance(s, FineTunedSpec)]
    if route is None and len(tuned_routes) != 1:
        raise AppError(
            f"which route? of kind fine-tuned are: {', '.join(tuned_routes) or 'none'}",
            where=str(app.file),
            hint="name it with --route, or add one",
        )
    name = route or tuned_routes[0]
    spec = app.spec.routes.get(name)
    if not isinstance(spec, FineTunedSpec):
        raise AppError(
            f"{name!r} is no route of kind fine-tuned",
            where=str(app.file),
            hint=f"of that kind are: {', '.join(tuned_routes) or 'none'}",
        )
    return name, spec


def _check_length(recipe: Recipe, folder: Path) -> None:
    from hinlap.engines.local import LocalEngine

    window = LocalEngine(recipe.model, folder).context_length
    if recipe.max_length > window:
        raise InputError(
            f"{recipe.max_length} tokens are more than the window of {recipe.model} ({window})",
            where="max_length",
            hint=f"set it to {window} or less",
        )


def _own_source(recipe: Recipe, progress: Progress) -> tuple[Path, ...]:
    """The recipe's own file, or its data set from the hub: imported once into the cache, or the
    set's own files where documents are read from a column."""
    source = recipe.data.source
    if not source:
        raise InputError(
            f"the recipe {recipe.name!r} names no data",
            where="--data",
            hint="give a file of rows (JSONL, CSV, Parquet; any format of `hinlap data import`)",
        )
    if not source.startswith(PREFIX):
        return (Path(source),)
    set_name, colon, which = source.removeprefix(PREFIX).partition(":")
    revision = f"@{recipe.data.revision}" if recipe.data.revision else ""
    address = f"{PREFIX}{set_name}{revision}{colon}{which}"
    if recipe.data.column:
        return tuple(fetch_hub_set(address, progress).files)
    name = address.removeprefix(PREFIX).replace("/", "--").replace("@", "-").replace(":", "-")
    target = cache_folder() / "data" / f"{name}.jsonl"
    if os.environ.get("RANK", "0") != "0":  # the first process fetches; a launcher ends all with it
        while not target.is_file():
            time.sleep(1)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        options = ImportOptions(format=recipe.data.format)
        command = f"hinlap tune {recipe.name}"
        import_rows([address], target, options, command=command, progress=progress)
    return (target,)


def _read(file: Path, recipe: Recipe, format: str, progress: Progress) -> list[Row]:
    if recipe.data.column:
        return _documents(file, recipe.data.column)
    rows, bad = [], 0
    for found in read_rows(file, format=format):
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


@dataclass(frozen=True)
class After:
    """What to make once a model is tuned.

    items:      rows or test items answered for the report; 0: no report.
    forgetting: instructions answered before and after; 0: none.
    curve:      sizes to tune on besides, for the learning curve; empty: none.
    exports:    merged, gguf, gguf-f32, gguf-q8_0.
    """

    items: int = 40
    forgetting: int = 40
    curve: tuple[int, ...] = ()
    exports: tuple[str, ...] = ()


def report_rows(tuned: Tuned, sides: Sides, after: After, progress: Progress) -> TuningReport:
    """The tuned model beside its base on the held-out rows; page, card, exports."""
    pool = EnginePool(progress)
    store = Store(tuned.home / ANSWERS)
    try:
        found = RowFigures({}, ())
        if sides.held_out and tuned.recipe.format != "text" and after.items:
            found = measure_rows(
                tuned, sides.held_out, sides.train, after.items, pool, store, progress
            )
        points: dict[int, Measured] = {}
        for size in after.curve:
            recipe = tuned.recipe.model_copy(update={"rows": size})
            smaller = replace(sides, train=sides.train[:size])
            progress.say(f"the learning curve: {counted(size, 'row')}")
            one = tune(job_of(recipe, smaller, progress), tuned.home / CURVE / str(size), progress)
            own = EnginePool(progress)
            figures = measure_rows(one, sides.held_out, (), 0, own, store, progress)
            points[size] = figures.systems[TUNED][DECIDES]
        if points:
            points[len(sides.train)] = found.systems[TUNED][DECIDES]
        forgetting = _forgetting(tuned, after.forgetting, pool, store, progress)
    finally:
        store.close()
    report = TuningReport(
        title=f"{tuned.recipe.name}: {tuned.base or 'a model from scratch'}",
        tuned=tuned,
        systems=found.systems,
        decide_by=DECIDES if found.systems else "",
        items=f"{counted(_measured(found.systems), 'held-out row')} that fit, the same for every "
        f"system; the first {after.items} of them answered",
        forgetting=forgetting,
        general_set=GENERAL_SET if forgetting else "",
        curve=_curve(points, DECIDES),
        curve_metric=DECIDES if len(points) >= LEAST_SIZES else "",
        examples=found.examples,
        notes=_notes(tuned),
        made_at=now(),
    )
    _write(tuned, report, after, pool, progress)
    return report


def report_app(
    app: App, route: str, tuned: Tuned, after: After, context: RouteContext
) -> TuningReport:
    """The app's tuned route beside its base by the app's metrics on its test items."""
    pool, progress = context.pool, context.progress
    found = AppFigures({}, (), {})
    if app.test and after.items:
        found = measure_app(app, route, after.items, context)
    decide_by = app.spec.decide.by if app.spec.decide else ""
    points: dict[int, Measured] = {}
    curve_metric = ""
    if after.curve and found.systems:
        curve_metric = decide_by or next(iter(found.systems[TUNED]))
        for size in after.curve:
            progress.say(f"the learning curve: {counted(size, 'example')}")
            spec = app.spec.routes[route].model_copy(update={"examples": size})
            one = measure_app(app.with_routes({route: spec}), route, after.items, context)
            points[size] = one.systems[TUNED][curve_metric]
        taught = app.spec.routes[route]
        assert isinstance(taught, FineTunedSpec)
        points[len(app.train[: taught.examples])] = found.systems[TUNED][curve_metric]
    forgetting = _forgetting(tuned, after.forgetting, pool, context.store, progress)
    own = found.systems.get(TUNED, {})
    report = TuningReport(
        title=f"{app.name}: {route}",
        tuned=tuned,
        systems=found.systems,
        decide_by=decide_by if decide_by in own else "",
        items=f"{counted(min(after.items, len(app.test)), 'test item')} of {app.name}",
        forgetting=forgetting,
        general_set=GENERAL_SET if forgetting else "",
        curve=_curve(points, curve_metric),
        curve_metric=curve_metric if len(points) >= LEAST_SIZES else "",
        examples=found.examples,
        notes=[*_notes(tuned), *(f"{name}: {why}" for name, why in found.left.items())],
        language=app.spec.language,
        made_at=now(),
    )
    _write(tuned, report, after, pool, progress)
    return report


def _measured(systems: Mapping[str, Mapping[str, Measured]]) -> int:
    return len(systems[TUNED][DECIDES].ids) if TUNED in systems else 0


def _forgetting(
    tuned: Tuned, limit: int, pool: EnginePool, store: Store, progress: Progress
) -> dict[str, dict[str, Measured]]:
    if not limit or not tuned.base or tuned.recipe.format == "text":
        return {}
    before = measure_general(pool.local(tuned.base), limit, store, progress)
    return {
        BEFORE: before,
        AFTER: measure_general(tuned_engine(tuned, pool), limit, store, progress),
    }


def _curve(points: Mapping[int, Measured], metric: str) -> LearningCurve | None:
    """Threshold: a twentieth of the figure at the largest size, for a figure without a natural
    unit (perplexity); 0.02 of a share."""
    if len(points) < LEAST_SIZES:
        return None
    scores = points[max(points)].scores
    threshold = 0.02 if scores.higher_is_better else 0.05 * abs(scores.value or 1.0)
    return curve_of(points, threshold=threshold)


def _notes(tuned: Tuned) -> list[str]:
    notes = []
    if tuned.stopped:
        notes.append(tuned.stopped)
    if not tuned.evaluations and tuned.recipe.method != "scratch":
        notes.append("no rows were held out while it trained, so the loss is of rows it learnt")
    return notes


def _write(
    tuned: Tuned, report: TuningReport, after: After, pool: EnginePool, progress: Progress
) -> None:
    """Exports first: page and card name what is there."""
    engine = tuned_engine(tuned, pool)
    asked = Prompt((Message("user", "Name three fruits."),))
    # opening the tokenizer compares it with how prompts were made in tuning
    prompt = "" if tuned.recipe.format == "text" else engine.render(asked)
    export(tuned, after.exports, progress)
    if after.items:
        write_report(tuned.home / "report.html", report)
    write_tuning_card(tuned.home / "README.md", TuningCard(tuned.home.name, report, prompt=prompt))
    remember(tuned.home)


def export(tuned: Tuned, exports: Sequence[str], progress: Progress) -> list[Path]:
    """Writes ``merged/`` and ``model*.gguf`` in the tuned model's folder, where they are not
    there yet. GGUF is made from whole weights, so an adapter is merged for it."""
    made = []
    wants_gguf = [each for each in exports if each.startswith("gguf")]
    whole = tuned.model
    if tuned.adapter is not None and exports:
        whole = tuned.home / MERGED
        if not (whole / "config.json").is_file():
            merge_adapter(tuned, whole, progress)
            made.append(whole)
    for name in wants_gguf:
        dtype = name.partition("-")[2] or "f16"
        target = tuned.home / ("model.gguf" if name == "gguf" else f"model.{dtype}.gguf")
        if not target.exists():
            assert whole is not None
            write_gguf(whole, target, progress, dtype=dtype)  # type: ignore[arg-type]
            made.append(target)
    return made


def plan_recipe(
    recipe: Recipe, options: TuneOptions, devices: str | None, progress: Progress
) -> list[str]:
    """What a training would take, as lines. Rows that are here are counted; without --data the
    published size of a known set is assumed, and said."""
    lengths = None
    if options.data:
        sides = read_sides(recipe, options, progress)
        try:
            job = job_of(recipe, sides, progress)
            lengths = _lengths(job.encoded)
        except ModelError:
            progress.say("the model is not here: rows are counted at four characters a token")
            texts = [len(row.content()) // 4 for row in sides.train]
            lengths = counted_lengths([min(n, recipe.max_length) for n in texts if n], learnt=0.5)
    if lengths is None:
        rows, mean = _PUBLISHED.get(recipe.data.source, (10_000, 200))
        progress.say(f"no --data: {rows:,} rows of {mean} tokens on average, half of them learnt")
        lengths = expected_lengths(recipe.rows or rows, mean, recipe.max_length, learnt=0.5)
    if recipe.method == "scratch":
        from hinlap.tuning.bases import fresh_config

        shape = shape_of(fresh_config(recipe.fresh), recipe.name)
    else:
        shape = shape_of(configuration(recipe.model), recipe.model)
    return plan_lines(plan(shape, recipe, read_devices(devices or "this"), lengths))


def plan_app(app: App, route: str | None, devices: str | None, context: RouteContext) -> list[str]:
    """As `plan_recipe`, of an app's fine-tuned route."""
    name, spec = _fine_tuned(app, route)
    job = app_job(spec, lessons(app, app.train[: spec.examples]), context.pool.local(spec.model))
    shape = shape_of(configuration(spec.model), spec.model)
    planned = plan(shape, job.recipe, read_devices(devices or "this"), _lengths(job.encoded))
    return [f"{app.name}, route {name}", *plan_lines(planned)]


_PUBLISHED = {
    "hf:databricks/databricks-dolly-15k": (14_800, 230),
    "hf:tatsu-lab/alpaca": (52_002, 120),
}
"""Rows and their mean tokens by GPT-NeoX's tokenizer, prompt format included: rough."""


def _lengths(encoded: Encoded) -> Lengths:
    learnt = sum(int(each.learnt.sum()) for each in encoded.taken)
    return counted_lengths(
        [len(each) for each in encoded.taken], learnt=learnt / max(1, encoded.tokens)
    )
