"""Independent sets in a conflict graph, made smaller without losing the optimum, and the way back.

Where conflicts are few (roads, transit, sparse pairs) most of a graph, often all of it, is decided by looking at a vertex and what is
around it. All rules are exact for maximum weight independent sets: neighbourhood removal, pendants, domination, simplicial vertices,
twins and folds (Lamm, Schulz, Strash, Williger, Zhang 2019, https://arxiv.org/abs/1810.10834), unconfined vertices (Xiao, Huang, Zhou,
Ding 2021, "Efficient reductions and a fast algorithm of maximum weighted independent set") and extended weighted struction (Gellner,
Lamm, Schulz, Strash, Zavalnij 2021, https://arxiv.org/abs/2008.05180), of which a fold is the simplest case. We depart from the last in
that growth is never undone: a struction may leave a few vertices more, which mostly pays off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int32, Int64, starts_of
from pipeline_project.solvers.graph_board import (
    ALIVE,
    BEGIN,
    BOARD,
    DEGREE,
    ENTRIES,
    GAVE_LEAF,
    GAVE_STRUCTION,
    GAVE_SWAP,
    GAVE_TWIN,
    LEFT,
    LENGTH,
    LOGGED,
    OFFSET,
    POOLED,
    ROOM,
    RULES,
    SCRATCH,
    STEPS,
    SUMS,
    TAIL,
    TIERS,
    TOTAL,
    USED,
    WAITS,
    WEIGHT,
    Board,
    delete,
)
from pipeline_project.solvers.graph_rules import ENTRY_MAX, run
from pipeline_project.solvers.kernels import flag, i4, i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Bools

WINDOW_MIN: Final = 100_000  # a small graph is not given up for want of progress before so many steps
PROGRESS: Final = 256  # a window of steps must take away one vertex in so many


class Graph(NamedTuple):
    """An undirected graph without loops and repeated edges; each edge stands at both of its ends.

    starts      int64[n + 1]           the neighbours of vertex v are neighbours[starts[v]:starts[v + 1]]
    neighbours  int32 or int64[2 * e]
    """

    starts: Int64
    neighbours: NDArray[np.signedinteger]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernelized:
    """A smaller graph, and the way back: optimum(original) = offset + optimum(graph).

    graph        what is left to decide, numbered anew; neighbours ascend
    weights      int64[nk]  >= 1; their sum does not exceed that of the original, or 2**62 if that is more
    offset       what is decided already, in points
    exhausted    no rule applies any more; False when steps or memory were spent, or too little came of them
    steps        work done, about one visited edge each
    fired        how often each rule was applied, by its name
    n            vertices of the original
    ids          numbers that were used on the way
    survivors    int64[nk]  under which number each vertex of the graph was last known; below n not always the vertex of that number
    log, ends    what was done: entry i is log[ends[i]:ends[i + 1]]
    """

    graph: Graph
    weights: Int64
    offset: int
    exhausted: bool
    steps: int
    fired: dict[str, int]
    n: int
    ids: int
    survivors: Int64
    log: Int32
    ends: Int64

    def restore(self, chosen: Bools) -> Bools:
        """bool[nk] -> bool[n]: an independent set of the graph of weight W becomes one of the original of weight offset + W."""
        state = np.zeros(self.ids, np.bool_)
        state[self.survivors] = chosen
        _replay_backward(self.log, self.ends, state)
        return state[: self.n]

    def project(self, chosen: Bools) -> Bools:
        """bool[n] -> bool[nk]: an independent set of the original becomes one of the graph.

        Restored it is worth at least as much, unless the rule "unconfined" took one of the chosen away: then it may be worth less.
        """
        state = np.zeros(self.ids, np.bool_)
        state[: self.n] = chosen
        _replay_forward(self.log, self.ends, state)
        return state[self.survivors]


def kernelize(graph: Graph, weights: Int64, meter: Meter) -> Kernelized:
    """Reduce until no rule applies, or the meter allows no more, or half a pass's worth of steps took almost nothing away.

    graph    is not changed
    weights  int64[n]  >= 0, their sum fits int64; whoever is worth nothing is dropped
    Any budget leaves a correct answer; the last rule may exceed it by the degrees that it meets. O(n + e) before and after.
    """
    board = _board(graph, weights)
    counts = board.counts
    exhausted = _reduce(board, max(WINDOW_MIN, (len(weights) + len(graph.neighbours)) // 2), meter)
    survivors = np.flatnonzero(board.vertices[: counts[USED], ALIVE])
    starts = starts_of(board.vertices[survivors, DEGREE])
    neighbours = np.empty(starts[-1], np.int32)
    _gather(board, survivors, starts[:-1].copy(), neighbours)
    return Kernelized(
        graph=Graph(starts, neighbours),
        weights=board.vertices[survivors, WEIGHT],
        offset=int(counts[OFFSET]),
        exhausted=bool(exhausted),
        steps=int(counts[STEPS]),
        fired=dict(zip(RULES, board.fired.tolist(), strict=True)),
        n=len(weights),
        ids=int(counts[USED]),
        survivors=survivors,
        log=board.log[: counts[LOGGED]].copy(),
        ends=board.ends[: counts[ENTRIES] + 1].copy(),
    )


def _reduce(board: Board, window: int, meter: Meter) -> bool:
    """Whether it ended because no rule applies any more. The clock is looked at after each window."""
    counts = board.counts
    while meter.affords(1):
        begin, before = int(counts[STEPS]), int(counts[LEFT])
        exhausted = run(board, begin + min(window, meter.left))
        done = int(counts[STEPS]) - begin
        meter.spend(done)
        if exhausted:
            return True
        if done < window or (before - int(counts[LEFT])) * PROGRESS < before:
            return False
    return False


def _board(graph: Graph, weights: Int64) -> Board:
    n, ends = len(weights), len(graph.neighbours)
    ids = n + n // 4 + 64
    assert ids < 2**31, "vertices are numbered with 32 bits"
    board = Board(
        vertices=np.zeros((ids, 8), np.int64),
        pool=np.empty(2 * ends + 8 * n + 1_024, np.int32),
        queue=np.empty((TIERS, ids + 1), np.int32),
        log=np.empty(8 * n + ends + 2 * ENTRY_MAX, np.int32),
        ends=np.zeros(2 * n + 256, np.int64),
        counts=np.zeros(TAIL + TIERS, np.int64),
        fired=np.zeros(len(RULES), np.int64),
        scratch=np.zeros(SCRATCH, np.int64),
    )
    board.pool[:ends] = graph.neighbours
    # Vertices of low degree first: where a graph is sparse in part, that part is done before the dense rest looks hopeless.
    order = np.argsort(np.diff(graph.starts), kind="stable")
    _fill(board, np.require(graph.starts, np.int64, ["C", "W"]), np.require(weights, np.int64, ["C", "W"]), order)
    return board


@kernel(BOARD, i8[::1], i8[::1], i8[::1])
def _fill(board: Board, starts: Int64, weights: Int64, order: Int64) -> None:
    """Everybody lives and waits, the first of `order` on top of the stack; then those who are worth nothing go."""
    n, vertices, counts = len(weights), board.vertices, board.counts
    for v in range(n):
        vertices[v, WEIGHT], vertices[v, BEGIN], vertices[v, WAITS], vertices[v, ALIVE] = weights[v], starts[v], 1, 1
        vertices[v, LENGTH] = vertices[v, ROOM] = vertices[v, DEGREE] = starts[v + 1] - starts[v]
        board.queue[SUMS, v] = order[n - 1 - v]
        counts[TOTAL] += weights[v]
    counts[TAIL + SUMS], counts[LEFT], counts[USED], counts[POOLED] = n, n, n, starts[n]
    for v in range(n):
        if weights[v] == 0:
            delete(board, v)


@kernel(BOARD, i8[::1], i8[::1], i4[::1])
def _gather(board: Board, survivors: Int64, ends: Int64, neighbours: Int32) -> None:
    """The living under new numbers. Each is written into the lists of its neighbours when its turn comes, which leaves them sorted."""
    number = np.empty(board.counts[USED], np.int64)
    for i in range(len(survivors)):
        number[survivors[i]] = i
    for i in range(len(survivors)):
        begin = board.vertices[survivors[i], BEGIN]
        for k in range(begin, begin + board.vertices[survivors[i], LENGTH]):
            u = board.pool[k]
            if board.vertices[u, ALIVE]:
                neighbours[ends[number[u]]] = i
                ends[number[u]] += 1


@kernel(i4[::1], i8[::1], flag[::1])
def _replay_backward(log: Int32, ends: Int64, state: Bools) -> None:
    for entry in range(len(ends) - 2, -1, -1):
        at = ends[entry]
        what, first, second = log[at], log[at + 1], log[at + 2]
        if what == GAVE_LEAF:  # in, unless one of the neighbours that were left is
            state[first] = True
            for i in range(second):
                if state[log[at + 3 + i]]:
                    state[first] = False
        elif what == GAVE_TWIN:
            state[first] = state[second]
        elif what == GAVE_STRUCTION:
            degree, sets, used, near, chosen = int(second), int(log[at + 3]), int(log[at + 4]), at + 5, -1
            for j in range(sets):
                x = int(log[near + j]) if j < degree else int(first) if j == degree else used + j - degree - 1
                if state[x]:
                    chosen = j
            state[first] = chosen < 0
            for i in range(degree):
                state[log[near + i]] = chosen >= 0 and bool(log[near + degree + chosen] >> i & 1)


@kernel(i4[::1], i8[::1], flag[::1])
def _replay_forward(log: Int32, ends: Int64, state: Bools) -> None:
    for entry in range(len(ends) - 1):
        at = ends[entry]
        what, first, second = log[at], log[at + 1], log[at + 2]
        if what == GAVE_SWAP:  # second was dominated by first
            state[first] = state[first] or state[second]
        elif what == GAVE_TWIN:
            state[second] = state[second] or state[first]
        elif what == GAVE_STRUCTION:
            degree, sets, used, near, chosen = int(second), int(log[at + 3]), int(log[at + 4]), at + 5, 0
            for i in range(degree):
                chosen |= int(state[log[near + i]]) << i
            for j in range(sets):
                x = int(log[near + j]) if j < degree else int(first) if j == degree else used + j - degree - 1
                state[x] = int(log[near + degree + j]) == chosen
