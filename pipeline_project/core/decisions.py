"""What a selection means for each item: who is selected, in which rank, and what stood in the way of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import numpy as np

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.packing import Bools, Int32, Int64, starts_of
from pipeline_project.core.selection import Selection


class Verdict(StrEnum):
    SELECTED = "selected"
    DEFERRED = "deferred"
    STALE = "stale"
    NOFIT = "nofit"
    RELEASED = "released"  # a reprocess took its earlier selection back


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A cycle's selection, item by item, before anything is committed.

    ranks     int32[n]      1 = worth most; 0 = deferred. Members of a bundle have consecutive ranks
    indptr    int64[n + 1]  item i was blocked by blockers[indptr[i]:indptr[i + 1]]
    blockers  int32[b]      resources (positions in the problem) with less left than the item's candidate demands
    """

    graph: ConflictGraph
    selection: Selection
    ranks: Int32
    indptr: Int64
    blockers: Int32

    @classmethod
    def of(cls, graph: ConflictGraph, selection: Selection) -> Proposal:
        """O(k + s log s)."""
        chosen = _by_worth(graph, selection.chosen)
        ranks = np.zeros(graph.snapshot.n, np.int32)
        ranks[_members(graph, chosen)] = np.arange(1, int(graph.candidates.sizes()[chosen].sum()) + 1)
        indptr, blockers = _blockers(graph, selection.chosen)
        return cls(graph=graph, selection=selection, ranks=ranks, indptr=indptr, blockers=blockers)

    @property
    def cycle_key(self) -> str:
        return self.graph.snapshot.cycle_key()

    def selected(self) -> Int64:
        """Item positions in rank order."""
        order = np.argsort(self.ranks, kind="stable")
        return order[self.ranks[order] > 0].astype(np.int64)

    def deferred(self) -> Int64:
        """Item positions in id order."""
        return np.flatnonzero(self.ranks == 0).astype(np.int64)

    def why_deferred(self, item: int) -> list[str]:
        """Names of the resources that had no room for this item's candidate; empty when it was not worth taking."""
        return [self.graph.name_of_resource(int(r)) for r in self.blockers[self.indptr[item] : self.indptr[item + 1]]]


def fitting(groups: Int64, rows: Int64, resources: Int64, quantities: Int64, free: Int64) -> Bools:
    """Which items still fit, best rank first, whole groups or none.

    groups      int64[n]  candidate of each item; items in rank order, members of a group side by side
    rows        int64[k]  the item of each demand
    resources   int64[k]  position in free
    quantities  int64[k]
    free        int64[m]  may be negative
    Returns bool[n]. O(k) when all fit; else one pass over the groups that touch an overdrawn resource.
    """
    keep = np.ones(len(groups), np.bool_)
    wanted = np.zeros(len(free), np.int64)
    np.add.at(wanted, resources, quantities)
    overdrawn = wanted > np.maximum(free, 0)
    critical = overdrawn[resources]
    if not critical.any():
        return keep
    left = {int(r): int(free[r]) for r in np.flatnonzero(overdrawn)}
    for group, need in _needs(groups[rows[critical]], resources[critical], quantities[critical], np.argsort(rows[critical], kind="stable")):
        if all(quantity <= left[resource] for resource, quantity in need.items()):
            for resource, quantity in need.items():
                left[resource] -= quantity
        else:
            keep[groups == group] = False
    return keep


def _needs(owners: Int64, resources: Int64, quantities: Int64, order: Int64) -> Iterator[tuple[int, Counter[int]]]:
    """What each run of equal owners needs in all, in this order."""
    for group, rows in groupby(order.tolist(), key=lambda row: int(owners[row])):
        need: Counter[int] = Counter()
        for row in rows:
            need[int(resources[row])] += int(quantities[row])
        yield group, need


def _by_worth(graph: ConflictGraph, chosen: Int64) -> Int64:
    return chosen[np.lexsort((chosen, -graph.problem.weights[chosen]))]


def _members(graph: ConflictGraph, candidates: Int64) -> Int64:
    """Item positions of these candidates, candidate by candidate."""
    sizes = graph.candidates.sizes()[candidates]
    starts = np.cumsum(sizes) - sizes
    at: Int64 = np.repeat(graph.candidates.indptr[candidates] - starts, sizes) + np.arange(sizes.sum())
    return graph.candidates.members[at]


def _blockers(graph: ConflictGraph, chosen: Int64) -> tuple[Int64, Int32]:
    problem = graph.problem
    candidate = problem.candidates()
    blocked = ~np.isin(candidate, chosen) & (problem.quantities > problem.left_by(chosen)[problem.resources])
    per_candidate = np.bincount(candidate[blocked], minlength=problem.n)
    starts = np.cumsum(per_candidate) - per_candidate
    lengths = per_candidate[graph.candidates.of_item]
    indptr = starts_of(lengths)
    rows = np.repeat(starts[graph.candidates.of_item] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return indptr, problem.resources[blocked][rows]
