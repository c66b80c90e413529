"""Clique rows: at most one of candidates that conflict two by two, grown greedily from what the relaxation takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int32, Int64
from pipeline_project.core.selection import MEMBERS_MAX, NO_CUTS, Cuts
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, i4, i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.rounded_rows import TAKEN
from pipeline_project.solvers.solver import Floats

GROWING_MAX: Final = 64_000_000  # steps of growing cliques in one round, the fullest candidates first: no clock is looked at meanwhile
BLIND_PER_SECOND: Final = 20_000_000  # steps of such work that a slow core does


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """Who conflicts with whom: c with neighbours[starts[c]:starts[c + 1]]. None where there are too many to write them out.

    starts      int64[n + 1]
    neighbours  int32[*]
    """

    starts: Int64
    neighbours: Int32

    @classmethod
    def of(cls, inc: Incidence, meter: Meter, meetings_max: int) -> Conflicts:
        if not cls.few_enough(inc, meter, meetings_max):
            return cls(starts=np.zeros(inc.n + 1, np.int64), neighbours=np.zeros(0, np.int32))
        starts, room = np.zeros(inc.n + 1, np.int64), np.empty(int(_meetings(inc)), np.int32)
        used = _neighbours(inc, starts, room)
        meter.spend(len(room))
        return cls(starts=starts, neighbours=room[:used].copy())

    @staticmethod
    def few_enough(inc: Incidence, meter: Meter, meetings_max: int) -> bool:
        return _meetings(inc) <= meter.at_most(meetings_max, BLIND_PER_SECOND)

    def clique_rows(self, share: Floats, worth: Floats, violation_min: float, meter: Meter) -> Cuts:
        """Cliques of which the relaxation takes more than one candidate: one grown from each candidate that it takes."""
        if not len(self.neighbours):
            return NO_CUTS
        order = np.lexsort((-worth, -np.round(share, 4)))
        rank, seeds = np.empty(len(order), np.int64), order[share[order] > TAKEN]
        rank[order] = np.arange(len(order))
        ends, members, spent = np.zeros(len(seeds) + 1, np.int64), np.empty(self._room, np.int64), np.zeros(1, np.int64)
        least, steps = 1.0 + violation_min, meter.at_most(GROWING_MAX, BLIND_PER_SECOND)
        count = _grow(self.starts, self.neighbours, rank, share, seeds, least, steps, ends, members, spent)
        meter.spend(int(spent[0]))
        ends = ends[: count + 1].copy()
        owner = np.repeat(np.arange(count), np.diff(ends))
        ascending = members[: ends[count]][np.lexsort((members[: ends[count]], owner))]
        return replace(NO_CUTS, clique_starts=ends, members=ascending, clique_price=np.zeros(count, np.int64))

    @property
    def _room(self) -> int:
        return max(1_000_000, 8 * len(self.starts))


def _meetings(inc: Incidence) -> float:
    """How often a candidate meets one, itself included, at a resource."""
    holders = np.diff(inc.row_starts).astype(np.float64)
    return float((holders * holders).sum())


@kernel(INCIDENCE, i8[::1], i4[::1], returns=i8)
def _neighbours(inc: Incidence, starts: Int64, neighbours: Int32) -> int:
    used = 0
    seen_by = np.full(len(inc.weights), -1)
    for c in range(len(inc.weights)):
        seen_by[c] = c
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            for f in range(inc.row_starts[r], inc.row_starts[r + 1]):
                d = inc.holders[f]
                if seen_by[d] != c and inc.held[f] > inc.capacities[r] - inc.quantities[e]:
                    seen_by[d] = c
                    neighbours[used] = d
                    used += 1
        starts[c + 1] = used
    return used


@kernel(i8[::1], i4[::1], i8[::1], f8[::1], i8[::1], f8, i8, i8[::1], i8[::1], i8[::1], returns=i8)
def _grow(
    starts: Int64,
    neighbours: Int32,
    rank: Int64,
    share: Floats,
    seeds: Int64,
    least: float,
    steps: int,
    ends: Int64,
    members: Int64,
    spent: Int64,
) -> int:
    """From each seed, take on the first in rank that is adjacent to all members, while there is one; keep what takes `least` together."""
    count, marks = 0, 0
    marked, common = np.zeros(len(rank), np.int64), np.empty(len(rank), np.int64)
    for seed in seeds:
        if ends[count] + MEMBERS_MAX > len(members) or spent[0] >= steps:
            break
        used, total, left, best = ends[count], share[seed], 0, -1
        members[used] = seed
        for e in range(starts[seed], starts[seed + 1]):
            d = neighbours[e]
            common[left] = d
            left += 1
            if best < 0 or rank[d] < rank[best]:
                best = d
        spent[0] += left
        while best >= 0 and used + 1 < ends[count] + MEMBERS_MAX:
            used += 1
            members[used] = best
            total += share[best]
            marks += 1
            for e in range(starts[best], starts[best + 1]):
                marked[neighbours[e]] = marks
            spent[0] += starts[best + 1] - starts[best] + left
            kept, best = 0, -1
            for i in range(left):
                d = common[i]
                if marked[d] == marks:
                    common[kept] = d
                    kept += 1
                    if best < 0 or rank[d] < rank[best]:
                        best = d
            left = kept
        if total >= least:
            count += 1
            ends[count] = used + 1
    return count
