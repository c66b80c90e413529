"""Cuts tighten the bound and cut off no selection; the checker, which rounds by itself, comes to the same numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.selection import NO_CUTS, Claim, Cuts, Selection
from pipeline_project.core.verification import dual_bound, verify
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.cut_columns import in_original_numbers
from pipeline_project.solvers.cuts import CutsParams, Tightened, tightened_prices, with_cuts
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import find_prices
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, overdrawn, problem_of, random_problem, small_problems

NOTHING = np.zeros(0, np.int64)


def tightened(problem: PackingProblem, steps: int = 10**9, **changes: int) -> Tightened:
    return tightened_prices(Incidence.of(problem), Meter(Budget(steps=steps)), replace(CutsParams(), **changes))


def plain_bound(problem: PackingProblem) -> float:
    return find_prices(Incidence.of(problem), Meter(Budget(steps=10**9))).bound


def of_edges(n: int, edges: list[tuple[int, int]], weights: list[int] | None = None) -> PackingProblem:
    return problem_of(weights or [1] * n, [(c, r, 1) for r, pair in enumerate(edges) for c in pair], [1] * len(edges))


def quantities_above_one(seed: int, n: int = 1500) -> PackingProblem:
    """Candidates that fit, three resources each, ten holders for each resource."""
    rng = np.random.default_rng(seed)
    resources, quantities = rng.integers(0, 3 * n // 10, 3 * n), rng.integers(1, 3, 3 * n)
    capacities = rng.integers(6, 9, 3 * n // 10)
    return PackingProblem.from_triples(rng.integers(1, 10_001, n), np.repeat(np.arange(n), 3), resources, quantities, capacities)


def certified(problem: PackingProblem) -> Selection:
    """Through the reduction and back, as a portfolio does."""
    reduced = reduce(problem)
    found = tightened_prices(reduced.inc, Meter(Budget(steps=10**9)))
    prices, cuts = found.exact(reduced.inc.m)
    return certify(
        problem,
        NOTHING,
        solvers={},
        seed=0,
        steps=0,
        prices=reduced.original_prices(problem.m, prices.per_unit),
        scale=prices.scale,
        cuts=in_original_numbers(cuts, reduced.candidates, reduced.resources),
    )


# ---- what is gained


def test_rounded_rows_take_more_than_a_hundredth_off_a_bound_with_quantities() -> None:
    problem = quantities_above_one(seed=3)
    found = tightened(problem)
    assert len(found.cuts.price) > 100
    assert found.relaxed.bound < 0.99 * plain_bound(problem)


def test_a_clique_that_came_as_pairs_is_proven_to_hold_one() -> None:
    problem = of_edges(40, list(combinations(range(40), 2)))
    found = tightened(problem)
    assert found.relaxed.bound == pytest.approx(1.0)
    assert certified(problem).certificate.upper_bound == 1


def test_cliques_across_resources_are_found() -> None:
    """Any two of three share one of three resources of capacity 1: the relaxation takes half of each."""
    problem = of_edges(3, [(0, 1), (1, 2), (0, 2)], [10, 10, 10])
    assert plain_bound(problem) == pytest.approx(15.0)
    assert certified(problem).certificate.upper_bound == 10


def test_pairs_that_are_left_to_the_cliques_come_back_free() -> None:
    problem = of_edges(30, list(combinations(range(30), 2)))
    found = tightened(problem)
    assert found.inc.m == problem.m + len(found.cuts)
    assert (found.relaxed.per_unit[: problem.m] == 0).all()
    assert (found.relaxed.per_unit[problem.m :] > 0).all()


# ---- what must not be lost


@settings(deadline=None, max_examples=60)
@given(problem=small_problems(weight_max=1000))
def test_no_feasible_selection_breaks_a_cut_and_the_bound_holds(problem: PackingProblem) -> None:
    found = tightened(problem, steps=10**7)
    extended = found.inc.problem()
    for flags in product((False, True), repeat=problem.n):
        chosen = np.flatnonzero(flags)
        assert overdrawn(problem, chosen) == overdrawn(extended, chosen)
    bound = certified(problem).certificate.upper_bound
    assert bound >= best_value(problem)


@settings(deadline=None, max_examples=60)
@given(problem=small_problems(weight_max=10**6))
def test_the_checker_comes_to_the_same_bound(problem: PackingProblem) -> None:
    assert verify(problem, certified(problem)) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_checker_writes_the_same_rows(seed: int) -> None:
    """Any cuts, also such as no separation would find, at prices that make every row matter."""
    rng = np.random.default_rng(seed)
    problem = random_problem(seed=seed, n=60, m=12, rows=3, quantity_max=9, capacity_max=40)
    owner = problem.candidates()
    resources, denominators = rng.integers(0, 12, 30), rng.integers(2, 30, 30)
    complements = [owner[(problem.resources == r) & (rng.random(len(owner)) < 0.4)] for r in resources]
    cuts = Cuts(
        resource=resources,
        numerator=rng.integers(1, denominators),
        denominator=denominators,
        price=rng.integers(0, 300, 30),
        complemented_starts=np.cumsum([0, *map(len, complements)]),
        complemented=np.concatenate(complements),
        clique_starts=np.array([0, 2]),
        members=np.array([3, 17]),
        clique_price=np.array([50]),
    )
    prices = rng.integers(0, 50, problem.m)
    certificate = certify(problem, NOTHING, solvers={}, seed=0, steps=0, prices=prices, scale=10, cuts=cuts).certificate
    assert certificate.price_bound == dual_bound(problem, prices, 10, cuts=cuts)


def test_claims_go_with_cuts() -> None:
    """A claim for some, prices and cuts for the others: certify and the checker agree on what a row costs that both have a part in."""
    problem = quantities_above_one(seed=5, n=300)
    certificate = certified(problem).certificate
    rest = np.arange(problem.n) >= 20
    by_prices = dual_bound(problem, certificate.prices, certificate.price_scale, rest, certificate.cuts)
    claim = Claim(solver="oracle", candidates=np.arange(20), bound=0)
    selection = certify(
        problem,
        NOTHING,
        solvers={},
        seed=0,
        steps=0,
        prices=certificate.prices,
        scale=certificate.price_scale,
        claims=[claim],
        cuts=certificate.cuts,
    )
    assert selection.certificate.upper_bound == min(by_prices, certificate.upper_bound)
    assert verify(problem, selection) == []
    too_low = replace(selection.certificate, upper_bound=selection.certificate.upper_bound - 1)
    assert verify(problem, replace(selection, certificate=too_low)) != []


# ---- budgets


def test_the_same_steps_give_the_same_cuts() -> None:
    problem = quantities_above_one(seed=8, n=600)
    one, other = (tightened(problem, steps=20_000_000) for _ in range(2))
    assert one.relaxed.per_unit.tobytes() == other.relaxed.per_unit.tobytes()
    for name in Cuts.__slots__:
        assert getattr(one.cuts, name).tobytes() == getattr(other.cuts, name).tobytes(), name


@pytest.mark.parametrize("steps", [1, 10_000, 1_000_000, 2_000_000, 3_000_000, 5_000_000, 8_000_000, 30_000_000])
def test_a_budget_is_kept_and_a_bound_there_at_any_time(steps: int) -> None:
    problem = quantities_above_one(seed=9, n=600)
    meter = Meter(Budget(steps=steps))
    found = tightened_prices(Incidence.of(problem), meter)
    assert meter.spent <= steps + 10 * len(problem.resources)
    assert found.relaxed.bound <= problem.weights.sum()


def test_conflicts_that_are_too_many_are_not_written_out() -> None:
    problem = of_edges(40, list(combinations(range(40), 2)))
    found = tightened(problem, conflicts_max=100)
    assert len(found.cuts) == 0
    assert found.relaxed.bound == pytest.approx(20.0)


def test_no_cuts_change_nothing() -> None:
    inc = Incidence.of(random_problem(seed=1, n=10, m=4, rows=2))
    assert with_cuts(inc, NO_CUTS) is inc
