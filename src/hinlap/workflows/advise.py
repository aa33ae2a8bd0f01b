"""Choosing a base: models and precisions measured on an app's own items, and ranked."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hinlap.app.app import App
from hinlap.app.chain import ItemResult, Status
from hinlap.core import errors
from hinlap.core.counting import counted
from hinlap.core.errors import (
    AppError,
    EngineError,
    HinlapError,
    ModelError,
    ProgramError,
    UserError,
)
from hinlap.core.examples import Example
from hinlap.core.progress import Progress, Silent
from hinlap.core.version import __version__
from hinlap.data.gates.languages import UNKNOWN, language_of
from hinlap.engines.cache import weigh_all
from hinlap.engines.catalogue import (
    CATALOGUE,
    EMBEDDED,
    WORKING_MEMORY_BYTES,
    fits,
    machine_memory_bytes,
    model_folder,
    parameters_of,
)
from hinlap.engines.local import LocalEngine
from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.routes.costs import own_machine_cost
from hinlap.routes.decide import Candidate, decide
from hinlap.routes.route import Route, RouteContext
from hinlap.store.store import utc_now
from hinlap.workflows.advice import (
    Advice,
    Advised,
    LeftOut,
    Standing,
    place_reasons,
    rank,
)
from hinlap.workflows.advise_variant import (
    Machine,
    Variant,
    read_record,
    ready_routes,
    record_path,
    references,
    steps_as_wanted,
    ways_to_ask,
)
from hinlap.workflows.answer import route_context, run_route
from hinlap.workflows.compare import LATENCY_REQUESTS, figure_of, latency_of
from hinlap.workflows.comparison import Figure, Latency
from hinlap.workflows.load import load
from hinlap.workflows.measuring import Measured, Weigher, measure_all, needs_weigher
from hinlap.workflows.wording import sentence

DTYPES = {"float32": 4, "bfloat16": 2}
"""Bytes per weight."""


@dataclass(frozen=True)
class AdviseOptions:
    """models: names, hub ids, folders or .gguf files; () for every catalogue model that is here.
    limit: first test items only. dtypes: precisions to run each in. latency_requests: how many
    first items are asked singly, to time them."""

    models: tuple[str, ...] = ()
    limit: int | None = None
    dtypes: tuple[str, ...] = ("float32",)
    latency_requests: int = LATENCY_REQUESTS


def advise(path: Path, options: AdviseOptions, progress: Progress) -> Advice:
    """Measures each model and precision on the app's items, each in a process of its own, and
    ranks them by `RULE`. What was answered before is reused.

    A model that fails is reported and the others go on. Raises AppError when there is nothing to
    measure on or by, ModelError for a model that cannot be had, or when none is left.
    """
    for dtype in options.dtypes:
        if dtype not in DTYPES:
            raise UserError(
                f"no precision {dtype!r}", where="--dtype", hint=f"one of: {', '.join(DTYPES)}"
            )
    app = ways_to_ask(load(path), options.limit)
    _check(app)
    variants, failed, not_here = _variants(options, progress)
    with route_context(app, progress) as context:
        if needs_weigher(app):
            context.pool.local(EMBEDDED)  # told now if it cannot be had
        measured: list[_Measured] = []
        failures: list[HinlapError] = []
        for variant in variants:
            try:
                machine = _measure(app, variant, options, progress)
            except (ModelError, EngineError) as error:
                progress.say(f"{variant.model} {variant.dtype}: {error}")
                failures.append(error)
                failed.append(LeftOut(f"{variant.model} {variant.dtype}", error.what))
                continue
            measured += _weigh(app, variant, machine, context)
    if not measured:
        if failures:
            raise failures[0]
        raise ModelError(
            "none of the models can be measured here: "
            + "; ".join(f"{each.model}: {each.reason}" for each in failed),
            where="--models",
            hint="name a smaller one: `hinlap models` says what each needs",
        )
    return _advice(app, measured, failed, not_here, failures)


def _check(app: App) -> None:
    if not app.test:
        raise AppError(
            "there are no test items to measure models on",
            where=str(app.file),
            hint="add examples.test to app.yaml",
        )
    wanted = any(text.strip() for example in app.test for text in example.wanted.values())
    if app.spec.decide is None and not wanted:
        raise AppError(
            "there is nothing to rank models by: no metric that decides, and no test item has a "
            "wanted output",
            where=str(app.file),
            hint="declare metrics and decide: {by: STEP.METRIC}, or add wanted outputs",
        )


def _variants(
    options: AdviseOptions, progress: Progress
) -> tuple[list[Variant], list[LeftOut], list[LeftOut]]:
    """What to measure, what cannot be, and what is known of models that are not here."""
    names = list(dict.fromkeys(options.models))
    not_here = []
    if not names:
        names = [name for name in CATALOGUE if name == EMBEDDED or _is_here(name)]
        not_here = [_not_here(name) for name in CATALOGUE if name not in names]
    variants, too_large = [], []
    # what needs no fetching first: a misspelt name is told before gigabytes are fetched
    folders = {
        name: _folder(name, options, progress)
        for name in sorted(names, key=lambda name: name in CATALOGUE)
    }
    for name in names:
        folder = folders[name]
        weights = parameters_of(folder) if folder else CATALOGUE[name].parameters
        for dtype in dict.fromkeys(options.dtypes):
            needed, free = _needed(weights, dtype), machine_memory_bytes()
            if folder is not None and needed <= free:
                variants.append(Variant(name, folder, dtype))
                continue
            reason = f"needs about {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free"
            too_large.append(
                LeftOut(f"{name} {dtype}", reason, weights, memory_bytes=needed, fits=False)
            )
    return variants, too_large, not_here


def _folder(name: str, options: AdviseOptions, progress: Progress) -> Path | None:
    """None for a catalogue model that fits in no precision asked for: it is not fetched. Raises
    ModelError when it cannot be had."""
    entry = CATALOGUE.get(name)
    if entry is not None:
        free = machine_memory_bytes()
        if all(_needed(entry.parameters, dtype) > free for dtype in options.dtypes):
            return None
        # by its id: by its name it would be refused where only bfloat16 fits
        return model_folder(name if name == EMBEDDED else entry.hub_id, progress)
    path = Path(name).expanduser()
    if path.is_dir() and any(path.glob("*.safetensors")) and (path / "config.json").is_file():
        return path  # whether it fits is looked at by precision
    return model_folder(name, progress)


def _needed(weights: float, dtype: str) -> float:
    return weights * DTYPES[dtype] + WORKING_MEMORY_BYTES


def _is_here(name: str) -> bool:
    """Whether a catalogue model was fetched before, as far as its first files tell."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    found = try_to_load_from_cache(CATALOGUE[name].hub_id, "config.json")
    return isinstance(found, str) and any(Path(found).parent.glob("*.safetensors"))


