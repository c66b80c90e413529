"""What a selection means item by item, and what of it still fits when the world has become smaller."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal, fitting
from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import Certificate, Selection
from pipeline_project.core.snapshot import Snapshot
from tests.core.snapshots import snapshot_of, snapshots


def propose(graph: ConflictGraph, chosen: list[int]) -> Proposal:
    value = int(graph.problem.weights[chosen].sum())
    prices = np.zeros(graph.problem.m, np.int64)
    certificate = Certificate(value=value, upper_bound=value, prices=prices, price_scale=1, seed=0, steps=0, reproducible=True)
    return Proposal.of(graph, Selection(chosen=np.array(chosen, np.int64), certificate=certificate))


def greedily(graph: ConflictGraph) -> list[int]:
    """Candidates in order of their number, as long as they fit."""
    left, chosen, problem = graph.problem.capacities.copy(), [], graph.problem
    for c in range(problem.n):
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        if (problem.quantities[rows] <= left[problem.resources[rows]]).all():
            left[problem.resources[rows]] -= problem.quantities[rows]
            chosen.append(c)
    return chosen


def test_ranks_go_by_worth_and_members_of_a_bundle_stand_side_by_side() -> None:
    graph = ConflictGraph.of(snapshot_of([(3, {}, 7), (9, {}, -1), (3, {}, 7), (1, {}, -1)], []))
    proposal = propose(graph, [0, 1])
    assert proposal.ranks.tolist() == [2, 1, 3, 0]
    assert proposal.selected().tolist() == [1, 0, 2]
    assert proposal.deferred().tolist() == [3]


def test_a_loser_is_told_which_resources_had_no_room() -> None:
    graph = ConflictGraph.of(snapshot_of([(9, {0: 2, 1: 1}, -1), (1, {0: 1, 1: 1}, -1), (1, {2: 1}, -1)], [2, 2, 1]))
    proposal = propose(graph, [0])
    assert proposal.why_deferred(1) == ["r0"]
    assert proposal.why_deferred(2) == []


@given(snapshots())
def test_every_item_is_selected_with_a_rank_or_deferred(snapshot: Snapshot) -> None:
    graph = ConflictGraph.of(snapshot)
    proposal = propose(graph, greedily(graph))
    selected = proposal.selected()
    assert sorted([*selected.tolist(), *proposal.deferred().tolist()]) == list(range(snapshot.n))
    assert proposal.ranks[selected].tolist() == list(range(1, len(selected) + 1))
    worth = graph.problem.weights[graph.candidates.of_item[selected]]
    assert (np.diff(worth) <= 0).all()


@given(snapshots())
def test_blockers_are_what_is_left_too_little_of(snapshot: Snapshot) -> None:
    graph = ConflictGraph.of(snapshot)
    problem = graph.problem
    proposal = propose(graph, greedily(graph))
    left = Counter(dict(enumerate(problem.capacities.tolist())))
    for c in proposal.selection.chosen:
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        left.subtract(dict(zip(problem.resources[rows].tolist(), problem.quantities[rows].tolist(), strict=True)))
    for item in proposal.deferred():
        c = graph.candidates.of_item[item]
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        wanted = zip(problem.resources[rows].tolist(), problem.quantities[rows].tolist(), strict=True)
        assert proposal.why_deferred(int(item)) == [f"r{resource}" for resource, quantity in wanted if quantity > left[resource]]


def one_by_one(groups: Int64, wanted: list[dict[int, int]], free: list[int]) -> list[bool]:
    """The same rule, read aloud: the best group first; what it leaves is for the next."""
    left, keep = [max(0, amount) for amount in free], [False] * len(groups)
    for group in dict.fromkeys(groups.tolist()):
        members = [item for item in range(len(groups)) if groups[item] == group]
        need: Counter[int] = Counter()
        for item in members:
            need.update(wanted[item])
        if all(quantity <= left[resource] for resource, quantity in need.items()):
            for resource, quantity in need.items():
                left[resource] -= quantity
            for item in members:
                keep[item] = True
    return keep


@given(st.data())
def test_what_no_longer_fits_is_dropped_by_rank_whole_groups_or_none(data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.integers(1, 3), max_size=5))
    groups = np.repeat(np.arange(len(sizes), dtype=np.int64)[::-1], sizes)
    demands = st.dictionaries(st.integers(0, m - 1), st.integers(1, 3))
    wanted = data.draw(st.lists(demands, min_size=len(groups), max_size=len(groups)))
    free = data.draw(st.lists(st.integers(-2, 8), min_size=m, max_size=m))
    triples = [(item, resource, quantity) for item, need in enumerate(wanted) for resource, quantity in need.items()]
    rows, resources, quantities = (np.array([triple[i] for triple in triples], np.int64) for i in range(3))
    kept = fitting(groups, rows, resources, quantities, np.array(free, np.int64))
    assert kept.tolist() == one_by_one(groups, wanted, free)
