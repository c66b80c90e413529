"""Resource prices: what a unit of each resource is worth, an upper bound on every selection, and the order of a good start.

The linear relaxation is solved by reflected Halpern iterations of the primal-dual hybrid gradient method, as in r2HPDHG
(Lu, Yang: https://arxiv.org/abs/2407.16144) with the step sizes of Pock and Chambolle (diagonal preconditioning) and the restarts of
PDLP (https://arxiv.org/abs/2106.04756). Two departures: prices y >= 0 bound the optimum at any moment, so the best seen are kept
whatever the iterates do later; and a step is one fused pass over the incidence, with no sums whose order could vary. Large problems
take it in single precision, in halves that two cores share (`price_iterations`).
Descent on one resource at a time stalls where two resources of one candidate would have to move together; this does not.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, i8, kernel
from pipeline_project.solvers.meter import SLICE, Meter
from pipeline_project.solvers.price_iterations import BALANCE, BOUND, ITERATIONS, Iterate, begin, evaluate, iterate
from pipeline_project.solvers.solver import Floats

SCALE_MAX: Final = 10**9  # finer units of price than this change no bound by a point
SAFE: Final = 2.0**61  # float estimates below this keep exact int64 sums below 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesParams:
    """iterations_max   more of them no longer move the bound
    iterations_min   before the first question whether it still moves
    cheap            steps that are always worth it: small problems get up to ten times the iterations, before the question and at most
    check_every      iterations between two evaluations of the bound (and possible restarts)
    progress_min     stop when the last quarter of the iterations lowered the bound by less than this share of it
    reflection       how far beyond the plain step to go; 0.9 of at most 1
    """

    iterations_max: int = 1_000
    iterations_min: int = 192
    cheap: int = 5_000_000
    check_every: int = 16
    progress_min: float = 1e-5
    reflection: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """per_unit    float64[m]  best prices seen, >= 0
    bound       what they certify, in floating point (the certificate recomputes it exactly)
    share       float64[n]  fractional selection, 0 to 1: how much of each candidate the relaxation takes
    last        float64[m]  where the iterations stand, to go on from there; not the best they have seen
    balance     of primal against dual steps, as it has settled
    iterations  that were enough, or that the budget allowed
    iterate     to resume from exactly here, once
    """

    per_unit: Floats
    bound: float
    share: Floats
    last: Floats
    balance: float
    iterations: int
    iterate: Iterate


DEFAULT = PricesParams()


def find_prices(
    inc: Incidence,
    meter: Meter,
    params: PricesParams = DEFAULT,
    warm: Floats | None = None,
    share: Floats | None = None,
    balance: float | None = None,
    resume: Iterate | None = None,
) -> Prices:
    """Iterate until the bound stands still, the steps are spent or the clock strikes. O(k) per iteration.

    warm, share, balance: prices, fractional selection and balance of steps to begin with, for example those of a similar problem.
    resume: the iterate of earlier prices of this very problem; it is gone afterwards.
    """
    it = begin(inc, warm, share, balance) if resume is None else resume
    bounds = [float(it.state[BOUND])]
    often = min(10, max(1, params.cheap // (params.iterations_min * cost_of(inc))))
    with ThreadPoolExecutor(1) as other_core:
        while len(bounds) <= often * params.iterations_max // params.check_every:
            complete = _round(inc, it, meter, params, other_core)
            bounds.append(float(it.state[BOUND]))
            earlier = bounds[len(bounds) * 3 // 4]
            settled = len(bounds) >= often * params.iterations_min // params.check_every
            if not complete or (settled and earlier - bounds[-1] <= params.progress_min * bounds[-1]):
                break
    return Prices(
        per_unit=it.best.copy(),
        bound=bounds[-1],
        share=np.clip(it.x.astype(np.float64), 0.0, 1.0),
        last=np.maximum(it.y.astype(np.float64), 0.0),
        balance=float(it.state[BALANCE]),
        iterations=int(it.state[ITERATIONS]),
        iterate=it,
    )


def cost_of(inc: Incidence) -> int:
    """Steps of one iteration."""
    return 3 * inc.k + 2 * inc.n + 2 * inc.m + 1


def _round(inc: Incidence, it: Iterate, meter: Meter, params: PricesParams, other_core: Executor) -> bool:
    """Up to `check_every` iterations, then the bound; False when the meter allowed no more."""
    cost = cost_of(inc)
    at_once = max(1, min(params.check_every, SLICE // cost))
    done = 0
    while done < params.check_every:
        count = min(at_once, params.check_every - done)
        if not meter.affords(count * cost):
            break
        iterate(inc, it, count, params.reflection, other_core)
        meter.spend(count * cost)
        done += count
    if done:
        evaluate(inc, it, other_core)
        meter.spend(inc.k)
    return done == params.check_every


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactPrices:
    """Prices in whole units of 1/scale points.

    safe   every sum of prices, scaled weights and charges of this problem fits int64
    """

    per_unit: Int64
    scale: int
    safe: bool


def exact_prices(inc: Incidence, prices: Floats) -> ExactPrices:
    """Round to the finest power of ten whose sums surely fit int64. O(k)."""
    useful = np.empty(inc.m)
    _cap(inc, np.ascontiguousarray(prices, np.float64), useful)
    total, charges = float(inc.weights.sum(dtype=np.float64)), float((inc.capacities * useful).sum())
    largest = max(1.0, total, _dearest_candidate(inc, useful), charges)
    scale = SCALE_MAX
    while scale > 1 and (largest + inc.k / scale) * scale > SAFE:
        scale //= 10
    per_unit = np.rint(np.minimum(useful * scale, SAFE)).astype(np.int64)
    rounded = per_unit / scale
    largest = max(total, _dearest_candidate(inc, rounded), float((inc.capacities * rounded).sum()))
    return ExactPrices(per_unit=per_unit, scale=scale, safe=largest * scale <= SAFE)


def component_bounds(inc: Incidence, parts: Components, prices: ExactPrices) -> Int64:
    """int64[g]: what safe prices certify for each component, in whole points."""
    left = np.empty(inc.n, np.int64)
    _reduced_exact(inc, prices.per_unit, prices.scale, left)
    total = parts.sums(np.maximum(left, 0))
    held = np.flatnonzero(np.diff(inc.row_starts))
    np.add.at(total, parts.label[inc.holders[inc.row_starts[held]]], inc.capacities[held] * prices.per_unit[held])
    return total // prices.scale


@kernel(INCIDENCE, i8[::1], i8, i8[::1])
def _reduced_exact(inc: Incidence, prices: Int64, scale: int, out: Int64) -> None:
    for c in range(len(inc.weights)):
        out[c] = inc.weights[c] * scale
        for e in range(inc.starts[c], inc.starts[c + 1]):
            out[c] -= inc.quantities[e] * prices[inc.resources[e]]


@kernel(INCIDENCE, f8[::1], f8[::1])
def reduced_weights(inc: Incidence, y: Floats, out: Floats) -> None:
    """What each candidate is worth beyond the price of what it demands."""
    for c in range(len(inc.weights)):
        out[c] = inc.weights[c]
        for e in range(inc.starts[c], inc.starts[c + 1]):
            out[c] -= inc.quantities[e] * y[inc.resources[e]]


@kernel(INCIDENCE, returns=f8)
def fair_value(inc: Incidence) -> float:
    """What a selection is worth that takes of each candidate as much as all who want the same can have: no prices bound below it."""
    share, value = np.empty(len(inc.capacities)), 0.0
    for r in range(len(inc.capacities)):
        wanted = 0.0
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            wanted += inc.held[h]
        share[r] = min(1.0, inc.capacities[r] / max(1.0, wanted))
    for c in range(len(inc.weights)):
        least = 1.0
        for e in range(inc.starts[c], inc.starts[c + 1]):
            least = min(least, share[inc.resources[e]])
        value += least * inc.weights[c]
    return value


@kernel(INCIDENCE, f8[::1], f8[::1])
def _cap(inc: Incidence, prices: Floats, out: Floats) -> None:
    """Prices without what is below nothing, or above what makes some holder of the resource worth its own demand of it."""
    for r in range(len(inc.capacities)):
        out[r] = 0.0
        # Most prices are found useful at one of the first holders, so the others need not be looked at.
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            out[r] = max(out[r], inc.weights[inc.holders[h]] / inc.held[h])
            if out[r] >= prices[r]:
                break
        out[r] = max(0.0, min(out[r], prices[r]))


@kernel(INCIDENCE, f8[::1], returns=f8)
def _dearest_candidate(inc: Incidence, prices: Floats) -> float:
    """The largest cost of what one candidate demands."""
    largest = 0.0
    for c in range(len(inc.weights)):
        cost = 0.0
        for e in range(inc.starts[c], inc.starts[c + 1]):
            cost += inc.quantities[e] * prices[inc.resources[e]]
        largest = max(largest, cost)
    return largest
