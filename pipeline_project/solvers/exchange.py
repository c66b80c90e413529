"""One settling pass where every resource can be held once: in with whoever is worth more than those who hold what it wants.

It needs no conflict graph, only who holds each resource, so for a large problem it is done long before a walk could begin. Whoever
wants what an exchange has set free is tried again. A local optimum for insertions, like `settle` of the walks, who know more moves.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import flag, i4, i8, kernel
from pipeline_project.solvers.meter import Meter

NOBODY: Final = -1
LONG: Final = 256  # holders of a resource that are tried again when it is set free; of one with more, none
HEAD, WAITING, WORK = range(3)


def exchange(inc: Incidence, chosen: Bools, meter: Meter) -> Bools:
    """The selection after trying everybody once, never worth less; as it is where a capacity exceeds 1.

    By number, that is in the order of memory: in the order of prices it takes twice as long and finds no more than a thousandth.

    O(n + k), and what the exchanges set free; looks at the clock in between.
    """
    if len(inc.capacities) == 0 or int(inc.capacities.max()) > 1 or not meter.affords(0):
        return chosen
    better, holder = chosen.copy(), np.full(inc.m, NOBODY, np.int32)
    _hold(inc, better, holder)
    queue, waits, asked = np.arange(inc.n, dtype=np.int32), np.ones(inc.n, np.bool_), np.full(inc.n, NOBODY, np.int32)
    state = np.array([0, inc.n, 0])
    while state[WAITING] and (steps := meter.slice()):
        state[WORK] = 0
        _exchange(inc, better, holder, queue, waits, asked, state, steps)
        meter.spend(int(state[WORK]))
    return better


@kernel(INCIDENCE, flag[::1], i4[::1])
def _hold(inc: Incidence, chosen: Bools, holder: Int32) -> None:
    for c in range(len(chosen)):
        if chosen[c]:
            for e in range(inc.starts[c], inc.starts[c + 1]):
                holder[inc.resources[e]] = c


@kernel(INCIDENCE, i8, i4[::1], i4[::1], returns=i8)
def _cost(inc: Incidence, c: int, holder: Int32, asked: Int32) -> int:
    """Sum of the weights of those who hold what c wants; each is counted once."""
    cost = 0
    for e in range(inc.starts[c], inc.starts[c + 1]):
        other = holder[inc.resources[e]]
        if other != NOBODY and asked[other] != c:
            asked[other] = c
            cost += inc.weights[other]
    for e in range(inc.starts[c], inc.starts[c + 1]):
        other = holder[inc.resources[e]]
        if other != NOBODY:
            asked[other] = NOBODY
    return cost


@kernel(INCIDENCE, i8, flag[::1], i4[::1], i4[::1], flag[::1], i8[::1], returns=i8)
def _evict(inc: Incidence, c: int, chosen: Bools, holder: Int32, queue: Int32, waits: Bools, state: Int64) -> int:
    """Put c out, and whoever wants what it held in the queue. Returns the work."""
    work, chosen[c] = inc.starts[c + 1] - inc.starts[c], False
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        holder[r] = NOBODY
        first, last = inc.row_starts[r], inc.row_starts[r + 1]
        if last - first > LONG:
            continue
        work += last - first
        for h in range(first, last):
            other = inc.holders[h]
            if not waits[other] and not chosen[other] and other != c:
                waits[other] = True
                at = state[HEAD] + state[WAITING]
                queue[at if at < len(queue) else at - len(queue)] = other
                state[WAITING] += 1
    return work  # type: ignore[no-any-return]  # compiled


@kernel(INCIDENCE, flag[::1], i4[::1], i4[::1], flag[::1], i4[::1], i8[::1], i8)
def _exchange(inc: Incidence, chosen: Bools, holder: Int32, queue: Int32, waits: Bools, asked: Int32, state: Int64, steps: int) -> None:
    while state[WAITING] > 0 and state[WORK] < steps:
        c = queue[state[HEAD]]
        state[HEAD] = state[HEAD] + 1 if state[HEAD] + 1 < len(queue) else 0
        state[WAITING] -= 1
        waits[c] = False
        state[WORK] += 1 + inc.starts[c + 1] - inc.starts[c]
        if chosen[c] or _cost(inc, c, holder, asked) >= inc.weights[c]:
            continue
        for e in range(inc.starts[c], inc.starts[c + 1]):
            other = holder[inc.resources[e]]
            if other != NOBODY:
                state[WORK] += _evict(inc, other, chosen, holder, queue, waits, state)
        chosen[c] = True
        for e in range(inc.starts[c], inc.starts[c + 1]):
            holder[inc.resources[e]] = c
