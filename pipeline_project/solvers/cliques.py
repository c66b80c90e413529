"""Conflicts that came as pairs, put together again: one row "at most one of these" says more than all its pairs, in less space."""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.kernels import flag, i8, kernel
from pipeline_project.solvers.solver import Bools

CANDIDATES_MAX: Final = 4_096  # who conflicts with whom is a square table here


def merge_pairs(inc: Incidence, pairs: Bools) -> list[Int64]:
    """Cliques that together say what the rows marked in `pairs` (capacity 1, two holders of 1 each) say.

    Greedy edge clique cover: an edge that no clique covers yet is grown until nobody is adjacent to all its members. O(n) per member.
    """
    rows = np.flatnonzero(pairs)
    first, second = (inc.holders[inc.row_starts[rows] + i].astype(np.int64) for i in range(2))
    if not len(rows) or inc.n > CANDIDATES_MAX:
        return list(np.stack([first, second], axis=1))
    adjacent = np.zeros((inc.n, inc.n), np.bool_)
    adjacent[first, second] = adjacent[second, first] = True
    members, ends = np.empty(4 * len(rows) + inc.n, np.int64), np.zeros(len(rows) + 1, np.int64)
    count = _cover(first, second, adjacent, adjacent.copy(), members, ends)
    return np.split(members[: ends[count]], ends[1:count])


def with_cliques(inc: Incidence) -> Incidence:
    """The same problem with its pairs merged, where these are few candidates; they keep their numbers."""
    if inc.n > CANDIDATES_MAX:
        return inc
    unit = (inc.capacities == 1) & (np.diff(inc.row_starts) == 2)
    if not unit.any():
        return inc
    cliques = merge_pairs(inc, unit)
    others = ~unit[inc.resources]
    sizes = np.array([len(clique) for clique in cliques], np.int64)
    owner = np.concatenate((np.repeat(np.arange(inc.n), np.diff(inc.starts))[others], *cliques))
    resource = np.concatenate((inc.resources[others], inc.m + np.repeat(np.arange(len(cliques)), sizes)))
    quantity = np.concatenate((inc.quantities[others], np.ones(int(sizes.sum()), np.int64)))
    kept, number = np.unique(resource, return_inverse=True)
    capacities = np.concatenate((inc.capacities, np.ones(len(cliques), np.int64)))[kept]
    return Incidence.of(PackingProblem.from_triples(inc.weights, owner, number, quantity, capacities))


@kernel(i8[::1], i8[::1], flag[:, ::1], flag[:, ::1], i8[::1], i8[::1], returns=i8)
def _cover(first: Int64, second: Int64, adjacent: Bools, uncovered: Bools, members: Int64, ends: Int64) -> int:
    """Fills members and ends (clique i is members[ends[i]:ends[i + 1]]); returns the number of cliques."""
    n, count, used = len(adjacent), 0, 0
    for i in range(len(first)):
        if not uncovered[first[i], second[i]]:
            continue
        members[used], members[used + 1] = first[i], second[i]
        begin, used = used, used + 2
        room = len(members) - 2 * (len(first) - i)  # every edge still to come must find its place
        for c in range(n):
            if used >= room:
                break
            joins = adjacent[first[i], c] and adjacent[second[i], c]
            for j in range(begin + 2, used):
                joins = joins and adjacent[members[j], c]
            if joins:
                members[used] = c
                used += 1
        for a in range(begin, used):
            for b in range(begin, used):
                uncovered[members[a], members[b]] = False
        count += 1
        ends[count] = used
    return count
