"""Maximum weight matching in any graph, exact: Edmonds' blossoms, grown from one exposed vertex at a time, started from prices.

After Galil (https://doi.org/10.1145/6462.6502), with blossoms kept as circular lists as in van Rantwijk's implementation of it. Two
departures: each search grows one tree only, its events in a heap, so that its cost follows the tree and not the graph (Blossom V,
https://doi.org/10.1007/s12532-009-0002-8, keeps a tree from every exposed vertex); and duals begin at the resource prices, which leave
few vertices exposed. Everything in whole numbers: weights are doubled, and along a tree of tight edges all duals are even or all are odd.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Bools, Int64, starts_of
from pipeline_project.solvers.kernels import flag, i8, kernel, record
from pipeline_project.solvers.meter import Meter

FREE, OUTER, INNER = 0, 1, 2  # outer: at even distance from the root of the tree, its dual falls; inner: its dual rises
NOW, EVENTS, LIMIT, SPARE, TOUCHED, STAMP, STEPS, FULL = range(8)  # places in `state`
FAR: Final = 2**62
PATIENCE: Final = 20  # steps per edge and vertex before the other start has its turn


class _Forest(NamedTuple):
    """Nodes are vertices 0..v-1 and blossoms v..2v-1; a top node lies in no blossom. End p of edge p // 2 lies opposite end p ^ 1.

    ends       int64[2e]   vertex at each end
    worth      int64[e]    doubled weights
    starts     int64[v+1]  near[starts[u]:starts[u + 1]] are the ends opposite of u
    near       int64[2e]
    mate       int64[v]    the end opposite of u in the matching, -1: exposed
    inside     int64[v]    top node of each vertex, when the search began
    joined     int64[2v]   blossom that a top node has become part of since then, as in union-find; else itself
    size       int64[2v]   vertices of a node
    dual       int64[2v]   as of the time when the top node was `entered`
    label      int64[2v]   of top nodes
    via        int64[2v]   the end, outside of a labelled node, of the edge through which it was labelled; -1: root
    entered    int64[2v]   time
    parent     int64[2v]   blossom that a node lies in, -1: none
    base       int64[2v]   the vertex of a node that is matched to the outside, or exposed
    first      int64[2v]   child of a blossom that has its base
    after      int64[2v]   next child around the blossom, `before` the one before it
    after_end  int64[2v]   of the edge to the next child, the end in this one
    mark       int64[2v]   for finding common ancestors
    spare      int64[v]    blossom numbers not in use
    touched    int64[4v]   nodes labelled in this search
    leaves     int64[v]    scratch; `tasks` int64[2v, 2] too
    times      int64[h]    heap of events: time, and `events` what: edge end, 2e + blossom (expands), -1 - vertex (dual is zero)
    state      int64[8]
    """

    ends: Int64
    worth: Int64
    starts: Int64
    near: Int64
    mate: Int64
    inside: Int64
    joined: Int64
    size: Int64
    dual: Int64
    label: Int64
    via: Int64
    entered: Int64
    parent: Int64
    base: Int64
    first: Int64
    after: Int64
    before: Int64
    after_end: Int64
    mark: Int64
    spare: Int64
    touched: Int64
    leaves: Int64
    tasks: Int64
    times: Int64
    events: Int64
    state: Int64


_FOREST = record(_Forest, (i8[::1],) * 22 + (i8[:, ::1],) + (i8[::1],) * 3)


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


def _advance(f: _Forest, root: int, turn: int, meter: Meter) -> int | None:
    """Search for so many steps; returns where it stopped, None: the meter did not allow it."""
    while turn > 0 and root < len(f.mate) and not f.state[FULL]:
        steps = meter.slice()
        if not steps:
            return None
        root = _match_from(f, root, min(steps, turn))
        meter.spend(int(f.state[STEPS]))
        turn -= int(f.state[STEPS])
    return -1 if f.state[FULL] else root


def _started(one: Int64, other: Int64, weights: Int64, duals: Int64, wanted: Bools) -> _Forest:
    f = _forest(one, other, weights, duals)
    _start(f, wanted)
    return f


def _forest(one: Int64, other: Int64, weights: Int64, prices: Int64) -> _Forest:
    e, v = len(weights), len(prices)
    ends = np.stack((one, other), 1).ravel()
    near = np.argsort(ends, kind="stable") ^ 1
    starts = starts_of(np.bincount(ends, minlength=v))
    nodes = np.arange(2 * v)
    none, zero = np.full(2 * v, -1), np.zeros(2 * v, np.int64)
    dual = np.concatenate((prices, np.zeros(v, np.int64)))
    state = np.array([0, 0, FAR, v, 0, 0, 0, 0])
    heap = 6 * e + 8 * v + 64
    return _Forest(
        *(ends, 2 * weights, starts, near, np.full(v, -1), np.arange(v), nodes.copy(), np.ones(2 * v, np.int64)),
        *(dual, zero.copy(), none.copy(), zero.copy(), none.copy()),
        *(nodes, none.copy(), none.copy(), none.copy(), none.copy(), zero.copy(), np.arange(2 * v - 1, v - 1, -1)),
        *(np.empty(4 * v + 64, np.int64), np.empty(v, np.int64), np.empty((2 * v + 2, 2), np.int64)),
        *(np.empty(heap, np.int64), np.empty(heap, np.int64), state),
    )


@kernel(_FOREST, flag[::1])
def _start(f: _Forest, wanted: Bools) -> None:
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


@kernel(_FOREST, i8, i8)
def _push(f: _Forest, time: int, event: int) -> None:
    size = f.state[EVENTS]
    if size == len(f.times):
        f.state[FULL] = 1
        return
    f.state[EVENTS] = size + 1
    f.state[STEPS] += 1
    at = size
    while at > 0 and f.times[(at - 1) // 2] > time:
        f.times[at], f.events[at] = f.times[(at - 1) // 2], f.events[(at - 1) // 2]
        at = (at - 1) // 2
    f.times[at], f.events[at] = time, event


@kernel(_FOREST, returns=i8)
def _pop(f: _Forest) -> int:
    """Advance to the next event, and say what it is."""
    event, size = f.events[0], f.state[EVENTS] - 1
    f.state[NOW] = f.times[0]
    f.state[EVENTS] = size
    f.state[STEPS] += 3
    time, last, at = f.times[size], f.events[size], 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and f.times[child + 1] < f.times[child]:
            child += 1
        if f.times[child] >= time:
            break
        f.times[at], f.events[at] = f.times[child], f.events[child]
        at = child
    f.times[at], f.events[at] = time, last
    return int(event)


@kernel(_FOREST, i8, returns=i8)
def _top(f: _Forest, u: int) -> int:
    """The top node of a vertex, now."""
    node = f.inside[u]
    while f.joined[node] != node:
        f.joined[node] = f.joined[f.joined[node]]
        node = f.joined[node]
    return int(node)


@kernel(_FOREST, i8, returns=i8)
def _dual(f: _Forest, u: int) -> int:
    """Of a vertex, now."""
    top = _top(f, u)
    if f.label[top] == FREE:
        return int(f.dual[u])
    gone = f.state[NOW] - f.entered[top]
    return int(f.dual[u] - gone if f.label[top] == OUTER else f.dual[u] + gone)


@kernel(_FOREST, i8, returns=i8)
def _collect(f: _Forest, b: int) -> int:
    """Vertices of a node into `leaves`; returns how many."""
    v, count, node = len(f.mate), 0, b
    while True:
        while node >= v:
            node = f.first[node]
        f.leaves[count] = node
        count += 1
        while node != b:
            if f.after[node] != f.first[f.parent[node]]:
                node = f.after[node]
                break
            node = f.parent[node]
        if node == b:
            f.state[STEPS] += 2 * count
            return count


@kernel(_FOREST, i8)
def _settle_duals(f: _Forest, b: int) -> None:
    """Bring the stored duals of a top node up to now."""
    gone = f.state[NOW] - f.entered[b]
    f.entered[b] = f.state[NOW]
    if f.label[b] == FREE or gone == 0:
        return
    sign = 1 if f.label[b] == INNER else -1
    for i in range(_collect(f, b)):
        f.dual[f.leaves[i]] += sign * gone
    if b >= len(f.mate):
        f.dual[b] -= 2 * sign * gone


@kernel(_FOREST, i8)
def _scan(f: _Forest, u: int) -> None:
    """Vertex u has become outer: when will its dual be zero, when its edges tight?"""
    now, top, mine = f.state[NOW], _top(f, u), _dual(f, u)
    f.state[STEPS] += 1 + f.starts[u + 1] - f.starts[u]
    if now + mine < f.state[LIMIT]:
        f.state[LIMIT] = now + mine
        _push(f, now + mine, -1 - u)
    for i in range(f.starts[u], f.starts[u + 1]):
        p = f.near[i]
        w = f.ends[p]
        node = _top(f, w)
        if node == top or f.label[node] == INNER:
            continue
        slack = mine + _dual(f, w) - f.worth[p // 2]
        time = now + (slack // 2 if f.label[node] == OUTER else slack)
        if time >= f.state[LIMIT]:
            continue
        if f.label[node] == FREE and f.mate[f.base[node]] < 0:
            f.state[LIMIT] = time  # by then this search ends
        _push(f, time, p)


@kernel(_FOREST, i8, i8, i8)
def _set_label(f: _Forest, b: int, label: int, via: int) -> None:
    f.label[b], f.via[b], f.entered[b] = label, via, f.state[NOW]
    if f.state[TOUCHED] == len(f.touched):
        f.state[FULL] = 1
        return
    f.touched[f.state[TOUCHED]] = b
    f.state[TOUCHED] += 1
    if label == INNER and b >= len(f.mate):
        time = f.state[NOW] + f.dual[b] // 2
        if time < f.state[LIMIT]:
            _push(f, time, len(f.ends) + b)


@kernel(_FOREST, i8)
def _scan_all(f: _Forest, b: int) -> None:
    for i in range(_collect(f, b)):
        _scan(f, f.leaves[i])


@kernel(_FOREST, i8, i8)
def _grow(f: _Forest, b: int, p: int) -> None:
    """Take the free node b, reached at end p, and its mate into the tree."""
    out = f.mate[f.base[b]]
    node = _top(f, f.ends[out])
    _set_label(f, b, INNER, p ^ 1)
    _set_label(f, node, OUTER, out ^ 1)
    _scan_all(f, node)


@kernel(_FOREST, i8, i8, returns=i8)
def _meeting(f: _Forest, one: int, other: int) -> int:
    """The last common ancestor of two outer nodes."""
    f.state[STAMP] += 1
    while True:
        if one >= 0:
            if f.mark[one] == f.state[STAMP]:
                return one
            f.mark[one] = f.state[STAMP]
            one = -1 if f.via[one] < 0 else _top(f, f.ends[f.via[_top(f, f.ends[f.via[one]])]])
        one, other = other, one


@kernel(_FOREST, i8, i8)
def _link(f: _Forest, p: int, top: int) -> None:
    """Make a ring of the nodes on the cycle that edge p // 2 closes below their common ancestor."""
    one, other = _top(f, f.ends[p ^ 1]), _top(f, f.ends[p])
    node = one
    while node != top:
        up = _top(f, f.ends[f.via[node]])
        f.after[up], f.before[node], f.after_end[up] = node, up, f.via[node]
        node = up
    f.after[one], f.before[other], f.after_end[one] = other, one, p ^ 1
    node = other
    while node != top:
        up = _top(f, f.ends[f.via[node]])
        f.after[node], f.before[up], f.after_end[node] = up, node, f.via[node] ^ 1
        node = up


