"""From sequences and a recipe to a tuned model on disk; resumes after any interruption."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hinlap.core.counting import counted
from hinlap.core.errors import InputError, MissingExtraError, StorageError, UserError
from hinlap.core.progress import Progress, Silent
from hinlap.data.whole_file import write_whole
from hinlap.tuning.lessons import Encoded
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.tuned import ADAPTER, CHECKPOINT, MODEL, SUMMARY, Taught, Tuned, read_tuned

if TYPE_CHECKING:
    from hinlap.tuning.bases import Base
    from hinlap.tuning.loop import Course
    from hinlap.tuning.processes import Spread

_RUN = "run.json"
_OURS = {_RUN, SUMMARY, CHECKPOINT, "metrics.jsonl", "metrics.tmp", "trackers", "texts.jsonl"}
_NOT_MATHS = ("checkpoint_every", "name", "source", "zero")
"""Fields of a recipe that do not change what comes out."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tuned. base: None from scratch. tokenizer: as `bases` made it."""

    recipe: Recipe
    base: Base | None
    tokenizer: Any
    encoded: Encoded
    held_out: Encoded
    taught: tuple[Taught, ...] = ()

    def parts(self) -> dict[str, str]:
        """What decides the outcome, by name: equal parts make equal models."""
        fields = self.recipe.model_dump(mode="json", exclude=set(_NOT_MATHS))
        return {
            "recipe": _sha256(fields),
            "base": self.base.digest if self.base else "",
            "rows": self.encoded.digest(),
            "held-out rows": self.held_out.digest(),
        }

    def digest(self) -> str:
        return _sha256(self.parts())


def tune(
    job: Job,
    home: Path,
    progress: Progress,
    *,
    trackers: Sequence[str] = (),
) -> Tuned:
    """Trains in the folder ``home``, or reuses what was trained there from the same parts.

    Killed at any step, the same call goes on from the last checkpoint and ends with the losses of
    an unbroken run. trackers: tensorboard, wandb, mlflow, through Accelerate. Under a launcher of
    several processes all of them call it. Raises UserError when no row teaches, InputError when
    the folder holds something else or a training of other data, and as `Loop.run`.
    """
    done = read_tuned(home)
    if done is not None and done.digest == job.digest():
        return done
    try:
        from hinlap.tuning.bases import fresh_model, model_for
        from hinlap.tuning.learner import Learner
        from hinlap.tuning.loop import Loop
        from hinlap.tuning.processes import Spread, joined, led, sharing_of

        accelerator = joined(home, trackers)
    except ImportError as error:
        raise MissingExtraError(error.name or "accelerate", "local") from error
    if not job.encoded.taken:
        reasons = ", ".join(f"{n} {why}" for why, n in job.encoded.left_out.items()) or "none given"
        raise UserError(
            f"no training row is usable ({reasons})",
            where="tuning",
            hint=f"raise max_length (now {job.recipe.max_length}) or add rows with outputs",
        )
    led(accelerator, lambda: _claim_folder(job, home))
    sharing, stage = sharing_of(job.recipe, accelerator.num_processes)
    told = progress if accelerator.is_main_process else Silent()
    for why, count in job.encoded.left_out.items():
        told.say(f"tuning: {counted(count, 'row')} left out, {why}")
    if job.base is None:
        model = fresh_model(job.tokenizer, job.recipe.fresh, job.recipe.seed)
    else:
        model = model_for(job.recipe, job.base, job.tokenizer)
    model.to(accelerator.device)
    # where weights are shared out, joined LoRA layers would hold on to whole ones
    apart = stage == 3 or (sharing == "fsdp" and job.recipe.method == "lora")
    learner = Learner(model, apart=apart)
    if learner.why_not:
        told.say(f"tuning: one sequence at a time, since {learner.why_not}; the same numbers")
    if trackers:
        accelerator.init_trackers("hinlap", config=_flat(job.recipe.model_dump(mode="json")))
    spread = Spread(learner, job.recipe, accelerator)
    loop = Loop(spread, job.recipe, job.encoded.taken, job.held_out.taken, home, told)
    loop.run(_watch(accelerator, trackers))
    for tracker in accelerator.trackers:
        tracker.finish()
    weights = loop.weights()
    led(accelerator, lambda: _publish(job, home, loop.course, weights, spread))
    tuned = read_tuned(home)
    assert tuned is not None
    return tuned


