"""The core: the candidates that prices leave in doubt. Whoever they call clearly good or clearly bad stays as it is.

After Balas and Zemel: An algorithm for large zero-one knapsack problems (1980), with prices of many resources. A search among tens
of thousands instead of hundreds of thousands of candidates finds more in the same time; what it misses it is told by a wider core.
"""

from __future__ import annotations

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.reductions import Reduced, cut_out
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.sorting import descending


def in_doubt(chosen: Bools, worth: Floats, among: Int64, gap: float, share: float) -> Int64:
    """Those `among` whom prices do not clearly want where they are: in, or out, as `chosen` says; `worth` are reduced weights.

    Whoever prices want elsewhere comes first, then whoever they would least mind to see move: so many that their chosen ones, if each
    lost as much as the last of them, would together lose `share` times the gap.
    """
    distance = np.maximum(0.0, np.where(chosen[among], worth[among], -worth[among]))
    order = descending(-distance)
    at_stake = distance[order] * np.cumsum(chosen[among[order]])
    enough = int(np.searchsorted(at_stake, share * gap))
    return among[order[: enough + 1]]


def core_of(inc: Incidence, chosen: Bools, doubtful: Int64) -> Reduced:
    """The problem among the doubtful, everybody else fixed as in `chosen`, which is feasible. O(n + k)."""
    members = np.zeros(inc.n, np.bool_)
    members[doubtful] = True
    if members.all():
        return Reduced(inc=inc, candidates=np.arange(inc.n), resources=np.arange(inc.m))
    return cut_out(inc, members, inc.left_by(chosen & ~members))