@kernel(_FOREST, i8)
def _shrink(f: _Forest, p: int) -> None:
    """Two outer nodes are joined by a tight edge, seen from its end p ^ 1: the cycle becomes a blossom."""
    top = _meeting(f, _top(f, f.ends[p ^ 1]), _top(f, f.ends[p]))
    _link(f, p, top)
    f.state[SPARE] -= 1
    b, node, largest = f.spare[f.state[SPARE]], top, _top(f, f.ends[p])
    f.first[b], f.base[b], f.parent[b], f.size[b] = top, f.base[top], -1, 0
    while True:
        f.size[b] += f.size[node]
        if f.label[node] == OUTER and f.size[node] > f.size[largest]:
            largest = node
        node = f.after[node]
        if node == top:
            break
    begin = f.entered[largest]  # its vertices need not be touched: a growing blossom would be walked through again and again
    while True:
        if node != largest:
            _settle_duals(f, node)
            for i in range(_collect(f, node)):
                f.dual[f.leaves[i]] += f.state[NOW] - begin
        elif node >= len(f.mate):
            f.dual[node] += 2 * (f.state[NOW] - begin)
        f.parent[node] = f.joined[node] = b
        node = f.after[node]
        if node == top:
            break
    _set_label(f, b, OUTER, f.via[top])
    f.entered[b], f.dual[b] = begin, 2 * (begin - f.state[NOW])
    while True:
        if f.label[node] == INNER:
            _scan_all(f, node)
        f.label[node] = FREE
        node = f.after[node]
        if node == top:
            break


