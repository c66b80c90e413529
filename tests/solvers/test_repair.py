"""Repair keeps what still fits, is certified anew, and comes close to a cold solve at a sliver of its work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import NO_CUTS
from pipeline_project.core.verification import verify
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.repair import Start, repair
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, problem_of, random_problem, small_problems

PLENTY = Budget(steps=10**9)


@settings(deadline=None, max_examples=200)
@given(problem=small_problems(), data=st.data())
def test_any_start_becomes_a_sound_selection(problem: PackingProblem, data: st.DataObject) -> None:
    members = st.lists(st.integers(0, max(0, problem.n - 1)), unique=True, max_size=problem.n).map(sorted)
    prices = st.lists(st.integers(0, 10**6), min_size=problem.m, max_size=problem.m)
    start = Start(chosen=np.array(data.draw(members), np.int64), prices=np.array(data.draw(prices), np.int64), price_scale=1000)
    answer = repair(problem, start, np.array(data.draw(members), np.int64), PLENTY)
    assert verify(problem, answer) == []
    assert answer.certificate.value <= best_value(problem) <= answer.certificate.upper_bound


def changed_problem(problem: PackingProblem, share: float, seed: int) -> tuple[PackingProblem, Int64]:
    """New weights for a share of the candidates."""
    rng = np.random.default_rng(seed)
    changed = np.sort(rng.choice(problem.n, max(1, int(share * problem.n)), replace=False))
    weights = problem.weights.copy()
    weights[changed] = rng.integers(1, 1000, len(changed))
    return replace(problem, weights=weights), changed


@pytest.mark.parametrize("general", [False, True], ids=["unit", "general"])
@pytest.mark.parametrize("share", [0.001, 0.01])
def test_it_comes_close_to_a_cold_solve(general: bool, share: float) -> None:
    largest = {} if general else {"quantity_max": 1, "capacity_max": 1}
    problem = random_problem(seed=3, n=20_000, m=12_000, rows=3, **largest)
    before = portfolio.solve(problem, Budget(steps=60_000_000), rivals=())
    now, changed = changed_problem(problem, share, seed=4)
    start = Start(chosen=before.chosen, prices=before.certificate.prices, price_scale=before.certificate.price_scale)
    warm = repair(now, start, changed, Budget(steps=20_000_000))
    cold = portfolio.solve(now, Budget(steps=60_000_000), rivals=())
    assert verify(now, warm) == []
    assert warm.certificate.value >= 0.997 * cold.certificate.value
    assert warm.certificate.upper_bound <= 1.03 * cold.certificate.upper_bound  # the cold solve has cuts
    assert warm.certificate.steps < cold.certificate.steps / 10


def test_it_is_deterministic() -> None:
    problem = random_problem(seed=3, n=2_000, m=700, rows=3)
    before = portfolio.solve(problem, Budget(steps=5_000_000), rivals=())
    now, changed = changed_problem(problem, 0.05, seed=4)
    start = Start(chosen=before.chosen, prices=before.certificate.prices, price_scale=before.certificate.price_scale)
    answers = [repair(now, start, changed, PLENTY, seed=5) for _ in range(2)]
    assert answers[0].digest() == answers[1].digest()
    assert answers[0].certificate.prices.tolist() == answers[1].certificate.prices.tolist()


def test_cuts_are_carried_over_a_change_and_bound_it() -> None:
    problem = random_problem(seed=3, n=3_000, m=900, rows=3)
    before = portfolio.solve(problem, Budget(steps=30_000_000), rivals=())
    now, changed = changed_problem(problem, 0.002, seed=4)
    assert len(before.certificate.cuts)
    with_cuts = repair(now, Start.of(before), changed, PLENTY)
    without = repair(now, replace(Start.of(before), cuts=NO_CUTS), changed, PLENTY)
    assert verify(now, with_cuts) == []
    assert with_cuts.certificate.upper_bound < without.certificate.upper_bound


def test_a_false_clique_is_not_believed() -> None:
    problem = problem_of([5, 7], [(0, 0, 1), (1, 1, 1)], [1, 1])
    clique = replace(NO_CUTS, clique_starts=np.array([0, 2]), members=np.array([0, 1]), clique_price=np.array([6]))
    start = Start(chosen=np.array([1]), prices=np.zeros(2, np.int64), price_scale=1, cuts=clique)
    for answer in (repair(problem, start, np.array([0]), PLENTY), portfolio.solve(problem, PLENTY, start=start, rivals=())):
        assert verify(problem, answer) == []
        assert answer.certificate.value == 12 <= answer.certificate.upper_bound


def test_who_no_longer_demands_the_resource_of_a_rounded_row_is_struck_from_it() -> None:
    problem = problem_of([5, 7, 3], [(0, 0, 2), (1, 0, 2), (2, 1, 1)], [3, 1])
    half = {"resource": [0], "numerator": [1], "denominator": [2], "price": [1], "complemented_starts": [0, 2], "complemented": [1, 2]}
    row = replace(NO_CUTS, **{name: np.array(column) for name, column in half.items()})
    start = Start(chosen=np.array([0]), prices=np.zeros(2, np.int64), price_scale=1, cuts=row)
    repaired = repair(problem, start, np.array([2]), PLENTY)
    for answer in (repaired, portfolio.solve(problem, PLENTY, start=start, rivals=())):
        assert verify(problem, answer) == []
    assert repaired.certificate.cuts.complemented.tolist() == [1]


@pytest.mark.parametrize(("field", "value"), [("prices", np.zeros(3, np.int64)), ("prices", np.array([-1, 0])), ("chosen", np.array([2]))])
def test_what_cannot_be_a_start_is_refused(field: str, value: Int64) -> None:
    problem = problem_of([5, 7], [(0, 0, 1), (1, 1, 1)], [1, 1])
    start = Start(chosen=np.array([1]), prices=np.zeros(2, np.int64), price_scale=1)
    wrong = replace(start, **{field: value})
    with pytest.raises(UsageError, match=f"{field}: expected"):
        repair(problem, wrong, np.array([0]), PLENTY)
    with pytest.raises(UsageError, match=f"{field}: expected"):
        portfolio.solve(problem, PLENTY, start=wrong, rivals=())


def test_the_work_follows_the_change_beyond_three_passes() -> None:
    problem = random_problem(seed=5, n=40_000, m=24_000, rows=3, quantity_max=1, capacity_max=1)
    before = portfolio.solve(problem, Budget(steps=20_000_000), rivals=())
    work = []
    for share in (0.0005, 0.002):
        now, changed = changed_problem(problem, share, seed=6)
        work.append(repair(now, Start.of(before), changed, PLENTY).certificate.steps - 3 * len(problem.resources))
    assert 0 < work[0] < len(problem.resources)
    assert work[0] < work[1] < 10 * work[0]
