"""A graph that shrinks: lists of neighbours from which vertices vanish, a worklist in tiers, and a log of what was done.

Deletion is lazy: a list may hold the dead until it is next read. The number of a dead vertex is used again only by a struction for what
it has just killed, after their names were taken out of every list.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int32, Int64
from pipeline_project.solvers.kernels import i4, i8, kernel, record

WEIGHT, BEGIN, LENGTH, ROOM, DEGREE, MARK, WAITS, ALIVE = range(8)  # columns of `vertices`
GROWTH_MAX: Final = 4  # a struction may put so many vertices more than v has neighbours in place of v and its neighbours
SUMS, SHAPES, CONFINES, COUNTS = range(4)  # tiers; COUNTS + i: structions that save 2 - i vertices
TIERS: Final = COUNTS + 3 + GROWTH_MAX
WAKES: Final = TIERS - 1
POOLED, LOGGED, ENTRIES, OFFSET, STEPS, STAMP, TOTAL, LEFT, USED, HEAD = range(10)  # places of `counts`; HEAD + tier, TAIL + tier
TAIL: Final = HEAD + TIERS
GAVE_LEAF, GAVE_SWAP, GAVE_TWIN, GAVE_STRUCTION = range(4)  # what an entry of the log says
NEAR, ADJACENT, SETS, EXCESS, FAR, TOUCHED, SET, SET_WEIGHT = range(8)  # rows of `scratch`
SCRATCH: Final = (8, 256)
RULES: Final = (
    "neighbourhood",
    "pendant",
    "dominated",
    "simplicial",
    "twin",
    "unconfined",
    "outweighs",
    "fold",
    "struction",
    "plateau",
    "growth",
)
NEIGHBOURHOOD, PENDANT, DOMINATED, SIMPLICIAL, TWIN, UNCONFINED, OUTWEIGHS, FOLD, STRUCTION = range(9)


class Board(NamedTuple):
    """The state of a reduction; every loop takes it whole.

    vertices  int64[ids, 8]  one line of memory each: weight, where its neighbours begin, how many entries there are (the dead included)
                             and how many there is room for, living neighbours, mark, bits of the tiers it waits in, alive
    pool      int32[]        lists of neighbours, one after another; a list that grows moves to the end
    queue     int32[tiers, ids + 1]  who waits; rings, or stacks where work is to stay in one place, whose memory is warm
    log       int32[]        what was done: entry i is log[ends[i]:ends[i + 1]]
    ends      int64[]
    counts    int64[]        what is used of pool, log and ends, points decided, steps, the newest mark, the sum of the living weights,
                             how many live, how many numbers are used, heads and tails of the queue
    fired     int64[rules]   how often each rule was applied
    scratch   int64[8, 256]  what a rule knows of the surroundings
    """

    vertices: NDArray[np.int64]
    pool: Int32
    queue: Int32
    log: Int32
    ends: Int64
    counts: Int64
    fired: Int64
    scratch: NDArray[np.int64]


BOARD = record(Board, (i8[:, ::1], i4[::1], i4[:, ::1], i4[::1], i8[::1], i8[::1], i8[::1], i8[:, ::1]))


@kernel(BOARD, i8, i8)
def wait(board: Board, v: int, tier: int) -> None:
    if board.vertices[v, WAITS] >> tier & 1:
        return
    board.vertices[v, WAITS] |= 1 << tier
    tail = board.counts[TAIL + tier]
    board.queue[tier, tail] = v
    board.counts[TAIL + tier] = tail + 1 if tail + 1 < board.queue.shape[1] else 0


@kernel(BOARD, i8, returns=i8)
def next_waiting(board: Board, tier: int) -> int:
    if tier == SUMS or tier > COUNTS:
        board.counts[TAIL + tier] -= 1
        v = int(board.queue[tier, board.counts[TAIL + tier]])
    else:
        head = board.counts[HEAD + tier]
        v = int(board.queue[tier, head])
        board.counts[HEAD + tier] = head + 1 if head + 1 < board.queue.shape[1] else 0
    board.vertices[v, WAITS] &= ~(1 << tier)
    return v


@kernel(BOARD, i8)
def wake_neighbours(board: Board, v: int) -> None:
    begin, length = board.vertices[v, BEGIN], board.vertices[v, LENGTH]
    for i in range(begin, begin + length):
        u = int(board.pool[i])
        if board.vertices[u, ALIVE]:
            wait(board, u, SUMS)
    board.counts[STEPS] += length


@kernel(BOARD, i8)
def bury(board: Board, v: int) -> None:
    board.vertices[v, ALIVE] = 0
    board.counts[LEFT] -= 1
    board.counts[TOTAL] -= board.vertices[v, WEIGHT]


@kernel(BOARD, i8)
def delete(board: Board, v: int) -> None:
    bury(board, v)
    begin, length = board.vertices[v, BEGIN], board.vertices[v, LENGTH]
    for i in range(begin, begin + length):
        u = int(board.pool[i])
        if board.vertices[u, ALIVE]:
            board.vertices[u, DEGREE] -= 1
            wait(board, u, SUMS)
    board.counts[STEPS] += length + 1


@kernel(BOARD, i8)
def compact(board: Board, v: int) -> None:
    """Take the dead out of a list."""
    begin, length = board.vertices[v, BEGIN], board.vertices[v, LENGTH]
    if length == board.vertices[v, DEGREE]:
        return
    end = begin
    for i in range(begin, begin + length):
        u = board.pool[i]
        if board.vertices[u, ALIVE]:
            board.pool[end] = u
            end += 1
    board.vertices[v, LENGTH] = end - begin
    board.counts[STEPS] += length


@kernel(BOARD, i8, i8, i8, i8)
def note(board: Board, what: int, first: int, second: int, more: int) -> None:
    """Log an entry whose `more` further words are already written."""
    end = board.counts[LOGGED]
    board.log[end], board.log[end + 1], board.log[end + 2] = what, first, second
    board.counts[LOGGED] = end + 3 + more
    board.counts[ENTRIES] += 1
    board.ends[board.counts[ENTRIES]] = end + 3 + more


@kernel(BOARD, i8, i8)
def move(board: Board, v: int, length: int) -> None:
    """Make room for a list of this length. That the pool has it is known."""
    if length <= board.vertices[v, ROOM]:
        return
    begin, end = board.vertices[v, BEGIN], board.counts[POOLED]
    for i in range(board.vertices[v, LENGTH]):
        board.pool[end + i] = board.pool[begin + i]
    board.vertices[v, BEGIN], board.vertices[v, ROOM] = end, length + length // 2
    board.counts[POOLED] = end + length + length // 2
