"""Cuts of an earlier answer, looked at again before anybody relies on them: the problem may have changed, or they may never have held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import NO_CUTS, Cuts
from pipeline_project.solvers.cut_columns import priced
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import flag, i8, kernel
from pipeline_project.solvers.prices import SAFE
from pipeline_project.solvers.solver import Bools


def held(inc: Incidence, cuts: Cuts) -> Cuts:
    """The cuts that hold here and cost something: rounded rows of what their resources demand now, and cliques that still are.

    Whoever no longer demands a row's resource is no longer counted there by absence. O(size of the rows, and the pairs in cliques).
    """
    if not len(cuts):
        return NO_CUTS
    largest = float(inc.capacities.max(initial=0)) + float(inc.quantities.sum(dtype=np.float64))
    small = largest * float(cuts.denominator.max(initial=1)) < SAFE  # else rounding might overflow
    costs, there = np.concatenate((cuts.price, cuts.clique_price)), np.zeros(len(cuts.complemented), np.bool_)
    if small:
        _still_demanding(inc, cuts.resource, cuts.complemented_starts, cuts.complemented, there)
    else:
        costs[: len(cuts.price)] = 0
    false = np.zeros(len(cuts.clique_price), np.bool_)
    _false_cliques(inc, cuts.clique_starts, cuts.members, false)
    costs[len(cuts.price) :][false] = 0
    if there.all() and costs.all():
        return cuts
    counted = np.zeros(len(there) + 1, np.int64)
    np.cumsum(there, out=counted[1:])
    demanding = replace(cuts, complemented_starts=counted[cuts.complemented_starts], complemented=cuts.complemented[there])
    return priced(demanding, costs)


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], flag[::1])
def _still_demanding(inc: Incidence, resource: Int64, starts: Int64, complemented: Int64, there: Bools) -> None:
    for i in range(len(resource)):
        e, last = inc.row_starts[resource[i]], inc.row_starts[resource[i] + 1]
        for j in range(starts[i], starts[i + 1]):
            while e < last and inc.holders[e] < complemented[j]:
                e += 1
            there[j] = e < last and inc.holders[e] == complemented[j]


@kernel(INCIDENCE, i8, i8, returns=flag)
def _exclude_each_other(inc: Incidence, one: int, other: int) -> bool:
    """Whether some resource is too small for both. Resources ascend within a candidate."""
    i, j = inc.starts[one], inc.starts[other]
    while i < inc.starts[one + 1] and j < inc.starts[other + 1]:
        if inc.resources[i] == inc.resources[j]:
            if inc.quantities[i] > inc.capacities[inc.resources[i]] - inc.quantities[j]:
                return True
            i += 1
            j += 1
        elif inc.resources[i] < inc.resources[j]:
            i += 1
        else:
            j += 1
    return False


@kernel(INCIDENCE, i8[::1], i8[::1], flag[::1])
def _false_cliques(inc: Incidence, starts: Int64, members: Int64, false: Bools) -> None:
    for i in range(len(starts) - 1):
        for a in range(starts[i], starts[i + 1]):
            for b in range(a + 1, starts[i + 1]):
                if not false[i] and not _exclude_each_other(inc, members[a], members[b]):
                    false[i] = True
