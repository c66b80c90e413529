"""A walk over selections where every resource can be held once: what each insertion would cost is kept up to date, move by move.

A trial flips one candidate (out if it is in; in, and its neighbours out, if it is not), lets everybody whom that made affordable settle
in, in random order, and takes it all back from its log if more was lost than the heat allows (Metropolis acceptance after repair).
A walk that holds tries only candidates that are out, and bars their neighbours until the trial ends: else six trials of seven end where
they began, as whoever was put out comes straight back. With many candidates it finds in a second what takes six without; with few, where
a trial's wake spans them all, the free walk finds more.
Settling knows two moves: in with whoever is worth more than the neighbours it evicts, and two in for one out, as in Andrade, Resende,
Werneck: Fast local search for the maximum independent set problem (2012). The random order matters: in the order of arrival or of
departure the walk only finds its way back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel, record
from pipeline_project.solvers.neighbours import NEIGHBOURS, Neighbours
from pipeline_project.solvers.randomness import GENERATOR, Generator, below, generator
from pipeline_project.solvers.tracking import BEST, VALUE, Tracking, loses_too_much

LOG_LENGTH: Final = 4_096  # moves of one trial; a longer one cannot be taken back
TRIAL_STEPS: Final = 200_000  # what settling after one flip may cost

WEIGHT, BLOCKED, BLOCKERS, FLAGS = range(4)  # columns of rows; FLAGS holds three bits and eight times the number of blockers
CHOSEN, WAITING, BARRED, ONE = 1, 2, 4, 8
QUEUED, LOGGED = range(2, 4)  # places of counts, after those of tracking


class _Board(NamedTuple):
    """A selection under change.

    rows     int64[n, 4]  a cache line for two candidates: weight; sum of the weights of its chosen neighbours (blockers); sum of their
             numbers (with one blocker: who it is); flags and their count
    counts   int64[4]     value of the selection, best value seen, length of queue and log (-1: not logging)
    queue    int32[n]     candidates to try, in no order
    log      int32[*]     c for in, -1 - c for out
    found    int32[n]     room for a list
    marked   bool[n]      room for a set
    best     bool[n]      the best selection seen, where it is tracked
    """

    rows: Int64
    counts: Int64
    queue: Int32
    log: Int32
    found: Int32
    marked: Bools
    best: Bools
    generator: Generator


_BOARD = record(_Board, (i8[:, ::1], i8[::1], i4[::1], i4[::1], i4[::1], flag[::1], flag[::1], GENERATOR))


class UnitWalk(Tracking):
    """See `walks.Walk`."""

    _board: _Board

    def __init__(self, inc: Incidence, neighbours: Neighbours, seed: int, *, holds: bool) -> None:
        n = inc.n
        self._neighbours, self._holds = neighbours, holds
        rows, (queue, found), (marked, best) = np.zeros((n, 4), np.int64), np.empty((2, n), np.int32), np.zeros((2, n), np.bool_)
        rows[:, WEIGHT] = inc.weights
        self._board = _Board(rows, np.array([0, -1, 0, -1]), queue, np.empty(LOG_LENGTH, np.int32), found, marked, best, generator(seed))

    def adopt(self, chosen: Bools) -> None:
        _adopt(self._neighbours, self._board, chosen)

    def settle(self, candidates: Int64, steps: int) -> int:
        return _settle_all(self._neighbours, self._board, candidates, steps)

    def walk(self, candidates: Int64, heat: float, trials: int, steps: int, *, track: bool) -> tuple[int, int]:
        return _walk(self._neighbours, self._board, candidates, heat, trials, steps, track, self._holds)

    @property
    def chosen(self) -> Bools:
        return (self._board.rows[:, FLAGS] & CHOSEN).astype(np.bool_)


@kernel(_BOARD, i8)
def _record(board: _Board, entry: int) -> None:
    at = board.counts[LOGGED]
    if 0 <= at < len(board.log):
        board.log[at] = entry
        board.counts[LOGGED] += 1


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _put(near: Neighbours, board: _Board, c: int) -> int:
    """Choose c; nobody who blocks it may be chosen when the trial ends. Returns the work."""
    rows, begin, end = board.rows, near.starts[c], near.starts[c + 1]
    weight = rows[c, WEIGHT]
    rows[c, FLAGS] |= CHOSEN
    board.counts[VALUE] += weight
    _record(board, c)
    for h in range(begin, end):
        other = near.others[h]
        rows[other, BLOCKED] += weight
        rows[other, BLOCKERS] += c
        rows[other, FLAGS] += ONE
    return end - begin + 4  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, i8, flag, returns=i8)
def _drop(near: Neighbours, board: _Board, c: int, waking: bool) -> int:
    """Put c out; `waking` queues those whom that may let in, alone or two at a time. Returns the work."""
    rows, counts, begin, end = board.rows, board.counts, near.starts[c], near.starts[c + 1]
    weight = rows[c, WEIGHT]
    rows[c, FLAGS] &= ~CHOSEN
    counts[VALUE] -= weight
    _record(board, -1 - c)
    queued = counts[QUEUED]
    for h in range(begin, end):
        other = near.others[h]
        blocked, flags = rows[other, BLOCKED] - weight, rows[other, FLAGS] - ONE
        rows[other, BLOCKED] = blocked
        rows[other, BLOCKERS] -= c
        if waking and not flags & (WAITING | BARRED) and (blocked < rows[other, WEIGHT] or flags < 2 * ONE):
            flags |= WAITING
            board.queue[queued] = other
            queued += 1
        rows[other, FLAGS] = flags
    if waking and not rows[c, FLAGS] & WAITING and rows[c, BLOCKED] < weight:
        rows[c, FLAGS] |= WAITING
        board.queue[queued] = c
        queued += 1
    counts[QUEUED] = queued
    return end - begin + 4  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _insert(near: Neighbours, board: _Board, c: int) -> int:
    """Choose c, and put out whoever blocks it. Returns the work."""
    rows, work = board.rows, 0
    if rows[c, FLAGS] // ONE == 1:
        work += _drop(near, board, rows[c, BLOCKERS], True)
    else:
        h = near.starts[c]
        while rows[c, FLAGS] >= ONE:
            if rows[near.others[h], FLAGS] & CHOSEN:
                work += _drop(near, board, near.others[h], True)
            h += 1
        work += h - near.starts[c]
    work += _put(near, board, c)
    return work


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _two_for_one(near: Neighbours, board: _Board, c: int) -> int:
    """c has one blocker: let in c and another that it alone blocks, if together they are worth more. Returns the work."""
    rows, found, marked = board.rows, board.found, board.marked
    blocker, count, best = rows[c, BLOCKERS], 0, -1
    least = rows[blocker, WEIGHT] - rows[c, WEIGHT]
    work: int = near.starts[blocker + 1] - near.starts[blocker]
    for h in range(near.starts[blocker], near.starts[blocker + 1]):
        other = near.others[h]
        if rows[other, FLAGS] // ONE == 1 and other != c and rows[other, WEIGHT] > least:
            found[count] = other
            count += 1
    if count == 0:
        return work
    work += 2 * (near.starts[c + 1] - near.starts[c])
    for h in range(near.starts[c], near.starts[c + 1]):
        marked[near.others[h]] = True
    for other in found[:count]:
        if not marked[other] and (best < 0 or rows[other, WEIGHT] > rows[best, WEIGHT]):
            best = other
    for h in range(near.starts[c], near.starts[c + 1]):
        marked[near.others[h]] = False
    if best >= 0:
        work += _insert(near, board, c) + _insert(near, board, best)
    return work


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _settle(near: Neighbours, board: _Board, steps: int) -> int:
    """Try whoever is queued until nobody is, or the steps are spent: then the queue is forgotten. Returns the work."""
    rows, counts, work = board.rows, board.counts, 0
    while counts[QUEUED] > 0:
        i = below(board.generator, counts[QUEUED])
        c = board.queue[i]
        counts[QUEUED] -= 1
        board.queue[i] = board.queue[counts[QUEUED]]
        rows[c, FLAGS] &= ~WAITING
        work += 1
        if work >= steps or rows[c, FLAGS] & (CHOSEN | BARRED):
            continue
        if rows[c, BLOCKED] < rows[c, WEIGHT]:
            work += _insert(near, board, c)
        elif rows[c, FLAGS] // ONE == 1:
            work += _two_for_one(near, board, c)
    return work


@kernel(NEIGHBOURS, _BOARD, i8, returns=i8)
def _bar(near: Neighbours, board: _Board, c: int) -> int:
    """Bar the neighbours of c, or let them try again. Returns the work."""
    begin, end = near.starts[c], near.starts[c + 1]
    for h in range(begin, end):
        board.rows[near.others[h], FLAGS] ^= BARRED
    return end - begin  # type: ignore[no-any-return]  # compiled


@kernel(NEIGHBOURS, _BOARD, returns=i8)
def _undo(near: Neighbours, board: _Board) -> int:
    work, last = 0, board.counts[LOGGED] - 1
    board.counts[LOGGED] = -1
    for i in range(last, -1, -1):
        entry = board.log[i]
        work += _drop(near, board, entry, False) if entry >= 0 else _put(near, board, -1 - entry)
    return work


@kernel(_BOARD)
def _keep_best(board: _Board) -> None:
    if board.counts[VALUE] > board.counts[BEST]:
        board.counts[BEST] = board.counts[VALUE]
        for c in range(len(board.rows)):
            board.best[c] = board.rows[c, FLAGS] & CHOSEN > 0


@kernel(NEIGHBOURS, _BOARD, flag[::1])
def _adopt(near: Neighbours, board: _Board, chosen: Bools) -> None:
    rows = board.rows
    for c in range(len(rows)):
        if rows[c, FLAGS] & CHOSEN and not chosen[c]:
            _drop(near, board, c, False)
    for c in range(len(rows)):
        if chosen[c] and not rows[c, FLAGS] & CHOSEN:
            _put(near, board, c)


@kernel(NEIGHBOURS, _BOARD, i8[::1], i8, returns=i8)
def _settle_all(near: Neighbours, board: _Board, candidates: Int64, steps: int) -> int:
    for c in candidates:
        if not board.rows[c, FLAGS] & CHOSEN:
            board.rows[c, FLAGS] |= WAITING
            board.queue[board.counts[QUEUED]] = c
            board.counts[QUEUED] += 1
    return len(candidates) + _settle(near, board, steps)


@kernel(NEIGHBOURS, _BOARD, i8[::1], f8, i8, i8, flag, flag, returns=numba.types.UniTuple(i8, 2))
def _walk(
    near: Neighbours, board: _Board, candidates: Int64, heat: float, trials: int, steps: int, track: bool, holds: bool
) -> tuple[int, int]:
    rows, counts, work, done = board.rows, board.counts, 0, 0
    if track:
        _keep_best(board)
    while done < trials and work < steps:
        done += 1
        c = candidates[below(board.generator, len(candidates))]
        is_in = rows[c, FLAGS] & CHOSEN
        if holds and is_in:
            continue
        before, counts[LOGGED] = counts[VALUE], 0
        if holds:
            work += _bar(near, board, c)
        work += _drop(near, board, c, True) if is_in else _insert(near, board, c)
        work += _settle(near, board, TRIAL_STEPS)
        if holds:
            work += _bar(near, board, c)
        if loses_too_much(counts, before, heat, board.generator) and counts[LOGGED] < len(board.log):
            work += _undo(near, board)
        elif track and counts[VALUE] > counts[BEST]:
            work += len(rows) // 8
            _keep_best(board)
    counts[LOGGED] = -1
    return work, done
