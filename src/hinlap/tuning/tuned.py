"""A tuned model on disk: what it is, what it was made from, how its loss went.

``tuning.json`` is written last: its presence says that the folder is whole. ``metrics.jsonl`` has
one line a step while training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hinlap.core.errors import ModelError
from hinlap.data.whole_file import write_whole
from hinlap.tuning.recipe import Recipe

SUMMARY = "tuning.json"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"
MODEL = "model"
CHECKPOINT = "checkpoint"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Of the held-out sequences after ``step`` steps (0: before the first).

    loss: mean nats a learnt token. accuracy: share of learnt tokens that were the model's first
    choice. tokens: how many were weighed.
    """

    step: int
    loss: float
    accuracy: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Taught:
    """A set of rows that taught. licence: "" for unknown."""

    path: str
    sha256: str
    rows: int
    licence: str = ""
    source: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A whole tuned model in the folder ``home``.

    base:     the model it began from, as named; "" from scratch. base_digest: of its weights.
    losses:   mean nats a learnt token, one per step.
    rows:     sequences that taught; left_out: others, by reason.
    tokens:   of all steps, and learnt ones among them.
    seconds:  wall time of its steps: without evaluations, checkpoints and steps done twice.
    stopped:  why it ended before its last step; "" where it did not.
    machine:  what it ran on, in words.
    kept_step: of the evaluation whose weights early stopping kept; -1 for none.
    """

    home: Path
    recipe: Recipe
    base: str
    base_digest: str
    rows: int
    left_out: Mapping[str, int]
    tokens: int
    learnt_tokens: int
    seconds: float
    losses: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    taught: tuple[Taught, ...] = ()
    stopped: str = ""
    machine: str = ""
    digest: str = ""
    kept_step: int = -1
    reused: bool = field(default=False, compare=False)

    @property
    def adapter(self) -> Path | None:
        """The PEFT folder, for methods that make one."""
        return self.home / ADAPTER if self.recipe.method in ("lora", "qlora") else None

    @property
    def kept(self) -> Evaluation | None:
        """Of the weights that were published: the best where the recipe stops early, else the
        last; None where nothing was held out."""
        if not self.evaluations:
            return None
        if self.recipe.early_stopping is None:
            return self.evaluations[-1]
        return next(each for each in self.evaluations if each.step == self.kept_step)

    @property
    def model(self) -> Path | None:
        """The folder with whole weights, for methods that make one."""
        return None if self.adapter else self.home / MODEL


def write_tuned(tuned: Tuned) -> None:
    content = {"format": _FORMAT} | {
        key: value for key, value in asdict(tuned).items() if key not in ("home", "reused")
    }
    content["recipe"] = tuned.recipe.model_dump(mode="json")
    write_whole(tuned.home / SUMMARY, json.dumps(content, ensure_ascii=False, indent=1).encode())


def read_tuned(home: Path) -> Tuned | None:
    """The tuned model in ``home``; None where there is none, or none that is whole. Raises
    ModelError for a summary that is broken or of a newer Hinlap."""
    try:
        raw: dict[str, Any] = json.loads((home / SUMMARY).read_bytes())
        if raw.pop("format") != _FORMAT:
            raise ModelError(
                "it was written by another version of Hinlap",
                where=str(home / SUMMARY),
                hint="tune again into another folder",
            )
        return Tuned(
            **raw
            | {
                "home": home,
                "recipe": Recipe.model_validate(raw["recipe"]),
                "losses": tuple(raw["losses"]),
                "evaluations": tuple(Evaluation(**each) for each in raw["evaluations"]),
                "taught": tuple(Taught(**each) for each in raw["taught"]),
                "reused": True,
            }
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"cannot be read: {error}",
            where=str(home / SUMMARY),
            hint="delete the folder and tune again",
        ) from error
