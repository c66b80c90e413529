"""CP-SAT proposes what is feasible and claims no more than the truth allows."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers import cpsat
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.proposal import Proposal, Request
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, overdrawn, random_problem, small_problems

PLENTY = Budget(steps=50_000_000)


def hint_of(problem: PackingProblem) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    inc = reduce(problem).inc
    return np.flatnonzero(pack(inc, descending(inc.weights)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=small_problems())
def test_it_is_feasible_and_the_truth_lies_between_value_and_bound(problem: PackingProblem) -> None:
    problem = reduce(problem).inc.problem()
    proposal = cpsat.propose(problem, PLENTY, 0, hint_of(problem))
    assert not overdrawn(problem, proposal.chosen)
    assert proposal.upper_bound is not None
    assert int(problem.weights[proposal.chosen].sum()) == best_value(problem) == proposal.upper_bound


def test_a_budget_that_is_not_worth_starting_returns_the_hint() -> None:
    problem = reduce(random_problem(seed=1, n=200, m=50, rows=3)).inc.problem()
    hint = hint_of(problem)
    proposal = cpsat.propose(problem, Budget(steps=1), 0, hint)
    assert proposal.chosen.tolist() == hint.tolist()
    assert proposal.upper_bound is None


def test_the_same_steps_give_the_same_answer() -> None:
    problem = reduce(random_problem(seed=3, n=400, m=150, rows=3)).inc.problem()
    proposals = [cpsat.propose(problem, Budget(steps=100_000_000), 5, hint_of(problem)) for _ in range(2)]
    assert proposals[0].to_bytes() == proposals[1].to_bytes()
    assert proposals[0].reproducible


def test_requests_and_proposals_arrive_as_they_were_sent() -> None:
    problem = random_problem(seed=1, n=20, m=10, rows=2)
    for seconds in (None, 0.5):
        request = Request(problem=problem, budget=Budget(steps=7, seconds=seconds), seed=3, start=np.array([1, 4]))
        arrived = Request.from_bytes(request.to_bytes())
        assert arrived.problem.digest() == problem.digest()
        assert (arrived.budget, arrived.seed, arrived.start.tolist()) == (request.budget, 3, [1, 4])
    for bound in (None, 2**62):
        proposal = Proposal(chosen=np.array([2, 3]), upper_bound=bound, steps=9, reproducible=False)
        again = Proposal.from_bytes(proposal.to_bytes())
        assert (again.chosen.tolist(), again.upper_bound, again.steps, again.reproducible) == ([2, 3], bound, 9, False)
