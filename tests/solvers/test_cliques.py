"""Merged pairs say exactly what the pairs said."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.solvers.cliques import merge_pairs, with_cliques
from pipeline_project.solvers.incidence import Incidence
from tests.solvers.packing_problems import overdrawn, problem_of

EDGES = st.sets(st.sampled_from(list(combinations(range(9), 2))))


def cliques_of(edges: set[tuple[int, int]]) -> list[list[int]]:
    rows = sorted(edges)
    problem = problem_of([1] * 9, [(c, r, 1) for r, pair in enumerate(rows) for c in pair], [1] * len(rows))
    return [sorted(clique.tolist()) for clique in merge_pairs(Incidence.of(problem), np.ones(len(rows), np.bool_))]


@given(edges=EDGES)
def test_the_cliques_cover_every_pair_and_nothing_else(edges: set[tuple[int, int]]) -> None:
    covered = {pair for clique in cliques_of(edges) for pair in combinations(clique, 2)}
    assert covered == edges


def test_a_clique_that_came_as_pairs_is_found_whole() -> None:
    assert cliques_of(set(combinations(range(6), 2))) == [[0, 1, 2, 3, 4, 5]]


@given(edges=EDGES, triple=st.sets(st.integers(0, 8), min_size=3, max_size=3))
def test_a_problem_with_cliques_for_pairs_allows_the_same(edges: set[tuple[int, int]], triple: set[int]) -> None:
    rows = [*sorted(edges), tuple(sorted(triple))]
    problem = problem_of([1] * 9, [(c, r, 1) for r, row in enumerate(rows) for c in row], [1] * len(rows))
    merged = with_cliques(Incidence.of(problem)).problem()
    for size in range(4):
        for chosen in combinations(range(9), size):
            assert overdrawn(merged, np.array(chosen, np.int64)) == overdrawn(problem, np.array(chosen, np.int64))
