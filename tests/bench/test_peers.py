"""Each peer on problems that suit it: what it says is true, and never above a proven optimum. In this process, without a clock's mercy."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from pipeline_project.bench import peers
from pipeline_project.bench.families import FAMILIES
from pipeline_project.bench.trial import Cannot, Peer, Turn
from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from tests.solvers.packing_problems import best_value, problem_of, random_problem

OTHERS = (peers.CPSAT, peers.HIGHS, peers.GREEDY)
"""Those that take every problem; ours has a suite of its own."""
FITTING = [
    *product(OTHERS, ("uniform", "quantities", "regions", "intervals", "knapsack")),
    *product((peers.NETWORKX,), ("uniform", "matching", "dense", "regions")),
]


def asked(peer: Peer, problem: PackingProblem, seconds: float = 5.0) -> tuple[Selection, list[Selection]]:
    """(last answer, those before)"""
    before: list[Selection] = []
    return peer.solve(problem, Turn(deadline=time.monotonic() + seconds, seed=1, threads=1, report=before.append)), before


@pytest.mark.parametrize(("peer", "family"), FITTING, ids=lambda value: value.name if isinstance(value, Peer) else value)
def test_a_peers_answers_are_sound(peer: Peer, family: str) -> None:
    problem = FAMILIES[family](60, 1)
    last, before = asked(peer, problem, 0.3 if peer is peers.NETWORKX else 5.0)  # networkx tries again and again until the end
    assert [verify(problem, selection) for selection in [*before, last]] == [[]] * (len(before) + 1)
    assert last.certificate.value > 0
    assert last.certificate.value >= max((selection.certificate.value for selection in before), default=0)


@pytest.mark.parametrize("peer", OTHERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("seed", range(8))
def test_no_peer_is_above_the_optimum_nor_its_bound_below(peer: Peer, seed: int) -> None:
    problem = random_problem(seed, n=8, m=4, rows=2, quantity_max=4, capacity_max=5)  # some candidates want more than there is
    certificate = asked(peer, problem)[0].certificate
    assert certificate.value <= best_value(problem) <= certificate.upper_bound
    assert peer is peers.GREEDY or certificate.optimal


@pytest.mark.parametrize("family", ["matching", "bipartite"])
def test_networkx_proves_a_matching(family: str) -> None:
    problem = FAMILIES[family](200, 1)
    certificate = asked(peers.NETWORKX, problem)[0].certificate
    assert certificate.optimal
    assert certificate.value == asked(peers.CPSAT, problem, 5)[0].certificate.value


def test_a_matching_may_have_loose_ends_and_parallel_edges() -> None:
    # Candidates on the same two vertices, on one vertex alone, and on none.
    problem = problem_of([5, 7, 4, 1], [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1), (2, 1, 1)], [1, 1])
    last = asked(peers.NETWORKX, problem)[0]
    assert last.certificate.value == best_value(problem) == 8
    assert verify(problem, last) == []


@pytest.mark.parametrize("seed", range(4))
def test_conflicts_are_those_of_every_pair(seed: int) -> None:
    problem = random_problem(seed, n=30, m=12, rows=2, quantity_max=3, capacity_max=1)
    alive, graph = peers._conflicts(problem)
    wanted = np.zeros((problem.n, problem.m), np.int64)
    wanted[problem.candidates(), problem.resources] = problem.quantities
    assert alive.tolist() == np.flatnonzero((wanted <= problem.capacities).all(1)).tolist()
    both = wanted[alive][:, None] + wanted[alive][None]
    conflict = (both > problem.capacities).any(2) & ~np.eye(len(alive), dtype=bool)
    assert (graph.toarray() == conflict).all()
    assert graph.has_sorted_indices


def test_a_capacity_for_two_is_no_conflict_and_said_to_be_none() -> None:
    problem = problem_of([1, 1, 1], [(0, 0, 1), (1, 0, 1), (2, 0, 1)], [2])
    with pytest.raises(Cannot, match="two candidates can share"):
        peers._conflicts(problem)


def test_a_capacity_for_all_is_no_obstacle() -> None:
    problem = problem_of([1, 1, 1], [(0, 0, 1), (1, 0, 1), (2, 0, 1), (0, 1, 1), (1, 1, 1)], [3, 1])
    alive, graph = peers._conflicts(problem)
    assert (len(alive), graph.nnz) == (3, 2)


def test_one_resource_for_everybody_is_too_many_edges_to_write_out() -> None:
    n = 30_000
    problem = problem_of([1] * n, [(c, 0, 1) for c in range(n)], [1])
    with pytest.raises(Cannot, match="pairs of holders"):
        peers._conflicts(problem)


def test_chils_finds_the_best_of_a_small_graph_and_survives_an_empty_one() -> None:
    pytest.importorskip("chils")
    empty = problem_of([3, 4], [(0, 0, 1)], [1])
    assert asked(peers.CHILS, empty)[0].chosen.tolist() == [0, 1]
    problem = random_problem(3, n=10, m=8, rows=2, quantity_max=1, capacity_max=1)
    last = asked(peers.CHILS, problem, 0.1)[0]
    assert verify(problem, last) == []
    assert last.certificate.value == best_value(problem)
