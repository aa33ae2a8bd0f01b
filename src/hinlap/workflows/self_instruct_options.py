"""How new tasks are written: the options, and which go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hinlap.core.errors import UserError
from hinlap.core.messages import Engine, ScoringEngine
from hinlap.data.novelty import THRESHOLD
from hinlap.data.self_instruct.prompts import Language
from hinlap.data.self_instruct.seeds import SeedTask

Way = Literal["stages", "whole"]
BestBy = Literal["auto", "likelihood", "agreement"]


@dataclass(frozen=True, slots=True)
class SelfInstructOptions:
    """How new tasks are written.

    count:       rows wanted.
    way:         "stages" as Self-Instruct, "whole" as Alpaca (instruction, input and output in one
                 answer).
    human, machine: tasks shown in a prompt, by people and, as far as there are any, by the model
                 (published: 6 and 2; Alpaca 3 and 0). None: as published for the way.
    wanted:      tasks asked for in one prompt.  requests: such prompts in a round.
    draws:       answers to each instruction, of which the best is kept.
    best_by:     "likelihood": the greatest mean log-probability of a token under the model;
                 "agreement": the greatest mean ROUGE-L with the other draws; "auto": the first
                 where the model can weigh, else the second.
    topics, personas: each prompt takes the next of each.
    threshold:   ROUGE-L above which an instruction is no news.
    ascii_start: the published filter of instructions that begin outside ASCII; None: for English.
    temperature, top_p: None: as published for the way (0.7 and 0.5; Alpaca 1 and 1).
    patience:    rounds in a row without a row, after which it ends.
    """

    count: int = 100
    language: Language = "en"
    way: Way = "stages"
    human: int | None = None
    machine: int | None = None
    wanted: int = 8
    requests: int = 5
    draws: int = 1
    best_by: BestBy = "auto"
    topics: tuple[str, ...] = ()
    personas: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    ascii_start: bool | None = None
    patience: int = 5
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 512
    seed: int = 0

    @property
    def shown(self) -> tuple[int, int]:
        """Tasks by people and by the model in one prompt."""
        human, machine = (6, 2) if self.way == "stages" else (3, 0)
        return (
            human if self.human is None else self.human,
            machine if self.machine is None else self.machine,
        )

    @property
    def drawing(self) -> tuple[float, float]:
        """Temperature and top-p."""
        temperature, top_p = (0.7, 0.5) if self.way == "stages" else (1.0, 1.0)
        return (
            temperature if self.temperature is None else self.temperature,
            top_p if self.top_p is None else self.top_p,
        )

    @property
    def starts_in_ascii(self) -> bool:
        return self.language == "en" if self.ascii_start is None else self.ascii_start

    def decides(self) -> list[object]:
        """All that decides which row comes when; how many are wanted does not."""
        return [
            self.language, self.way, self.shown, self.wanted, self.requests, self.draws,
            self.best_by, self.topics, self.personas, self.threshold, self.starts_in_ascii,
            self.drawing, self.max_tokens, self.seed,
        ]  # fmt: skip


def check_options(options: SelfInstructOptions, seeds: Sequence[SeedTask]) -> None:
    """Raises UserError with the flag and what it may be."""
    whole = {
        "--count": options.count, "--tasks": options.wanted, "--requests": options.requests,
        "--draws": options.draws, "--patience": options.patience,
        "--max-tokens": options.max_tokens,
    }  # fmt: skip
    for flag, number in whole.items():
        if number < 1:
            raise UserError(f"must be 1 or more, not {number}", where=flag)
    for flag, number in zip(("--human", "--machine"), options.shown, strict=True):
        if number < 0:
            raise UserError(f"must be 0 or more, not {number}", where=flag)
    temperature, top_p = options.drawing
    if not 0 < top_p <= 1:
        raise UserError(f"must be in (0, 1], not {top_p}", where="--top-p")
    if not 0 < options.threshold <= 1:
        raise UserError(f"must be in (0, 1], not {options.threshold}", where="--threshold")
    if not temperature > 0:
        raise UserError(
            f"must be above 0, not {temperature}",
            where="--temperature",
            hint="without chance every prompt has one answer; 0.7 to 1 is usual",
        )
    if options.draws > 1 and options.way == "whole":
        raise UserError(
            "whole tasks are written at once, so there is one answer to each",
            where="--draws",
            hint="--way stages answers each instruction by itself",
        )
    if not seeds and not (options.topics or options.personas):
        raise UserError(
            "there is nothing to begin from",
            where="--seeds",
            hint="a file with one solved task or more, or --topics FILE with a topic a line",
        )


def check_choosing(options: SelfInstructOptions, engine: Engine) -> None:
    """Raises UserError where the best draw could not be told."""
    weighs = isinstance(engine, ScoringEngine)
    if options.draws > 1 and options.best_by == "likelihood" and not weighs:
        raise UserError(
            f"{engine.name} cannot weigh its answers",
            where="--best-by",
            hint="--best-by agreement with three draws or more, or a model of this machine",
        )
    if options.draws == 2 and (options.best_by == "agreement" or not weighs):
        raise UserError(
            "two draws agree with each other equally",
            where="--draws",
            hint="three or more show which is in the middle",
        )
