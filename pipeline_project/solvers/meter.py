"""The meter of one solve: counts its steps, and looks at the clock between bounded slices of work when there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pipeline_project.solvers.solver import Budget

SLICE: Final = 2_000_000  # steps between two looks at the clock: 5 to 30 ms, so that a time limit is kept to a fraction of a second
HICCUP: Final = 0.02  # seconds that may be lost to anything: no measure of how fast these cores are
SLOWEST: Final = 4.0  # of all the times as long as a rate says that we believe

Clock = Callable[[], float]


class Meter:
    """What is left of a budget. Decisions follow the steps alone, unless the clock strikes; `struck` then stays true."""

    def __init__(self, budget: Budget, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._begin = 0.0 if budget.seconds is None else clock()
        self._deadline = None if budget.seconds is None else self._begin + budget.seconds
        self._ended: Callable[[], bool] = lambda: False
        self._slowness = 1.0
        self.limit = budget.steps
        self.spent = 0
        self.struck = False

    def compare(self, steps: int, per_second: int) -> None:
        """Learn from all that was done since the beginning, where so many steps a second were usual: other rates fall short as far."""
        if self._deadline is not None:
            self._slowness = min(SLOWEST, max(1.0, (self.seconds_gone - HICCUP) * per_second / max(1, steps)))

    def phase(self, share: float, of_time: float | None = None) -> Meter:
        """A meter for a part of what is left, in steps and seconds alike unless `of_time` says otherwise; settle it with `close`."""
        part = Meter(Budget(steps=max(1, int(self.left * share)), seconds=None), self._clock)
        part._ended, part._slowness = self._ended, self._slowness
        if self._deadline is not None:
            part._begin = self._clock()
            part._deadline = part._begin + (share if of_time is None else of_time) * (self._deadline - part._begin)
        return part

    def close(self, part: Meter) -> None:
        """Book what a phase has spent."""
        self.spent += part.spent
        self.struck |= part.struck

    def stop_when(self, ended: Callable[[], bool]) -> None:
        """Allow nothing more once this is true: somebody else has found what was looked for."""
        self._ended = ended

    def reserve(self, seconds: float) -> None:
        """Keep what takes so long on usual cores, where there is a clock, for after the search; never more than half of what is left."""
        if self._deadline is not None:
            self._deadline -= max(0.0, min(seconds * self._slowness, (self._deadline - self._clock()) / 2))

    @property
    def seconds_left(self) -> float | None:
        return None if self._deadline is None else self._deadline - self._clock()

    @property
    def seconds_gone(self) -> float:
        return self._clock() - self._begin

    def budget(self, seconds_to_begin: float = 0.0, of_time: float = 1.0) -> Budget | None:
        """What is left, for a solver that keeps its own meter; None = the clock leaves it no time after its beginnings.

        `of_time` is its share of the seconds: one that ends late needs some to spare.
        """
        if self._deadline is None:
            return Budget(steps=max(1, self.left))
        seconds = of_time * (self._deadline - self._clock() - seconds_to_begin)
        if seconds <= 0:
            self.struck = True
            return None
        return Budget(steps=max(1, self.left), seconds=seconds)

    def spend(self, steps: int) -> None:
        self.spent += int(steps)

    @property
    def progress(self) -> float:
        """How much of the budget is gone, 0 to 1: in steps, or in seconds where these will clearly end it first."""
        gone = min(1.0, self.spent / self.limit)
        if self._deadline is None:
            return gone
        seconds = (self._clock() - self._begin) / max(1e-9, self._deadline - self._begin)
        if seconds <= 2 * gone + 0.02:
            return gone
        self.struck = True
        return min(1.0, seconds)

    @property
    def left(self) -> int:
        return max(0, self.limit - self.spent)

    def affords(self, steps: int) -> bool:
        """Whether an indivisible piece of work may begin. The only place where a clock decides."""
        if steps > self.left or self._ended():
            return False
        late = self._deadline is not None and self._clock() >= self._deadline
        self.struck |= late
        return not late

    def at_most(self, steps: int, per_second: int) -> int:
        """Steps for one piece of work that looks at no clock and does so many a second on usual cores: fewer where time is short."""
        allowed = min(steps, self.left)
        if self._deadline is None:
            return allowed
        by_clock = int(max(0.0, self._deadline - self._clock()) * per_second / self._slowness)
        self.struck |= by_clock < allowed
        return min(allowed, by_clock)

    def seconds_for(self, steps: int, per_second: int) -> float:
        """What such work takes here."""
        return steps / per_second * self._slowness

    def slice(self) -> int:
        """Steps that may be spent before the next call; 0 = stop."""
        steps = min(self.left, SLICE)
        return steps if steps and self.affords(steps) else 0
