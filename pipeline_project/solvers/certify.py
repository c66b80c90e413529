"""Turn chosen candidates and prices into a selection with its certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import NO_CUTS, Certificate, Claim, Cuts, Selection
from pipeline_project.solvers.cuts import with_cuts
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, fits
from pipeline_project.solvers.kernels import flag, i8, kernel
from pipeline_project.solvers.prices import SAFE
from pipeline_project.solvers.solver import Bools


def certify(
    problem: PackingProblem,
    chosen: Int64,
    *,
    solvers: Mapping[str, int],
    seed: int,
    steps: int,
    prices: Int64 | None = None,
    scale: int = 1,
    claims: Sequence[Claim] = (),
    cuts: Cuts = NO_CUTS,
    reproducible: bool = True,
) -> Selection:
    """Certify with the best bound that prices (default: all free), cuts and claims justify. O(k), and the size of the cuts."""
    prices = np.zeros(problem.m, np.int64) if prices is None else prices
    inc = with_cuts(Incidence.of(problem), cuts) if len(cuts) else Incidence.by_candidates(problem)
    every_price = np.concatenate((prices, cuts.price, cuts.clique_price))
    price_bound = _price_bound(inc, every_price, scale)
    upper_bound = price_bound
    if claims:
        rest = np.ones(problem.n, np.bool_)
        for claim in claims:
            rest[claim.candidates] = False
        upper_bound = min(price_bound, sum(claim.bound for claim in claims) + _price_bound(inc, every_price, scale, rest))
    certificate = Certificate(
        value=int(problem.weights[chosen].sum()),
        upper_bound=upper_bound,
        prices=prices,
        price_scale=scale,
        seed=seed,
        steps=steps,
        reproducible=reproducible,
        solvers=dict(solvers),
        price_bound=price_bound,
        claims=tuple(claims),
        cuts=cuts,
    )
    return Selection(chosen=chosen, certificate=certificate)


def _price_bound(inc: Incidence, prices: Int64, scale: int, among: Bools | None = None) -> int:
    """What these prices certify about the candidates in `among` (default all), in whole points."""
    counted = np.ones(inc.n, np.bool_) if among is None else among
    touched = np.zeros(inc.m, np.bool_)
    left = int(_left_over(inc, np.ascontiguousarray(prices), scale, counted, touched))
    charged = np.flatnonzero(touched & (prices > 0))
    total: int = left + _dot(inc.capacities[charged], prices[charged])
    return total // scale


def _dot(a: Int64, b: Int64) -> int:
    if float(np.dot(a.astype(np.float64), b.astype(np.float64))) < SAFE:
        return int(np.dot(a, b))
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


@kernel(INCIDENCE, i8[::1], i8, flag[::1], flag[::1], returns=i8)
def _left_over(inc: Incidence, prices: Int64, scale: int, counted: Bools, touched: Bools) -> int:
    """Sum of what candidates are worth beyond their charges, in 1/scale points; marks the resources of those that count."""
    total = 0
    for c in range(len(inc.weights)):
        if not counted[c] or not fits(inc, inc.capacities, c):
            continue
        left = inc.weights[c] * scale
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            touched[r] = True
            # Divide before multiplying: the product of a large quantity and a large price would overflow.
            if prices[r] > 0:
                left = left - inc.quantities[e] * prices[r] if inc.quantities[e] <= left // prices[r] else 0
        total += left
    return total
