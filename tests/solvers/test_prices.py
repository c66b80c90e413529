"""Prices bound every selection, come close to the linear optimum, and survive rounding to integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linprog
from scipy.sparse import csr_array

from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.verification import dual_bound
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import component_bounds, exact_prices, fair_value, find_prices
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, problem_of, random_problem, small_problems


def linear_optimum(problem: PackingProblem) -> float:
    rows = csr_array((problem.quantities, (problem.resources, problem.candidates())), shape=(problem.m, problem.n))
    return -float(linprog(-problem.weights, A_ub=rows, b_ub=problem.capacities, bounds=(0, 1)).fun)


@pytest.mark.parametrize(("quantity_max", "capacity_max"), [(1, 1), (3, 8), (50, 1000)])
def test_the_bound_comes_within_a_hundredth_of_a_percent_of_the_linear_optimum(quantity_max: int, capacity_max: int) -> None:
    problem = random_problem(seed=1, n=2000, m=400, rows=3, quantity_max=quantity_max, capacity_max=capacity_max)
    fits = problem.quantities <= problem.capacities[problem.resources]
    problem, _ = problem.restrict(np.setdiff1d(np.arange(problem.n), problem.candidates()[~fits]))
    bound = find_prices(Incidence.of(problem), Meter(Budget(steps=10**9))).bound
    assert 1 - 1e-9 <= bound / linear_optimum(problem) <= 1.0001


@settings(deadline=None, max_examples=60)
@given(problem=small_problems(weight_max=10**6))
def test_rounded_prices_still_bound_and_components_add_up(problem: PackingProblem) -> None:
    inc = Incidence.of(problem)
    fits = [
        (problem.quantities[problem.candidates() == c] <= problem.capacities[problem.resources[problem.candidates() == c]]).all()
        for c in range(problem.n)
    ]
    prices = exact_prices(inc, find_prices(inc, Meter(Budget(steps=10**7))).per_unit)
    assert dual_bound(problem, prices.per_unit, prices.scale) >= best_value(problem)
    if all(fits):
        parts = component_bounds(inc, Components.of(inc), prices)
        assert best_value(problem) <= parts.sum() <= dual_bound(problem, prices.per_unit, prices.scale)


def test_a_warm_start_from_the_final_prices_is_as_good_at_once() -> None:
    inc = Incidence.of(random_problem(seed=5, n=3000, m=900, rows=3))
    cold = find_prices(inc, Meter(Budget(steps=10**9)))
    assert find_prices(inc, Meter(Budget(steps=1)), warm=cold.per_unit).bound == pytest.approx(cold.bound)


def test_prices_that_would_overflow_are_called_unsafe() -> None:
    huge = 2**61
    inc = Incidence.of(problem_of([huge, huge], [(0, 0, 1), (1, 0, 1), (1, 1, huge)], [1, huge]))
    assert not exact_prices(inc, np.array([float(huge), float(huge)])).safe
    assert exact_prices(Incidence.of(problem_of([5, 5], [(0, 0, 1), (1, 0, 1)], [1])), np.ones(1)).safe


@settings(deadline=None, max_examples=60)
@given(problem=small_problems(weight_max=10**6))
def test_no_prices_bound_below_what_everybody_could_have_a_fair_share_of(problem: PackingProblem) -> None:
    inc = Incidence.of(problem)
    assert fair_value(inc) <= find_prices(inc, Meter(Budget(steps=10**7))).bound + 1e-6


def test_of_two_who_want_the_same_each_has_a_fair_share_of_half() -> None:
    inc = Incidence.of(problem_of([10, 20, 40], [(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 1)], [1, 1, 1]))
    assert fair_value(inc) == 35.0
