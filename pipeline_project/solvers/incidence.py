"""Who demands what, both ways, as the hot loops want it: candidate -> resources and resource -> holders."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from pipeline_project.core.packing import Int32, Int64, PackingProblem, rows_of, starts_of
from pipeline_project.solvers.kernels import flag, i4, i8, kernel, record
from pipeline_project.solvers.solver import Bools
from pipeline_project.solvers.two_cores import halves, together


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
        columns = owned(problem.indptr), owned(problem.resources), owned(problem.quantities)
        return cls.from_rows(owned(problem.weights), *columns, owned(problem.capacities))

    @classmethod
    def by_candidates(cls, problem: PackingProblem) -> Incidence:
        """For passes over the candidates alone: nobody is said to hold anything."""
        columns = owned(problem.indptr), owned(problem.resources), owned(problem.quantities)
        nobody, nothing = np.zeros(0, np.int32), np.zeros(0, np.int64)
        return cls(owned(problem.weights), *columns, owned(problem.capacities), np.zeros(problem.m + 1, np.int64), nobody, nothing)

    @classmethod
    def from_rows(cls, weights: Int64, starts: Int64, resources: Int32, quantities: Int64, capacities: Int64) -> Incidence:
        """From the demands of each candidate. O(n + m + k)."""
        n, m, k = len(weights), len(capacities), len(resources)
        assert max(n, k) < 2**31, "candidates and demand rows have 32-bit numbers in the loops"
        row_starts, parts = np.zeros(m + 1, np.int64), halves(starts)
        places = np.zeros((len(parts), m), np.int32)
        together([partial(_count, resources, int(starts[a]), int(starts[b]), place) for (a, b), place in zip(parts, places, strict=True)])
        lay_out(places, row_starts)
        return cls.laid_out(weights, starts, resources, quantities, capacities, places, row_starts)

    @classmethod
    def laid_out(
        cls, weights: Int64, starts: Int64, resources: Int32, quantities: Int64, capacities: Int64, places: Int32, row_starts: Int64
    ) -> Incidence:
        """The same, where somebody has counted. places: int32[p, m], of the first holder of each resource, for each half; used up."""
        columns, k, unit = (starts, resources, quantities), len(resources), all_ones(quantities)
        holders, held = np.empty(k, np.int32), quantities if unit else np.empty(k, np.int64)
        parts = zip(halves(starts), places, strict=True)
        together([partial(_turn, *columns, a, b, unit, place, holders, held) for (a, b), place in parts])
        return cls(weights, starts, resources, quantities, capacities, row_starts, holders, held)

    def problem(self) -> PackingProblem:
        """The same as a problem, for those who know nothing of incidences."""
        return PackingProblem(
            weights=self.weights, indptr=self.starts, resources=self.resources, quantities=self.quantities, capacities=self.capacities
        )

    @property
    def n(self) -> int:
        return len(self.weights)

    @property
    def m(self) -> int:
        return len(self.capacities)

    @property
    def k(self) -> int:
        return len(self.resources)

    def with_rows(self, owner: Int64, row: Int64, amount: Int64, capacities: Int64) -> Incidence:
        """With further resources: of new resource row[i], candidate owner[i] demands amount[i]. O(n + m + k)."""
        starts = self.starts + starts_of(np.bincount(owner, minlength=self.n))
        resources, quantities = np.empty(self.k + len(owner), np.int32), np.empty(self.k + len(owner), np.int64)
        _append(self, owner, row, amount, starts, resources, quantities)
        return Incidence.from_rows(self.weights, starts, resources, quantities, np.concatenate((self.capacities, capacities)))

    def restricted(self, candidates: Int64) -> tuple[Incidence, Int64]:
        """Among these candidates alone, ascending, and the numbers of the resources that they demand. O(k log k) of theirs."""
        starts, rows = rows_of(self.starts, candidates)
        mentioned, local = np.unique(self.resources[rows], return_inverse=True)
        columns = starts, local.astype(np.int32), self.quantities[rows]
        return Incidence.from_rows(self.weights[candidates], *columns, self.capacities[mentioned]), mentioned.astype(np.int64)

    def with_only(self, keep: Bools) -> Incidence:
        """Without the resources that are not marked in `keep`, bool[m]. O(n + m + k)."""
        entries, number = keep[self.resources], np.cumsum(keep) - 1
        owner = np.repeat(np.arange(self.n), np.diff(self.starts))[entries]
        resources, starts = number[self.resources[entries]].astype(np.int32), starts_of(np.bincount(owner, minlength=self.n))
        return Incidence.from_rows(self.weights, starts, resources, self.quantities[entries], self.capacities[keep])

    def left_by(self, chosen: Bools) -> Int64:
        """int64[m]: what these candidates leave of each resource. O(n + k)."""
        left = self.capacities.copy()
        _take_all(self, left, chosen)
        return left


INCIDENCE = record(Incidence, (i8[::1], i8[::1], i4[::1], i8[::1], i8[::1], i8[::1], i4[::1], i8[::1]))


Column = TypeVar("Column", Int32, Int64)


def owned(column: Column) -> Column:
    """A compiled loop takes writable, contiguous arrays; those that come from Arrow are neither ours nor writable."""
    return np.require(column, requirements=("C", "W"))


def all_ones(quantities: Int64) -> bool:
    """Whether there is a single kind of demand, for one unit: then nobody need look at it."""
    return len(quantities) > 0 and int(quantities.min()) == int(quantities.max()) == 1


@kernel(i4[::1], i8, i8, i4[::1])
def _count(resources: Int32, first: int, last: int, count: Int32) -> None:
    for e in range(first, last):
        count[resources[e]] += 1


@kernel(i4[:, ::1], i8[::1])
def lay_out(counts: Int32, row_starts: Int64) -> None:
    """Counts of holders become the places of the first of them: int32[p, m], for each part of the candidates and each resource."""
    total = 0
    for r in range(len(row_starts) - 1):
        for part in range(len(counts)):
            total, counts[part, r] = total + counts[part, r], total
        row_starts[r + 1] = total


@kernel(i8[::1], i4[::1], i8[::1], i8, i8, flag, i4[::1], i4[::1], i8[::1])
def _turn(
    starts: Int64, resources: Int32, quantities: Int64, first: int, last: int, unit: bool, place: Int32, holders: Int32, held: Int64
) -> None:
    """The second half of a counting sort: each holder to the next place of its resource. Where all is `unit`, `held` is so already."""
    for c in range(first, last):
        for e in range(starts[c], starts[c + 1]):
            at = place[resources[e]]
            place[resources[e]] = at + 1
            holders[at] = c
            if not unit:
                held[at] = quantities[e]


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], i8[::1], i4[::1], i8[::1])
def _append(inc: Incidence, owner: Int64, row: Int64, amount: Int64, starts: Int64, resources: Int32, quantities: Int64) -> None:
    """Each candidate's own demands, then those appended, in the order given."""
    n = len(inc.weights)
    place = np.empty(n, np.int64)
    for c in range(n):
        place[c] = starts[c]
        for e in range(inc.starts[c], inc.starts[c + 1]):
            resources[place[c]], quantities[place[c]] = inc.resources[e], inc.quantities[e]
            place[c] += 1
    for i in range(len(owner)):
        at = place[owner[i]]
        resources[at], quantities[at] = len(inc.capacities) + row[i], amount[i]
        place[owner[i]] += 1


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


@kernel(INCIDENCE, i8[::1], flag[::1])
def _take_all(inc: Incidence, free: Int64, chosen: Bools) -> None:
    for c in range(len(chosen)):
        if chosen[c]:
            take(inc, free, c, 1)
