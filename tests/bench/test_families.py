"""Generated problems are what their names say, of the size that was asked for, and the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline_project.bench.families import FAMILIES, write_problem
from pipeline_project.core.packing import PackingProblem
from pipeline_project.store.problems import read_problem

every_family = pytest.mark.parametrize("family", FAMILIES)


def rows_of(problem: PackingProblem) -> list[list[int]]:
    """The resources of each candidate."""
    return [part.tolist() for part in np.split(problem.resources, problem.indptr[1:-1])]


@every_family
def test_a_seed_is_a_problem(family: str) -> None:
    generate = FAMILIES[family]
    assert generate(500, 3).digest() == generate(500, 3).digest()
    assert generate(500, 3).digest() != generate(500, 4).digest()


@every_family
@pytest.mark.parametrize("n", [40, 41, 1000])
def test_every_candidate_is_worth_something_fits_alone_and_not_all_fit_together(family: str, n: int) -> None:
    problem = FAMILIES[family](n, 1)
    assert problem.n == n
    assert problem.weights.min() >= 1
    assert (problem.quantities <= problem.capacities[problem.resources]).all()
    assert (np.bincount(problem.resources, problem.quantities, problem.m) > problem.capacities).any()


@every_family
def test_a_problem_written_is_the_problem_read(family: str, tmp_path: Path) -> None:
    problem = FAMILIES[family](300, 2)
    write_problem(problem, tmp_path)
    read = read_problem(tmp_path).problem
    mentioned = np.unique(problem.resources)  # files name resources that are wanted; the others say nothing
    assert (read.capacities == problem.capacities[mentioned]).all()
    assert (mentioned[read.resources] == problem.resources).all()
    assert (read.quantities == problem.quantities).all()
    assert (read.weights == problem.weights).all()
    assert (read.indptr == problem.indptr).all()


@pytest.mark.parametrize(
    "family", ["uniform", "skewed", "clustered", "regions", "paths", "arbitrary", "kidney", "matching", "bipartite", "roads"]
)
def test_where_everything_is_one_there_are_only_conflicts(family: str) -> None:
    problem = FAMILIES[family](1000, 1)
    assert set(problem.quantities.tolist()) == {1}
    assert set(problem.capacities.tolist()) == {1}


@pytest.mark.parametrize(("family", "capacities"), [("capacitated", (1, 5)), ("quantities", (3, 8)), ("intervals", (1, 3))])
def test_capacities_are_those_that_were_promised(family: str, capacities: tuple[int, int]) -> None:
    problem = FAMILIES[family](2000, 1)
    assert (problem.capacities.min(), problem.capacities.max()) == capacities
    assert problem.quantities.max() == (1 if family == "intervals" else 3)


def test_few_resources_are_wanted_by_many() -> None:
    demand = np.sort(np.bincount(FAMILIES["skewed"](5000, 1).resources))[::-1]
    assert demand[0] > 20 * np.median(demand)


def test_clusters_share_nothing() -> None:
    problem = FAMILIES["clustered"](1000, 1)
    assert (problem.resources // 24 == problem.candidates() // 40).all()


def test_intervals_are_consecutive() -> None:
    assert all(np.diff(row).tolist() == [1] * (len(row) - 1) for row in rows_of(FAMILIES["intervals"](500, 1)))


@pytest.mark.parametrize("family", ["matching", "bipartite"])
def test_edges_have_two_ends(family: str) -> None:
    rows = rows_of(FAMILIES[family](600, 1))
    assert {len(row) for row in rows} == {2}
    assert family == "matching" or all(one < 100 <= other for one, other in rows)


@pytest.mark.parametrize("family", ["roads", "dense"])
def test_a_graphs_edges_have_two_holders(family: str) -> None:
    assert set(np.bincount(FAMILIES[family](400, 1).resources).tolist()) == {2}


def test_kidney_cycles_are_of_two_or_three_pairs_each_once() -> None:
    rows = rows_of(FAMILIES["kidney"](1000, 1))
    assert {len(row) for row in rows} == {2, 3}
    assert max(sum(tuple(row) == tuple(other) for other in rows) for row in rows[:50]) <= 2  # both ways round are two cycles


def test_a_bidder_wins_one_bid_of_three() -> None:
    problem = FAMILIES["regions"](600, 1)
    holders = np.bincount(problem.resources, minlength=problem.m)[-200:]
    assert set(holders.tolist()) == {3}
