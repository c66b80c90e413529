"""What the rules of `graph_rules` see around a vertex: its neighbours, and which of them are adjacent."""

from __future__ import annotations

from typing import Final

from pipeline_project.solvers.graph_board import (
    ADJACENT,
    BEGIN,
    BOARD,
    DEGREE,
    LENGTH,
    MARK,
    NEAR,
    STAMP,
    STEPS,
    Board,
    compact,
)
from pipeline_project.solvers.kernels import flag, i8, kernel

SCAN_DEGREE: Final = 48  # neighbours of whom we look around: a set of them is one word of bits
SCAN_STEPS: Final = 1_024  # and what that may visit


@kernel(BOARD, i8, returns=flag)
def look_around(board: Board, v: int) -> bool:
    """Fill NEAR with the neighbours and ADJACENT with who of them are adjacent, and mark them; False when that is too much work.

    The list of the largest is not read: each edge stands in the other list as well.
    """
    compact(board, v)
    begin, degree = board.vertices[v, BEGIN], board.vertices[v, DEGREE]
    total, largest = 0, 0
    board.counts[STAMP] += 64
    stamp = board.counts[STAMP]
    for i in range(degree):
        u = int(board.pool[begin + i])
        board.scratch[NEAR, i], board.scratch[ADJACENT, i] = u, 0
        board.vertices[u, MARK] = stamp + i
        total += board.vertices[u, LENGTH]
        if board.vertices[u, LENGTH] > board.vertices[board.scratch[NEAR, largest], LENGTH]:
            largest = i
    total -= board.vertices[board.scratch[NEAR, largest], LENGTH]
    board.counts[STEPS] += degree
    if total > SCAN_STEPS:
        return False
    for i in range(degree):
        if i == largest:
            continue
        u = board.scratch[NEAR, i]
        compact(board, u)
        for k in range(board.vertices[u, BEGIN], board.vertices[u, BEGIN] + board.vertices[u, LENGTH]):
            j = board.vertices[board.pool[k], MARK] - stamp
            if j >= 0:
                board.scratch[ADJACENT, i] |= 1 << j
                board.scratch[ADJACENT, j] |= 1 << i
    board.counts[STEPS] += total
    return True
