"""Resource prices: what a unit of each resource is worth, an upper bound on every selection, and the order of a good start.

The linear relaxation is solved by reflected Halpern iterations of the primal-dual hybrid gradient method, as in r2HPDHG
(Lu, Yang: https://arxiv.org/abs/2407.16144) with the step sizes of Pock and Chambolle (diagonal preconditioning) and the restarts of
PDLP (https://arxiv.org/abs/2106.04756). Two departures: prices y >= 0 bound the optimum at any moment, so the best seen are kept
whatever the iterates do later; and a step is one fused pass over the incidence, or two that two cores share, with no sums whose order
could vary.
Descent on one resource at a time stalls where two resources of one candidate would have to move together; this does not.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, i8, kernel, record
from pipeline_project.solvers.meter import SLICE, Meter
from pipeline_project.solvers.solver import Floats

SCALE_MAX: Final = 10**9  # finer units of price than this change no bound by a point
HALVES_MIN: Final = 150_000  # demands from which two cores are worth their meeting twice in each step
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
    iterate: _Iterate


class _Iterate(NamedTuple):
    """x float64[n], y float64[m]: where we are; *_anchor: where the Halpern average pulls; best: the best prices seen; column, row:
    sums of quantities, the diagonal step sizes; touched float64[m, 2]: price and activity side by side, one cache line per visit;
    ahead float64[n]: where x is going, for a step in halves; state: see the indices below."""

    x: Floats
    y: Floats
    x_anchor: Floats
    y_anchor: Floats
    best: Floats
    column: Floats
    row: Floats
    touched: Floats
    ahead: Floats
    state: Floats


_ITERATE = record(_Iterate, (f8[::1],) * 7 + (f8[:, ::1], f8[::1], f8[::1]))
BALANCE, BOUND, FIRST, PREVIOUS, SINCE_RESTART, ITERATIONS, DISTANCE = range(7)
DEFAULT = PricesParams()


def find_prices(
    inc: Incidence,
    meter: Meter,
    params: PricesParams = DEFAULT,
    warm: Floats | None = None,
    share: Floats | None = None,
    balance: float | None = None,
    resume: _Iterate | None = None,
) -> Prices:
    """Iterate until the bound stands still, the steps are spent or the clock strikes. O(k) per iteration.

    warm, share, balance: prices, fractional selection and balance of steps to begin with, for example those of a similar problem.
    resume: the iterate of earlier prices of this very problem; it is gone afterwards.
    """
    it = _begin(inc, warm, share, balance) if resume is None else resume
    bounds = [float(it.state[BOUND])]
    often = min(10, max(1, params.cheap // (params.iterations_min * cost_of(inc))))
    with ThreadPoolExecutor(1) as other_core:
        iterate = partial(_iterate_in_halves, other_core) if inc.k >= HALVES_MIN else _iterate
        while len(bounds) <= often * params.iterations_max // params.check_every:
            complete = _round(inc, it, meter, params, iterate)
            bounds.append(float(it.state[BOUND]))
            earlier = bounds[len(bounds) * 3 // 4]
            settled = len(bounds) >= often * params.iterations_min // params.check_every
            if not complete or (settled and earlier - bounds[-1] <= params.progress_min * bounds[-1]):
                break
    return Prices(
        per_unit=it.best.copy(),
        bound=bounds[-1],
        share=np.clip(it.x, 0.0, 1.0),
        last=np.maximum(it.y, 0.0),
        balance=float(it.state[BALANCE]),
        iterations=int(it.state[ITERATIONS]),
        iterate=it,
    )


def bound_by(inc: Incidence, prices: Floats) -> float:
    """What prices certify, in floating point. O(k)."""
    return float(_bound(inc, prices))


def cost_of(inc: Incidence) -> int:
    """Steps of one iteration."""
    return 3 * inc.k + 2 * inc.n + 2 * inc.m + 1


def _round(
    inc: Incidence, it: _Iterate, meter: Meter, params: PricesParams, iterate: Callable[[Incidence, _Iterate, int, float], None]
) -> bool:
    """Up to `check_every` iterations, then the bound; False when the meter allowed no more."""
    cost = cost_of(inc)
    at_once = max(1, min(params.check_every, SLICE // cost))
    done = 0
    while done < params.check_every:
        count = min(at_once, params.check_every - done)
        if not meter.affords(count * cost):
            break
        iterate(inc, it, count, params.reflection)
        meter.spend(count * cost)
        done += count
    if done:
        _evaluate(inc, it)
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
    """Round to the finest power of ten whose sums surely fit int64."""
    useful = np.clip(prices, 0.0, _dearest_useful(inc))
    largest = max(1.0, *_magnitudes(inc, useful))
    scale = SCALE_MAX
    while scale > 1 and (largest + inc.k / scale) * scale > SAFE:
        scale //= 10
    per_unit = np.rint(np.minimum(useful * scale, SAFE)).astype(np.int64)
    return ExactPrices(per_unit=per_unit, scale=scale, safe=max(_magnitudes(inc, per_unit / scale)) * scale <= SAFE)


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


def _begin(inc: Incidence, warm: Floats | None, share: Floats | None, balance: float | None) -> _Iterate:
    n, m = inc.n, inc.m
    x = np.zeros(n) if share is None else share.copy()
    y = np.zeros(m) if warm is None else np.maximum(warm, 0.0)
    column, row = np.empty(n), np.empty(m)
    _sums(inc, column, row)
    touched = np.zeros((m, 2))
    touched[:, 0] = y
    if balance is None:
        # A candidate's worth moves it by a third of the way: whatever the units of weights and quantities are.
        total = float(inc.weights.sum())
        balance = float(column.sum()) / (3.0 * total) if total > 0 else 1.0
    state = np.array([balance, _bound(inc, y), 0.0, np.inf, 0.0, 0.0, 0.0])
    return _Iterate(x, y.copy(), x.copy(), y.copy(), y.copy(), column, row, touched, np.empty(n), state)


@kernel(INCIDENCE, f8[::1], f8[::1])
def _sums(inc: Incidence, column: Floats, row: Floats) -> None:
    column[:], row[:] = 0.0, 0.0
    for c in range(len(inc.weights)):
        for e in range(inc.starts[c], inc.starts[c + 1]):
            column[c] += inc.quantities[e]
            row[inc.resources[e]] += inc.quantities[e]
    column[:], row[:] = np.maximum(column, 1.0), np.maximum(row, 1.0)


@kernel(INCIDENCE, f8[::1], returns=f8)
def _bound(inc: Incidence, y: Floats) -> float:
    total = 0.0
    for r in range(len(inc.capacities)):
        total += inc.capacities[r] * max(0.0, y[r])
    for c in range(len(inc.weights)):
        left = float(inc.weights[c])
        for e in range(inc.starts[c], inc.starts[c + 1]):
            left -= inc.quantities[e] * max(0.0, y[inc.resources[e]])
        total += max(0.0, left)
    return total


@kernel(INCIDENCE, f8[::1], f8[::1])
def reduced_weights(inc: Incidence, y: Floats, out: Floats) -> None:
    """What each candidate is worth beyond the price of what it demands."""
    for c in range(len(inc.weights)):
        out[c] = inc.weights[c]
        for e in range(inc.starts[c], inc.starts[c + 1]):
            out[c] -= inc.quantities[e] * y[inc.resources[e]]


@kernel(INCIDENCE, _ITERATE, f8, f8, returns=f8)
def _step(inc: Incidence, it: _Iterate, keep: float, reflection: float) -> float:
    """One reflected Halpern step; returns how far the iterate is from a fixed point."""
    x, y, touched, balance = it.x, it.y, it.touched, it.state[BALANCE]
    distance = 0.0
    touched[:, 1] = 0.0
    for c in range(len(x)):
        left = float(inc.weights[c])
        for e in range(inc.starts[c], inc.starts[c + 1]):
            left -= inc.quantities[e] * touched[inc.resources[e], 0]
        length = balance / it.column[c]
        target = min(1.0, max(0.0, x[c] + length * left))
        for e in range(inc.starts[c], inc.starts[c + 1]):
            touched[inc.resources[e], 1] += inc.quantities[e] * (2.0 * target - x[c])
        move = target - x[c]
        distance += move * move / length
        x[c] = keep * (x[c] + (1.0 + reflection) * move) + (1.0 - keep) * it.x_anchor[c]
    for r in range(len(y)):
        length = 1.0 / (balance * it.row[r])
        move = max(0.0, y[r] + length * (touched[r, 1] - inc.capacities[r])) - y[r]
        distance += move * move / length
        y[r] = keep * (y[r] + (1.0 + reflection) * move) + (1.0 - keep) * it.y_anchor[r]
        touched[r, 0] = y[r]
    return distance


@kernel(_ITERATE)
def _restart(it: _Iterate) -> None:
    """Begin a new average where we are, and balance primal against dual steps by how far each has come."""
    x, y = it.x, it.y
    primal = dual = 0.0
    for c in range(len(x)):
        primal += it.column[c] * (x[c] - it.x_anchor[c]) ** 2
        x[c] = it.x_anchor[c] = min(1.0, max(0.0, x[c]))
    for r in range(len(y)):
        dual += it.row[r] * (y[r] - it.y_anchor[r]) ** 2
        y[r] = it.y_anchor[r] = it.touched[r, 0] = max(0.0, y[r])
    if primal > 1e-18 and dual > 1e-18:
        it.state[BALANCE] = np.sqrt(it.state[BALANCE] * np.sqrt(primal / dual))
    it.state[SINCE_RESTART] = 0.0
    it.state[PREVIOUS] = np.inf


@kernel(INCIDENCE, _ITERATE, i8, f8)
def _iterate(inc: Incidence, it: _Iterate, iterations: int, reflection: float) -> None:
    state = it.state
    for _ in range(iterations):
        since = state[SINCE_RESTART]
        state[DISTANCE] = _step(inc, it, (since + 1.0) / (since + 2.0), reflection)
        if since == 0.0:
            state[FIRST] = state[DISTANCE]
        state[SINCE_RESTART] += 1.0
    state[ITERATIONS] += iterations


def _iterate_in_halves(other_core: ThreadPoolExecutor, inc: Incidence, it: _Iterate, iterations: int, reflection: float) -> None:
    """The same with each step cut in two, first by candidates, then by resources, so that two cores can share it.

    Always in two halves, however many cores there are: the sums do not depend on them.
    """
    state = it.state
    middle_c, middle_r = int(np.searchsorted(inc.starts, inc.k // 2)), int(np.searchsorted(inc.row_starts, inc.k // 2))
    for _ in range(iterations):
        since = state[SINCE_RESTART]
        keep = (since + 1.0) / (since + 2.0)
        second = other_core.submit(_step_primal, inc, it, keep, reflection, middle_c, inc.n)
        distance = _step_primal(inc, it, keep, reflection, 0, middle_c) + second.result()
        second = other_core.submit(_step_dual, inc, it, keep, reflection, middle_r, inc.m)
        distance += _step_dual(inc, it, keep, reflection, 0, middle_r) + second.result()
        state[DISTANCE] = distance
        if since == 0.0:
            state[FIRST] = distance
        state[SINCE_RESTART] += 1.0
    state[ITERATIONS] += iterations


@kernel(INCIDENCE, _ITERATE, f8, f8, i8, i8, returns=f8)
def _step_primal(inc: Incidence, it: _Iterate, keep: float, reflection: float, begin: int, end: int) -> float:
    x, touched, balance = it.x, it.touched, it.state[BALANCE]
    distance = 0.0
    for c in range(begin, end):
        left = float(inc.weights[c])
        for e in range(inc.starts[c], inc.starts[c + 1]):
            left -= inc.quantities[e] * touched[inc.resources[e], 0]
        length = balance / it.column[c]
        target = min(1.0, max(0.0, x[c] + length * left))
        it.ahead[c] = 2.0 * target - x[c]
        move = target - x[c]
        distance += move * move / length
        x[c] = keep * (x[c] + (1.0 + reflection) * move) + (1.0 - keep) * it.x_anchor[c]
    return distance


@kernel(INCIDENCE, _ITERATE, f8, f8, i8, i8, returns=f8)
def _step_dual(inc: Incidence, it: _Iterate, keep: float, reflection: float, begin: int, end: int) -> float:
    y, balance = it.y, it.state[BALANCE]
    distance = 0.0
    for r in range(begin, end):
        wanted = 0.0
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            wanted += inc.held[h] * it.ahead[inc.holders[h]]
        length = 1.0 / (balance * it.row[r])
        move = max(0.0, y[r] + length * (wanted - inc.capacities[r])) - y[r]
        distance += move * move / length
        y[r] = keep * (y[r] + (1.0 + reflection) * move) + (1.0 - keep) * it.y_anchor[r]
        it.touched[r, 0] = y[r]
    return distance


@kernel(INCIDENCE, _ITERATE)
def _evaluate(inc: Incidence, it: _Iterate) -> None:
    """Keep the prices if their bound is the best yet; restart where PDLP would (its thresholds squared: distances are squares)."""
    state, distance = it.state, it.state[DISTANCE]
    bound = _bound(inc, it.y)
    if bound < state[BOUND]:
        state[BOUND] = bound
        it.best[:] = np.maximum(it.y, 0.0)
    sufficient = distance < 0.04 * state[FIRST]
    necessary = distance < 0.64 * state[FIRST] and distance > state[PREVIOUS]
    if sufficient or necessary or state[SINCE_RESTART] >= 0.36 * state[ITERATIONS]:
        _restart(it)
    else:
        state[PREVIOUS] = distance


def _dearest_useful(inc: Incidence) -> Floats:
    """Per resource, the price above which none of its holders is worth its own demand of it."""
    ceiling = np.zeros(inc.m)
    np.maximum.at(ceiling, inc.resources, np.repeat(inc.weights, np.diff(inc.starts)) / inc.quantities)
    return ceiling


def _magnitudes(inc: Incidence, prices: Floats) -> tuple[float, float, float]:
    costs = inc.quantities * prices[inc.resources]
    per_candidate = np.bincount(np.repeat(np.arange(inc.n), np.diff(inc.starts)), weights=costs, minlength=inc.n)
    return float(inc.weights.sum(dtype=np.float64)), float(per_candidate.max(initial=0.0)), float((inc.capacities * prices).sum())
