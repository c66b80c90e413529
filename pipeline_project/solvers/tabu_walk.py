"""A walk over selections where every resource can be held once and everybody conflicts with many: the best move that is not tabu.

Multi-neighbourhood tabu search (Wu, Hao, Glover: Multi-neighborhood tabu search for the maximum weight clique problem, Ann. Oper. Res.
196, 2012, https://doi.org/10.1007/s10479-012-1124-3): put in whoever is free, swap in whoever has one blocker, or put out whoever is
worth least, whichever gains most; who was put out stays out for some moves. Where nothing better was met for long it begins anew
from a random selection.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.kernels import flag, i4, i8, kernel, record
from pipeline_project.solvers.neighbours import NEIGHBOURS, Neighbours
from pipeline_project.solvers.randomness import GENERATOR, Generator, below, generator
from pipeline_project.solvers.tracking import BEST, VALUE, Tracking

CANDIDATES_MAX: Final = 10_000  # a move looks at all who are free or have one blocker
CONFLICTS_MIN: Final = 16  # of a candidate on average: where there are few, one move is never far from the next
TENURE: Final = 7  # moves for which nobody comes back who was put out
PATIENCE: Final = 4_000  # moves without anything better before it begins anew

FREE, ONE, CHOSEN = range(3)  # lists: nobody blocks them; one does; they are chosen
WEIGHT, BLOCKERS, COUNT, PLACE, UNTIL = range(5)  # columns of rows
MOVES, LAST, LOCAL = range(2, 5)  # places of counts, after those of tracking


class _Board(NamedTuple):
    """A selection under change.

    rows     int64[n, 5]  weight; sum of the numbers of its chosen neighbours (with one: who it is) and their count; its place in its
             list; the move until which it must not come in
    lists    int32[3, n]  who is free, has one blocker, is chosen: see the indices above
    lengths  int64[3]
    counts   int64[5]     value of the selection, best value seen, moves made, move of the last gain, best value since the last beginning
    best     bool[n]      the best selection seen
    """

    rows: Int64
    lists: Int32
    lengths: Int64
    counts: Int64
    best: Bools
    generator: Generator


_BOARD = record(_Board, (i8[:, ::1], i4[:, ::1], i8[::1], i8[::1], flag[::1], GENERATOR))


class TabuWalk(Tracking):
    """See `walks.Walk`; the heat says nothing to it."""

    _board: _Board

    def __init__(self, inc: Incidence, neighbours: Neighbours, seed: int) -> None:
        n = inc.n
        self._neighbours = neighbours
        rows, lists = np.zeros((n, 5), np.int64), np.empty((3, n), np.int32)
        rows[:, WEIGHT], rows[:, PLACE], lists[FREE] = inc.weights, np.arange(n), np.arange(n)
        self._board = _Board(rows, lists, np.array([n, 0, 0]), np.array([0, -1, 0, 0, 0]), np.zeros(n, np.bool_), generator(seed))

    @staticmethod
    def suits(near: Neighbours) -> bool:
        """Whether it is worth a trial; what it finds there may still be less than what another walk finds."""
        n = len(near.starts) - 1
        return n <= CANDIDATES_MAX and len(near.others) >= CONFLICTS_MIN * n

    def adopt(self, chosen: Bools) -> None:
        _adopt(self._neighbours, self._board, chosen)

    def settle(self, candidates: Int64, steps: int) -> int:  # noqa: ARG002  # whoever is free, whoever is meant
        return _fill(self._neighbours, self._board)

    def walk(self, candidates: Int64, heat: float, trials: int, steps: int, *, track: bool) -> tuple[int, int]:  # noqa: ARG002
        return _walk(self._neighbours, self._board, trials, steps)

    @property
    def chosen(self) -> Bools:
        chosen = np.zeros(len(self._board.rows), np.bool_)
        chosen[self._board.lists[CHOSEN, : self._board.lengths[CHOSEN]]] = True
        return chosen


@kernel(_BOARD, i8, i8)
def _list(board: _Board, c: int, where: int) -> None:
    place = board.lengths[where]
    board.lists[where, place] = c
    board.rows[c, PLACE] = place
    board.lengths[where] = place + 1


@kernel(_BOARD, i8, i8)
def _unlist(board: _Board, c: int, where: int) -> None:
    last, place = board.lengths[where] - 1, board.rows[c, PLACE]
    other = board.lists[where, last]
    board.lists[where, place] = other
    board.rows[other, PLACE] = place
    board.lengths[where] = last


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _put(near: Neighbours, board: _Board, c: int) -> int:
    """Choose c, who is free; returns the work."""
    rows = board.rows
    _unlist(board, c, FREE)
    _list(board, c, CHOSEN)
    board.counts[VALUE] += rows[c, WEIGHT]
    for h in range(near.starts[c], near.starts[c + 1]):
        other = near.others[h]
        rows[other, BLOCKERS] += c
        rows[other, COUNT] += 1
        if rows[other, COUNT] <= 2:
            if rows[other, COUNT] == 1:
                _unlist(board, other, FREE)
                _list(board, other, ONE)
            else:
                _unlist(board, other, ONE)
    return near.starts[c + 1] - near.starts[c] + 4  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, i8, i8, returns=i8)
def _drop(near: Neighbours, board: _Board, c: int, tenure: int) -> int:
    """Put c out for so many moves; returns the work."""
    rows = board.rows
    _unlist(board, c, CHOSEN)
    _list(board, c, FREE)
    board.counts[VALUE] -= rows[c, WEIGHT]
    rows[c, UNTIL] = board.counts[MOVES] + tenure
    for h in range(near.starts[c], near.starts[c + 1]):
        other = near.others[h]
        rows[other, BLOCKERS] -= c
        rows[other, COUNT] -= 1
        if rows[other, COUNT] <= 1:
            if rows[other, COUNT] == 0:
                _unlist(board, other, ONE)
                _list(board, other, FREE)
            else:
                _list(board, other, ONE)
    return near.starts[c + 1] - near.starts[c] + 4  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, returns=i8)
def _fill(near: Neighbours, board: _Board) -> int:
    """Whoever is free, by chance, until nobody is; returns the work."""
    work = 0
    while board.lengths[FREE] > 0:
        work += _put(near, board, board.lists[FREE, below(board.generator, board.lengths[FREE])])
    return work


@kernel(NEIGHBOURS, _BOARD, returns=i8)
def _begin_anew(near: Neighbours, board: _Board) -> int:
    counts, work = board.counts, 0
    while board.lengths[CHOSEN] > 0:
        work += _drop(near, board, board.lists[CHOSEN, board.lengths[CHOSEN] - 1], 0)
    work += _fill(near, board)
    board.rows[:, UNTIL] = 0
    counts[LAST], counts[LOCAL] = counts[MOVES], counts[VALUE]
    return work + len(board.rows) // 4


@kernel(NEIGHBOURS, _BOARD, flag[::1])
def _adopt(near: Neighbours, board: _Board, chosen: Bools) -> None:
    counts = board.counts
    for i in range(board.lengths[CHOSEN] - 1, -1, -1):
        if not chosen[board.lists[CHOSEN, i]]:
            _drop(near, board, board.lists[CHOSEN, i], 0)
    for c in range(len(chosen)):
        if chosen[c] and (board.rows[c, PLACE] >= board.lengths[CHOSEN] or board.lists[CHOSEN, board.rows[c, PLACE]] != c):
            _put(near, board, c)
    counts[LAST], counts[LOCAL] = counts[MOVES], counts[VALUE]


@kernel(_BOARD)
def _keep_best(board: _Board) -> None:
    counts = board.counts
    if counts[VALUE] > counts[LOCAL]:
        counts[LOCAL], counts[LAST] = counts[VALUE], counts[MOVES]
    if counts[VALUE] > counts[BEST]:
        counts[BEST] = counts[VALUE]
        board.best[:] = False
        for c in board.lists[CHOSEN, : board.lengths[CHOSEN]]:
            board.best[c] = True


@kernel(NEIGHBOURS, _BOARD, returns=i8)
def _move(near: Neighbours, board: _Board) -> int:
    """The best move that is not tabu, or that leads to the best value ever; returns the work."""
    rows, lists, lengths, counts = board.rows, board.lists, board.lengths, board.counts
    wanted, found, gain = counts[BEST] - counts[VALUE], -1, -(2**62)
    for where in (FREE, ONE):
        length = lengths[where]
        begin = below(board.generator, length) if length > 0 else 0
        for i in range(length):
            c = lists[where, begin + i if begin + i < length else begin + i - length]
            more = rows[c, WEIGHT] if where == FREE else rows[c, WEIGHT] - rows[rows[c, BLOCKERS], WEIGHT]
            if more > gain and (rows[c, UNTIL] <= counts[MOVES] or more > wanted):
                found, gain = c, more
    lightest, length = -1, lengths[CHOSEN]
    begin = below(board.generator, length) if length > 0 else 0
    for i in range(length):
        c = lists[CHOSEN, begin + i if begin + i < length else begin + i - length]
        if -rows[c, WEIGHT] > gain:
            lightest, gain = c, -rows[c, WEIGHT]
    work = lengths[FREE] + lengths[ONE] + lengths[CHOSEN]
    counts[MOVES] += 1
    if lightest >= 0:
        return work + _drop(near, board, lightest, TENURE)  # type: ignore[no-any-return]  # compiled
    if found >= 0:
        if rows[found, COUNT] == 1:
            work += _drop(near, board, rows[found, BLOCKERS], TENURE + below(board.generator, lengths[ONE]))
        work += _put(near, board, found)
    return work  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, i8, i8, returns=numba.types.UniTuple(i8, 2))
def _walk(near: Neighbours, board: _Board, moves: int, steps: int) -> tuple[int, int]:
    counts, work, done = board.counts, 0, 0
    _keep_best(board)
    while done < moves and work < steps:
        done += 1
        work += _move(near, board)
        _keep_best(board)
        if counts[MOVES] - counts[LAST] > PATIENCE:
            work += _begin_anew(near, board)
    return work, done
