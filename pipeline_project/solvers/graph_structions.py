"""Structions: a vertex and its neighbours make way for one vertex per set of neighbours that outweighs it. See `graph_rules`."""

from __future__ import annotations

from typing import Final

from pipeline_project.solvers.graph_board import (
    ADJACENT,
    ALIVE,
    BEGIN,
    BOARD,
    DEGREE,
    EXCESS,
    FAR,
    FOLD,
    GAVE_STRUCTION,
    LEFT,
    LENGTH,
    LOGGED,
    MARK,
    NEAR,
    OFFSET,
    OUTWEIGHS,
    POOLED,
    SET,
    SET_WEIGHT,
    SETS,
    STAMP,
    STEPS,
    STRUCTION,
    SUMS,
    TOTAL,
    TOUCHED,
    USED,
    WEIGHT,
    Board,
    compact,
    delete,
    move,
    note,
    wait,
)
from pipeline_project.solvers.kernels import flag, i8, kernel

FAR_MAX: Final = 96  # neighbours of neighbours that a struction may join,
FAR_LENGTH: Final = 4_096  # and how long their lists may be: they are read in full
TOTAL_MAX: Final = 2**62  # so far structions may raise the sum of all weights, so that no sum of some of them overflows


@kernel(BOARD, i8, i8, returns=i8)
def heavier_sets(board: Board, v: int, limit: int) -> int:
    """List in SETS the independent sets of neighbours that outweigh v, in EXCESS by how much; at most limit + 1. After `look_around`."""
    degree, weight = board.vertices[v, DEGREE], board.vertices[v, WEIGHT]
    board.scratch[SET, 0] = board.scratch[SET_WEIGHT, 0] = 0
    sets, found = 1, 0
    for i in range(degree):
        own = board.vertices[board.scratch[NEAR, i], WEIGHT]
        for smaller in range(sets):
            if board.scratch[SET, smaller] & board.scratch[ADJACENT, i]:
                continue
            board.scratch[SET, sets] = board.scratch[SET, smaller] | 1 << i
            board.scratch[SET_WEIGHT, sets] = board.scratch[SET_WEIGHT, smaller] + own
            if board.scratch[SET_WEIGHT, sets] > weight:
                board.scratch[SETS, found] = board.scratch[SET, sets]
                board.scratch[EXCESS, found] = board.scratch[SET_WEIGHT, sets] - weight
                found += 1
                if found > limit:
                    board.counts[STEPS] += sets
                    return found
            sets += 1
    board.counts[STEPS] += sets
    return found


@kernel(BOARD, i8, returns=i8)
def _look_beyond(board: Board, v: int) -> int:
    """Fill FAR with the neighbours of the neighbours of v, TOUCHED with whose they are; their number, or -1. After `look_around`."""
    degree, near = board.vertices[v, DEGREE], board.counts[STAMP]
    far, count = near + 64, 0
    board.counts[STAMP] += 1024
    for i in range(degree):
        x = board.scratch[NEAR, i]
        if board.vertices[x, DEGREE] > FAR_MAX:
            return -1
        compact(board, x)
        begin = board.vertices[x, BEGIN]
        board.counts[STEPS] += board.vertices[x, DEGREE]
        for k in range(begin, begin + board.vertices[x, DEGREE]):
            y = int(board.pool[k])
            mark = board.vertices[y, MARK]
            if y == v or near <= mark < far:
                continue
            if mark < near:
                if count == FAR_MAX or board.vertices[y, LENGTH] > FAR_LENGTH:
                    return -1
                board.vertices[y, MARK] = far + count
                board.scratch[FAR, count], board.scratch[TOUCHED, count] = y, 0
                count += 1
            board.scratch[TOUCHED, board.vertices[y, MARK] - far] |= 1 << i
    return count