def _not_here(name: str) -> LeftOut:
    entry = CATALOGUE[name]
    return LeftOut(
        name,
        "not on this machine; name it to have it fetched and measured",
        entry.parameters,
        entry.context,
        entry.licence,
        entry.memory_bytes,
        fits(entry),
    )


def _measure(app: App, variant: Variant, options: AdviseOptions, progress: Progress) -> Machine:
    """In a process of its own, unless all of it is there from before. Raises what that process
    told, or EngineError when it was ended."""
    record = record_path(app, variant.engine(progress))
    if (known := read_record(record)) is not None:
        return known
    _run_process(app, variant, options, progress)
    made = read_record(record)
    if made is None:
        raise ProgramError(
            "the measuring process left no record", where=str(record), hint="run it again"
        )
    return made


def _run_process(app: App, variant: Variant, options: AdviseOptions, progress: Progress) -> None:
    job = {
        "app": str(app.file),
        "limit": options.limit,
        "model": variant.model,
        "folder": str(variant.folder),
        "dtype": variant.dtype,
        "latency_requests": options.latency_requests,
    }
    # -P: what lies in the user's folder is not to be imported
    module = "hinlap.workflows.advise_variant"
    command = [sys.executable, "-P", "-m", module, json.dumps(job)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end tells that this process has ended
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            failure = _relay(process.stdout, progress)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        if failure is not None:
            raise failure
        if code:
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            why = (
                f"its process was ended by signal {-code}; memory that ran out is the usual reason"
                if code < 0
                else f"its process failed: {lines[-1] if lines else f'exit code {code}'}"
            )
            raise EngineError(
                why, where=variant.model, hint="choose a smaller model, or --dtype bfloat16"
            )


def _relay(told: IO[str], progress: Progress) -> HinlapError | None:
    """Shows the process's progress; gives the error that it told, if any."""
    failure: HinlapError | None = None
    for line in told:
        match json.loads(line):
            case ["start", stage, total]:
                progress.start(stage, total)
            case ["advance", done, note]:
                progress.advance(done, note)
            case ["finish"]:
                progress.finish()
            case ["say", message]:
                progress.say(message)
            case ["error", kind, what, where, hint]:
                failure = _error(kind, what, where, hint)
    return failure


def _error(kind: str, what: str, where: str, hint: str) -> HinlapError:
    made = getattr(errors, kind, ProgramError)
    if made is errors.MissingExtraError:  # made from other words
        made = UserError
    error: HinlapError = made(what, where=where, hint=hint)
    return error


@dataclass(frozen=True)
class _Measured:
    """advised: not yet ranked. quality: by the metric that decides; None without one."""

    advised: Advised
    quality: Measured | None


def _weigh(app: App, variant: Variant, machine: Machine, context: RouteContext) -> list[_Measured]:
    """Every route's answers and weights, now all in the store, to figures."""
    engine = variant.engine(Silent())
    quiet = dataclasses.replace(context, progress=Silent())
    weights = parameters_of(variant.folder)
    found = []
    for name, route in ready_routes(app, engine, quiet).items():
        run = run_route(app, route, app.test, quiet)
        if run.stopped is not None:
            raise run.stopped
        label = f"{variant.model} {variant.dtype} {name}"
        scores = measure_all(app, _outputs(app, run.items), _weigher(app, context, label))
        loss, bits = _foreseen(app, route, machine, quiet)
        by = app.spec.decide.by if app.spec.decide else None
        quality = {key: figure_of(app, measured) for key, measured in scores.items()}
        latency = latency_of(run.items)
        counts = {status.value: sum(i.status is status for i in run.items) for status in Status}
        in_language, told = _languages(app, run.items)
        advised = Advised(
            name=label,
            model=variant.model,
            dtype=variant.dtype,
            route=name,
            kind=CATALOGUE[variant.model].kind if variant.model in CATALOGUE else "",
            licence=_licence(variant),
            parameters=weights,
            machine=machine,
            quality=quality,
            bits_per_byte=bits,
            nats_per_token=loss,
            latency=latency,
            tokens_per_second=_tokens_per_second(run.items),
            counts=counts,
            in_language=in_language,
            told=told,
            excluded=_excluded(app, machine, name)
            or _limit_broken(app, quality.get(by) if by else None, counts, latency),
            notes=_notes(machine),
        )
        found.append(_Measured(advised, scores[by] if by else None))
    return found


def _outputs(app: App, items: Sequence[ItemResult]) -> dict[str, list[tuple[Example, str]]]:
    return {
        step.name: [(i.example, i.outputs[step.name]) for i in items if step.name in i.outputs]
        for step in app.spec.steps
    }


def _weigher(app: App, context: RouteContext, label: str) -> Weigher | None:
    if not needs_weigher(app):
        return None
    engine = context.pool.local(EMBEDDED)
    return Weigher(engine, context.store, context.progress, f"weighing {label}")


def _foreseen(
    app: App, route: Route, machine: Machine, context: RouteContext
) -> tuple[Figure | None, Figure | None]:
    """(nats per token, bits per byte) of the reference answers given the prompts, all steps of
    an item together. None where there is no reference."""
    over = machine.fits[route.name].over
    pairs = references(list(steps_as_wanted(app, route)), over)
    if not pairs:
        return None, None
    weights = weigh_all(
        _scoring(route), context.store, [pair for _, pair in pairs], context.progress
    )
    stretches: dict[str, Foreseen] = {}
    for (item, pair), (logprob, tokens) in zip(pairs, weights, strict=True):
        so_far = stretches.get(item, Foreseen(0.0, 0, 0, 0, 0))
        stretches[item] = Foreseen(
            so_far.logprob + logprob,
            so_far.tokens + tokens,
            0,
            0,
            so_far.bytes + len(pair.text.encode()),
        )
    signature = f"references|{len(pairs)} texts"
    scores = {each.name: each for each in foresight(list(stretches.values()), signature)}
    ids = tuple(stretches)
    return (
        figure_of(app, Measured(scores["loss"], ids)),
        figure_of(app, Measured(scores["bits_per_byte"], ids)),
    )


def _scoring(route: Route) -> LocalEngine:
    assert isinstance(route.engine, LocalEngine)
    return route.engine


def _tokens_per_second(items: Sequence[ItemResult]) -> float | None:
    made = [s.completion for item in items for s in item.steps if s.completion]
    busy = sum(c.seconds / c.batch_size for c in made)
    return sum(c.output_tokens for c in made) / busy if busy else None


def _languages(app: App, items: Sequence[ItemResult]) -> tuple[int, int]:
    """(outputs in the app's language, outputs whose language can be told)."""
    told = [language_of(text) for item in items for text in item.outputs.values()]
    told = [language for language in told if language != UNKNOWN]
    return sum(language == app.spec.language for language in told), len(told)


_LICENCE_LINE = re.compile(r"^licen[cs]e:[ \t]*[\"']?([^\"'\n#]+)", re.MULTILINE)


def _licence(variant: Variant) -> str:
    """By the catalogue, or the model card in its folder; "" where neither says."""
    if variant.model in CATALOGUE:
        return CATALOGUE[variant.model].licence
    try:
        card = (variant.folder / "README.md").read_text("utf-8", "replace")
    except OSError:
        return ""
    head = re.match(r"---\r?\n(.*?)\n---", card, re.DOTALL)
    said = _LICENCE_LINE.search(head[1]) if head else None
    return said[1].strip() if said else ""


def _notes(machine: Machine) -> tuple[str, ...]:
    notes = []
    if not machine.chat_template:
        notes.append("no chat template: it is asked in plain text")
    if machine.note:
        notes.append(f"one request at a time, since {machine.note}")
    return tuple(notes)


def _excluded(app: App, machine: Machine, route: str) -> str:
    fit = machine.fits[route]
    if not fit.over:
        return ""
    return (
        f"{counted(len(fit.over), 'item')} of {len(app.test)} do not fit its window of "
        f"{machine.window:,} tokens (the longest needs {fit.longest:,} with its answer)"
    )


def _limit_broken(
    app: App, figure: Figure | None, counts: Mapping[str, int], latency: Latency
) -> str:
    """The limit of decide that it breaks, in words, as `hinlap compare` would."""
    if app.spec.decide is None:
        return ""
    costs = app.spec.costs
    volume = costs.requests_per_month * costs.months
    usable = counts[Status.OK] + counts[Status.TRUNCATED]
    candidate = Candidate(
        name="it",
        measured=True,
        stand_in=False,
        usable_share=usable / len(app.test),
        quality=figure.interval.value if figure else None,
        low=figure.interval.low if figure else None,
        chance=None,
        cost_per_1000_usd=None
        if latency.mean is None
        else own_machine_cost(latency.mean, 0.0, costs.machine_usd_per_hour, volume).per_1000_usd,
        p95_seconds=latency.p95,
        data_leaves_machine=False,
    )
    decision = decide(
        [candidate],
        app.spec.decide.limits,
        higher_is_better=True,
        verdict=lambda a, b: ("not decisive", None),
    )
    return "" if decision.route else sentence(decision.reasons[0], "en")


def _advice(
    app: App,
    measured: Sequence[_Measured],
    failed: Sequence[LeftOut],
    not_here: Sequence[LeftOut],
    failures: Sequence[HinlapError],
) -> Advice:
    by = app.spec.decide.by if app.spec.decide else None
    standings = [
        Standing(
            each.advised.name,
            each.quality,
            each.advised.bits_per_byte.interval.value if each.advised.bits_per_byte else None,
            each.advised.latency.mean,
        )
        for each in measured
        if not each.advised.excluded
    ]
    ranking = rank(standings, by or "", app.spec.seed)
    order = [place.name for place in ranking.places]
    known = {each.advised.name: each.advised for each in measured}
    ranked = [known[name] for name in order]
    return Advice(
        app=app.name,
        app_digest=app.digest(),
        language=app.spec.language,
        version=__version__,
        made_at=utc_now(),
        items=len(app.test),
        by=by,
        measured=[*ranked, *(each for each in known.values() if each.excluded)],
        reasons=place_reasons(ranking, standings),
        tests=ranking.tests,
        failed=failed,
        not_here=not_here,
        errors=failures,
    )
