"""The plain rules everything else must beat: take candidates in a fixed order, whatever still fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, fits, take
from pipeline_project.solvers.kernels import f8, flag, i8, kernel
from pipeline_project.solvers.solver import Bools, Budget, Floats
from pipeline_project.solvers.sorting import descending as descending  # noqa: PLC0414  # whoever packs wants an order


def solve(problem: PackingProblem, budget: Budget, seed: int = 0, start: Int64 | None = None) -> Selection:
    """The best of the plain orders. O(n log n + k) for each; deterministic, it uses neither seed nor start."""
    inc = Incidence.of(problem)
    chosen = max((pack(inc, descending(rank)) for rank in plain_ranks(inc)), key=lambda flags: int(problem.weights[flags].sum()))
    return certify(problem, np.flatnonzero(chosen), solvers={"greedy": problem.n}, seed=seed, steps=3 * inc.k)


def plain_ranks(inc: Incidence) -> Iterator[Int64 | Floats]:
    """Weight, weight per unit, weight per share of what there is: the largest first; ties by number."""
    units, shares = np.empty(inc.n), np.empty(inc.n)
    _sizes(inc, units, shares)
    yield inc.weights
    yield inc.weights / units
    if not np.array_equal(units, shares):
        yield inc.weights / shares


def pack(inc: Incidence, order: Int64) -> Bools:
    """Take what fits, in this order, from nothing."""
    chosen = np.zeros(inc.n, np.bool_)
    fill(inc, order, inc.capacities.copy(), chosen)
    return chosen


@kernel(INCIDENCE, i8[::1], i8[::1], flag[::1])
def fill(inc: Incidence, order: Int64, free: Int64, chosen: Bools) -> None:
    """Add to `chosen`, and take from `free`, whatever still fits, in this order."""
    for c in order:
        if not chosen[c] and fits(inc, free, c):
            chosen[c] = True
            take(inc, free, c, 1)


@kernel(INCIDENCE, f8[::1], f8[::1])
def _sizes(inc: Incidence, units: Floats, shares: Floats) -> None:
    # What demands nothing is infinitely small: its weight per size must come first, not divide by zero.
    for c in range(len(inc.weights)):
        units[c] = shares[c] = 1e-280
        for e in range(inc.starts[c], inc.starts[c + 1]):
            units[c] += inc.quantities[e]
            shares[c] += inc.quantities[e] / max(1, inc.capacities[inc.resources[e]])
