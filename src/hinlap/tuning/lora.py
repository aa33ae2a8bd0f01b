"""LoRA on solved examples, with loss on the answers only; resumes after any interruption."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hinlap.core.counting import counted
from hinlap.core.errors import EngineError, MissingExtraError, StorageError, UserError
from hinlap.core.messages import Prompt
from hinlap.core.progress import Progress
from hinlap.engines.local import LocalEngine

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter"
_CHECKPOINT = "checkpoint.pt"
_SUMMARY = "tuning.json"
_CHECKPOINT_EVERY_STEPS = 4
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt exactly as it will be asked, and the answer wanted."""

    prompt: Prompt
    answer: str


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How to train.

    epochs: passes over the rows. batch_size: rows a step. target: "attention" (PEFT's default
    layers for the architecture) or "all-linear". learning_rate: peak of AdamW, linear warm-up
    then linear to 0. max_length: tokens of a row; longer ones are left out and counted.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    target: str
    rank: int
    alpha: float
    dropout: float
    warmup_steps: int
    max_length: int
    seed: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """seconds: wall time of training, all interrupted parts added. losses: mean nats per answer
    token, one per step. left_out: rows longer than max_length or with an empty answer."""

    adapter: Path
    seconds: float
    losses: tuple[float, ...]
    rows: int
    tokens: int
    left_out: int
    reused: bool


@dataclass(frozen=True, slots=True)
class _Row:
    ids: list[int]
    answer_from: int  # index in ids of the first answer token


