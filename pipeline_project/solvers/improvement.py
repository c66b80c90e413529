"""Insert what is worth more than what it evicts, until nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, take
from pipeline_project.solvers.kernels import flag, i8, kernel, record
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprovementParams:
    """evicting_holders_max   resources with more holders never evict: finding the lightest holder scans them all
    waking_holders_max        what an eviction frees on a resource wakes its holders, unless there are more than this
    """

    evicting_holders_max: int = 4_096
    waking_holders_max: int = 512


class _Queue(NamedTuple):
    """Candidates to try, each at most once: a ring, its [head, tail], and who is in it; room for the evictions of one insertion."""

    ring: Int64
    ends: Int64
    waiting: Bools
    evicted: Int64
    leaving: Bools


_QUEUE = record(_Queue, (i8[::1], i8[::1], flag[::1], i8[::1], flag[::1]))
DEFAULT = ImprovementParams()


def improve(inc: Incidence, chosen: Bools, order: Int64, meter: Meter, params: ImprovementParams = DEFAULT) -> None:
    """Raise the value of `chosen` in place, trying candidates in `order`; stops at a local optimum.

    Every insertion raises the value, so it ends; the work is bounded by the meter.
    """
    free = inc.left_by(chosen)
    queue = _Queue(
        np.append(order, np.int64(0)),
        np.array([0, len(order)]),
        np.ones(inc.n, np.bool_),
        np.empty(inc.n, np.int64),
        np.zeros(inc.n, np.bool_),
    )
    while steps := meter.slice():
        meter.spend(_improve(inc, chosen, free, queue, steps, params.evicting_holders_max, params.waking_holders_max))
        if queue.ends[0] == queue.ends[1]:
            return


@kernel(INCIDENCE, flag[::1], i8[::1], _QUEUE, i8, i8, returns=numba.types.UniTuple(i8, 3))
def _choose_evictions(inc: Incidence, chosen: Bools, free: Int64, queue: _Queue, c: int, evicting_max: int) -> tuple[int, int, int]:
    """Who must leave for c: resource by resource, the cheapest per unit first. Returns their number, the gain (<= 0: do not), the work."""
    evicted, leaving = queue.evicted, queue.leaving
    count, work, gain = 0, 0, inc.weights[c]
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        lacking = inc.quantities[e] - free[r]
        if lacking <= 0:
            continue
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if end - begin > evicting_max:
            return count, 0, work
        work += end - begin
        for h in range(begin, end):
            if leaving[inc.holders[h]]:
                lacking -= inc.held[h]
        while lacking > 0:
            best, best_rate = -1, 0.0
            for h in range(begin, end):
                other = inc.holders[h]
                if chosen[other] and not leaving[other]:
                    rate = inc.weights[other] / min(inc.held[h], lacking)
                    if best < 0 or rate < best_rate:
                        best, best_rate = h, rate
            work += end - begin
            if best < 0:
                return count, 0, work
            other = inc.holders[best]
            gain -= inc.weights[other]
            lacking -= inc.held[best]
            leaving[other] = True
            evicted[count] = other
            count += 1
            if gain <= 0:
                return count, 0, work
    return count, gain, work


@kernel(INCIDENCE, flag[::1], i8[::1], _QUEUE, i8, i8, returns=i8)
def _wake(inc: Incidence, chosen: Bools, free: Int64, queue: _Queue, left: int, waking_max: int) -> int:
    """Queue those who may now fit where `left` has left, itself too: a part of what it gave up may still be free."""
    ring, ends, waiting = queue.ring, queue.ends, queue.waiting
    work = 0
    for e in range(inc.starts[left], inc.starts[left + 1]):
        r = inc.resources[e]
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if free[r] == 0 or end - begin > waking_max:
            continue
        work += end - begin
        for h in range(begin, end):
            c = inc.holders[h]
            if not chosen[c] and not waiting[c]:
                waiting[c] = True
                ring[ends[1]] = c
                ends[1] = (ends[1] + 1) % len(ring)
    return work


@kernel(INCIDENCE, flag[::1], i8[::1], _QUEUE, i8, i8, i8, returns=i8)
def _improve(inc: Incidence, chosen: Bools, free: Int64, queue: _Queue, steps: int, evicting_max: int, waking_max: int) -> int:
    ring, ends, waiting, evicted, leaving = queue
    done = 0
    while ends[0] != ends[1] and done < steps:
        c = ring[ends[0]]
        ends[0] = (ends[0] + 1) % len(ring)
        waiting[c] = False
        done += 1
        if chosen[c] or inc.weights[c] == 0:
            continue
        count, gain, work = _choose_evictions(inc, chosen, free, queue, c, evicting_max)
        done += work
        for i in range(count):
            leaving[evicted[i]] = False
        if gain > 0:
            for i in range(count):
                chosen[evicted[i]] = False
                take(inc, free, evicted[i], -1)
            chosen[c] = True
            take(inc, free, c, 1)
            for i in range(count):
                done += _wake(inc, chosen, free, queue, evicted[i], waking_max)
    return done
