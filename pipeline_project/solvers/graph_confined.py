"""Whether some optimum leaves a vertex out, by following what would have to be in were it in all of them. See `graph_rules`."""

from __future__ import annotations

from typing import Final

from pipeline_project.solvers.graph_around import SCAN_DEGREE, SCAN_STEPS
from pipeline_project.solvers.graph_board import (
    BEGIN,
    BOARD,
    DEGREE,
    FAR,
    LENGTH,
    MARK,
    STAMP,
    STEPS,
    TOUCHED,
    WEIGHT,
    Board,
    compact,
)
from pipeline_project.solvers.kernels import flag, i8, kernel

CONFINED_MAX: Final = 16
NOBODY, NOT_EVEN_ALL = -1, -2


@kernel(BOARD, i8, i8, i8, returns=i8)
def _confine(board: Board, s: int, count: int, stamp: int) -> int:
    """Add s to the set: FAR are the neighbours of the set, TOUCHED the weight that each has in it. Their number, or -1."""
    board.vertices[s, MARK] = stamp + 512
    compact(board, s)
    begin, degree = board.vertices[s, BEGIN], board.vertices[s, DEGREE]
    for i in range(begin, begin + degree):
        u = int(board.pool[i])
        if board.vertices[u, MARK] < stamp:
            if count == board.scratch.shape[1]:
                return -1
            board.vertices[u, MARK] = stamp + count
            board.scratch[FAR, count], board.scratch[TOUCHED, count] = u, 0
            count += 1
        board.scratch[TOUCHED, board.vertices[u, MARK] - stamp] += board.vertices[s, WEIGHT]
    board.counts[STEPS] += degree
    return count


@kernel(BOARD, i8, i8, i8, returns=i8)
def _indispensable(board: Board, u: int, slack: int, stamp: int) -> int:
    """Whom of u's unmarked neighbours it takes for all of them to outweigh the slack: one vertex, or NOBODY, or NOT_EVEN_ALL do."""
    compact(board, u)
    begin, length = board.vertices[u, BEGIN], board.vertices[u, LENGTH]
    board.counts[STEPS] += length
    rest, heaviest, found = 0, 0, NOBODY
    for i in range(begin, begin + length):
        x = int(board.pool[i])
        if board.vertices[x, MARK] >= stamp:
            continue
        weight = board.vertices[x, WEIGHT]
        rest += min(heaviest, weight)
        if rest > slack:
            return NOBODY
        if weight > heaviest:
            heaviest, found = weight, x
    return NOT_EVEN_ALL if rest + heaviest <= slack else found


@kernel(BOARD, i8, returns=flag)
def unconfined(board: Board, v: int) -> bool:
    """Whether some optimum leaves v out. Suppose that none does, so that all contain v, or more generally a set that grows from v.

    A neighbour u of the set at least as heavy as its neighbours in the set could replace them, so every optimum must also hold enough
    of u's other neighbours: all of them together being too light is a contradiction; all but one being too light puts that one into
    the set.
    """
    stamp, steps_end = board.counts[STAMP] + 64, board.counts[STEPS] + SCAN_STEPS
    board.counts[STAMP] += 1024
    s, count = v, 0
    for _ in range(CONFINED_MAX):
        if board.vertices[s, DEGREE] > SCAN_DEGREE or board.counts[STEPS] > steps_end:
            return False
        count = _confine(board, s, count, stamp)
        s = NOBODY
        for i in range(count):
            u = board.scratch[FAR, i]
            slack = board.vertices[u, WEIGHT] - board.scratch[TOUCHED, i]
            if slack >= 0 and board.vertices[u, DEGREE] <= SCAN_DEGREE:
                s = _indispensable(board, u, slack, stamp)
                if s != NOBODY:
                    break
        if s < 0:
            return s == NOT_EVEN_ALL
    return False
