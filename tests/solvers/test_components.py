"""Components are those of the conflict graph, found without building it."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
from hypothesis import given, settings

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import Incidence
from tests.solvers.packing_problems import small_problems


@settings(deadline=None)
@given(problem=small_problems())
def test_candidates_share_a_component_exactly_when_resources_connect_them(problem: PackingProblem) -> None:
    graph = nx.Graph()
    graph.add_nodes_from(range(problem.n))
    holders = [problem.candidates()[problem.resources == r].tolist() for r in range(problem.m)]
    graph.add_edges_from(pair for row in holders for pair in combinations(row, 2))
    parts = Components.of(Incidence.of(problem))
    assert {frozenset(group) for group in nx.connected_components(graph)} == {
        frozenset(parts.group(i).tolist()) for i in range(parts.count)
    }
    assert all((parts.label[parts.group(i)] == i).all() for i in range(parts.count))


@settings(deadline=None)
@given(problem=small_problems())
def test_the_incidence_is_the_same_read_by_candidate_and_by_resource(problem: PackingProblem) -> None:
    inc = Incidence.of(problem)
    by_candidate = set(zip(problem.candidates().tolist(), problem.resources.tolist(), problem.quantities.tolist(), strict=True))
    rows = np.repeat(np.arange(problem.m), np.diff(inc.row_starts))
    assert set(zip(inc.holders.tolist(), rows.tolist(), inc.held.tolist(), strict=True)) == by_candidate
