"""Repair of an earlier selection after a change: work around what changed, and a bound that is certified anew.

What was chosen stays unless it no longer fits; what changed, what it set free and whom the repaired prices now want elsewhere is tried.
Prices move only in the rows of what changed, each to where it alone lowers the bound most (coordinate descent, which is enough near an
optimum). A few passes over the whole incidence remain, each a fraction of a millisecond for 100,000 demands; no relaxation is solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline_project.core.packing import Bools, Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.core_problem import core_of
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, take
from pipeline_project.solvers.kernels import f8, flag, i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import exact_prices, reduced_weights
from pipeline_project.solvers.solver import Budget, Floats
from pipeline_project.solvers.walks import walks


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An earlier answer in the numbers of the problem at hand.

    chosen       int64     candidates that were chosen and still exist; they may no longer fit together
    prices       int64[m]  what a unit of each resource was worth, in 1/price_scale points; 0 where it is new
    price_scale  as in the earlier certificate
    """

    chosen: Int64
    prices: Int64
    price_scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairParams:
    """sweeps             of the prices of touched rows
    holders_max        rows with more holders keep their price: sorting them would not be local
    rings              how many rows away from the change somebody is still tried
    trials             of the walk for each candidate around the change
    """

    sweeps: int = 3
    holders_max: int = 4_096
    rings: int = 2
    trials: int = 4


DEFAULT = RepairParams()


def repair(
    problem: PackingProblem, start: Start, changed: Int64, budget: Budget, seed: int = 0, params: RepairParams = DEFAULT
) -> Selection:
    """The earlier selection, repaired around `changed`: candidates that are new, or whose weight, demands or capacities changed.

    Never worth less than what of the start still fits. Same problem, start, changed, seed and steps: same bytes.
    """
    meter, inc = Meter(budget), Incidence.of(problem)
    prices, worth = start.prices / start.price_scale, np.empty(inc.n)
    reduced_weights(inc, prices, worth)
    chosen, touched = np.zeros(inc.n, np.bool_), np.zeros(inc.m, np.bool_)
    chosen[start.chosen] = True
    _touch(inc, changed, touched)
    left = inc.left_by(chosen)
    _relieve(inc, chosen, left, worth, touched)
    rows = np.flatnonzero(touched)
    for _ in range(params.sweeps):
        meter.spend(_descend(inc, rows, prices, worth, params.holders_max))
    around = np.zeros(inc.n, np.bool_)
    around[changed] = True
    for _ in range(params.rings):
        _want(inc, np.flatnonzero(touched), left, chosen, worth, around)
        _touch(inc, np.flatnonzero(around), touched)
    selected = _walk(inc, chosen, worth, np.flatnonzero(around), meter, seed, params)
    exact = exact_prices(inc, prices)
    meter.spend(4 * inc.k)
    return certify(
        problem,
        np.flatnonzero(selected),
        solvers={"repair": problem.n},
        seed=seed,
        steps=meter.spent,
        prices=exact.per_unit,
        scale=exact.scale,
        reproducible=not meter.struck,
    )


def _walk(inc: Incidence, chosen: Bools, worth: Floats, around: Int64, meter: Meter, seed: int, params: RepairParams) -> Bools:
    """Among those around the change alone: settle, then try them again and again without ever losing."""
    core = core_of(inc, chosen, around)
    if not len(core.candidates):
        return chosen
    walk = walks(core.inc, worth[core.candidates], (seed,))[0]
    walk.adopt(chosen[core.candidates])
    everybody = np.arange(core.inc.n)
    meter.spend(inc.k + walk.settle(everybody, meter.left))
    trials = params.trials * core.inc.n
    while trials > 0 and (limit := meter.slice()):
        work, done = walk.walk(everybody, 0.0, trials, limit, track=False)
        meter.spend(work)
        trials -= done
    repaired = chosen.copy()
    repaired[core.candidates] = walk.chosen
    return repaired


@kernel(INCIDENCE, i8[::1], flag[::1])
def _touch(inc: Incidence, candidates: Int64, touched: Bools) -> None:
    for c in candidates:
        for e in range(inc.starts[c], inc.starts[c + 1]):
            touched[inc.resources[e]] = True


@kernel(INCIDENCE, flag[::1], i8[::1], f8[::1], flag[::1])
def _relieve(inc: Incidence, chosen: Bools, left: Int64, worth: Floats, touched: Bools) -> None:
    """Put out, of each overdrawn resource, whom prices would miss least, until it is not; marks what that touches."""
    for r in range(len(left)):
        while left[r] < 0:
            worst = -1
            for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
                c = inc.holders[h]
                if chosen[c] and (worst < 0 or worth[c] < worth[worst]):
                    worst = c
            chosen[worst] = False
            take(inc, left, worst, -1)
            for e in range(inc.starts[worst], inc.starts[worst + 1]):
                touched[inc.resources[e]] = True


@kernel(INCIDENCE, i8[::1], f8[::1], f8[::1], i8, returns=i8)
def _descend(inc: Incidence, rows: Int64, prices: Floats, worth: Floats, holders_max: int) -> int:
    """Move each row's price to where the bound is lowest in it alone, and the reduced weights with it; returns the work."""
    work = 0
    for r in rows:
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if end - begin > holders_max or end == begin:
            continue
        work += 4 * (end - begin)
        rates = np.empty(end - begin)  # the price at which each holder is worth nothing beyond its demands
        for i in range(end - begin):
            rates[i] = worth[inc.holders[begin + i]] / inc.held[begin + i] + prices[r]
        order = np.argsort(-rates)
        used, price, above = 0, 0.0, -1.0
        for i in order:
            if used + inc.held[begin + i] > inc.capacities[r]:
                price = rates[i] if used < inc.capacities[r] or above < 0.0 else 0.5 * (rates[i] + above)
                break
            used += inc.held[begin + i]
            above = rates[i]
        price = max(0.0, price)
        for h in range(begin, end):
            worth[inc.holders[h]] += inc.held[h] * (prices[r] - price)
        prices[r] = price
    return work


@kernel(INCIDENCE, i8[::1], i8[::1], flag[::1], f8[::1], flag[::1])
def _want(inc: Incidence, rows: Int64, left: Int64, chosen: Bools, worth: Floats, around: Bools) -> None:
    """Mark the holders of touched rows that are chosen, that prices want, or that something has become free for."""
    for r in rows:
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            c = inc.holders[h]
            if chosen[c] or worth[c] > 0.0 or left[r] >= inc.held[h]:
                around[c] = True
