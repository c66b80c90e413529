"""Minimum cost flow with unit arcs, exact: the network simplex, on a tree that always offers a way to push more flow to the root.

Cunningham's rule (https://doi.org/10.1007/BF01580379) for the leaving arc rules out cycling; the entering arc is the worst of a block
(Grigoriadis, https://doi.org/10.1007/BFb0121090), as in LEMON's implementation. Subtrees are kept as lists of children, so a change of
the tree costs the cycle and the smaller part that it re-hangs.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.kernels import i8, kernel, record
from pipeline_project.solvers.meter import Meter

UPPER, TREE, LOWER = -1, 0, 1


class _Simplex(NamedTuple):
    """Arcs are the paying ones, 0..a-1, of capacity 1, then the slack ones, that cost nothing and have no capacity.

    tail, head, cost, flow   int64[arcs]
    where                    int64[arcs]   UPPER, TREE, LOWER
    parent, arc, depth       int64[nodes]  of the tree; the arc to the parent
    child, left, right       int64[nodes]  first child; siblings; -1: none
    potential                int64[nodes]
    scratch                  int64[nodes]
    """

    tail: Int64
    head: Int64
    cost: Int64
    flow: Int64
    where: Int64
    parent: Int64
    arc: Int64
    depth: Int64
    child: Int64
    left: Int64
    right: Int64
    potential: Int64
    scratch: Int64


_SIMPLEX = record(_Simplex, (i8[::1],) * 13)


def most_valuable_flow(tail: Int64, head: Int64, weights: Int64, slack: tuple[Int64, Int64, Int64], meter: Meter) -> Bools | None:
    """bool[a]: which arcs carry flow so that their weights sum to the most; None where the meter does not allow it.

    tail, head, weights  int64[a]  arcs that take one unit at most
    slack                (tail, head, flow), int64[nodes - 1] each: arcs that take any flow and cost nothing; they form a tree, and
                         their flow, all of it positive, says with it what enters and leaves at every node
    """
    a, nodes = len(weights), len(slack[0]) + 1
    if not meter.affords(4 * a + 12 * nodes):
        return None
    arcs = a + nodes - 1
    s = _Simplex(
        *(np.concatenate((tail, slack[0])), np.concatenate((head, slack[1])), np.concatenate((-weights, np.zeros(nodes - 1, np.int64)))),
        *(np.concatenate((np.zeros(a, np.int64), slack[2])), np.repeat(np.array([LOWER, TREE]), (a, nodes - 1))),
        *(np.full(nodes, -1) for _ in range(6)),
        *(np.zeros(nodes, np.int64) for _ in range(2)),
    )
    _plant(s, a)
    meter.spend(4 * a + 12 * nodes)
    at, block = 0, max(16, int(np.sqrt(arcs)))
    while at >= 0:
        steps = meter.slice()
        if not steps:
            return None
        at, spent = _pivot(s, a, at, block, steps)
        meter.spend(spent)
    used: Bools = s.flow[:a] > 0
    return used


@kernel(_SIMPLEX, i8, i8)
def _hang(s: _Simplex, node: int, parent: int) -> None:
    first = s.child[parent]
    s.parent[node], s.left[node], s.right[node], s.child[parent] = parent, -1, first, node
    if first >= 0:
        s.left[first] = node


@kernel(_SIMPLEX, i8)
def _cut(s: _Simplex, node: int) -> None:
    left, right = s.left[node], s.right[node]
    if left >= 0:
        s.right[left] = right
    else:
        s.child[s.parent[node]] = right
    if right >= 0:
        s.left[right] = left


@kernel(_SIMPLEX, i8)
def _plant(s: _Simplex, a: int) -> None:
    """The tree of slack arcs, hung up at the last node."""
    nodes = len(s.parent)
    begin = np.zeros(nodes + 1, np.int64)
    for e in range(a, len(s.tail)):
        begin[s.tail[e]] += 1
        begin[s.head[e]] += 1
    begin[:] = np.cumsum(begin)
    near = np.empty(2 * (nodes - 1), np.int64)
    for e in range(a, len(s.tail)):
        for u in (s.tail[e], s.head[e]):
            begin[u] -= 1
            near[begin[u]] = e
    stack = s.scratch
    stack[0], size, s.depth[nodes - 1] = nodes - 1, 1, 0
    while size:
        size -= 1
        u = stack[size]
        for e in near[begin[u] : begin[u + 1]]:
            w = s.head[e] + s.tail[e] - u
            if s.depth[w] < 0:
                s.depth[w], s.arc[w] = s.depth[u] + 1, e
                _hang(s, w, u)
                stack[size] = w
                size += 1


@kernel(_SIMPLEX, i8, i8, i8, returns=i8)
def _entering(s: _Simplex, at: int, block: int, count: int) -> int:
    """The arc that promises most in the first block, from `at` on, that has any; -1: nothing is left to gain."""
    best, found, e = 0, -1, at
    for i in range(count):
        gain = s.where[e] * (s.cost[e] + s.potential[s.tail[e]] - s.potential[s.head[e]])
        if gain < best:
            best, found = gain, e
        e += 1
        if e == count:
            e = 0
        if found >= 0 and (i + 1) % block == 0:
            break
    return found


@kernel(_SIMPLEX, i8, i8, i8)
def _rehang(s: _Simplex, node: int, out: int, arc: int) -> None:
    """Hang the subtree of `out` by its `node` to the other end of `arc`."""
    below, via = s.head[arc] + s.tail[arc] - node, arc
    u = node
    while True:
        above, old = s.parent[u], s.arc[u]
        _cut(s, u)
        _hang(s, u, below)
        s.arc[u] = via
        if u == out:
            break
        below, via, u = u, old, above


@kernel(_SIMPLEX, i8, returns=i8)
def _update(s: _Simplex, top: int) -> int:
    """Depths and potentials in the subtree of `top`; returns its size."""
    e, above = s.arc[top], s.parent[top]
    new = s.potential[above] - s.cost[e] if s.tail[e] == top else s.potential[above] + s.cost[e]
    shift = new - s.potential[top]
    s.scratch[0], size, count = top, 1, 0
    while size:
        size -= 1
        u = s.scratch[size]
        s.depth[u] = s.depth[s.parent[u]] + 1
        s.potential[u] += shift
        count += 1
        w = s.child[u]
        while w >= 0:
            s.scratch[size] = w
            size += 1
            w = s.right[w]
    return count


@kernel(_SIMPLEX, i8, i8, returns=i8)
def _push(s: _Simplex, a: int, entering: int) -> int:
    """Send as much as goes around the cycle that an arc closes, and let the arc that stops it leave; returns what it cost."""
    sign = s.where[entering]
    first, second = s.tail[entering], s.head[entering]
    if sign == UPPER:
        first, second = second, first
    # What comes down to `first` goes up from `second`; of those that stop it the last in the direction of the cycle, seen from
    # where both ways meet, leaves: so the tree stays strongly feasible.
    from_first, from_second, cost = 2, 2, 0
    out_first = out_second = -1
    u, w = first, second
    while u != w:
        cost += 1
        if s.depth[u] >= s.depth[w]:
            e = s.arc[u]
            room = s.flow[e] if s.tail[e] == u else (1 - s.flow[e] if e < a else 2)
            if room < from_first:
                from_first, out_first = room, u
            u = s.parent[u]
        else:
            e = s.arc[w]
            room = s.flow[e] if s.tail[e] != w else (1 - s.flow[e] if e < a else 2)
            if room <= from_second:
                from_second, out_second = room, w
            w = s.parent[w]
    delta = min(1, from_first, from_second)  # a cycle that gains something has a paying arc: never more than 1
    join = u
    if delta:
        s.flow[entering] += sign * delta
        for begin, direction in ((first, -1), (second, 1)):
            u = begin
            while u != join:
                e = s.arc[u]
                s.flow[e] += direction * delta if s.tail[e] == u else -direction * delta
                u = s.parent[u]
    own = 1 if entering < a else 2
    if from_first >= own and from_second > own:
        s.where[entering] = -sign  # nothing stops it but its own capacity
        return cost
    out, node = (out_second, second) if from_second <= from_first else (out_first, first)
    s.where[s.arc[out]] = LOWER if s.flow[s.arc[out]] == 0 else UPPER
    s.where[entering] = TREE
    _rehang(s, node, out, entering)
    return cost + _update(s, node)


@kernel(_SIMPLEX, i8, i8, i8, i8, returns=numba.types.UniTuple(i8, 2))
def _pivot(s: _Simplex, a: int, at: int, block: int, steps: int) -> tuple[int, int]:
    """Pivots until the steps are spent; returns where the next block begins (-1: optimal), and what they cost."""
    spent, arcs = 0, len(s.tail)
    while spent < steps:
        entering = _entering(s, at, block, arcs)
        if entering < 0:
            return -1, spent + arcs
        spent += 1 + (entering - at) % arcs + _push(s, a, entering)
        at = (entering + 1) % arcs
    return at, spent
