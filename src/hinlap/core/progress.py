"""How a long job tells that it moves, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A door shows this as a bar; a test or a script may ignore it."""

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` units begins."""
        ...

    def advance(self, done: int = 1, note: str = "") -> None:
        """``done`` more units of the present stage; ``note`` is what to show beside (a loss)."""
        ...

    def finish(self) -> None:
        """The present stage is over."""
        ...

    def say(self, message: str) -> None:
        """One line that the user should read."""
        ...


class Silent:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int) -> None: ...

    def advance(self, done: int = 1, note: str = "") -> None: ...

    def finish(self) -> None: ...

    def say(self, message: str) -> None: ...