@kernel(_FOREST, i8)
def _watch(f: _Forest, b: int) -> None:
    """Node b has become free: when will edges from outer vertices reach it?"""
    for i in range(_collect(f, b)):
        u = f.leaves[i]
        f.state[STEPS] += f.starts[u + 1] - f.starts[u]
        for k in range(f.starts[u], f.starts[u + 1]):
            p = f.near[k]
            w = f.ends[p]
            if f.label[_top(f, w)] == OUTER:
                time = f.state[NOW] + f.dual[u] + _dual(f, w) - f.worth[p // 2]
                if time < f.state[LIMIT]:
                    _push(f, time, p ^ 1)


@kernel(_FOREST, i8)
def _expand(f: _Forest, b: int) -> None:
    """The dual of inner blossom b has come to zero: its children on the even way from where it was entered to its base stay in the
    tree, the others are free."""
    _settle_duals(f, b)
    via, first = f.via[b], f.first[b]
    node = first
    while True:
        f.parent[node], f.label[node], f.entered[node] = -1, FREE, f.state[NOW]
        for i in range(_collect(f, node)):
            f.inside[f.leaves[i]] = node
        node = f.after[node]
        if node == first:
            break
    f.label[b] = FREE
    f.spare[f.state[SPARE]] = b
    f.state[SPARE] += 1
    entry = _top(f, f.ends[via ^ 1])
    forward, node = False, first
    while node != entry:
        node, forward = f.after[node], not forward
    while node != first:
        _set_label(f, node, INNER, via)
        outer = f.after[node] if forward else f.before[node]
        _set_label(f, outer, OUTER, f.after_end[node] if forward else f.after_end[outer] ^ 1)
        node = f.after[outer] if forward else f.before[outer]
        via = f.after_end[outer] if forward else f.after_end[node] ^ 1
    _set_label(f, first, INNER, via)
    node = first
    while True:  # scans look at labels, so all of them are set by now
        following = f.after[node]
        if f.label[node] == OUTER:
            _scan_all(f, node)
        elif f.label[node] == FREE:
            _watch(f, node)
        node = following
        if node == first:
            break


@kernel(_FOREST, i8, i8)
def _rebase(f: _Forest, b: int, u: int) -> None:
    """Match the inside of node b so that u is the vertex that is left over."""
    v, tasks = len(f.mate), 0
    if b >= v:
        f.tasks[0, 0], f.tasks[0, 1] = b, u
        tasks = 1
    while tasks:
        tasks -= 1
        b, u = f.tasks[tasks, 0], f.tasks[tasks, 1]
        child = u
        while f.parent[child] != b:
            child = f.parent[child]
        if child >= v:
            f.tasks[tasks, 0], f.tasks[tasks, 1] = child, u
            tasks += 1
        forward, node = False, f.first[b]
        while node != child:
            node, forward = f.after[node], not forward
        while node != f.first[b]:
            one = f.after[node] if forward else f.before[node]
            node = f.after[one] if forward else f.before[one]
            end = f.after_end[one] if forward else f.after_end[node] ^ 1
            for part, out in ((one, end), (node, end ^ 1)):
                f.mate[f.ends[out]] = out ^ 1
                if part >= v:
                    f.tasks[tasks, 0], f.tasks[tasks, 1] = part, f.ends[out]
                    tasks += 1
            f.state[STEPS] += 2
        f.first[b], f.base[b] = child, u


@kernel(_FOREST, i8, i8)
def _augment(f: _Forest, u: int, mate: int) -> None:
    """Match outer vertex u to the end `mate` (-1: leave it exposed), and swap all the way up to the root."""
    while True:
        top = _top(f, u)
        _rebase(f, top, u)
        f.mate[u] = mate
        if f.via[top] < 0:
            return
        inner = _top(f, f.ends[f.via[top]])
        via = f.via[inner]
        _rebase(f, inner, f.ends[via ^ 1])
        f.mate[f.ends[via ^ 1]] = via
        u, mate = f.ends[via], via ^ 1
        f.state[STEPS] += 4


@kernel(_FOREST, i8, returns=flag)
def _meet(f: _Forest, p: int) -> bool:
    """An edge may have become tight, seen from its outer end p ^ 1. Returns whether that ends the search."""
    u, w = f.ends[p ^ 1], f.ends[p]
    node = _top(f, w)
    label = f.label[node]
    if _top(f, u) == node or label == INNER:
        return False
    slack = _dual(f, u) + _dual(f, w) - f.worth[p // 2]
    if slack > 0:
        _push(f, f.state[NOW] + (slack // 2 if label == OUTER else slack), p)
    elif label == OUTER:
        _shrink(f, p)
    elif f.mate[f.base[node]] >= 0:
        _grow(f, node, p)
    else:
        _rebase(f, node, w)
        f.mate[w] = p ^ 1
        _augment(f, u, p)
        return True
    return False


@kernel(_FOREST, i8)
def _dissolve(f: _Forest, node: int) -> None:
    """Break up top blossoms whose dual is zero: nothing needs them, and the next search would have to expand them one by one."""
    v = len(f.mate)
    f.tasks[0, 0], tasks = node, 1
    while tasks:
        tasks -= 1
        b = f.tasks[tasks, 0]
        if b < v:
            f.inside[b] = b
        elif f.dual[b] > 0:
            for i in range(_collect(f, b)):
                f.inside[f.leaves[i]] = b
        else:
            child = f.first[b]
            while True:
                f.parent[child], f.tasks[tasks, 0] = -1, child
                tasks += 1
                child = f.after[child]
                if child == f.first[b]:
                    break
            f.state[STEPS] += 2
            f.spare[f.state[SPARE]] = b
            f.state[SPARE] += 1


@kernel(_FOREST, i8)
def _search(f: _Forest, root: int) -> None:
    """Grow a tree until its root can be matched, or another vertex, whose dual is zero, left exposed in its place."""
    state, e2 = f.state, len(f.ends)
    state[NOW], state[EVENTS], state[TOUCHED], state[LIMIT] = 0, 0, 0, FAR
    _set_label(f, _top(f, root), OUTER, -1)
    _scan_all(f, _top(f, root))
    while not state[FULL]:
        event = _pop(f)
        if event < 0:
            _augment(f, -1 - event, -1)
            break
        if event < e2:
            if _meet(f, event):
                break
        elif f.label[event - e2] == INNER and f.parent[event - e2] < 0:
            _expand(f, event - e2)
    for i in range(state[TOUCHED]):
        node = f.touched[i]
        f.joined[node] = node
        if f.label[node] != FREE:
            _settle_duals(f, node)
            f.label[node] = FREE
            _dissolve(f, node)


@kernel(_FOREST, i8, i8, returns=i8)
def _match_from(f: _Forest, root: int, steps: int) -> int:
    """Search from every exposed vertex of positive dual, from `root` on, until the steps are spent; returns where it stopped."""
    f.state[STEPS] = 0
    while root < len(f.mate) and f.state[STEPS] < steps and not f.state[FULL]:
        if f.mate[root] < 0 and f.dual[root] > 0:
            _search(f, root)
        f.state[STEPS] += 1
        root += 1
    return root
