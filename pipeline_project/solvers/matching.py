"""Maximum weight matching in any graph, exact: Edmonds' blossoms, grown from one exposed vertex at a time, started from prices.

After Galil (https://doi.org/10.1145/6462.6502), with blossoms kept as circular lists as in van Rantwijk's implementation of it. Two
departures: each search grows one tree only, its events in a heap, so that its cost follows the tree and not the graph (Blossom V,
https://doi.org/10.1007/s12532-009-0002-8, keeps a tree from every exposed vertex); and duals begin at the resource prices, which leave
few vertices exposed. Everything in whole numbers: weights are doubled, and along a tree of tight edges all duals are even or all are odd.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.kernels import flag, i8, kernel
from pipeline_project.solvers.matching_blossoms import dissolve, expand, rebase, shrink
from pipeline_project.solvers.matching_forest import (
    EVENTS,
    FAR,
    FOREST,
    FREE,
    FULL,
    INNER,
    LIMIT,
    NOW,
    OUTER,
    STEPS,
    TOUCHED,
    Forest,
    dual_of,
    planted,
    pop,
    push,
    scan_all,
    set_label,
    settle_duals,
    top_of,
)
from pipeline_project.solvers.meter import Meter

PATIENCE: Final = 20  # steps per edge and vertex before the other start has its turn


def match(one: Int64, other: Int64, weights: Int64, prices: Int64, wanted: Bools, meter: Meter) -> Bools | None:
    """bool[e]: edges of greatest total weight of which no two share a vertex; None where the meter does not allow it.

    one, other  int64[e]  the two different vertices of each edge
    weights     int64[e]  >= 0; the sum of them all below 2**60
    prices      int64[v]  any guess at twice the price of each vertex

    Two searches take turns, each longer than the one before: one starts from the prices, the other from the highest weight all over.
    Where many weights are equal prices may be a mixture of many optima, and then it takes very long to get away from them.
    wanted      bool[e]   edges to begin with, where they turn out to be tight
    """
    e, v = len(weights), len(prices)
    cost = 16 * e + 60 * v
    if not e or not meter.affords(cost):
        return None if e else np.zeros(0, np.bool_)
    meter.spend(cost)
    flat = np.full(v, weights.max())
    forests = [_started(one, other, weights, prices, wanted), _started(one, other, weights, flat, np.zeros(e, np.bool_))]
    roots, turn = [0, 0], PATIENCE * (e + v)
    while not all(f.state[FULL] for f in forests):
        for i, f in enumerate(forests):
            root = _advance(f, roots[i], turn, meter)
            if root is None:
                return None
            if root == v:
                chosen = np.zeros(e, np.bool_)
                chosen[f.mate[f.mate >= 0] // 2] = True
                return chosen
            roots[i] = root
        turn *= 2
    return None


def _advance(f: Forest, root: int, turn: int, meter: Meter) -> int | None:
    """Search for so many steps; returns where it stopped, None: the meter did not allow it."""
    while turn > 0 and root < len(f.mate) and not f.state[FULL]:
        steps = meter.slice()
        if not steps:
            return None
        root = _match_from(f, root, min(steps, turn))
        meter.spend(int(f.state[STEPS]))
        turn -= int(f.state[STEPS])
    return -1 if f.state[FULL] else root


def _started(one: Int64, other: Int64, weights: Int64, duals: Int64, wanted: Bools) -> Forest:
    f = planted(one, other, weights, duals)
    _start(f, wanted)
    return f


@kernel(FOREST, flag[::1])
def _start(f: Forest, wanted: Bools) -> None:
    """Duals as low as their neighbours' allow, one vertex after the other; then a matching of tight edges."""
    for _ in range(2):  # from the guesses; then what others have made superfluous
        for u in range(len(f.mate)):
            need = 0
            for i in range(f.starts[u], f.starts[u + 1]):
                need = max(need, f.worth[f.near[i] // 2] - f.dual[f.ends[f.near[i]]])
            f.dual[u] = need
    for wants in (True, False):
        for k in range(len(f.worth)):
            a, b = f.ends[2 * k], f.ends[2 * k + 1]
            if wanted[k] == wants and f.mate[a] < 0 and f.mate[b] < 0 and f.dual[a] + f.dual[b] == f.worth[k]:
                f.mate[a], f.mate[b] = 2 * k + 1, 2 * k


@kernel(FOREST, i8, i8)
def _grow(f: Forest, b: int, p: int) -> None:
    """Take the free node b, reached at end p, and its mate into the tree."""
    out = f.mate[f.base[b]]
    node = top_of(f, f.ends[out])
    set_label(f, b, INNER, p ^ 1)
    set_label(f, node, OUTER, out ^ 1)
    scan_all(f, node)


@kernel(FOREST, i8, i8)
def _augment(f: Forest, u: int, mate: int) -> None:
    """Match outer vertex u to the end `mate` (-1: leave it exposed), and swap all the way up to the root."""
    while True:
        top = top_of(f, u)
        rebase(f, top, u)
        f.mate[u] = mate
        if f.via[top] < 0:
            return
        inner = top_of(f, f.ends[f.via[top]])
        via = f.via[inner]
        rebase(f, inner, f.ends[via ^ 1])
        f.mate[f.ends[via ^ 1]] = via
        u, mate = f.ends[via], via ^ 1
        f.state[STEPS] += 4


@kernel(FOREST, i8, returns=flag)
def _meet(f: Forest, p: int) -> bool:
    """An edge may have become tight, seen from its outer end p ^ 1. Returns whether that ends the search."""
    u, w = f.ends[p ^ 1], f.ends[p]
    node = top_of(f, w)
    label = f.label[node]
    if top_of(f, u) == node or label == INNER:
        return False
    slack = dual_of(f, u) + dual_of(f, w) - f.worth[p // 2]
    if slack > 0:
        push(f, f.state[NOW] + (slack // 2 if label == OUTER else slack), p)
    elif label == OUTER:
        shrink(f, p)
    elif f.mate[f.base[node]] >= 0:
        _grow(f, node, p)
    else:
        rebase(f, node, w)
        f.mate[w] = p ^ 1
        _augment(f, u, p)
        return True
    return False


@kernel(FOREST, i8)
def _search(f: Forest, root: int) -> None:
    """Grow a tree until its root can be matched, or another vertex, whose dual is zero, left exposed in its place."""
    state, e2 = f.state, len(f.ends)
    state[NOW], state[EVENTS], state[TOUCHED], state[LIMIT] = 0, 0, 0, FAR
    set_label(f, top_of(f, root), OUTER, -1)
    scan_all(f, top_of(f, root))
    while not state[FULL]:
        event = pop(f)
        if event < 0:
            _augment(f, -1 - event, -1)
            break
        if event < e2:
            if _meet(f, event):
                break
        elif f.label[event - e2] == INNER and f.parent[event - e2] < 0:
            expand(f, event - e2)
    for i in range(state[TOUCHED]):
        node = f.touched[i]
        f.joined[node] = node
        if f.label[node] != FREE:
            settle_duals(f, node)
            f.label[node] = FREE
            dissolve(f, node)


@kernel(FOREST, i8, i8, returns=i8)
def _match_from(f: Forest, root: int, steps: int) -> int:
    """Search from every exposed vertex of positive dual, from `root` on, until the steps are spent; returns where it stopped."""
    f.state[STEPS] = 0
    while root < len(f.mate) and f.state[STEPS] < steps and not f.state[FULL]:
        if f.mate[root] < 0 and f.dual[root] > 0:
            _search(f, root)
        f.state[STEPS] += 1
        root += 1
    return root
