"""One resource, quantities that differ: the 0-1 knapsack problem, exact, by dynamic programming over an expanding core.

After Pisinger, A minimal algorithm for the 0-1 knapsack problem (1997, https://doi.org/10.1287/opre.45.5.758): begin with everything
that fits in the order of worth per unit, then let candidates change sides, those nearest to the break first. Of the states (quantity
used, value) only those survive that no other dominates and whose bound beats the best value known; usually none after some hundred
candidates, however many there are.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.greedy import descending
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel, record
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Floats

STATES_MAX: Final = 2**20  # at once
HISTORY_MAX: Final = 2**24  # in all, 4 bytes each
SAFETY: Final = 1e-9  # by which bounds in floating point are kept on the safe side of their rounding
LEFT, RIGHT, COUNT, LAYERS, USED, BEST, BEST_LAYER, BEST_CAME, FULL, ENDED = range(10)  # places in `state`


class _Core(NamedTuple):
    """Candidates by worth per unit, the best first.

    weights, quantities  int64[n]
    ratio                float64[n]
    used, value          int64[2, states]  this layer of states and the next, by quantity used
    came                 int32[history]    for each state that ever was: 2 * its origin in the layer before + (whether it changed sides)
    begin                int64[n + 2]      of each layer in `came`
    changed              int64[n + 1]      the candidate that each layer decides
    state                int64[10]
    """

    weights: Int64
    quantities: Int64
    ratio: Floats
    used: Int64
    value: Int64
    came: Int32
    begin: Int64
    changed: Int64
    state: Int64


_CORE = record(_Core, (i8[::1], i8[::1], f8[::1], i8[:, ::1], i8[:, ::1], i4[::1], i8[::1], i8[::1], i8[::1]))


def pack_knapsack(weights: Int64, quantities: Int64, capacity: int, known: int, meter: Meter) -> Bools | None:
    """bool[n]: a most valuable choice that fits, if it is worth more than `known`, else nobody; None: steps or memory do not suffice."""
    n = len(weights)
    if not meter.affords(20 * n):
        return None
    meter.spend(20 * n)
    order = descending(weights / quantities)
    core = _begin(weights[order], quantities[order], capacity, known)
    while not core.state[ENDED]:
        steps = meter.slice()
        if not steps or core.state[FULL]:
            return None
        meter.spend(_expand(core, capacity, steps))
    flags = np.zeros(n, np.bool_)
    if core.state[BEST_LAYER] >= 0:
        _trace(core, int(np.searchsorted(np.cumsum(core.quantities), capacity, side="right")), flags)
    chosen = np.zeros(n, np.bool_)
    chosen[order] = flags
    return chosen


def _begin(weights: Int64, quantities: Int64, capacity: int, known: int) -> _Core:
    n = len(weights)
    fit = int(np.searchsorted(np.cumsum(quantities), capacity, side="right"))
    used, value = np.empty((2, STATES_MAX), np.int64), np.empty((2, STATES_MAX), np.int64)
    used[0, 0], value[0, 0] = quantities[:fit].sum(), weights[:fit].sum()
    better = int(value[0, 0]) > known
    state = np.array([fit - 1, fit, 1, 0, 1, max(known, value[0, 0]), 0 if better else -1, 0, 0, 0])
    begin = np.zeros(n + 2, np.int64)
    begin[1] = 1
    came, changed = np.zeros(HISTORY_MAX, np.int32), np.zeros(n + 1, np.int64)
    return _Core(weights, quantities, weights / quantities, used, value, came, begin, changed, state)


@kernel(_CORE, i8, i8, i8, returns=flag)
def _promises(core: _Core, capacity: int, used: int, value: int) -> bool:
    """Whether a state can still become worth more than the best, if the next candidates could be split."""
    left, right, free = core.state[LEFT], core.state[RIGHT], capacity - used
    if free < 0:
        return bool(left >= 0 and value - int(np.ceil(-free * core.ratio[left] * (1.0 - SAFETY))) > core.state[BEST])
    return bool(right < len(core.weights) and value + int(np.floor(free * core.ratio[right] * (1.0 + SAFETY))) > core.state[BEST])


@kernel(_CORE, i8, i8, i8)
def _decide(core: _Core, capacity: int, c: int, sign: int) -> None:
    """The next layer: each state as it is, and with candidate c put in (sign 1) or out (-1); merged in the order of quantities."""
    state, now, after = core.state, core.state[LAYERS] % 2, 1 - core.state[LAYERS] % 2
    count, layer = state[COUNT], state[LAYERS] + 1
    state[LAYERS], core.changed[layer], begin = layer, c, core.begin[layer]
    used, value = sign * core.quantities[c], sign * core.weights[c]
    i = j = kept = 0
    top = np.iinfo(np.int64).min
    while i < count or j < count:
        stays = j >= count or (i < count and core.used[now, i] <= core.used[now, j] + used)
        if stays:
            u, v, came = core.used[now, i], core.value[now, i], 2 * i
            i += 1
        else:
            u, v, came = core.used[now, j] + used, core.value[now, j] + value, 2 * j + 1
            j += 1
        if v <= top:
            continue
        if u <= capacity and v > state[BEST]:
            state[BEST], state[BEST_LAYER], state[BEST_CAME] = v, layer, came
        if not _promises(core, capacity, u, v):
            continue
        if kept == STATES_MAX or begin + kept == HISTORY_MAX:
            state[FULL] = 1
            return
        if kept and core.used[after, kept - 1] == u:
            kept -= 1  # as much used for less
        core.used[after, kept], core.value[after, kept], core.came[begin + kept] = u, v, came
        top = v
        kept += 1
    state[COUNT], core.begin[layer + 1] = kept, begin + kept


@kernel(_CORE, i8, i8, returns=i8)
def _expand(core: _Core, capacity: int, steps: int) -> int:
    """Decide candidates, left and right of the break by turns, until nothing is open or the steps are spent; returns what it cost."""
    state, spent = core.state, 0
    while spent < steps and not state[FULL]:
        left, right = state[LEFT], state[RIGHT]
        if state[COUNT] == 0 or (left < 0 and right == len(core.weights)):
            state[ENDED] = 1
            break
        spent += 2 + 2 * state[COUNT]
        if right < len(core.weights) and (left < 0 or state[LAYERS] % 2 == 0):
            state[RIGHT] += 1
            _decide(core, capacity, right, 1)
        else:
            state[LEFT] -= 1
            _decide(core, capacity, left, -1)
    return spent


@kernel(_CORE, i8, flag[::1])
def _trace(core: _Core, fit: int, chosen: Bools) -> None:
    """How the best state came about."""
    chosen[:fit] = True
    layer, came = core.state[BEST_LAYER], core.state[BEST_CAME]
    while layer > 0:
        if came % 2:
            c = core.changed[layer]
            chosen[c] = not chosen[c]
        layer -= 1
        came = core.came[core.begin[layer] + came // 2]
