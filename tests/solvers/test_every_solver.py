"""One suite that every solver passes: feasible, deterministic, never above the truth, and honest about what it has proven."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_project.core.packing import PackingProblem
from pipeline_project.core.verification import verify
from pipeline_project.solvers import exact, greedy, portfolio
from pipeline_project.solvers.solver import Budget, Solver
from tests.solvers.packing_problems import best_value, overdrawn, random_problem, small_problems

SOLVERS = [greedy.solve, exact.solve, portfolio.solve]
PLENTY = Budget(steps=50_000_000)
every_solver = pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: solve.__module__.rpartition(".")[2])
patiently = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@every_solver
@patiently
@given(problem=small_problems(), data=st.data())
def test_the_answer_is_feasible_and_the_truth_lies_between_value_and_bound(
    solve: Solver, problem: PackingProblem, data: st.DataObject
) -> None:
    start = data.draw(st.none() | st.lists(st.integers(0, max(0, problem.n - 1)), unique=True, max_size=problem.n).map(sorted))
    selection = solve(problem, PLENTY, 0, None if start is None else np.array(start, np.int64))
    certificate, truth = selection.certificate, best_value(problem)
    assert not overdrawn(problem, selection.chosen)
    assert certificate.value == problem.weights[selection.chosen].sum()
    assert certificate.value <= truth <= certificate.upper_bound
    assert not certificate.optimal or certificate.value == truth
    assert verify(problem, selection) == []


@every_solver
@pytest.mark.parametrize("steps", [1, 10_000, 3_000_000, 100_000_000])
def test_the_same_problem_seed_and_steps_give_the_same_answer(solve: Solver, steps: int) -> None:
    problem = random_problem(seed=3, n=400, m=150, rows=3)
    first, second = (solve(problem, Budget(steps=steps), seed=5) for _ in range(2))
    assert first.digest() == second.digest()
    assert first.certificate.prices.tolist() == second.certificate.prices.tolist()
    assert (first.certificate.upper_bound, first.certificate.steps) == (second.certificate.upper_bound, second.certificate.steps)
    assert first.certificate.reproducible


@every_solver
@pytest.mark.parametrize("weight", [10**15, 10**18])
def test_astronomical_weights_do_not_overflow(solve: Solver, weight: int) -> None:
    small = random_problem(seed=9, n=8, m=4, rows=2)
    problem = PackingProblem(
        weights=weight + small.weights,
        indptr=small.indptr,
        resources=small.resources,
        quantities=small.quantities,
        capacities=small.capacities,
    )
    selection = solve(problem, PLENTY)
    assert verify(problem, selection) == []
    assert selection.certificate.value <= best_value(problem) <= selection.certificate.upper_bound


@every_solver
def test_arrays_that_nobody_may_write_are_welcome(solve: Solver) -> None:
    problem = random_problem(seed=1, n=20, m=10, rows=2)
    for values in (problem.weights, problem.indptr, problem.resources, problem.quantities, problem.capacities):
        values.flags.writeable = False
    assert verify(problem, solve(problem, PLENTY)) == []
