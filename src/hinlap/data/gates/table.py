"""The gates, in the order they are passed and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hinlap.core.rows import Row
from hinlap.data.gates import (
    answers,
    balance,
    duplicates,
    formats,
    languages,
    lengths,
    overlap,
    personal,
)
from hinlap.data.gates.gate import GateReport, Kind
from hinlap.data.gates.lengths import Tokens
from hinlap.data.gates.overlap import HeldOut


@dataclass(frozen=True)
class Given:
    """What the gates look at. tests: what no row may hold. tokens: None where no model is named."""

    rows: Sequence[Row]
    tests: Sequence[HeldOut] = ()
    tokens: Tokens | None = None


@dataclass(frozen=True)
class Gate:
    name: str
    kinds: Mapping[str, Kind]
    look: Callable[[Given], GateReport]


GATES: dict[str, Gate] = {
    gate.name: gate
    for gate in (
        Gate("duplicates", duplicates.KINDS, lambda given: duplicates.duplicates(given.rows)),
        Gate("overlap", overlap.KINDS, lambda given: overlap.overlap(given.rows, given.tests)),
        Gate("answers", answers.KINDS, lambda given: answers.answers(given.rows)),
        Gate("lengths", lengths.KINDS, lambda given: lengths.lengths(given.rows, given.tokens)),
        Gate("languages", languages.KINDS, lambda given: languages.languages(given.rows)),
        Gate("personal", personal.KINDS, lambda given: personal.personal_data(given.rows)),
        Gate("balance", balance.KINDS, lambda given: balance.balance(given.rows)),
        Gate("formats", formats.KINDS, lambda given: formats.formats(given.rows)),
    )
}
