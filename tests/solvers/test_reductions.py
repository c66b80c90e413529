"""A reduction changes neither the optimum nor the order of what remains."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.greedy import pack
from pipeline_project.solvers.reductions import cut_out, reduce
from tests.solvers.packing_problems import best_value, overdrawn, problem_of, small_problems


@settings(deadline=None)
@given(problem=small_problems())
def test_the_optimum_stays(problem: PackingProblem) -> None:
    reduced = reduce(problem)
    assert best_value(reduced.inc.problem()) == best_value(problem)
    assert (np.diff(reduced.candidates) > 0).all()
    assert (problem.weights[reduced.candidates] == reduced.inc.weights).all()


def test_what_cannot_fit_and_what_cannot_bind_are_gone() -> None:
    reduced = reduce(problem_of([1, 2, 3], [(0, 0, 1), (1, 0, 1), (1, 1, 5), (2, 1, 6), (2, 2, 1)], [1, 5, 1]))
    assert reduced.candidates.tolist() == [0, 1]
    assert reduced.resources.tolist() == [0]
    assert reduced.original_prices(3, np.array([7])).tolist() == [7, 0, 0]


def test_what_is_whole_and_may_not_be_written_is_taken_all_the_same() -> None:
    problem = problem_of([1, 2, 3], [(0, 0, 1), (1, 0, 1), (2, 0, 1)], [2])
    problem.weights.flags.writeable = False
    assert pack(reduce(problem).inc, np.array([2, 0, 1])).tolist() == [True, False, True]


@settings(deadline=None)
@given(problem=small_problems(), data=st.data())
def test_what_is_cut_out_has_what_the_others_leave(problem: PackingProblem, data: st.DataObject) -> None:
    inc = reduce(problem).inc
    members = np.array(data.draw(st.lists(st.booleans(), min_size=inc.n, max_size=inc.n)), np.bool_)
    others = pack(inc, np.flatnonzero(~members))
    part = cut_out(inc, members, inc.left_by(others))
    together = others.copy()
    together[part.candidates[pack(part.inc, np.arange(part.inc.n))]] = True
    assert not overdrawn(inc.problem(), np.flatnonzero(together))
    assert members[part.candidates].all()
    assert cut_out(inc, np.ones(inc.n, np.bool_), inc.capacities).inc is inc
