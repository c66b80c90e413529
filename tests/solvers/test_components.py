"""Components are those of the conflict graph, found without building it."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
from hypothesis import given, settings

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.reductions import cut_out, reduce
from pipeline_project.solvers.standing import Standing
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


@settings(deadline=None)
@given(problem=small_problems())
def test_a_component_on_its_own_is_what_is_cut_out_of_everybody(problem: PackingProblem) -> None:
    inc = reduce(twice(problem)).inc
    standing = Standing(inc, Components.of(inc))
    for g in range(standing.parts.count):
        expected, found = cut_out(inc, standing.parts.label == g, inc.capacities), standing.part(g)
        assert all((one == other).all() for one, other in zip(found.inc, expected.inc, strict=True))
        assert found.resources.tolist() == expected.resources.tolist()
        assert standing.parts.group(g)[found.candidates].tolist() == expected.candidates.tolist()


def twice(problem: PackingProblem) -> PackingProblem:
    """Two of them, which have nothing to do with each other."""
    columns = ((problem.candidates(), problem.n), (problem.resources.astype(np.int64), problem.m))
    owner, resource = (np.concatenate((column, column + size)) for column, size in columns)
    weights, quantities, capacities = (np.tile(column, 2) for column in (problem.weights, problem.quantities, problem.capacities))
    return PackingProblem.from_triples(weights, owner, resource, quantities, capacities)
