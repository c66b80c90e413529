"""What a solver is: (problem, budget, seed, start) -> Selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import Bools as Bools  # noqa: PLC0414  # beside Floats, for the loops
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection

Floats = NDArray[np.float64]
STEPS_MAX: Final = 10**18  # thousands of years; the loops count in int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much work a solver may do.

    steps    work units (about one visited demand row each); the same steps give the same answer on any machine
    seconds  safety net by wall clock; None = no clock decides anything. When it strikes, the certificate says reproducible: false
    """

    steps: int
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= STEPS_MAX:
            raise UsageError(f"steps: expected a whole number from 1 to {STEPS_MAX}, found {self.steps}")
        if self.seconds is not None and not self.seconds > 0:
            raise UsageError(f"seconds: expected a finite time, more than 0, found {self.seconds}")


class Solver(Protocol):
    """A callable that chooses candidates. `start` is an earlier selection's chosen candidates, feasible or not; it may be ignored."""

    def __call__(self, problem: PackingProblem, budget: Budget, seed: int = 0, start: Int64 | None = None) -> Selection: ...