@kernel(BOARD, i8, i8, i8, returns=flag)
def _affordable(board: Board, v: int, sets: int, count: int) -> bool:
    """Whether numbers, weights and lists of what the struction would leave find their place."""
    total, need = board.counts[TOTAL], 0
    for j in range(sets):
        if board.scratch[EXCESS, j] > TOTAL_MAX - total:
            return False
        total += board.scratch[EXCESS, j]
    for i in range(count):
        joins = 0
        for j in range(sets):
            joins += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
        need += 2 * (board.vertices[board.scratch[FAR, i], DEGREE] + 2 * joins)
    board.counts[STEPS] += count * sets
    fresh = max(0, sets - board.vertices[v, DEGREE] - 1)
    return bool(board.counts[POOLED] + need + 2 * sets * sets <= len(board.pool) and board.counts[USED] + fresh <= len(board.vertices))


@kernel(BOARD, i8, i8, i8)
def _raise(board: Board, j: int, sets: int, count: int) -> None:
    """The vertex of set j, under the number NEAR[j]."""
    x = board.scratch[NEAR, j]
    degree = sets - 1
    for i in range(count):
        degree += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
    board.vertices[x, LENGTH] = 0
    move(board, x, degree)
    board.vertices[x, WEIGHT], board.vertices[x, ALIVE] = board.scratch[EXCESS, j], 1
    board.vertices[x, DEGREE] = board.vertices[x, LENGTH] = degree
    board.counts[LEFT] += 1
    board.counts[TOTAL] += board.scratch[EXCESS, j]
    end = board.vertices[x, BEGIN]
    for other in range(sets):
        if other != j:
            board.pool[end] = board.scratch[NEAR, other]
            end += 1
    for i in range(count):
        if board.scratch[TOUCHED, i] & board.scratch[SETS, j]:
            board.pool[end] = board.scratch[FAR, i]
            end += 1
    board.counts[STEPS] += count + degree


@kernel(BOARD, i8, i8)
def _join(board: Board, i: int, sets: int) -> None:
    """The list of FAR[i] gets the new vertices whose sets it touched."""
    y, joins = board.scratch[FAR, i], 0
    for j in range(sets):
        joins += (board.scratch[TOUCHED, i] & board.scratch[SETS, j]) != 0
    move(board, y, board.vertices[y, LENGTH] + joins)
    end = board.vertices[y, BEGIN] + board.vertices[y, LENGTH]
    for j in range(sets):
        if board.scratch[TOUCHED, i] & board.scratch[SETS, j]:
            board.pool[end] = board.scratch[NEAR, j]
            end += 1
    board.vertices[y, LENGTH] += joins
    board.vertices[y, DEGREE] += joins
    wait(board, y, SUMS)


@kernel(BOARD, i8, i8)
def replace_by_sets(board: Board, v: int, sets: int) -> None:
    """Replace v and its neighbours by one vertex for each set that outweighs v, each adjacent to all others and to what the set touched.

    None of them chosen means v, one of them its set. After `heavier_sets`. With no set this puts v in, with one it is a fold.
    """
    degree = board.vertices[v, DEGREE]
    count = _look_beyond(board, v)
    if count < 0 or not _affordable(board, v, sets, count):
        return
    if sets < 2:
        board.fired[FOLD if sets else OUTWEIGHS] += 1
    else:
        board.fired[STRUCTION + min(2, max(0, sets - degree))] += 1
    end = board.counts[LOGGED] + 3
    board.log[end], board.log[end + 1] = sets, board.counts[USED]
    for i in range(degree):
        board.log[end + 2 + i] = board.scratch[NEAR, i]
    for j in range(sets):
        board.log[end + 2 + degree + j] = board.scratch[SETS, j]
    note(board, GAVE_STRUCTION, v, degree, 2 + degree + sets)
    board.counts[OFFSET] += board.vertices[v, WEIGHT]
    delete(board, v)
    for i in range(degree):
        delete(board, board.scratch[NEAR, i])
    for i in range(count):
        compact(board, board.scratch[FAR, i])
    board.scratch[NEAR, degree] = v
    for j in range(degree + 1, sets):
        board.scratch[NEAR, j] = board.counts[USED]
        board.counts[USED] += 1
    for j in range(sets):
        _raise(board, j, sets, count)
    for i in range(count):
        _join(board, i, sets)
    for j in range(sets):
        wait(board, board.scratch[NEAR, j], SUMS)
