"""A walk over selections under any capacities and quantities: each resource knows who holds it, and what it has left.

The same trials as in `unit_walk`; but what an insertion evicts, and costs, is found when it is tried: resource by resource whom
prices would miss least per unit that is lacking, until c fits. Rows with very many holders are sampled, so that no move costs more
than a few visits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel, record
from pipeline_project.solvers.randomness import GENERATOR, Generator, below, generator
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.tracking import BEST, VALUE, Tracking, loses_too_much

LOG_LENGTH: Final = 4_096  # moves of one trial; a longer one cannot be taken back
TRIAL_STEPS: Final = 200_000  # what settling after one flip may cost
WAKING_MAX: Final = 64  # of a resource's holders, when something of it is given back
EVICTING_MAX: Final = 512  # of a resource's chosen holders, when the cheapest is looked for
OVERLOOKED: Final = 3  # one in so many is overlooked by chance when the cheapest is looked for: or the same would always leave
WHATEVER_IT_COSTS: Final = 2**62

QUEUED, LOGGED, EVICTED = range(2, 5)  # places of counts, after those of tracking


class _Board(NamedTuple):
    """A selection under change.

    chosen    bool[n]   what is selected
    free      int64[m]  what it leaves of each resource
    holding   int32[m]  how many chosen candidates hold the resource
    rows      int32[k]  their demand rows: those of resource r from incidence.row_starts[r] on
    place     int32[k]  where among these a demand row stands
    owner     int32[k]  the candidate of each demand row
    queue     int32[n]  candidates to try, in no order
    waiting   bool[n]   who is in it
    log       int32[*]  c for in, -1 - c for out
    evicted   int32[n]  whom an insertion evicts
    leaving   bool[n]   the same, as a set
    best      bool[n]   the best selection seen, where it is tracked
    worth     float64[n]  reduced weights: what each is worth beyond the price of all that it holds
    counts    int64[5]  value of the selection, best value seen, length of queue, log (-1: not logging) and evicted
    """

    chosen: Bools
    free: Int64
    holding: Int32
    rows: Int32
    place: Int32
    owner: Int32
    queue: Int32
    waiting: Bools
    log: Int32
    evicted: Int32
    leaving: Bools
    best: Bools
    worth: Floats
    counts: Int64
    generator: Generator


_BOARD = record(
    _Board,
    (flag[::1], i8[::1], *(i4[::1],) * 5, flag[::1], i4[::1], i4[::1], flag[::1], flag[::1], f8[::1], i8[::1], GENERATOR),
)


class GeneralWalk(Tracking):
    """See `walks.Walk`."""

    _board: _Board

    def __init__(self, inc: Incidence, worth: Floats, seed: int) -> None:
        n, k = inc.n, inc.k
        self._inc = inc
        chosen, waiting, leaving, best = np.zeros((4, n), np.bool_)
        queue, evicted = np.empty((2, n), np.int32)
        rows, place = np.empty((2, k), np.int32)
        owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(inc.starts))
        counts = np.array([0, -1, 0, -1, 0])
        holding, log = np.zeros(inc.m, np.int32), np.empty(LOG_LENGTH, np.int32)
        self._board = _Board(
            chosen,
            inc.capacities.copy(),
            holding,
            rows,
            place,
            owner,
            queue,
            waiting,
            log,
            evicted,
            leaving,
            best,
            worth,
            counts,
            generator(seed),
        )

    def adopt(self, chosen: Bools) -> None:
        _adopt(self._inc, self._board, chosen)

    def settle(self, candidates: Int64, steps: int) -> int:
        return _settle_all(self._inc, self._board, candidates, steps)

    def walk(self, candidates: Int64, heat: float, trials: int, steps: int, *, track: bool) -> tuple[int, int]:
        return _walk(self._inc, self._board, candidates, heat, trials, steps, track)

    @property
    def chosen(self) -> Bools:
        return self._board.chosen.copy()


@kernel(_BOARD, i8)
def _record(board: _Board, entry: int) -> None:
    at = board.counts[LOGGED]
    if 0 <= at < len(board.log):
        board.log[at] = entry
        board.counts[LOGGED] += 1


@kernel(INCIDENCE, _BOARD, i8)
def _put(inc: Incidence, board: _Board, c: int) -> None:
    board.chosen[c] = True
    board.counts[VALUE] += inc.weights[c]
    _record(board, c)
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        board.free[r] -= inc.quantities[e]
        board.rows[inc.row_starts[r] + board.holding[r]] = e
        board.place[e] = board.holding[r]
        board.holding[r] += 1


@kernel(INCIDENCE, _BOARD, i8)
def _drop(inc: Incidence, board: _Board, c: int) -> None:
    board.chosen[c] = False
    board.counts[VALUE] -= inc.weights[c]
    _record(board, -1 - c)
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        board.free[r] += inc.quantities[e]
        board.holding[r] -= 1
        last = board.rows[inc.row_starts[r] + board.holding[r]]
        board.rows[inc.row_starts[r] + board.place[e]] = last
        board.place[last] = board.place[e]


@kernel(_BOARD, i8)
def _queue(board: _Board, c: int) -> None:
    if not board.chosen[c] and not board.waiting[c]:
        board.waiting[c] = True
        board.queue[board.counts[QUEUED]] = c
        board.counts[QUEUED] += 1


@kernel(INCIDENCE, _BOARD, i8, returns=i8)
def _wake(inc: Incidence, board: _Board, left: int) -> int:
    """Queue those who may want what `left` gave back, itself too; returns the work."""
    work = 0
    for e in range(inc.starts[left], inc.starts[left + 1]):
        r = inc.resources[e]
        begin, end = inc.row_starts[r], inc.row_starts[r + 1]
        if end - begin <= WAKING_MAX:
            for h in range(begin, end):
                _queue(board, inc.holders[h])
            work += end - begin
        else:
            for _ in range(WAKING_MAX):
                _queue(board, inc.holders[begin + below(board.generator, end - begin)])
            work += WAKING_MAX
    return work


@kernel(INCIDENCE, _BOARD, i8, i8, returns=i8)
def _cheapest(inc: Incidence, board: _Board, r: int, lacking: int) -> int:
    """The demand row of whom prices would miss least in r, per unit of what is lacking; -1 = nobody can leave."""
    held, begin = board.holding[r], inc.row_starts[r]
    first = below(board.generator, held) if held > EVICTING_MAX else 0
    best, best_rate = -1, 0.0
    for i in range(min(held, EVICTING_MAX)):
        e = board.rows[begin + (first + i) % held]
        other = board.owner[e]
        if not board.leaving[other] and (best < 0 or below(board.generator, OVERLOOKED) > 0):
            helps = min(inc.quantities[e], lacking)
            rate = board.worth[other] / helps if board.worth[other] > 0.0 else board.worth[other] * helps
            if best < 0 or rate < best_rate:
                best, best_rate = e, rate
    return best


@kernel(INCIDENCE, _BOARD, i8, i8, returns=numba.types.UniTuple(i8, 2))
def _choose_evictions(inc: Incidence, board: _Board, c: int, limit: int) -> tuple[int, int]:
    """Who must leave for c, resource by resource; returns what they are worth (more than `limit`: do not) and the work."""
    count, loss, work = 0, 0, inc.starts[c + 1] - inc.starts[c]
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        lacking = inc.quantities[e] - board.free[r]
        if lacking <= 0:
            continue
        begin = inc.row_starts[r]
        if count:
            work += board.holding[r]
            for i in range(board.holding[r]):
                row = board.rows[begin + i]
                if board.leaving[board.owner[row]]:
                    lacking -= inc.quantities[row]
        while lacking > 0 and loss <= limit:
            best = _cheapest(inc, board, r, lacking)
            work += min(board.holding[r], EVICTING_MAX)
            if best < 0:
                loss = WHATEVER_IT_COSTS
            else:
                other = board.owner[best]
                board.leaving[other] = True
                board.evicted[count] = other
                count += 1
                loss += inc.weights[other]
                lacking -= inc.quantities[best]
        if loss > limit:
            break
    for other in board.evicted[:count]:
        board.leaving[other] = False
    board.counts[EVICTED] = count
    return loss, work


@kernel(INCIDENCE, _BOARD, i8, i8, returns=i8)
def _insert(inc: Incidence, board: _Board, c: int, limit: int) -> int:
    """Choose c, and put out whoever must leave for it, unless these are worth more than `limit`; returns the work."""
    loss, work = _choose_evictions(inc, board, c, limit)
    if loss > limit:
        return work
    leaving = board.evicted[: board.counts[EVICTED]]
    for other in leaving:
        _drop(inc, board, other)
    _put(inc, board, c)
    for other in leaving:
        work += 4 + _wake(inc, board, other)
    return work


@kernel(INCIDENCE, _BOARD, i8, returns=i8)
def _settle(inc: Incidence, board: _Board, steps: int) -> int:
    """Try whoever is queued until nobody is, or the steps are spent: then the queue is forgotten. Returns the work."""
    counts, work = board.counts, 0
    while counts[QUEUED] > 0:
        i = below(board.generator, counts[QUEUED])
        c = board.queue[i]
        counts[QUEUED] -= 1
        board.queue[i] = board.queue[counts[QUEUED]]
        board.waiting[c] = False
        work += 1
        if work < steps and not board.chosen[c]:
            work += _insert(inc, board, c, inc.weights[c] - 1)
    return work


@kernel(INCIDENCE, _BOARD, returns=i8)
def _undo(inc: Incidence, board: _Board) -> int:
    last = board.counts[LOGGED] - 1
    board.counts[LOGGED] = -1
    for i in range(last, -1, -1):
        if board.log[i] >= 0:
            _drop(inc, board, board.log[i])
        else:
            _put(inc, board, -1 - board.log[i])
    return 4 * (last + 1)  # type: ignore[no-any-return]  # compiled


@kernel(_BOARD)
def _keep_best(board: _Board) -> None:
    if board.counts[VALUE] > board.counts[BEST]:
        board.counts[BEST] = board.counts[VALUE]
        board.best[:] = board.chosen


@kernel(INCIDENCE, _BOARD, flag[::1])
def _adopt(inc: Incidence, board: _Board, chosen: Bools) -> None:
    for c in range(len(chosen)):
        if board.chosen[c] and not chosen[c]:
            _drop(inc, board, c)
    for c in range(len(chosen)):
        if chosen[c] and not board.chosen[c]:
            _put(inc, board, c)


@kernel(INCIDENCE, _BOARD, i8[::1], i8, returns=i8)
def _settle_all(inc: Incidence, board: _Board, candidates: Int64, steps: int) -> int:
    for c in candidates:
        _queue(board, c)
    return len(candidates) + _settle(inc, board, steps)


@kernel(INCIDENCE, _BOARD, i8[::1], f8, i8, i8, flag, returns=numba.types.UniTuple(i8, 2))
def _walk(inc: Incidence, board: _Board, candidates: Int64, heat: float, trials: int, steps: int, track: bool) -> tuple[int, int]:
    counts, work, done = board.counts, 0, 0
    if track:
        _keep_best(board)
    while done < trials and work < steps:
        done += 1
        before, counts[LOGGED] = counts[VALUE], 0
        c = candidates[below(board.generator, len(candidates))]
        if board.chosen[c]:
            _drop(inc, board, c)
            work += 4 + _wake(inc, board, c)
        else:
            work += _insert(inc, board, c, WHATEVER_IT_COSTS - 1)
        work += 4 + _settle(inc, board, TRIAL_STEPS)
        if loses_too_much(counts, before, heat, board.generator) and counts[LOGGED] < len(board.log):
            work += _undo(inc, board)
        elif track and counts[VALUE] > counts[BEST]:
            work += len(board.chosen) // 64
            _keep_best(board)
    counts[LOGGED] = -1
    return work, done
