"""The training loop: steps, evaluations, checkpoints; the same for every method and machine.

A step's loss is the sum over its learnt tokens divided by their number, whatever the number of
forwards or processes it is spread over.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hinlap.core.errors import EngineError, StorageError
from hinlap.core.progress import Progress
from hinlap.tuning.learner import quick_products
from hinlap.tuning.lessons import Taken
from hinlap.tuning.processes import Spread, keep, led
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.steps import dealt, learning_rate, steps_an_epoch, steps_of
from hinlap.tuning.tuned import CHECKPOINT, METRICS, Evaluation

_BEST = "best.pt"
_APART = 1_000_003  # between the random numbers of two processes
_DIVERGED_NATS = 2.0  # a token, above the lowest mean of as many steps
_DIVERGED_STEPS = 10


@dataclass(slots=True)
class Course:
    """How training went so far. losses: mean nats a learnt token, one per step. kept_step: of the
    evaluation whose weights early stopping keeps; -1 for none."""

    losses: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    learnt_tokens: int = 0
    stopped: str = ""
    kept_step: int = -1


class Loop:
    """One training, from its first step or its last checkpoint to its end.

    home: the folder of the tuned model; all processes see it.
    """

    def __init__(
        self,
        spread: Spread,
        recipe: Recipe,
        sequences: Sequence[Taken],
        held_out: Sequence[Taken],
        home: Path,
        progress: Progress,
    ) -> None:
        self.recipe = recipe
        self.home = home
        self.course = Course()
        self._sequences = sequences
        self._held_out = held_out
        self._steps = steps_of(len(sequences), recipe)
        self._spread = spread
        self._accelerator = spread.accelerator
        self._progress = progress
        self._lowest = math.inf  # mean loss of so many steps as tell a divergence
        self._resume()

    @property
    def total_steps(self) -> int:
        return len(self._steps)

    def run(self, watch: Callable[[dict[str, Any]], None] = lambda line: None) -> Course:
        """Trains to the end. watch: is given each line of ``metrics.jsonl``.

        Raises EngineError when the loss is no number or runs away, StorageError on a full disk;
        the last checkpoint stays.
        """
        done = len(self.course.losses)
        self._progress.start("tuning", len(self._steps))
        self._progress.advance(done)
        device = self._accelerator.device.type
        try:
            with quick_products(device), _telling_why(self.home), _old_objects_left_alone():
                if not self.course.evaluations:
                    self._evaluate(0, watch)
                self._spread.model.train()
                for step in range(done, len(self._steps)):
                    if self.course.stopped:
                        break
                    self._one(step, watch)
        finally:
            self._progress.finish()
        return self.course

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights to publish, by the model's own names: those of the best evaluation
        where the recipe stops early, else the last. {} but in the first process."""
        if self.recipe.early_stopping is None or not self.course.evaluations:
            return self._spread.whole_weights()
        if not self._accelerator.is_main_process:
            return {}
        file = self.home / CHECKPOINT / _BEST
        best = torch.load(file, weights_only=True, map_location="cpu")
        return best["weights"]  # type: ignore[no-any-return]

    def _one(self, step: int, watch: Callable[[dict[str, Any]], None]) -> None:
        began = time.perf_counter()
        # dropout: the same after a resume, another in each process
        torch.manual_seed(self.recipe.seed + 1 + step + _APART * self._accelerator.process_index)
        rate = learning_rate(step, len(self._steps), self.recipe)
        loss, norm, tokens, learnt = self._learn(self._steps[step], rate)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = "loss" if not math.isfinite(loss) else "norm of the gradient"
            raise EngineError(
                f"the {what} is {norm if math.isfinite(loss) else loss} at step {step + 1}",
                where=str(self.home),
                hint=self._how_to_go_on(),
            )
        course = self.course
        course.losses.append(loss)
        course.tokens += tokens
        course.learnt_tokens += learnt
        seconds = time.perf_counter() - began
        course.seconds += seconds
        self._progress.advance(note=f"loss {loss:.3f}, {tokens / seconds:,.0f} tokens/s")
        self._write(
            {
                "step": step + 1,
                "loss": loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "tokens": tokens,
                "learnt_tokens": learnt,
                "seconds": round(seconds, 4),
            },
            watch,
        )
        self._look_for_divergence()
        every = self.recipe.evaluate_every or steps_an_epoch(len(self._sequences), self.recipe)
        last = step + 1 == len(self._steps)
        if (step + 1) % every == 0 or last:
            self._evaluate(step + 1, watch)
            self._spread.model.train()
        if (step + 1) % self.recipe.checkpoint_every == 0 or last or course.stopped:
            self._checkpoint()

    def _learn(self, chosen: Sequence[int], rate: float) -> tuple[float, float, int, int]:
        """One optimizer step: loss, norm of the gradient before clipping, tokens, learnt ones."""
        accelerator, recipe = self._accelerator, self.recipe
        sequences = [self._sequences[i] for i in chosen]
        learnt = sum(int(each.learnt.sum()) for each in sequences)
        forwards = dealt(
            [len(each) for each in sequences], accelerator.num_processes, recipe.forward_tokens
        )[accelerator.process_index]
        total = torch.zeros((), device=accelerator.device)
        scale = accelerator.num_processes / learnt  # the mean over processes is taken
        for index, places in enumerate(forwards):
            # a process without sequences goes along with one that does not count
            flat = self._spread.flat([sequences[i] for i in places or [0]])
            last = index == len(forwards) - 1
            nats = self._spread.learn(flat, scale if places else 0.0, last=last)
            if places:
                total += nats
        norm = self._spread.step(rate)
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "sum")
        return float(total) / learnt, norm, sum(map(len, sequences)), learnt

    def _evaluate(self, step: int, watch: Callable[[dict[str, Any]], None]) -> None:
        if not self._held_out:
            return
        accelerator = self._accelerator
        self._spread.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        lengths = [len(each) for each in self._held_out]
        forwards = dealt(lengths, accelerator.num_processes, self.recipe.forward_tokens)
        with torch.no_grad():
            for places in forwards[accelerator.process_index]:
                flat = self._spread.flat([self._held_out[i] for i in places or [0]])
                nats, hits = self._spread.weigh(flat)
                if places:
                    sums += torch.stack([nats.double(), hits.double()])
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, "sum")
        tokens = sum(int(each.learnt.sum()) for each in self._held_out)
        found = Evaluation(step, float(sums[0]) / tokens, float(sums[1]) / tokens, tokens)
        if not math.isfinite(found.loss):
            raise EngineError(
                f"the held-out loss is {found.loss} after step {step}",
                where=str(self.home),
                hint=self._how_to_go_on(),
            )
        self.course.evaluations.append(found)
        self._write(
            {
                "step": step,
                "held_out_loss": found.loss,
                "held_out_perplexity": math.exp(min(found.loss, 700)),
                "held_out_accuracy": found.accuracy,
            },
            watch,
        )
        self._stop_early(found)

    def _stop_early(self, found: Evaluation) -> None:
        rule = self.recipe.early_stopping
        if rule is None:
            return
        evaluations = self.course.evaluations
        kept = [place for place, e in enumerate(evaluations) if e.step == self.course.kept_step]
        if not kept or found.loss < evaluations[kept[0]].loss - rule.least_gain:
            content = {"weights": self._spread.whole_weights(), "step": found.step}
            led(self._accelerator, lambda: keep(self.home / CHECKPOINT / _BEST, content))
            self.course.kept_step = found.step
        elif len(evaluations) - 1 - kept[0] >= rule.patience:
            best = evaluations[kept[0]]
            self.course.stopped = (
                f"stopped early at step {found.step}: the held-out loss was best "
                f"({best.loss:.4f}) at step {best.step}"
            )

    def _look_for_divergence(self) -> None:
        losses, span = self.course.losses, _DIVERGED_STEPS
        if len(losses) < span:
            return
        recent = sum(losses[-span:]) / span
        self._lowest = min(self._lowest, recent)
        if recent > self._lowest + _DIVERGED_NATS:
            raise EngineError(
                f"the loss runs away: {recent:.2f} nats a token over the last {span} steps, "
                f"{self._lowest:.2f} at its best",
                where=str(self.home),
                hint=self._how_to_go_on(),
            )

    def _how_to_go_on(self) -> str:
        kept = self.home / CHECKPOINT
        after = "; the last good checkpoint is kept there" if kept.is_dir() else ""
        return f"lower learning_rate (or raise warmup_steps) and tune into another folder{after}"

    def _write(self, line: dict[str, Any], watch: Callable[[dict[str, Any]], None]) -> None:
        if self._accelerator.is_main_process:
            with (self.home / METRICS).open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(line) + "\n")
        watch(line)

    def _checkpoint(self) -> None:
        self._spread.save(self.home / CHECKPOINT, asdict(self.course))

    def _resume(self) -> None:
        course = self._spread.load(self.home / CHECKPOINT)
        if course is not None:
            self._take_up(course)
        led(self._accelerator, self._forget_later_lines)

    def _take_up(self, course: dict[str, Any]) -> None:
        evaluations = [Evaluation(**each) for each in course.pop("evaluations")]
        self.course = Course(**course, evaluations=evaluations)

    def _forget_later_lines(self) -> None:
        """Lines of steps after the checkpoint, which are made again."""
        file = self.home / METRICS
        if file.is_file():
            kept = []
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= len(self.course.losses) and self.course.losses:
                        kept.append(line + "\n")
                except (ValueError, KeyError):  # cut by a kill
                    continue
            temporary = file.with_suffix(".tmp")
            temporary.write_text("".join(kept), encoding="utf-8")
            os.replace(temporary, file)


@contextlib.contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Python looks for garbage only among what the steps make, not in the model and libraries
    again and again: a fortieth of a step."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _telling_why:
    """A disk that is full as StorageError, another process that ended as EngineError."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        lost = isinstance(error, torch.distributed.DistError) or (
            isinstance(error, RuntimeError) and "gloo" in str(error)
        )
        if lost:
            raise EngineError(
                "another process of this training ended",
                where=str(self._home),
                hint="its own message says why; the same command goes on from the last checkpoint",
            ) from error
        full = isinstance(error, OSError) or (
            isinstance(error, RuntimeError)
            and ("PytorchStreamWriter" in str(error) or "No space" in str(error))
        )
        if error is not None and full:
            raise StorageError(
                f"cannot write: {getattr(error, 'strerror', None) or 'is the disk full?'}",
                where=str(self._home),
                hint="free some space and run the same command again; it goes on from the last "
                "checkpoint",
            ) from error
