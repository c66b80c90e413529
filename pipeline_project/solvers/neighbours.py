"""Who conflicts with whom, one by one: worth its space only where every resource can be held once and few want the same."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Int32, Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import i4, i8, kernel, record

ENTRIES_MAX: Final = 60_000_000  # 240 MB


class Neighbours(NamedTuple):
    """The conflict graph of a problem with unit capacities: c conflicts with others[starts[c]:starts[c + 1]], each named once.

    starts  int64[n + 1]
    others  int32[*]
    """

    starts: Int64
    others: Int32

    @classmethod
    def of(cls, inc: Incidence, entries_max: int = ENTRIES_MAX) -> Neighbours | None:
        """None where a capacity exceeds 1, or the lists would be longer than `entries_max`. O(sum of squared row lengths)."""
        if inc.k * inc.k > (entries_max + inc.k) * inc.m:  # so many even if all resources were wanted by equally many
            return None
        holders = np.diff(inc.row_starts).astype(np.float64)
        if (inc.capacities > 1).any() or float(holders @ (holders - 1)) > entries_max:
            return None
        starts, room = np.zeros(inc.n + 1, np.int64), np.empty(int(holders @ (holders - 1)), np.int32)
        used = _expand(inc, starts, room)
        return cls(starts, room[:used].copy())


NEIGHBOURS = record(Neighbours, (i8[::1], i4[::1]))


@kernel(INCIDENCE, i8[::1], i4[::1], returns=i8)
def _expand(inc: Incidence, starts: Int64, others: Int32) -> int:
    n = len(inc.weights)
    last = np.full(n, -1, np.int32)  # the last candidate that listed this one: a pair may share several resources
    used = 0
    for c in range(n):
        last[c] = c
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
                other = inc.holders[h]
                if last[other] != c:
                    last[other] = c
                    others[used] = other
                    used += 1
        starts[c + 1] = used
    return used