def tuning_digest(engine: LocalEngine, lessons: Sequence[Lesson], recipe: LoraRecipe) -> str:
    """SHA-256 over base weights, rows and recipe: equal digests make equal adapters."""
    content = [
        _FORMAT,
        engine.digest,
        [[[asdict(m) for m in x.prompt.messages], x.answer] for x in lessons],
        asdict(recipe),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tune_lora(
    engine: LocalEngine,
    lessons: Sequence[Lesson],
    recipe: LoraRecipe,
    folder: Path,
    progress: Progress,
) -> Tuned:
    """Trains an adapter for ``engine``'s model under ``folder``/<digest>, or reuses it.

    Killed at any step, the same call goes on from the last checkpoint (every 4 steps) and ends
    with the losses of an unbroken run. Raises UserError when no row is usable, EngineError when
    the loss stops being a number, StorageError on a full disk.
    """
    home = folder / tuning_digest(engine, lessons, recipe)[:16]
    summary = home / _SUMMARY
    if summary.is_file():
        return _read_summary(home, reused=True)
    try:
        import peft
        import torch
    except ImportError as error:
        raise MissingExtraError(error.name or "peft", "local") from error
    rows, left_out = _rows(engine, lessons, recipe.max_length)
    if not rows:
        raise UserError(
            f"of {counted(len(lessons), 'training row')} none is usable (all over "
            f"{counted(recipe.max_length, 'token')}, or with an empty answer)",
            where="fine-tuned",
            hint="raise max_length or add examples with outputs",
        )
    if left_out:
        progress.say(
            f"tuning: {left_out} of {counted(len(lessons), 'row')} left out (over "
            f"{counted(recipe.max_length, 'token')}, or with an empty answer)"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        return _train(engine, rows, left_out, recipe, home, progress, torch, peft)
    except OSError as error:
        raise StorageError(
            f"cannot write the tuned model: {error.strerror or error}",
            where=str(home),
            hint="free some space and run the same command again; it goes on from the last "
            "checkpoint",
        ) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "No space" in str(error):
            raise StorageError(
                "cannot write a checkpoint (is the disk full?)",
                where=str(home),
                hint="free some space and run the same command again",
            ) from error
        raise


def _train(
    engine: LocalEngine,
    rows: list[_Row],
    left_out: int,
    recipe: LoraRecipe,
    home: Path,
    progress: Progress,
    torch: Any,
    peft: Any,
) -> Tuned:
    torch.manual_seed(recipe.seed)  # the adapter's first values
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=None if recipe.target == "attention" else "all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():  # peft reads an attribute by a name transformers gives up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            model = peft.get_peft_model(engine.fresh_model(), config)
        except ValueError as error:
            raise UserError(
                f"PEFT cannot add LoRA matrices to {engine.name}: {error}",
                where="fine-tuned",
                hint="set target: all-linear in app.yaml",
            ) from error
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    batches = _batches(len(rows), recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, len(batches), recipe.warmup_steps)
    )
    losses, seconds = _resume(home / _CHECKPOINT, model, optimizer, schedule, torch, peft)
    progress.start("tuning", len(batches))
    progress.advance(len(losses))
    for step in range(len(losses), len(batches)):
        began = time.perf_counter()
        torch.manual_seed(recipe.seed + 1 + step)  # dropout: the same after a resume
        loss = _step(model, [rows[i] for i in batches[step]], optimizer, weights, torch)
        schedule.step()
        if not math.isfinite(loss):
            progress.finish()
            raise EngineError(
                f"the loss is {loss} at step {step + 1}",
                where="fine-tuned",
                hint="lower learning_rate in app.yaml",
            )
        losses.append(loss)
        seconds += time.perf_counter() - began
        progress.advance(note=f"loss {loss:.3f}")
        if (step + 1) % _CHECKPOINT_EVERY_STEPS == 0:
            _write_checkpoint(
                home / _CHECKPOINT, model, optimizer, schedule, losses, seconds, torch, peft
            )
    progress.finish()
    tokens = sum(len(rows[i].ids) for batch in batches for i in batch)
    _publish(home, model, losses, seconds, len(rows), tokens, left_out)
    return _read_summary(home, reused=False)


def _rows(
    engine: LocalEngine, lessons: Sequence[Lesson], max_length: int
) -> tuple[list[_Row], int]:
    rows = []
    for lesson in lessons:
        if not lesson.answer.strip():
            continue
        before = engine.encode(engine.render(lesson.prompt))
        answer = engine.encode_answer(lesson.answer.strip())
        if len(before) + len(answer) <= max_length:
            rows.append(_Row(before + answer, len(before)))
    return rows, len(lessons) - len(rows)


def _batches(rows: int, recipe: LoraRecipe) -> list[list[int]]:
    """Row numbers of each step: every epoch shuffles anew by seed; its last batch may be small."""
    batches = []
    for epoch in range(recipe.epochs):
        order = list(range(rows))
        random.Random(f"{recipe.seed}/{epoch}").shuffle(order)
        batches += [order[i : i + recipe.batch_size] for i in range(0, rows, recipe.batch_size)]
    return batches


def _rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate at a step: up linearly over ``warmup``, then down to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _step(
    model: Any,
    rows: list[_Row],
    optimizer: torch.optim.Optimizer,
    weights: list[torch.nn.Parameter],
    torch: Any,
) -> float:
    """One optimizer step; rows go through one by one (no padding), weighted by answer tokens."""
    answers = sum(len(row.ids) - row.answer_from for row in rows)
    total = 0.0
    for row in rows:
        ids = torch.tensor([row.ids], device=model.device)  # (1, T)
        # logits only where an answer token is predicted: position t predicts token t + 1
        keep = torch.arange(row.answer_from - 1, len(row.ids) - 1, device=ids.device)
        logits = model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits[0].float()
        target = ids[0, row.answer_from :]
        if logits.shape[0] != target.shape[0]:  # an architecture that ignores logits_to_keep
            logits = logits[keep]
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum") / answers
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _write_checkpoint(
    path: Path,
    model: Any,
    optimizer: Any,
    schedule: Any,
    losses: list[float],
    seconds: float,
    torch: Any,
    peft: Any,
) -> None:
    state = {
        "adapter": peft.get_peft_model_state_dict(model),
        "optimizer": optimizer.state_dict(),
        "schedule": {"last_epoch": schedule.last_epoch, "_step_count": schedule._step_count},
        "losses": losses,
        "seconds": seconds,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)  # a kill in the middle leaves the last whole one


def _resume(
    path: Path, model: Any, optimizer: Any, schedule: Any, torch: Any, peft: Any
) -> tuple[list[float], float]:
    if not path.is_file():
        return [], 0.0
    state = torch.load(path, weights_only=True)
    peft.set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(schedule.state_dict() | state["schedule"])
    return list(state["losses"]), float(state["seconds"])


def _publish(
    home: Path,
    model: Any,
    losses: list[float],
    seconds: float,
    rows: int,
    tokens: int,
    left_out: int,
) -> None:
    """Writes the adapter (safetensors), then the summary whose presence says it is whole."""
    shutil.rmtree(home / ADAPTER, ignore_errors=True)
    model.save_pretrained(home / ADAPTER, safe_serialization=True)
    temporary = home / f"{_SUMMARY}.tmp"
    content = {
        "seconds": seconds,
        "losses": losses,
        "rows": rows,
        "tokens": tokens,
        "left_out": left_out,
    }
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, home / _SUMMARY)
    (home / _CHECKPOINT).unlink(missing_ok=True)


def _read_summary(home: Path, *, reused: bool) -> Tuned:
    content = json.loads((home / _SUMMARY).read_text())
    return Tuned(
        adapter=home / ADAPTER,
        seconds=content["seconds"],
        losses=tuple(content["losses"]),
        rows=content["rows"],
        tokens=content["tokens"],
        left_out=content["left_out"],
        reused=reused,
    )
