"""Compares a conflict graph with the snapshot it was made of, by sums on both sides, and shares no code with its maker."""

from __future__ import annotations

import numpy as np

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.packing import Int64


def graph_faults(graph: ConflictGraph) -> list[str]:
    """Where graph and snapshot differ; empty = sound. O(k log k) for k demands."""
    snapshot, problem = graph.snapshot, graph.problem
    of_item, m = graph.candidates.of_item, len(snapshot.resource_ids)
    if of_item.shape != (snapshot.n,) or not np.array_equal(np.unique(of_item), np.arange(problem.n)):
        return [f"candidates: expected each of {snapshot.n} items in one of {problem.n} candidates, and none without items"]
    limit = snapshot.policy.limits.max_selected
    capacities = snapshot.free if limit is None else np.append(snapshot.free, limit)
    if len(capacities) != problem.m:
        return [f"resources: expected {len(capacities)}, found {problem.m}"]
    weights = np.zeros(problem.n, np.int64)  # int64 on both sides: a bincount with weights would add floating-point numbers
    np.add.at(weights, of_item, snapshot.weights)
    return [
        *_differences("weight of candidate", weights, problem.weights),
        *_differences("capacity of resource", capacities, problem.capacities),
        *_misread_demands(graph, m, limited=limit is not None),
    ]


def _misread_demands(graph: ConflictGraph, m: int, *, limited: bool) -> list[str]:
    """Demands by (candidate, resource), as the items have them and as the problem has them."""
    snapshot, problem, candidates = graph.snapshot, graph.problem, graph.candidates
    width = m + 1  # the limit on the number of selected items is a resource of its own, which every item demands once
    owner = np.repeat(candidates.of_item, np.diff(snapshot.indptr))
    pairs, quantities = owner * width + snapshot.resources, snapshot.quantities
    if limited:
        pairs = np.concatenate((pairs, candidates.of_item * width + m))
        quantities = np.concatenate((quantities, np.ones(snapshot.n, np.int64)))
    expected = _summed(pairs, quantities)
    found = _summed(problem.candidates() * width + problem.resources, problem.quantities)
    if np.array_equal(expected[0], found[0]):
        return _differences("quantity of demand", expected[1], found[1])
    odd = np.setxor1d(expected[0], found[0])
    where = ", ".join(f"candidate {pair // width} x resource {pair % width}" for pair in odd[:3].tolist())
    return [f"demands: expected those of the items, found {len(odd)} that only one side has: {where}"]


def _summed(pairs: Int64, quantities: Int64) -> tuple[Int64, Int64]:
    distinct, at = np.unique(pairs, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, at, quantities)
    return distinct.astype(np.int64), sums


def _differences(what: str, expected: Int64, found: Int64) -> list[str]:
    wrong = np.flatnonzero(expected != found)
    if not len(wrong):
        return []
    return [f"{what} {wrong[0]}: expected {expected[wrong[0]]}, found {found[wrong[0]]} ({len(wrong)} such)"]
