"""A walk over selections where few resources are wanted by nearly everybody: a knapsack of several dimensions.

Who must leave for whom says little here, as everybody shares everything with everybody. So a trial flips one or two candidates, puts
out whom prices find least efficient until nothing is overdrawn (each passed over by chance, or the same would always leave), lets
whatever fits come in again, the most efficient first, and is taken back if more was lost than the heat allows. Drop and add in the
order of pseudo-utility is the repair of Chu, Beasley: A genetic algorithm for the multidimensional knapsack problem (J. Heuristics 4,
1998, https://doi.org/10.1023/A:1009642405419). A trial costs O(n), some hundred times less than finding evictions one by one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, fits
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel, record
from pipeline_project.solvers.randomness import GENERATOR, Generator, below, generator
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.tracking import BEST, VALUE, Tracking, loses_too_much

CANDIDATES_MAX: Final = 50_000  # a trial looks at them all
CROWDED: Final = 0.25  # of the candidates, those whom a resource has as holders on average
FLIPS_MAX: Final = 2
DRAWN: Final = 4  # of so many candidates drawn, the one flipped whom prices find most doubtful
PASSED_OVER: Final = 2  # one in so many of those who could leave

OVERDRAWN, LOGGED = range(2, 4)  # places of counts, after those of tracking


class _Board(NamedTuple):
    """A selection under change.

    chosen   bool[n]     what is selected; feasible between two trials
    free     int64[m]    what it leaves of each resource
    order    int32[n]    candidates by worth for the price of what they demand, the most efficient first
    doubt    float64[n]  how far the reduced weight of each is from zero
    log      int32[*]    who was flipped in this trial
    best     bool[n]     the best selection seen, where it is tracked
    counts   int64[4]    value of the selection, best value seen, overdrawn resources, length of log (-1: not logging)
    """

    chosen: Bools
    free: Int64
    order: Int32
    doubt: Floats
    log: Int32
    best: Bools
    counts: Int64
    generator: Generator


_BOARD = record(_Board, (flag[::1], i8[::1], i4[::1], f8[::1], i4[::1], flag[::1], i8[::1], GENERATOR))


class CrowdedWalk(Tracking):
    """See `walks.Walk`."""

    _board: _Board

    def __init__(self, inc: Incidence, worth: Floats, seed: int) -> None:
        self._inc = inc
        chosen, best = np.zeros((2, inc.n), np.bool_)
        # Of what costs nothing, all weight is worth: it comes first.
        order = np.argsort((inc.weights - worth) / np.maximum(inc.weights, 1), kind="stable").astype(np.int32)
        # A trial flips each candidate three times at most: by chance, out, and in again.
        log = np.empty(FLIPS_MAX + 2 * inc.n, np.int32)
        counts = np.array([0, -1, 0, -1])
        self._board = _Board(chosen, inc.capacities.copy(), order, np.abs(worth), log, best, counts, generator(seed))

    @staticmethod
    def suits(inc: Incidence) -> bool:
        """Whether the resources are crowded, and the candidates so few that a trial may look at them all."""
        return inc.n <= CANDIDATES_MAX and inc.k >= CROWDED * inc.n * inc.m

    def adopt(self, chosen: Bools) -> None:
        _adopt(self._inc, self._board, chosen)

    def settle(self, candidates: Int64, steps: int) -> int:  # noqa: ARG002  # one pass over all, whoever is meant
        return _add(self._inc, self._board)

    def walk(self, candidates: Int64, heat: float, trials: int, steps: int, *, track: bool) -> tuple[int, int]:
        return _walk(self._inc, self._board, candidates, heat, trials, steps, track)

    @property
    def chosen(self) -> Bools:
        return self._board.chosen.copy()


@kernel(INCIDENCE, _BOARD, i8, returns=i8)
def _flip(inc: Incidence, board: _Board, c: int) -> int:
    """In if out, out if in, whether it fits or not; returns the work."""
    counts, sign = board.counts, -1 if board.chosen[c] else 1
    board.chosen[c] = sign > 0
    counts[VALUE] += sign * inc.weights[c]
    if counts[LOGGED] >= 0:
        board.log[counts[LOGGED]] = c
        counts[LOGGED] += 1
    for e in range(inc.starts[c], inc.starts[c + 1]):
        r = inc.resources[e]
        before = board.free[r]
        board.free[r] = before - sign * inc.quantities[e]
        counts[OVERDRAWN] += int(board.free[r] < 0) - int(before < 0)
    return inc.starts[c + 1] - inc.starts[c]  # type: ignore[no-any-return]  # compiled


@kernel(INCIDENCE, _BOARD, i8, returns=flag)
def _relieves(inc: Incidence, board: _Board, c: int) -> bool:
    """Whether c holds something that is overdrawn."""
    for e in range(inc.starts[c], inc.starts[c + 1]):
        if board.free[inc.resources[e]] < 0:
            return True
    return False


@kernel(INCIDENCE, _BOARD, returns=i8)
def _drop(inc: Incidence, board: _Board) -> int:
    """Until nothing is overdrawn; returns the work."""
    work = 0
    while board.counts[OVERDRAWN] > 0:
        for i in range(len(board.order) - 1, -1, -1):
            c = board.order[i]
            work += 1
            if board.chosen[c] and below(board.generator, PASSED_OVER) > 0 and _relieves(inc, board, c):
                work += _flip(inc, board, c)
                if board.counts[OVERDRAWN] == 0:
                    break
    return work


@kernel(INCIDENCE, _BOARD, returns=i8)
def _add(inc: Incidence, board: _Board) -> int:
    """Whatever fits, the most efficient first; returns the work."""
    work = len(board.order)
    for c in board.order:
        if not board.chosen[c]:
            work += 1
            if fits(inc, board.free, c):
                work += _flip(inc, board, c)
    return work


@kernel(INCIDENCE, _BOARD, returns=i8)
def _undo(inc: Incidence, board: _Board) -> int:
    work, last = 0, board.counts[LOGGED] - 1
    board.counts[LOGGED] = -1
    for i in range(last, -1, -1):
        work += _flip(inc, board, board.log[i])
    return work


@kernel(INCIDENCE, _BOARD, flag[::1])
def _adopt(inc: Incidence, board: _Board, chosen: Bools) -> None:
    for c in range(len(chosen)):
        if board.chosen[c] != chosen[c]:
            _flip(inc, board, c)


@kernel(_BOARD)
def _keep_best(board: _Board) -> None:
    if board.counts[VALUE] > board.counts[BEST]:
        board.counts[BEST] = board.counts[VALUE]
        board.best[:] = board.chosen


@kernel(INCIDENCE, _BOARD, i8[::1], returns=i8)
def _flip_doubtful(inc: Incidence, board: _Board, candidates: Int64) -> int:
    """Flip whom prices find most doubtful of a few drawn by chance; returns the work."""
    c = candidates[below(board.generator, len(candidates))]
    for _ in range(DRAWN - 1):
        other = candidates[below(board.generator, len(candidates))]
        if board.doubt[other] < board.doubt[c]:
            c = other
    return DRAWN + _flip(inc, board, c)


@kernel(INCIDENCE, _BOARD, i8[::1], f8, i8, i8, flag, returns=numba.types.UniTuple(i8, 2))
def _walk(inc: Incidence, board: _Board, candidates: Int64, heat: float, trials: int, steps: int, track: bool) -> tuple[int, int]:
    counts, work, done = board.counts, 0, 0
    if track:
        _keep_best(board)
    while done < trials and work < steps:
        done += 1
        before, counts[LOGGED] = counts[VALUE], 0
        for _ in range(1 + below(board.generator, FLIPS_MAX)):
            work += _flip_doubtful(inc, board, candidates)
        work += _drop(inc, board) + _add(inc, board)
        if loses_too_much(counts, before, heat, board.generator):
            work += _undo(inc, board)
        elif track:
            _keep_best(board)
    counts[LOGGED] = -1
    return work, done
