"""What a search for a matching knows: nodes, labels, duals as of a time, and a heap of the events to come. See `matching`."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.solvers.kernels import i8, kernel, record

FREE, OUTER, INNER = 0, 1, 2  # outer: at even distance from the root of the tree, its dual falls; inner: its dual rises
NOW, EVENTS, LIMIT, SPARE, TOUCHED, STAMP, STEPS, FULL = range(8)  # places in `state`
FAR: Final = 2**62


class Forest(NamedTuple):
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


FOREST = record(Forest, (i8[::1],) * 22 + (i8[:, ::1],) + (i8[::1],) * 3)


def planted(one: Int64, other: Int64, weights: Int64, prices: Int64) -> Forest:
    e, v = len(weights), len(prices)
    ends = np.stack((one, other), 1).ravel()
    near = np.argsort(ends, kind="stable") ^ 1
    starts = starts_of(np.bincount(ends, minlength=v))
    nodes = np.arange(2 * v)
    none, zero = np.full(2 * v, -1), np.zeros(2 * v, np.int64)
    dual = np.concatenate((prices, np.zeros(v, np.int64)))
    state = np.array([0, 0, FAR, v, 0, 0, 0, 0])
    heap = 6 * e + 8 * v + 64
    return Forest(
        *(ends, 2 * weights, starts, near, np.full(v, -1), np.arange(v), nodes.copy(), np.ones(2 * v, np.int64)),
        *(dual, zero.copy(), none.copy(), zero.copy(), none.copy()),
        *(nodes, none.copy(), none.copy(), none.copy(), none.copy(), zero.copy(), np.arange(2 * v - 1, v - 1, -1)),
        *(np.empty(4 * v + 64, np.int64), np.empty(v, np.int64), np.empty((2 * v + 2, 2), np.int64)),
        *(np.empty(heap, np.int64), np.empty(heap, np.int64), state),
    )


@kernel(FOREST, i8, i8)
def push(f: Forest, time: int, event: int) -> None:
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


@kernel(FOREST, returns=i8)
def pop(f: Forest) -> int:
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


@kernel(FOREST, i8, returns=i8)
def top_of(f: Forest, u: int) -> int:
    """The top node of a vertex, now."""
    node = f.inside[u]
    while f.joined[node] != node:
        f.joined[node] = f.joined[f.joined[node]]
        node = f.joined[node]
    return int(node)


@kernel(FOREST, i8, returns=i8)
def dual_of(f: Forest, u: int) -> int:
    """Of a vertex, now."""
    top = top_of(f, u)
    if f.label[top] == FREE:
        return int(f.dual[u])
    gone = f.state[NOW] - f.entered[top]
    return int(f.dual[u] - gone if f.label[top] == OUTER else f.dual[u] + gone)


@kernel(FOREST, i8, returns=i8)
def collect(f: Forest, b: int) -> int:
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


@kernel(FOREST, i8)
def settle_duals(f: Forest, b: int) -> None:
    """Bring the stored duals of a top node up to now."""
    gone = f.state[NOW] - f.entered[b]
    f.entered[b] = f.state[NOW]
    if f.label[b] == FREE or gone == 0:
        return
    sign = 1 if f.label[b] == INNER else -1
    for i in range(collect(f, b)):
        f.dual[f.leaves[i]] += sign * gone
    if b >= len(f.mate):
        f.dual[b] -= 2 * sign * gone


@kernel(FOREST, i8, i8, i8)
def set_label(f: Forest, b: int, label: int, via: int) -> None:
    f.label[b], f.via[b], f.entered[b] = label, via, f.state[NOW]
    if f.state[TOUCHED] == len(f.touched):
        f.state[FULL] = 1
        return
    f.touched[f.state[TOUCHED]] = b
    f.state[TOUCHED] += 1
    if label == INNER and b >= len(f.mate):
        time = f.state[NOW] + f.dual[b] // 2
        if time < f.state[LIMIT]:
            push(f, time, len(f.ends) + b)


@kernel(FOREST, i8)
def scan(f: Forest, u: int) -> None:
    """Vertex u has become outer: when will its dual be zero, when its edges tight?"""
    now, top, mine = f.state[NOW], top_of(f, u), dual_of(f, u)
    f.state[STEPS] += 1 + f.starts[u + 1] - f.starts[u]
    if now + mine < f.state[LIMIT]:
        f.state[LIMIT] = now + mine
        push(f, now + mine, -1 - u)
    for i in range(f.starts[u], f.starts[u + 1]):
        p = f.near[i]
        w = f.ends[p]
        node = top_of(f, w)
        if node == top or f.label[node] == INNER:
            continue
        slack = mine + dual_of(f, w) - f.worth[p // 2]
        time = now + (slack // 2 if f.label[node] == OUTER else slack)
        if time >= f.state[LIMIT]:
            continue
        if f.label[node] == FREE and f.mate[f.base[node]] < 0:
            f.state[LIMIT] = time  # by then this search ends
        push(f, time, p)


@kernel(FOREST, i8)
def scan_all(f: Forest, b: int) -> None:
    for i in range(collect(f, b)):
        scan(f, f.leaves[i])
