"""Who demands what, both ways, as the hot loops want it: candidate -> resources and resource -> holders."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from pipeline_project.core.packing import Int32, Int64, PackingProblem
from pipeline_project.solvers.kernels import flag, i4, i8, kernel, record
from pipeline_project.solvers.solver import Bools


class Incidence(NamedTuple):
    """A packing problem by rows and by columns; conflict edges are never expanded, so d holders cost d, not d * (d - 1) / 2.

    weights, starts, resources, quantities, capacities   as weights, indptr, resources, quantities, capacities of PackingProblem
    row_starts   int64[m + 1]  resource r is demanded by rows row_starts[r]:row_starts[r + 1] of the next two
    holders      int32[k]      which candidate, ascending within a resource
    held         int64[k]      how much it demands
    """

    weights: Int64
    starts: Int64
    resources: Int32
    quantities: Int64
    capacities: Int64
    row_starts: Int64
    holders: Int32
    held: Int64

    @classmethod
    def of(cls, problem: PackingProblem) -> Incidence:
        """O(n + m + k): one counting sort."""
        assert problem.n < 2**31, "candidate numbers are 32-bit in the loops"
        starts, resources, quantities = _own(problem.indptr), _own(problem.resources), _own(problem.quantities)
        row_starts = np.zeros(problem.m + 1, np.int64)
        np.cumsum(np.bincount(resources, minlength=problem.m), out=row_starts[1:])
        holders, held = np.empty(len(resources), np.int32), np.empty(len(resources), np.int64)
        _transpose(starts, resources, quantities, row_starts[:-1].copy(), holders, held)
        return cls(_own(problem.weights), starts, resources, quantities, _own(problem.capacities), row_starts, holders, held)

    @property
    def n(self) -> int:
        return len(self.weights)

    @property
    def m(self) -> int:
        return len(self.capacities)

    @property
    def k(self) -> int:
        return len(self.resources)

    def left_by(self, chosen: Bools) -> Int64:
        """int64[m]: what these candidates leave of each resource."""
        rows = np.repeat(chosen, np.diff(self.starts))
        left = self.capacities.copy()
        np.subtract.at(left, self.resources[rows], self.quantities[rows])
        return left


INCIDENCE = record(Incidence, (i8[::1], i8[::1], i4[::1], i8[::1], i8[::1], i8[::1], i4[::1], i8[::1]))


Column = TypeVar("Column", Int32, Int64)


def _own(column: Column) -> Column:
    # A compiled loop takes writable, contiguous arrays; those that come from Arrow are neither ours nor writable.
    return np.require(column, requirements=("C", "W"))


@kernel(i8[::1], i4[::1], i8[::1], i8[::1], i4[::1], i8[::1])
def _transpose(starts: Int64, resources: Int32, quantities: Int64, place: Int64, holders: Int32, held: Int64) -> None:
    for c in range(len(starts) - 1):
        for e in range(starts[c], starts[c + 1]):
            at = place[resources[e]]
            holders[at], held[at] = c, quantities[e]
            place[resources[e]] += 1


@kernel(INCIDENCE, i8[::1], i8, returns=flag)
def fits(inc: Incidence, free: Int64, c: int) -> bool:
    for e in range(inc.starts[c], inc.starts[c + 1]):
        if free[inc.resources[e]] < inc.quantities[e]:
            return False
    return True


@kernel(INCIDENCE, i8[::1], i8, i8)
def take(inc: Incidence, free: Int64, c: int, sign: int) -> None:
    """Take what candidate c demands out of `free` (sign 1), or give it back (sign -1)."""
    for e in range(inc.starts[c], inc.starts[c + 1]):
        free[inc.resources[e]] -= sign * inc.quantities[e]
