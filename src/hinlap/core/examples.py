"""A row of data as the app sees it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Split(enum.StrEnum):
    """Which side of the wall a row stands on. TEST rows never teach."""

    TRAIN = "train"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Example:
    """One item: the app's inputs and, where known, what each step should give.

    inputs: by input name.      wanted: by step name, a step without an entry has no reference.
    labels: other columns a metric may ask for (``answer``, ``title`` ...).
    where:  file and line it came from, for messages.
    """

    id: str
    inputs: Mapping[str, str]
    split: Split
    wanted: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    def content(self) -> str:
        """All its inputs as one text: what copies of it share."""
        return "\n".join(self.inputs[name] for name in sorted(self.inputs))
