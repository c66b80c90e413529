"""Who excludes whom, compared with every pair written out."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.snapshot import Snapshot
from tests.core.snapshots import Item, snapshot_of, snapshots

TOP = 2**63 - 1


def demand_of(graph: ConflictGraph, candidate: int) -> Counter[int]:
    """What a candidate's members demand together, item by item."""
    snapshot, wanted = graph.snapshot, Counter[int]()
    for item in range(snapshot.n):
        if graph.candidates.of_item[item] == candidate:
            rows = slice(snapshot.indptr[item], snapshot.indptr[item + 1])
            wanted.update(dict(zip(snapshot.resources[rows].tolist(), snapshot.quantities[rows].tolist(), strict=True)))
    return wanted


@given(snapshots())
def test_a_candidate_is_worth_and_demands_what_its_members_do(snapshot: Snapshot) -> None:
    graph = ConflictGraph.of(snapshot)
    problem = graph.problem
    assert int(problem.weights.sum()) == int(snapshot.weights.sum())
    for c in range(problem.n):
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        found = dict(zip(problem.resources[rows].tolist(), problem.quantities[rows].tolist(), strict=True))
        assert found == dict(demand_of(graph, c))


@given(snapshots())
def test_candidates_that_cannot_both_fit_are_in_one_component(snapshot: Snapshot) -> None:
    graph = ConflictGraph.of(snapshot)
    free = dict(enumerate(snapshot.free.tolist()))
    labels = graph.components()
    for a in range(graph.problem.n):
        for b in range(a):
            both = demand_of(graph, a) + demand_of(graph, b)
            shared = demand_of(graph, a).keys() & demand_of(graph, b).keys()
            if any(both[resource] > free[resource] for resource in shared):
                assert labels[a] == labels[b]


@given(snapshots())
def test_components_are_joined_by_contested_resources_alone(snapshot: Snapshot) -> None:
    graph = ConflictGraph.of(snapshot)
    contested = set(graph.contested().tolist())
    total: Counter[int] = Counter()
    for c in range(graph.problem.n):
        total.update(demand_of(graph, c))
    assert contested == {resource for resource, wanted in total.items() if wanted > snapshot.free[resource]}
    joined = nx.Graph()
    joined.add_nodes_from(range(graph.problem.n))
    for resource in contested:
        holders = [c for c in range(graph.problem.n) if resource in demand_of(graph, c)]
        nx.add_path(joined, holders)
    expected = {frozenset(component) for component in nx.connected_components(joined)}
    labels = graph.components()
    assert {frozenset((labels == label).nonzero()[0].tolist()) for label in set(labels.tolist())} == expected


@given(snapshots(), st.integers(1, 9))
def test_a_limit_on_selected_items_counts_every_member(snapshot: Snapshot, most: int) -> None:
    limited = snapshot_of([], [], policy={"limits": {"max_selected": most}}).policy
    graph = ConflictGraph.of(Snapshot(**{name: getattr(snapshot, name) for name in snapshot.__slots__} | {"policy": limited}))
    limit = len(snapshot.free)
    assert graph.problem.capacities[limit] == most
    assert graph.name_of_resource(limit) == "limits.max_selected"
    of_limit = graph.problem.resources == limit
    assert graph.problem.quantities[of_limit].tolist() == graph.candidates.sizes().tolist()


@pytest.mark.parametrize(
    "items",
    [
        [(1, {}, -1), (TOP, {}, -1)],
        [(2**62, {}, 5)] * 4,  # four that wrap to nothing
        [(1, {0: 1}, -1), (1, {0: 1, 1: TOP}, -1)],
    ],
)
def test_of_sums_that_int64_cannot_hold_no_graph_is_made(items: list[Item]) -> None:
    """The snapshot leaves out whoever makes them so."""
    with pytest.raises(AssertionError):
        ConflictGraph.of(snapshot_of(items, [TOP, TOP]))
