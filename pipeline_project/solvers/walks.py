"""What a walk over selections is, and which kind suits a problem."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.crowded_walk import CrowdedWalk
from pipeline_project.solvers.general_walk import GeneralWalk
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.neighbours import ENTRIES_MAX, Neighbours
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.tabu_walk import TabuWalk
from pipeline_project.solvers.unit_walk import UnitWalk

ENTRIES_PER_SECOND: Final = 25_000_000  # of neighbours, half of what a slow core lists: there is to be time for a walk, too


class Walk(Protocol):
    """A selection that moves. It holds its own state and random numbers: two walks may run on two cores at once."""

    def adopt(self, chosen: Bools) -> None:
        """Move to this feasible selection; the work is in what differs."""
        ...

    def settle(self, candidates: Int64, steps: int) -> int:
        """Insert whoever of these is worth more than it evicts, and whoever that makes affordable; returns the work."""
        ...

    def walk(self, candidates: Int64, heat: float, trials: int, steps: int, *, track: bool) -> tuple[int, int]:
        """Trials that flip one of `candidates` each, until either limit; (work, trials done). Losses of `heat` on average are accepted.

        `track` keeps the best selection met on the way, at a cost that only a small problem can bear.
        """
        ...

    def forget_best(self) -> None: ...

    @property
    def chosen(self) -> Bools: ...

    @property
    def best(self) -> Bools: ...

    @property
    def best_value(self) -> int: ...


def walks(inc: Incidence, near: Neighbours | None, worth: Floats, seeds: tuple[int, ...], *, many: bool) -> list[list[Walk]]:
    """For each kind of walk that is worth a trial here, the likeliest first, one walk for each seed; nothing is chosen.

    near   as `listed` says: without it the walks are of a kind that can do without
    worth  float64[n]  reduced weights
    many   so many are to be chosen that no trial's wake spans them all
    """
    if near is None:
        kind = CrowdedWalk if CrowdedWalk.suits(inc) else GeneralWalk
        return [[kind(inc, worth, seed) for seed in seeds]]
    kinds: list[list[Walk]] = [[UnitWalk(inc, near, seed, holds=many) for seed in seeds]]
    if not many and TabuWalk.suits(near):
        kinds.append([TabuWalk(inc, near, seed) for seed in seeds])
    return kinds


def listed(inc: Incidence, meter: Meter) -> Neighbours | None:
    """Who conflicts with whom; None also where listing them, which looks at no clock, would take most of what is left of the budget."""
    holders = np.diff(inc.row_starts).astype(np.float64)
    entries = float(holders @ (holders - 1))
    if (inc.capacities > 1).any() or entries > ENTRIES_MAX or meter.at_most(int(entries), ENTRIES_PER_SECOND) < entries:
        return None
    meter.spend(int(entries))
    return Neighbours.of(inc)
