"""Insert what is worth more than what it evicts, until nothing is; the moves that every local search here is made of."""

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
    waking_holders_max     what an eviction frees on a resource wakes its holders, unless there are more than this
    """

    evicting_holders_max: int = 4_096
    waking_holders_max: int = 512


class Board(NamedTuple):
    """A selection under change.

    chosen   bool[n]     what is selected
    free     int64[m]    what it leaves of each resource
    ring     int64[n+1]  candidates to try, each at most once: a ring from counts[HEAD] to counts[TAIL]
    waiting  bool[n]     who is in it
    evicted  int64[n]    room for those whom one insertion evicts
    leaving  bool[n]     who they are
    log      int64[*]    moves since counts[LOGGED] was set to 0, c for in and -1 - c for out; where it is full they go unrecorded
    counts   int64[3]
    limits   int64[2]    evicting_holders_max, waking_holders_max
    """

    chosen: Bools
    free: Int64
    ring: Int64
    waiting: Bools
    evicted: Int64
    leaving: Bools
    log: Int64
    counts: Int64
    limits: Int64

    @classmethod
    def of(cls, inc: Incidence, chosen: Bools, params: ImprovementParams, log_length: int = 0) -> Board:
        """Works on `chosen` in place."""
        n, limits = inc.n, np.array([params.evicting_holders_max, params.waking_holders_max])
        flags, numbers = np.zeros((2, n), np.bool_), np.empty((2, n + 1), np.int64)
        return cls(
            chosen,
            inc.left_by(chosen),
            numbers[0],
            flags[0],
            numbers[1],
            flags[1],
            np.empty(log_length, np.int64),
            np.zeros(3, np.int64),
            limits,
        )


BOARD = record(Board, (flag[::1], i8[::1], i8[::1], flag[::1], i8[::1], flag[::1], i8[::1], i8[::1], i8[::1]))
HEAD, TAIL, LOGGED = range(3)
EVICTING_MAX, WAKING_MAX = range(2)
NOBODY = -1
DEFAULT = ImprovementParams()


def improve(inc: Incidence, chosen: Bools, order: Int64, meter: Meter, params: ImprovementParams = DEFAULT) -> None:
    """Raise the value of `chosen` in place, trying candidates in `order`; stops at a local optimum.

    Every insertion raises the value, so it ends; the work is bounded by the meter.
    """
    board = Board.of(inc, chosen, params)
    board.ring[: inc.n] = order
    board.waiting[:] = True
    board.counts[TAIL] = inc.n
    while board.counts[HEAD] != board.counts[TAIL] and (steps := meter.slice()):
        _, done = settle(inc, board, NOBODY, steps)
        meter.spend(done)


@kernel(INCIDENCE, BOARD, i8, i8)
def move(inc: Incidence, board: Board, c: int, sign: int) -> None:
    """Put candidate c in (sign 1) or out (sign -1), and record it."""
    board.chosen[c] = sign > 0
    take(inc, board.free, c, sign)
    if board.counts[LOGGED] < len(board.log):
        board.log[board.counts[LOGGED]] = c if sign > 0 else -1 - c
        board.counts[LOGGED] += 1


@kernel(INCIDENCE, BOARD, i8, i8, i8, returns=numba.types.UniTuple(i8, 3))
def choose_evictions(inc: Incidence, board: Board, c: int, protected: int, least: int) -> tuple[int, int, int]:
    """Who must leave for c: resource by resource, the cheapest per unit first, never `protected`.

    Returns their number, the gain, and the work; a gain of `least` or below means: do not. Leaves them marked as leaving.
    """
    evicted, leaving = board.evicted, board.leaving
    count, work, gain = 0, inc.starts[c + 1] - inc.starts[c], inc.weights[c]
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        lacking = inc.quantities[e] - board.free[r]
        if lacking <= 0:
            continue
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if end - begin > board.limits[EVICTING_MAX]:
            return count, least, work
        work += end - begin
        for h in range(begin, end):
            if leaving[inc.holders[h]]:
                lacking -= inc.held[h]
        while lacking > 0:
            best, best_rate = -1, 0.0
            for h in range(begin, end):
                other = inc.holders[h]
                if board.chosen[other] and not leaving[other] and other != protected:
                    rate = inc.weights[other] / min(inc.held[h], lacking)
                    if best < 0 or rate < best_rate:
                        best, best_rate = h, rate
            work += end - begin
            if best < 0 or gain - inc.weights[inc.holders[best]] <= least:
                return count, least, work
            evicted[count] = inc.holders[best]
            leaving[evicted[count]] = True
            gain -= inc.weights[evicted[count]]
            lacking -= inc.held[best]
            count += 1
    return count, gain, work


@kernel(INCIDENCE, BOARD, i8, returns=i8)
def wake(inc: Incidence, board: Board, left: int) -> int:
    """Queue those who may now fit where `left` has left, itself too: a part of what it gave up may still be free."""
    ring, counts = board.ring, board.counts
    work: int = 2 * (inc.starts[left + 1] - inc.starts[left])  # taking it out, too
    for e in range(inc.starts[left], inc.starts[left + 1]):
        r = inc.resources[e]
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if board.free[r] == 0 or end - begin > board.limits[WAKING_MAX]:
            continue
        work += end - begin
        for h in range(begin, end):
            c = inc.holders[h]
            if not board.chosen[c] and not board.waiting[c]:
                board.waiting[c] = True
                ring[counts[TAIL]] = c
                counts[TAIL] = (counts[TAIL] + 1) % len(ring)
    return work


@kernel(INCIDENCE, BOARD, i8, i8, i8, returns=numba.types.UniTuple(i8, 2))
def insert(inc: Incidence, board: Board, c: int, protected: int, least: int) -> tuple[int, int]:
    """Put c in, and out whoever must leave for it, if that gains more than `least`; returns the gain (0: nothing done) and the work."""
    count, gain, work = choose_evictions(inc, board, c, protected, least)
    for i in range(count):
        board.leaving[board.evicted[i]] = False
    if gain <= least:
        return 0, work
    for i in range(count):
        move(inc, board, board.evicted[i], -1)
    move(inc, board, c, 1)
    for i in range(count):
        work += wake(inc, board, board.evicted[i])
    return gain, work


@kernel(INCIDENCE, BOARD, i8, i8, returns=numba.types.UniTuple(i8, 2))
def settle(inc: Incidence, board: Board, protected: int, steps: int) -> tuple[int, int]:
    """Try whoever is queued until nobody is, or the steps are spent; returns the gain and the work."""
    counts = board.counts
    total, done = 0, 0
    while counts[HEAD] != counts[TAIL] and done < steps:
        c = board.ring[counts[HEAD]]
        counts[HEAD] = (counts[HEAD] + 1) % len(board.ring)
        board.waiting[c] = False
        done += 1
        if not board.chosen[c] and inc.weights[c] > 0:
            gain, work = insert(inc, board, c, protected, 0)
            total += gain
            done += work
    return total, done
