"""A reduction changes neither the optimum nor the order of what remains."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.reductions import reduce
from tests.solvers.packing_problems import best_value, problem_of, small_problems


@settings(deadline=None)
@given(problem=small_problems())
def test_the_optimum_stays(problem: PackingProblem) -> None:
    reduced = reduce(problem)
    assert best_value(reduced.problem) == best_value(problem)
    assert (np.diff(reduced.candidates) > 0).all()
    assert (problem.weights[reduced.candidates] == reduced.problem.weights).all()


def test_what_cannot_fit_and_what_cannot_bind_are_gone() -> None:
    reduced = reduce(problem_of([1, 2, 3], [(0, 0, 1), (1, 0, 1), (1, 1, 5), (2, 1, 6), (2, 2, 1)], [1, 5, 1]))
    assert reduced.candidates.tolist() == [0, 1]
    assert reduced.resources.tolist() == [0]
    assert reduced.original_prices(problem_of([], [], [1, 5, 1]), np.array([7])).tolist() == [7, 0, 0]
