"""A cap in USD that no run crosses."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from hinlap.core.errors import BudgetError


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens."""

    input: float
    output: float
    cached_input: float

    def cost_usd(
        self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
    ) -> float:
        """Of one request; ``cached_input_tokens`` is a part of ``input_tokens``, not beside it.

        >>> Prices(input=1.0, output=4.0, cached_input=0.5).cost_usd(1_000_000, 500_000, 400_000)
        2.8
        """
        fresh = input_tokens - cached_input_tokens
        return (
            fresh * self.input
            + cached_input_tokens * self.cached_input
            + output_tokens * self.output
        ) / 1e6


class Budget:
    """Money reserved before a request and settled after it; safe between threads.

    Reserving the worst case first keeps the sum under the cap however many requests run at once.
    A request whose answer never came (a time-out, a lost connection) may be billed all the same:
    it counts as its worst case, so that the cap holds, and ``unanswered`` counts such requests.
    """

    def __init__(self, cap_usd: float) -> None:
        self.cap_usd = cap_usd
        self._changed = threading.Condition()
        self._spent = 0.0
        self._unanswered = 0
        self._unanswered_usd = 0.0
        self._reserved: list[float] = []

    @property
    def spent_usd(self) -> float:
        """All that was settled: what answers did cost and what unanswered requests may cost."""
        with self._changed:
            return self._spent

    @property
    def unanswered(self) -> tuple[int, float]:
        """Requests whose answer never came, and their part of ``spent_usd``."""
        with self._changed:
            return self._unanswered, self._unanswered_usd

    def reserve(self, worst_usd: float) -> None:
        """Waits while requests under way could still leave room (most cost less than reserved);
        raises BudgetError when ``worst_usd`` would cross the cap even so."""
        with self._changed:
            while self._spent + sum(self._reserved) + worst_usd > self.cap_usd + 1e-12:
                if not self._reserved or self._spent + worst_usd > self.cap_usd + 1e-12:
                    raise BudgetError(
                        f"the next request could cost {worst_usd:.6f} USD, and {self._spent:.6f} "
                        f"of the cap of {self.cap_usd:.6f} USD are spent",
                        where="budget_usd",
                        hint="raise budget_usd in app.yaml and run the same command again; "
                        "answers paid for are kept",
                    )
                self._changed.wait()
            self._reserved.append(worst_usd)

    def settle(self, worst_usd: float, actual_usd: float) -> None:
        """Turns a reservation into what the request did cost (0 when it was refused)."""
        with self._changed:
            self._reserved.remove(worst_usd)
            self._spent += actual_usd
            self._changed.notify_all()

    def settle_unanswered(self, worst_usd: float) -> None:
        """Turns a reservation into its worst case, for an answer that never came."""
        with self._changed:
            self._unanswered += 1
            self._unanswered_usd += worst_usd
            self.settle(worst_usd, worst_usd)
