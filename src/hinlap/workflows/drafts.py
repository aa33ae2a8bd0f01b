"""Drafts of answers, made by a model in the background while a person works on another row."""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hinlap.core.errors import HinlapError
from hinlap.core.messages import Engine, Finish, Prompt, Sampling
from hinlap.core.progress import Silent
from hinlap.core.rows import Row
from hinlap.engines.cache import answer_all
from hinlap.store.store import Store

_WAIT_SECONDS = 5.0


class DraftStatus(enum.StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Draft:
    """cut: the model stopped for length. error: one sentence, when FAILED. seconds: of its making,
    also where it comes from the store."""

    status: DraftStatus
    text: str = ""
    cut: bool = False
    error: str = ""
    seconds: float = 0.0


_PENDING = Draft(DraftStatus.PENDING)


def draft_prompt(row: Row) -> Prompt:
    """The row's conversation up to its answer."""
    return Prompt(row.messages()[:-1])


class Drafter:
    """Answers prompts one after the other on a thread of its own, through the store: what was
    drafted once is never asked again. A failure is a draft that says so.

    name: the model's. leaves_machine: whether rows are sent to another machine.
    """

    def __init__(
        self, engine: Engine, store: Store, *, max_tokens: int = 512, leaves_machine: bool = False
    ) -> None:
        self.name = engine.name
        self.leaves_machine = leaves_machine
        self._engine = engine
        self._store = store
        self._sampling = Sampling(max_tokens=max_tokens)
        self._changed = threading.Condition()
        self._drafts: dict[Prompt, Draft] = {}
        self._waiting: list[Prompt] = []
        self._under_way: Prompt | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="drafts")
        self._thread.start()

    def want(self, prompts: Sequence[Prompt], *, again: bool = False) -> None:
        """Drafts these next, in this order; what waited before is wanted no more.

        again: tries once more those that failed.
        """
        with self._changed:
            for prompt in prompts:
                if again and self.of(prompt).status is DraftStatus.FAILED:
                    del self._drafts[prompt]
            self._waiting = [
                prompt
                for prompt in dict.fromkeys(prompts)
                if prompt not in self._drafts and prompt != self._under_way
            ]
            self._changed.notify_all()

    def of(self, prompt: Prompt) -> Draft:
        """As far as it is known now."""
        return self._drafts.get(prompt, _PENDING)

    def wait(self, prompt: Prompt, seconds: float) -> Draft:
        """Its draft, wanted before, at the latest after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: prompt in self._drafts or self._closed, seconds)
            return self.of(prompt)

    def close(self) -> bool:
        """Makes no more drafts; whether the one under way has ended, too."""
        with self._changed:
            self._closed, self._waiting = True, []
            self._changed.notify_all()
        self._thread.join(_WAIT_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                prompt = self._under_way = self._waiting.pop(0)
            draft = self._draft(prompt)
            with self._changed:
                self._drafts[prompt], self._under_way = draft, None
                self._changed.notify_all()

    def _draft(self, prompt: Prompt) -> Draft:
        try:
            (done,) = answer_all(self._engine, self._store, [prompt], self._sampling, Silent())
        except HinlapError as error:
            return Draft(DraftStatus.FAILED, error=str(error))
        except Exception as error:  # a draft is a help: without it the work goes on
            return Draft(DraftStatus.FAILED, error=f"{type(error).__name__}: {error}")
        if done.finish in (Finish.FAILED, Finish.REFUSED) or not done.text.strip():
            return Draft(DraftStatus.FAILED, error=done.error or "the model said nothing")
        return Draft(
            DraftStatus.READY, done.text.strip(), done.finish is Finish.LENGTH, "", done.seconds
        )
