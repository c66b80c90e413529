"""Where the search for prices stands, and the step that moves it: one reflected Halpern iteration, whole or in two halves.

Large problems are stepped in single precision and in halves. What a step costs them is the cache misses of looking up a price for each
demand: half as many bytes are missed half as often, each half sums up what is wanted of resources in an array of its own, and two
cores share the halves. Prices are rounded to whole numbers later, and their bound is computed anew, so no proof hangs on precision.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f4, f8, i8, kernel, record
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.two_cores import halves

Real = NDArray[np.floating[Any]]  # float64 or float32


class Iterate(NamedTuple):
    """Arrays of one precision, but for `best` and `state`.

    x, y                [n], [m]  where we are: how much of each candidate is taken, what each resource costs
    x_anchor, y_anchor  [n], [m]  where the Halpern average pulls
    column, row         [n], [m]  sums of quantities, the diagonal step sizes
    quantities          [k]       as in the incidence
    touched             [m, 2]    price and activity side by side, one cache line per visit
    touched_too         [m, 2]    the same for the second half of the candidates; of no rows where a step is taken whole
    best                float64[m]  the best prices seen
    state               float64[7]  see the indices below
    """

    x: Real
    y: Real
    x_anchor: Real
    y_anchor: Real
    column: Real
    row: Real
    quantities: Real
    touched: Real
    touched_too: Real
    best: Floats
    state: Floats

    @property
    def whole(self) -> bool:
        """Whether a step is taken whole, in double precision."""
        return self.x.dtype == np.float64


_DOUBLE = record(Iterate, (f8[::1],) * 7 + (f8[:, ::1],) * 2 + (f8[::1],) * 2)
_SINGLE = record(Iterate, (f4[::1],) * 7 + (f4[:, ::1],) * 2 + (f8[::1],) * 2)
BALANCE, BOUND, FIRST, PREVIOUS, SINCE_RESTART, ITERATIONS, DISTANCE = range(7)


def begin(inc: Incidence, warm: Floats | None, share: Floats | None, balance: float | None) -> Iterate:
    """Prices, fractional selection and balance of steps to begin with; None: free, nothing, by the magnitudes of weights."""
    whole = len(halves(inc.starts)) == 1
    real: type[np.floating[Any]] = np.float64 if whole else np.float32
    x = np.zeros(inc.n, real) if share is None else share.astype(real)
    y = np.zeros(inc.m, real) if warm is None else np.maximum(warm, 0.0).astype(real)
    column, row = np.empty(inc.n), np.empty(inc.m)
    _sums(inc, column, row)
    touched, touched_too = np.zeros((inc.m, 2), real), np.zeros((0 if whole else inc.m, 2), real)
    touched[:, 0] = y
    touched_too[:, 0] = y[: len(touched_too)]
    if balance is None:
        # A candidate's worth moves it by a third of the way: whatever the units of weights and quantities are.
        total = float(inc.weights.sum())
        balance = float(column.sum()) / (3.0 * total) if total > 0 else 1.0
    best = y.astype(np.float64)
    bound = float(inc.weights.sum(dtype=np.float64)) if warm is None else bound_of(inc, best)
    state = np.array([balance, bound, 0.0, np.inf, 0.0, 0.0, 0.0])
    columns = column.astype(real), row.astype(real), inc.quantities.astype(real)
    return Iterate(x, y, x.copy(), y.copy(), *columns, touched, touched_too, best, state)


def iterate(inc: Incidence, it: Iterate, iterations: int, reflection: float, other_core: Executor) -> None:
    """So many iterations."""
    if it.whole:
        _iterate(inc, it, iterations, reflection)
        return
    state = it.state
    middle_c, middle_r = halves(inc.starts)[0][1], inc.m // 2
    for _ in range(iterations):
        since = state[SINCE_RESTART]
        keep = (since + 1.0) / (since + 2.0)
        second = other_core.submit(_candidates_single, inc, it, it.touched_too, keep, reflection, middle_c, inc.n)
        distance = _candidates_single(inc, it, it.touched, keep, reflection, 0, middle_c) + second.result()
        second = other_core.submit(_resources_single, inc, it, keep, reflection, middle_r, inc.m)
        distance += _resources_single(inc, it, keep, reflection, 0, middle_r) + second.result()
        state[DISTANCE] = distance
        if since == 0.0:
            state[FIRST] = distance
        state[SINCE_RESTART] += 1.0
    state[ITERATIONS] += iterations


def evaluate(inc: Incidence, it: Iterate, other_core: Executor) -> None:
    """Keep the prices if their bound is the best yet; restart where PDLP would (its thresholds squared: distances are squares)."""
    state, distance = it.state, it.state[DISTANCE]
    now = it.y.astype(np.float64)
    np.maximum(now, 0.0, out=now)
    bound = bound_of(inc, now) if it.whole else _bound_in_halves(inc, now, other_core)
    if bound < state[BOUND]:
        state[BOUND] = bound
        it.best[:] = now
    sufficient = distance < 0.04 * state[FIRST]
    necessary = distance < 0.64 * state[FIRST] and distance > state[PREVIOUS]
    if sufficient or necessary or state[SINCE_RESTART] >= 0.36 * state[ITERATIONS]:
        (_restart if it.whole else _restart_single)(it)
    else:
        state[PREVIOUS] = distance


@kernel(INCIDENCE, f8[::1], f8[::1])
def _sums(inc: Incidence, column: Floats, row: Floats) -> None:
    for c in range(len(inc.weights)):
        total = 0.0
        for e in range(inc.starts[c], inc.starts[c + 1]):
            total += inc.quantities[e]
        column[c] = max(total, 1.0)
    for r in range(len(inc.capacities)):
        total = 0.0
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            total += inc.held[h]
        row[r] = max(total, 1.0)


@kernel(INCIDENCE, f8[::1], returns=f8)
def _charge(inc: Incidence, y: Floats) -> float:
    total = 0.0
    for r in range(len(inc.capacities)):
        total += inc.capacities[r] * y[r]
    return total


@kernel(INCIDENCE, f8[::1], f8, i8, i8, returns=f8)
def _add_left_over(inc: Incidence, y: Floats, total: float, first: int, last: int) -> float:
    for c in range(first, last):
        left = float(inc.weights[c])
        for e in range(inc.starts[c], inc.starts[c + 1]):
            left -= inc.quantities[e] * y[inc.resources[e]]
        total += max(0.0, left)
    return total


def bound_of(inc: Incidence, y: Floats) -> float:
    """What prices y >= 0 certify, in floating point."""
    return _add_left_over(inc, y, _charge(inc, y), 0, inc.n)


def _bound_in_halves(inc: Incidence, y: Floats, other_core: Executor) -> float:
    first, last = halves(inc.starts)
    second = other_core.submit(_add_left_over, inc, y, 0.0, *last)
    return _add_left_over(inc, y, _charge(inc, y), *first) + second.result()


def _step_candidates(inc: Incidence, it: Iterate, touched: Real, keep: float, reflection: float, first: int, last: int) -> float:
    """Move how much is taken of these candidates; `touched` learns what they want of resources. Returns how far they moved."""
    x, quantities, balance = it.x, it.quantities, it.state[BALANCE]
    distance = 0.0
    touched[:, 1] = 0.0
    for c in range(first, last):
        left = float(inc.weights[c])
        for e in range(inc.starts[c], inc.starts[c + 1]):
            left -= quantities[e] * touched[inc.resources[e], 0]
        length = balance / it.column[c]
        target = min(1.0, max(0.0, x[c] + length * left))
        for e in range(inc.starts[c], inc.starts[c + 1]):
            touched[inc.resources[e], 1] += quantities[e] * (2.0 * target - x[c])
        move = target - x[c]
        distance += move * move / length
        x[c] = keep * (x[c] + (1.0 + reflection) * move) + (1.0 - keep) * it.x_anchor[c]
    return distance


def _step_resources(inc: Incidence, it: Iterate, keep: float, reflection: float, first: int, last: int) -> float:
    """Move the prices of these resources by what is wanted of them. Returns how far they moved."""
    y, touched, touched_too, balance = it.y, it.touched, it.touched_too, it.state[BALANCE]
    halves = len(touched_too) > 0
    distance = 0.0
    for r in range(first, last):
        wanted = float(touched[r, 1])
        if halves:
            wanted += touched_too[r, 1]
        length = 1.0 / (balance * it.row[r])
        move = max(0.0, y[r] + length * (wanted - inc.capacities[r])) - y[r]
        distance += move * move / length
        y[r] = keep * (y[r] + (1.0 + reflection) * move) + (1.0 - keep) * it.y_anchor[r]
        touched[r, 0] = y[r]
        if halves:
            touched_too[r, 0] = y[r]
    return distance


def _begin_anew(it: Iterate) -> None:
    """Begin a new average where we are, and balance primal against dual steps by how far each has come."""
    x, y = it.x, it.y
    primal = dual = 0.0
    for c in range(len(x)):
        primal += it.column[c] * (x[c] - it.x_anchor[c]) ** 2
        x[c] = it.x_anchor[c] = min(1.0, max(0.0, x[c]))
    for r in range(len(y)):
        dual += it.row[r] * (y[r] - it.y_anchor[r]) ** 2
        y[r] = it.y_anchor[r] = it.touched[r, 0] = max(0.0, y[r])
    for r in range(len(it.touched_too)):
        it.touched_too[r, 0] = y[r]
    if primal > 1e-18 and dual > 1e-18:
        it.state[BALANCE] = np.sqrt(it.state[BALANCE] * np.sqrt(primal / dual))
    it.state[SINCE_RESTART] = 0.0
    it.state[PREVIOUS] = np.inf


_candidates = kernel(INCIDENCE, _DOUBLE, f8[:, ::1], f8, f8, i8, i8, returns=f8)(_step_candidates)
_candidates_single = kernel(INCIDENCE, _SINGLE, f4[:, ::1], f8, f8, i8, i8, returns=f8)(_step_candidates)
_resources = kernel(INCIDENCE, _DOUBLE, f8, f8, i8, i8, returns=f8)(_step_resources)
_resources_single = kernel(INCIDENCE, _SINGLE, f8, f8, i8, i8, returns=f8)(_step_resources)
_restart, _restart_single = kernel(_DOUBLE)(_begin_anew), kernel(_SINGLE)(_begin_anew)


@kernel(INCIDENCE, _DOUBLE, i8, f8)
def _iterate(inc: Incidence, it: Iterate, iterations: int, reflection: float) -> None:
    state = it.state
    for _ in range(iterations):
        since = state[SINCE_RESTART]
        keep = (since + 1.0) / (since + 2.0)
        distance = _candidates(inc, it, it.touched, keep, reflection, 0, len(it.x))
        distance += _resources(inc, it, keep, reflection, 0, len(it.y))
        state[DISTANCE] = distance
        if since == 0.0:
            state[FIRST] = distance
        state[SINCE_RESTART] += 1.0
    state[ITERATIONS] += iterations
