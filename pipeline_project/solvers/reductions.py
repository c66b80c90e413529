"""What can be settled before any search: candidates that can never fit, resources that can never bind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64, PackingProblem
from pipeline_project.solvers.incidence import Incidence, owned
from pipeline_project.solvers.kernels import flag, i4, i8, kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """A smaller problem with the same optimum, and the way back.

    inc         what is left to decide; candidates and resources keep their order
    candidates  int64  their original numbers
    resources   int64  the original numbers of its resources
    """

    inc: Incidence
    candidates: Int64
    resources: Int64

    def original_prices(self, resources: int, prices: Int64) -> Int64:
        """Prices of the original `resources`; one that never binds is free."""
        full = np.zeros(resources, np.int64)
        full[self.resources] = prices
        return full


def reduce(problem: PackingProblem) -> Reduced:
    """Drop candidates that demand more than there is, then resources that all the others together do not exhaust. O(n + k)."""
    columns = owned(problem.indptr), owned(problem.resources), owned(problem.quantities)
    return _restrict(problem.weights, *columns, owned(problem.capacities), np.ones(problem.n, np.bool_))


def cut_out(inc: Incidence, members: Bools, left: Int64) -> Reduced:
    """The problem among the members alone, with what the others leave of each resource, reduced in the same way. O(n + k)."""
    return _restrict(inc.weights, inc.starts, inc.resources, inc.quantities, left, members.copy())


def _restrict(weights: Int64, starts: Int64, resources: Int32, quantities: Int64, capacities: Int64, members: Bools) -> Reduced:
    number = np.empty(len(capacities), np.int32)
    rows = _survivors(starts, resources, quantities, capacities, members, number)
    candidates, kept = np.flatnonzero(members), np.flatnonzero(number >= 0)
    new_starts = np.zeros(len(candidates) + 1, np.int64)
    new_resources, new_quantities = np.empty(rows, np.int32), np.empty(rows, np.int64)
    _copy(starts, resources, quantities, candidates, number, new_starts, new_resources, new_quantities)
    inc = Incidence.from_rows(weights[candidates], new_starts, new_resources, new_quantities, capacities[kept])
    return Reduced(inc=inc, candidates=candidates, resources=kept)


@kernel(i8[::1], i4[::1], i8[::1], i8[::1], flag[::1], i4[::1], returns=i8)
def _survivors(starts: Int64, resources: Int32, quantities: Int64, capacities: Int64, members: Bools, number: Int32) -> int:
    """Strike members that cannot fit; number the resources that can bind (-1: cannot). Returns how many demand rows are left."""
    demand = np.zeros(len(capacities), np.int64)
    rows = np.zeros(len(capacities), np.int64)
    for c in range(len(members)):
        for e in range(starts[c], starts[c + 1]):
            if quantities[e] > capacities[resources[e]]:
                members[c] = False
        if members[c]:
            for e in range(starts[c], starts[c + 1]):
                demand[resources[e]] += quantities[e]  # all of it fits int64: checked at the problem's birth
                rows[resources[e]] += 1
    total, kept = 0, 0
    for r in range(len(capacities)):
        number[r] = -1
        if demand[r] > capacities[r]:
            number[r] = kept
            kept += 1
            total += rows[r]
    return total


@kernel(i8[::1], i4[::1], i8[::1], i8[::1], i4[::1], i8[::1], i4[::1], i8[::1])
def _copy(
    starts: Int64,
    resources: Int32,
    quantities: Int64,
    candidates: Int64,
    number: Int32,
    new_starts: Int64,
    new_resources: Int32,
    new_quantities: Int64,
) -> None:
    at = 0
    for i in range(len(candidates)):
        for e in range(starts[candidates[i]], starts[candidates[i] + 1]):
            if number[resources[e]] >= 0:
                new_resources[at], new_quantities[at] = number[resources[e]], quantities[e]
                at += 1
        new_starts[i + 1] = at