def _claim_folder(job: Job, home: Path) -> None:
    """Writes there what is to be trained, unless something else lies there."""
    parts = job.parts()
    try:
        before = json.loads((home / _RUN).read_bytes()) if (home / _RUN).is_file() else None
        others = {f.name for f in home.iterdir()} - _OURS if home.is_dir() else set()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(home)) from error
    if before is None and others:
        raise InputError(
            f"the folder holds something else ({sorted(others)[0]})",
            where=str(home),
            hint="name a new folder with --out",
        )
    begun = (home / CHECKPOINT).is_dir() or (home / SUMMARY).is_file()
    if begun and before is not None and before != parts:
        changed = [name for name in parts if before.get(name) != parts[name]]
        raise InputError(
            f"a training with another {' and another '.join(changed)} began there",
            where=str(home),
            hint="bring back what changed to go on with it, or name a new folder with --out",
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        write_whole(home / _RUN, json.dumps(parts, indent=1).encode())
    except OSError as error:
        raise StorageError(
            f"cannot write the tuned model: {error.strerror or error}", where=str(home)
        ) from error


def _watch(accelerator: Any, trackers: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    if not trackers:
        return lambda line: None
    return lambda line: accelerator.log(
        {key: value for key, value in line.items() if key != "step"}, step=line["step"]
    )


def _publish(
    job: Job, home: Path, course: Course, weights: Mapping[str, Any], spread: Spread
) -> None:
    """The weights, beside and then in place; last the summary that says they are whole."""
    from transformers.utils import logging as transformers_logging

    from hinlap.engines.prompt_record import write_prompt_record
    from hinlap.tuning.tuned import write_tuned

    transformers_logging.disable_progress_bar()
    model = spread.learner.model
    lora = job.recipe.method in ("lora", "qlora")
    state = {**weights, **_kept_buffers(model)}
    target = home / (ADAPTER if lora else MODEL)
    work = target.with_name(f".{target.name}")
    shutil.rmtree(work, ignore_errors=True)
    try:
        # PEFT would ask the hub whether the vocabulary grew, which LoRA here never does
        model.save_pretrained(
            work, state_dict=state, **({"save_embedding_layers": False} if lora else {})
        )
        (work / "README.md").unlink(missing_ok=True)  # PEFT's empty card
        job.tokenizer.save_pretrained(work)
        write_prompt_record(work, job.tokenizer, job.recipe.format)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
        write_tuned(
            Tuned(
                home=home,
                recipe=job.recipe,
                base=job.base.name if job.base else "",
                base_digest=job.base.digest if job.base else "",
                rows=len(job.encoded.taken),
                left_out=job.encoded.left_out,
                tokens=course.tokens,
                learnt_tokens=course.learnt_tokens,
                seconds=course.seconds,
                losses=tuple(course.losses),
                evaluations=tuple(course.evaluations),
                taught=job.taught,
                stopped=course.stopped,
                kept_step=course.kept_step,
                machine=_machine(spread),
                digest=job.digest(),
            )
        )
    except OSError as error:
        raise StorageError(
            f"cannot write the tuned model: {error.strerror or error}",
            where=str(home),
            hint="free some space and run the same command again; the last checkpoint is kept",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(home / CHECKPOINT, ignore_errors=True)


def _kept_buffers(model: Any) -> dict[str, Any]:
    """What the model keeps on disk beside its weights."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in model.state_dict().items() if name not in weights}


def _machine(spread: Spread) -> str:
    processes = spread.accelerator.num_processes
    shared = f", {processes} processes ({spread.name})" if processes > 1 else ""
    return f"{spread.accelerator.device.type}, {platform.machine()}{shared}"


def _flat(fields: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{head}{key}.")
        else:
            flat[head + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
