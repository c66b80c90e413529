"""Local search never loses what it has, keeps the selection feasible whatever it undoes, and finds what greedy cannot."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.improvement import Board, ImprovementParams, improve
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.local_search import LocalSearchParams, _trials, search
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, overdrawn, random_problem, small_problems


@settings(deadline=None, max_examples=150)
@given(problem=small_problems(), seed=st.integers(0, 2**32), log_length=st.sampled_from([0, 3, 4096]))
def test_it_keeps_the_selection_feasible_and_usually_finds_the_optimum(problem: PackingProblem, seed: int, log_length: int) -> None:
    problem = reduce(problem).problem
    inc = Incidence.of(problem)
    start = pack(inc, descending(inc.weights))
    before = int(inc.weights[start].sum())
    params = LocalSearchParams(heat=1.0, log_length=log_length)
    found = search(inc, start, np.arange(inc.n), seed, Meter(Budget(steps=20_000)), params)
    value = int(inc.weights[found].sum())
    assert not overdrawn(problem, np.flatnonzero(found))
    assert not overdrawn(problem, np.flatnonzero(start))
    assert before <= value <= best_value(problem)


def test_what_is_undone_leaves_no_trace_in_the_books() -> None:
    inc = Incidence.of(reduce(random_problem(seed=3, n=200, m=60, rows=3)).problem)
    board = Board.of(inc, pack(inc, descending(inc.weights)), ImprovementParams(), log_length=4096)
    value = int(inc.weights[board.chosen].sum())
    gain, _ = _trials(inc, board, np.arange(inc.n), np.array([7], np.uint64), 0, 200_000, 100_000)  # no heat: most trials are undone
    assert gain == int(inc.weights[board.chosen].sum()) - value
    assert (board.free == inc.left_by(board.chosen)).all()


def test_improvement_ends_where_no_single_insertion_pays() -> None:
    problem = random_problem(seed=7, n=300, m=100, rows=3)
    inc = Incidence.of(reduce(problem).problem)
    chosen = np.zeros(inc.n, np.bool_)
    improve(inc, chosen, np.arange(inc.n), Meter(Budget(steps=10**8)))
    value = int(inc.weights[chosen].sum())
    improve(inc, chosen, np.arange(inc.n)[::-1].copy(), Meter(Budget(steps=10**8)))
    assert 0 < value <= int(inc.weights[chosen].sum()) <= 1.02 * value


def test_it_beats_the_local_optimum_it_starts_from_and_another_seed_goes_elsewhere() -> None:
    inc = Incidence.of(reduce(random_problem(seed=12, n=3000, m=1500, rows=3, capacity_max=1, quantity_max=1)).problem)
    start = pack(inc, descending(inc.weights))
    improve(inc, start, np.arange(inc.n), Meter(Budget(steps=10**8)))
    found = [search(inc, start.copy(), descending(inc.weights), seed, Meter(Budget(steps=10**7))) for seed in (1, 1, 2)]
    assert all(int(inc.weights[chosen].sum()) > 1.005 * int(inc.weights[start].sum()) for chosen in found)
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
