"""From a benchmark's item to what a model is given: plain text or chat, with solved examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from hinlap.benchmarks.benchmark import Benchmark, Item, Shot
from hinlap.core.counting import counted
from hinlap.core.errors import UserError
from hinlap.core.messages import Continuation, Message, Prompt, raw_prompt


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the items of one run are put: plain text that is continued as it stands, or turns of a
    chat, whose answers lose the space that plain text puts before them."""

    instruction: str
    shots: tuple[Shot, ...]
    chat: bool

    def prompt(self, question: str) -> Prompt:
        if self.chat:
            turns = [Message("system", self.instruction)] if self.instruction else []
            for shot in self.shots:
                turns.append(Message("user", shot.question))
                turns.append(Message("assistant", shot.answer.strip()))
            return Prompt((*turns, Message("user", question)))
        head = f"{self.instruction}\n\n" if self.instruction else ""
        solved = "".join(f"{shot.question}{shot.answer}\n\n" for shot in self.shots)
        return raw_prompt(f"{head}{solved}{question}")

    def weighing(self, question: str, text: str) -> Continuation:
        return Continuation(self.prompt(question), text.strip() if self.chat else text)


def prompting(
    benchmark: Benchmark, items: Sequence[Item], *, shots: int | None, chat: bool, seed: int
) -> tuple[Prompting, list[Item]]:
    """The prompting, and the items without those that became shots.

    shots: None: the published preamble, or none. More than a preamble's pairs cannot be had.
    Items that become shots are picked by a keyed hash, one a group while there are groups, the
    same ones for every model.
    Raises UserError for a number that cannot be had, and where texts are taken as they stand.
    """
    if benchmark.as_it_stands and (chat or shots):
        flag = "--chat" if chat else "--shots"
        raise UserError(
            f"{benchmark.name} gives the model each text as it stands",
            where=flag,
            hint=f"leave {flag} out",
        )
    if shots is not None and shots < 0:
        raise UserError(f"{shots} solved examples", where="--shots", hint="0 or more")
    if shots is None or benchmark.preamble:
        most = len(benchmark.preamble)
        wanted = most if shots is None else shots
        if wanted > most:
            raise UserError(
                f"{benchmark.name} has {counted(most, 'solved example')}, not {wanted}",
                where="--shots",
            )
        return Prompting(benchmark.instruction, benchmark.preamble[:wanted], chat), list(items)
    if shots and benchmark.solved is None:
        raise UserError(
            f"the items of {benchmark.name} cannot serve as solved examples", where="--shots"
        )
    if shots >= len(items):
        raise UserError(
            f"{counted(shots, 'solved example')} of {counted(len(items), 'item')} leave none to "
            "measure",
            where="--shots",
        )
    chosen = _spread(items, shots, seed)
    solved = tuple(benchmark.solved(item) for item in chosen) if benchmark.solved else ()
    taken = {item.id for item in chosen}
    kept = [item for item in items if item.id not in taken]
    return Prompting(benchmark.instruction, solved, chat), kept


def _spread(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """By hash, one of each group before a second of any."""
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{seed}/{item.id}".encode()).digest())
    times: dict[str, int] = {}
    rounds = []
    for place, item in enumerate(ranked):
        times[item.group] = times.get(item.group, 0) + 1
        rounds.append((times[item.group], place, item))
    return [item for _, _, item in sorted(rounds, key=lambda r: r[:2])[:count]]
