"""Blossoms of a search for a matching: made of an odd cycle, opened again, and matched inside. See `matching`."""

from __future__ import annotations

from pipeline_project.solvers.kernels import i8, kernel
from pipeline_project.solvers.matching_forest import (
    FOREST,
    FREE,
    INNER,
    LIMIT,
    NOW,
    OUTER,
    SPARE,
    STAMP,
    STEPS,
    Forest,
    collect,
    dual_of,
    push,
    scan_all,
    set_label,
    settle_duals,
    top_of,
)


@kernel(FOREST, i8, i8, returns=i8)
def meeting(f: Forest, one: int, other: int) -> int:
    """The last common ancestor of two outer nodes."""
    f.state[STAMP] += 1
    while True:
        if one >= 0:
            if f.mark[one] == f.state[STAMP]:
                return one
            f.mark[one] = f.state[STAMP]
            one = -1 if f.via[one] < 0 else top_of(f, f.ends[f.via[top_of(f, f.ends[f.via[one]])]])
        one, other = other, one


@kernel(FOREST, i8, i8)
def link(f: Forest, p: int, top: int) -> None:
    """Make a ring of the nodes on the cycle that edge p // 2 closes below their common ancestor."""
    one, other = top_of(f, f.ends[p ^ 1]), top_of(f, f.ends[p])
    node = one
    while node != top:
        up = top_of(f, f.ends[f.via[node]])
        f.after[up], f.before[node], f.after_end[up] = node, up, f.via[node]
        node = up
    f.after[one], f.before[other], f.after_end[one] = other, one, p ^ 1
    node = other
    while node != top:
        up = top_of(f, f.ends[f.via[node]])
        f.after[node], f.before[up], f.after_end[node] = up, node, f.via[node] ^ 1
        node = up


@kernel(FOREST, i8)
def shrink(f: Forest, p: int) -> None:
    """Two outer nodes are joined by a tight edge, seen from its end p ^ 1: the cycle becomes a blossom."""
    top = meeting(f, top_of(f, f.ends[p ^ 1]), top_of(f, f.ends[p]))
    link(f, p, top)
    f.state[SPARE] -= 1
    b, node, largest = f.spare[f.state[SPARE]], top, top_of(f, f.ends[p])
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
            settle_duals(f, node)
            for i in range(collect(f, node)):
                f.dual[f.leaves[i]] += f.state[NOW] - begin
        elif node >= len(f.mate):
            f.dual[node] += 2 * (f.state[NOW] - begin)
        f.parent[node] = f.joined[node] = b
        node = f.after[node]
        if node == top:
            break
    set_label(f, b, OUTER, f.via[top])
    f.entered[b], f.dual[b] = begin, 2 * (begin - f.state[NOW])
    while True:
        if f.label[node] == INNER:
            scan_all(f, node)
        f.label[node] = FREE
        node = f.after[node]
        if node == top:
            break


@kernel(FOREST, i8)
def watch(f: Forest, b: int) -> None:
    """Node b has become free: when will edges from outer vertices reach it?"""
    for i in range(collect(f, b)):
        u = f.leaves[i]
        f.state[STEPS] += f.starts[u + 1] - f.starts[u]
        for k in range(f.starts[u], f.starts[u + 1]):
            p = f.near[k]
            w = f.ends[p]
            if f.label[top_of(f, w)] == OUTER:
                time = f.state[NOW] + f.dual[u] + dual_of(f, w) - f.worth[p // 2]
                if time < f.state[LIMIT]:
                    push(f, time, p ^ 1)


@kernel(FOREST, i8)
def expand(f: Forest, b: int) -> None:
    """The dual of inner blossom b has come to zero: its children on the even way from where it was entered to its base stay in the
    tree, the others are free."""
    settle_duals(f, b)
    via, first = f.via[b], f.first[b]
    node = first
    while True:
        f.parent[node], f.label[node], f.entered[node] = -1, FREE, f.state[NOW]
        for i in range(collect(f, node)):
            f.inside[f.leaves[i]] = node
        node = f.after[node]
        if node == first:
            break
    f.label[b] = FREE
    f.spare[f.state[SPARE]] = b
    f.state[SPARE] += 1
    entry = top_of(f, f.ends[via ^ 1])
    forward, node = False, first
    while node != entry:
        node, forward = f.after[node], not forward
    while node != first:
        set_label(f, node, INNER, via)
        outer = f.after[node] if forward else f.before[node]
        set_label(f, outer, OUTER, f.after_end[node] if forward else f.after_end[outer] ^ 1)
        node = f.after[outer] if forward else f.before[outer]
        via = f.after_end[outer] if forward else f.after_end[node] ^ 1
    set_label(f, first, INNER, via)
    node = first
    while True:  # scans look at labels, so all of them are set by now
        following = f.after[node]
        if f.label[node] == OUTER:
            scan_all(f, node)
        elif f.label[node] == FREE:
            watch(f, node)
        node = following
        if node == first:
            break


@kernel(FOREST, i8, i8)
def rebase(f: Forest, b: int, u: int) -> None:
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


@kernel(FOREST, i8)
def dissolve(f: Forest, node: int) -> None:
    """Break up top blossoms whose dual is zero: nothing needs them, and the next search would have to expand them one by one."""
    v = len(f.mate)
    f.tasks[0, 0], tasks = node, 1
    while tasks:
        tasks -= 1
        b = f.tasks[tasks, 0]
        if b < v:
            f.inside[b] = b
        elif f.dual[b] > 0:
            for i in range(collect(f, b)):
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
