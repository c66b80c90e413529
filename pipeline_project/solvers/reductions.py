"""What can be settled before any search: candidates that can never fit, resources that can never bind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64, PackingProblem
from pipeline_project.solvers.incidence import Incidence, all_ones, owned
from pipeline_project.solvers.kernels import flag, i4, i8, kernel
from pipeline_project.solvers.two_cores import halves, together


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
    return _restrict(owned(problem.weights), *columns, owned(problem.capacities), np.ones(problem.n, np.bool_))


def cut_out(inc: Incidence, members: Bools, left: Int64) -> Reduced:
    """The problem among the members alone, with what the others leave of each resource, reduced in the same way. O(n + k).

    Where nothing goes it is the problem itself: most are one large component, and a copy of it takes longest of all.
    """
    same = inc if np.array_equal(left, inc.capacities) else None
    return _restrict(inc.weights, inc.starts, inc.resources, inc.quantities, left, members.copy(), same)


def _restrict(
    weights: Int64,
    starts: Int64,
    resources: Int32,
    quantities: Int64,
    capacities: Int64,
    members: Bools,
    same: Incidence | None = None,
) -> Reduced:
    assert len(resources) < 2**31, "demand rows have 32-bit numbers in the loops"
    unit, parts, m = all_ones(quantities), halves(starts), len(capacities)
    small = int(quantities.max(initial=1)) <= int(capacities.min(initial=1))
    columns = starts, resources, quantities
    rows, demand = np.zeros((len(parts), m), np.int32), np.zeros((len(parts), 0 if unit else m), np.int64)
    together([partial(_survivors, *columns, capacities, members, *part, small, unit, demand[i], rows[i]) for i, part in enumerate(parts)])

    candidates = np.flatnonzero(members)
    number, row_starts, begins = np.empty(m, np.int32), np.zeros(m + 1, np.int64), np.zeros(len(parts) + 1, np.int64)
    kept = _number(capacities, unit, demand, rows, number, begins, row_starts)
    if (kept, len(candidates)) == (m, len(members)):
        whole = Incidence.laid_out(weights, *columns, capacities, rows, row_starts) if same is None else same
        return Reduced(inc=whole, candidates=candidates, resources=np.arange(m))
    k, ones = int(begins[-1]), quantities  # where all is `unit`, a part of its quantities is as good as a copy
    new = np.zeros(len(candidates) + 1, np.int64), np.empty(k, np.int32), ones[:k] if unit else np.empty(k, np.int64)
    turned = np.empty(k, np.int32), ones[:k] if unit else np.empty(k, np.int64)
    bounds = np.searchsorted(candidates, [begin for begin, _ in parts] + [len(members)]).tolist()
    together(
        [
            partial(_copy, *columns, candidates, number, bounds[i], bounds[i + 1], unit, int(begins[i]), rows[i], *new, *turned)
            for i in range(len(parts))
        ]
    )
    survive = np.flatnonzero(number >= 0)
    inc = Incidence(weights[candidates], *new, capacities[survive], row_starts[: kept + 1].copy(), *turned)
    return Reduced(inc=inc, candidates=candidates, resources=survive)


@kernel(i8[::1], i4[::1], i8[::1], i8[::1], flag[::1], i8, i8, flag, flag, i8[::1], i4[::1])
def _survivors(
    starts: Int64,
    resources: Int32,
    quantities: Int64,
    capacities: Int64,
    members: Bools,
    first: int,
    last: int,
    small: bool,
    unit: bool,
    demand: Int64,
    rows: Int32,
) -> None:
    """Strike members that cannot fit (none if all is `small`); count what the others demand, in rows and, unless `unit`, units."""
    for c in range(first, last):
        if not small:
            for e in range(starts[c], starts[c + 1]):
                if quantities[e] > capacities[resources[e]]:
                    members[c] = False
        if members[c]:
            for e in range(starts[c], starts[c + 1]):
                rows[resources[e]] += 1
                if not unit:
                    demand[resources[e]] += quantities[e]  # all of it fits int64: checked at the problem's birth


@kernel(i8[::1], flag, i8[:, ::1], i4[:, ::1], i4[::1], i8[::1], i8[::1], returns=i8)
def _number(capacities: Int64, unit: bool, demand: Int64, rows: Int32, number: Int32, begins: Int64, row_starts: Int64) -> int:
    """Number the resources that can bind (-1: cannot), and lay out their holders, part by part. Returns how many there are.

    rows    int32[p, m]   how many demand each, of each part; becomes the places of the first of them, in the new numbers
    begins  int64[p + 1]  with how many demands of such resources each part begins, and all of them end
    """
    parts, kept, total = len(rows), 0, 0
    for r in range(len(capacities)):
        wanted = 0
        for part in range(parts):
            wanted += rows[part, r] if unit else demand[part, r]
        number[r] = -1
        if wanted > capacities[r]:
            number[r] = kept
            for part in range(parts):
                begins[part + 1] += rows[part, r]
                total, rows[part, kept] = total + rows[part, r], total
            kept += 1
            row_starts[kept] = total
    for part in range(parts):
        begins[part + 1] += begins[part]
    return kept


@kernel(
    *(i8[::1], i4[::1], i8[::1], i8[::1], i4[::1], i8, i8, flag, i8, i4[::1]),
    *(i8[::1], i4[::1], i8[::1], i4[::1], i8[::1]),
)
def _copy(
    starts: Int64,
    resources: Int32,
    quantities: Int64,
    candidates: Int64,
    number: Int32,
    first: int,
    last: int,
    unit: bool,
    at: int,
    place: Int32,
    new_starts: Int64,
    new_resources: Int32,
    new_quantities: Int64,
    holders: Int32,
    held: Int64,
) -> None:
    """The candidates first..last of those that are left, from row `at` on, both ways; where all is `unit`, quantities are so already."""
    for i in range(first, last):
        for e in range(starts[candidates[i]], starts[candidates[i] + 1]):
            r = number[resources[e]]
            if r >= 0:
                new_resources[at] = r
                holders[place[r]] = i
                if not unit:
                    new_quantities[at] = held[place[r]] = quantities[e]
                place[r] += 1
                at += 1
        new_starts[i + 1] = at
