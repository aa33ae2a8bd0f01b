"""One model in one precision on an app's items, in a process of its own: memory, window, speed.

`python -m hinlap.workflows.advise_variant JOB` answers and weighs through the app's store, tells
its progress on stdout, one JSON list a line, and ends when its stdin does: with who started it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hinlap.app.app import App, sampling_for
from hinlap.app.declaration import RouteSpec, StepSpec, ZeroShotSpec
from hinlap.core.errors import HinlapError, ModelError
from hinlap.core.messages import Continuation, Prompt
from hinlap.core.progress import Progress
from hinlap.data.whole_file import write_whole
from hinlap.engines.cache import weigh_all
from hinlap.engines.catalogue import EMBEDDED, known_prompt_format
from hinlap.engines.local import LocalEngine
from hinlap.engines.pool import EnginePool
from hinlap.routes.route import Route, RouteContext
from hinlap.routes.table import build_route
from hinlap.workflows.answer import route_context, run_route
from hinlap.workflows.load import load

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Variant:
    """A model's name, its folder on this machine, and the precision it runs in."""

    model: str
    folder: Path
    dtype: str

    def engine(self, progress: Progress) -> LocalEngine:
        return LocalEngine(
            self.model,
            self.folder,
            dtype=self.dtype,
            progress=progress,
            prompt_format=known_prompt_format(self.model, self.folder),
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """longest: tokens of the longest prompt with the room for its answer. over: ids of the items
    for which that is more than the window."""

    longest: int
    over: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """How a variant does on this machine.

    peak_memory_bytes: of a process that loads it, answers the longest prompt that fits and weighs
                       that prompt's reference, one at a time; None where none fits, or the
                       system does not tell. accelerator_memory_bytes: the same on a GPU, if any.
    window:            tokens of prompt and answer together. fits: by route.
    words:             what it ran on. note: why requests do not share forwards; "" where they do.
    """

    peak_memory_bytes: int | None
    accelerator_memory_bytes: int | None
    load_seconds: float
    window: int
    chat_template: bool
    fits: Mapping[str, Fit]
    words: str
    note: str


def ways_to_ask(app: App, limit: int | None) -> App:
    """The app with the first test items only, and of its routes those that ask open weights as
    they are: zero-shot where it has none. Routes that differ in the model alone are one."""
    routes: dict[str, RouteSpec] = {}
    for name, spec in app.spec.routes.items():
        if spec.kind in ("zero-shot", "few-shot"):
            bare = spec.model_copy(update={"model": EMBEDDED})
            if bare not in routes.values():
                routes[name] = bare
    if not routes:
        routes["zero-shot"] = ZeroShotSpec(kind="zero-shot")
    declared = app.spec.model_copy(update={"routes": routes})
    return dataclasses.replace(app, spec=declared, test=app.test[:limit])


def ready_routes(app: App, engine: LocalEngine, context: RouteContext) -> dict[str, Route]:
    """The app's routes, all asking ``engine``, whatever model they name."""
    pool = EnginePool(context.progress, {spec.model: engine for spec in app.spec.routes.values()})
    context = dataclasses.replace(context, pool=pool)
    return {name: build_route(name, app, context) for name in app.spec.routes}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one item as its references say: prompt, and wanted output ("" for none)."""

    item: str
    spec: StepSpec
    prompt: Prompt
    wanted: str


def steps_as_wanted(app: App, route: Route) -> Iterator[Step]:
    """Every step whose inputs are known without a model: earlier outputs are the wanted ones."""
    for example in app.test:
        fields = dict(example.inputs)
        for spec in app.spec.steps:
            wanted = example.wanted.get(spec.name, "").strip()
            yield Step(example.id, spec, route.make_prompt(spec, fields), wanted)
            if not wanted:
                break
            fields[spec.name] = wanted


def references(steps: Sequence[Step], over: Sequence[str]) -> list[tuple[str, Continuation]]:
    """Wanted outputs to be weighed, with their items: those of items within the window."""
    return [
        (step.item, Continuation(step.prompt, step.wanted))
        for step in steps
        if step.wanted and step.item not in over
    ]


def record_path(app: App, engine: LocalEngine) -> Path:
    """Where `Machine` is kept; the name covers all that decides the answers."""
    content = json.dumps([_FORMAT, engine.digest, app.digest()])
    name = hashlib.sha256(content.encode()).hexdigest()[:24]
    return app.folder / ".hinlap" / "advise" / f"{name}.json"


def read_record(path: Path) -> Machine | None:
    """None where it is not there, or is no record: then it is measured again."""
    try:
        raw = json.loads(path.read_bytes())
        fits = {
            name: Fit(each["longest"], tuple(each["over"])) for name, each in raw["fits"].items()
        }
        return Machine(**raw | {"fits": fits})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def measure_variant(app: App, variant: Variant, latency_requests: int, progress: Progress) -> None:
    """Answers, weights and times into the app's store; the record last: it says all is there.

    Memory is measured first, before any batch: so it does not depend on what was answered before.
    """
    engine = variant.engine(progress)
    label = f"{variant.model} {variant.dtype}"
    with route_context(app, progress, one_by_one=latency_requests) as context:
        routes = ready_routes(app, engine, context)
        steps = {name: list(steps_as_wanted(app, route)) for name, route in routes.items()}
        needs = {name: [_tokens(engine, step) for step in each] for name, each in steps.items()}
        fits = {name: _fit(engine, each, needs[name]) for name, each in steps.items()}
        began = time.perf_counter()
        note = engine.why_not_shared
        seconds = time.perf_counter() - began
        every = [
            (need, step)
            for name, each in steps.items()
            for need, step in zip(needs[name], each, strict=True)
            if need <= engine.context_length
        ]
        if every:
            _ask_once(engine, max(every, key=lambda pair: pair[0])[1], app.spec.seed)
        machine = Machine(
            peak_memory_bytes=_peak_memory_bytes() if every else None,
            accelerator_memory_bytes=_accelerator_memory_bytes(),
            load_seconds=seconds,
            window=engine.context_length,
            chat_template=engine.has_chat_template,
            fits=fits,
            words=_machine_words(),
            note=note,
        )
        for name, route in routes.items():
            named = dataclasses.replace(route, name=f"{label} {name}")
            run = run_route(app, named, app.test, context)
            if run.stopped is not None:
                raise run.stopped
            pairs = [pair for _, pair in references(steps[name], fits[name].over)]
            progress.start(f"{label} {name}, references", len(pairs))
            weigh_all(engine, context.store, pairs, progress)
            progress.finish()
    path = record_path(app, engine)
    write_whole(path, json.dumps(dataclasses.asdict(machine), ensure_ascii=False).encode())


def _tokens(engine: LocalEngine, step: Step) -> int:
    """Of the prompt and the longest that may follow it."""
    need = engine.count_tokens(step.prompt) + step.spec.max_tokens
    if step.wanted:
        pair = (engine.render(step.prompt), step.wanted)
        ((context, text),) = engine.encode_pairs([pair], [False])
        need = max(need, len(context) + len(text))
    return need


def _fit(engine: LocalEngine, steps: Sequence[Step], needs: Sequence[int]) -> Fit:
    over = [
        step.item for step, need in zip(steps, needs, strict=True) if need > engine.context_length
    ]
    return Fit(max(needs), tuple(dict.fromkeys(over)))


def _ask_once(engine: LocalEngine, step: Step, seed: int) -> None:
    for _ in engine.generate([step.prompt], sampling_for(step.spec, seed)):
        pass
    if step.wanted:
        engine.score([Continuation(step.prompt, step.wanted)])


def _peak_memory_bytes() -> int | None:
    """Of this process so far. getrusage's figure would not do on Linux: it takes over that of
    the process which started this one."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
    import psutil

    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    if peak is not None:
        return int(peak)
    if sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes there
    return None


def _accelerator_memory_bytes() -> int | None:
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def _machine_words() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} of {os.cpu_count()} threads"


