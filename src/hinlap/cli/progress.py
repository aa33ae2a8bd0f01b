"""Progress on a terminal: one bar per stage on stderr, lines between them."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TerminalProgress:
    """Shows stages as bars (stage, done of total, time so far and left, note).

    Where stderr is no terminal, a line at the end of each stage.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._done = 0
        self._total = 0
        self._note = ""

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        self._stage, self._total, self._done, self._note = stage, total, 0, ""
        self._task = self._bars.add_task(stage, total=total, note="")

    def advance(self, done: int = 1, note: str = "") -> None:
        self._done += done
        self._note = note or self._note
        if self._task is not None:
            self._bars.update(self._task, advance=done, note=self._note)

    def finish(self) -> None:
        if self._task is not None and self._done < self._total:
            # items that dropped out on the way: the bar stops where it is
            self._bars.stop_task(self._task)
        if not self._console.is_terminal:
            self._console.print(f"{self._stage}: {self._done}/{self._total} {self._note}".rstrip())
        self._task = None

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
