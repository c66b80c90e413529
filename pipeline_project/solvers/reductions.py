"""What can be settled before any search: candidates that can never fit, resources that can never bind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """A smaller problem with the same optimum, and the way back.

    problem     what is left to decide; candidates and resources keep their order
    candidates  int64  their original numbers
    resources   int64  the original numbers of its resources
    """

    problem: PackingProblem
    candidates: Int64
    resources: Int64

    def original_prices(self, original: PackingProblem, prices: Int64) -> Int64:
        """Prices of the original resources; one that never binds is free."""
        full = np.zeros(original.m, np.int64)
        full[self.resources] = prices
        return full


def reduce(problem: PackingProblem) -> Reduced:
    """Drop candidates that demand more than there is, then resources that all the others together do not exhaust. O(n + k)."""
    owner = problem.candidates()
    fits = np.ones(problem.n, np.bool_)
    fits[owner[problem.quantities > problem.capacities[problem.resources]]] = False
    kept = fits[owner]
    binds = _total_demand(problem, kept) > problem.capacities
    kept &= binds[problem.resources]
    candidates, resources = np.flatnonzero(fits), np.flatnonzero(binds)
    indptr = np.zeros(len(candidates) + 1, np.int64)
    np.cumsum(np.bincount(owner[kept], minlength=problem.n)[candidates], out=indptr[1:])
    number = np.cumsum(binds, dtype=np.int32) - np.int32(1)
    smaller = PackingProblem(
        weights=problem.weights[candidates],
        indptr=indptr,
        resources=number[problem.resources[kept]],
        quantities=problem.quantities[kept],
        capacities=problem.capacities[resources],
    )
    return Reduced(problem=smaller, candidates=candidates, resources=resources)


def _total_demand(problem: PackingProblem, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Int64:
    # np.bincount would add in float64 and lose units above 2**53; that the sums fit int64 was checked at birth.
    total = np.zeros(problem.m, np.int64)
    np.add.at(total, problem.resources[rows], problem.quantities[rows])
    return total