class _Telling:
    """Progress as JSON lists, one a line: the method's name, then what it was given."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink

    def tell(self, *said: Any) -> None:
        self._sink.write(json.dumps(said) + "\n")
        self._sink.flush()

    def start(self, stage: str, total: int) -> None:
        self.tell("start", stage, total)

    def advance(self, done: int = 1, note: str = "") -> None:
        self.tell("advance", done, note)

    def finish(self) -> None:
        self.tell("finish")

    def say(self, message: str) -> None:
        self.tell("say", message)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # a killed parent leaves nobody behind


def main() -> None:
    job = json.loads(sys.argv[1])
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not part of the telling
    threading.Thread(target=_end_with_parent, daemon=True).start()
    telling = _Telling(sink)
    variant = Variant(job["model"], Path(job["folder"]), job["dtype"])
    try:
        app = ways_to_ask(load(Path(job["app"])), job["limit"])
        measure_variant(app, variant, job["latency_requests"], telling)
    except HinlapError as error:
        telling.tell("error", type(error).__name__, error.what, error.where, error.hint)
        sys.exit(error.exit_code)
    except MemoryError as error:
        failure = ModelError(f"memory ran out: {error}", where=variant.model)
        telling.tell("error", "ModelError", failure.what, failure.where, "")
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
