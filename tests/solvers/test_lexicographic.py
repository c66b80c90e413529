"""Levels in turn, where no scale fits: never worse than greedy, never a bound below the truth, `optimal` only where brute force agrees."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from pipeline_project.solvers import levels, lexicographic, portfolio
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.levels import DoesNotFit, LevelledSelection, classes_to_levels, combine
from pipeline_project.solvers.lexicographic import InTurn
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import overdrawn, random_problem
from tests.solvers.test_levels import feasible, sums_of, tiny

SOME = Budget(steps=5_000_000)


def by_levels(problem: PackingProblem, columns: list[Int64]) -> tuple[int, ...]:
    """What taking whatever fits in the order of the levels reaches."""
    chosen: list[int] = []
    for c in sorted(range(problem.n), key=lambda c: tuple(-int(column[c]) for column in columns)):
        if not overdrawn(problem, np.array([*chosen, c])):
            chosen.append(c)
    return sums_of(columns, np.array(chosen, np.int64))


def in_turn(problem: PackingProblem, columns: list[Int64], budget: Budget = SOME, start: Int64 | None = None) -> LevelledSelection:
    turns = InTurn(problem, columns, Meter(budget), seed=0)
    turns.run(start)
    return turns.answer([f"level {i}" for i in range(len(columns))])


def check(problem: PackingProblem, columns: list[Int64], answer: LevelledSelection, *, floor: bool = True) -> None:
    reached = [sums_of(columns, chosen) for chosen in feasible(problem)]
    values = tuple(level.value for level in answer.levels)
    assert values == sums_of(columns, answer.chosen)
    assert values in reached
    assert not floor or values >= by_levels(problem, columns)
    assert verify(answer.problem, answer.selection) == []
    for i, level in enumerate(answer.levels):
        alike = [sums[i] for sums in reached if all(a >= b for a, b in zip(sums[:i], values[:i], strict=True))]
        assert level.upper_bound >= max(alike)
        assert not level.optimal or values[: i + 1] == max(reached)[: i + 1]
    assert all(one.optimal or not other.optimal for one, other in pairwise(answer.levels))


@st.composite
def huge(draw: st.DrawFn) -> tuple[PackingProblem, list[Int64]]:
    """Tiny problems whose 2 to 5 levels have sums that need 40 to 60 bits each, many of them equal."""
    seed, count = draw(st.integers(0, 10**6)), draw(st.integers(2, 5))
    problem, _ = tiny(seed)
    large = [0, *(2**power + draw(st.integers(0, 2)) for power in draw(st.lists(st.integers(30, 59), min_size=1, max_size=3)))]
    column = st.lists(st.sampled_from(large), min_size=problem.n, max_size=problem.n)
    return problem, [np.array(draw(column), np.int64) for _ in range(count)]


@given(huge())
@settings(max_examples=150, deadline=None)
def test_levels_that_fit_no_scale_are_solved_as_brute_force_solves_them(case: tuple[PackingProblem, list[Int64]]) -> None:
    problem, columns = case
    answer = lexicographic.solve(problem, columns, SOME)
    check(problem, columns, answer)
    assert answer.levels[0].optimal
    check(problem, columns, in_turn(problem, columns))


@pytest.mark.parametrize("room", [0, 7, 60, 1_000])
def test_bounds_hold_however_little_the_levels_above_can_count(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "PROVABLE", room)
    monkeypatch.setattr(lexicographic, "PROVABLE", room)
    monkeypatch.setattr(lexicographic, "INT64_MAX", room)
    proven = 0
    for seed in range(300):
        problem, columns = tiny(seed)
        answer = in_turn(problem, columns)
        check(problem, columns, answer)
        proven += answer.optimal
    assert proven > 200  # whom prices decide is fixed: that alone settles most of what cannot be scaled


def test_what_a_lazy_solver_misses_is_never_claimed_and_may_be_found_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most solves return their start, at first nothing, and any prices; a later turn may then find more of an earlier level."""
    for name in ("PROVABLE", "INT64_MAX"):
        monkeypatch.setattr(lexicographic, name, 10)
    monkeypatch.setattr(levels, "PROVABLE", 10)
    monkeypatch.setattr(lexicographic, "pack", lambda inc, _: np.zeros(inc.n, np.bool_))
    dice, solved, turns, turn = np.random.default_rng(1), portfolio.solve, [], InTurn._turn

    def lazy(problem: PackingProblem, budget: Budget, seed: int, start: Int64) -> Selection:
        if dice.random() < 0.3:
            return solved(problem, budget, seed, start)
        return certify(problem, start, solvers={"lazy": problem.n}, seed=0, steps=1, prices=dice.integers(0, 10, problem.m))

    monkeypatch.setattr(portfolio, "solve", lazy)
    monkeypatch.setattr(InTurn, "_turn", lambda self, undecided, level: turns.append(level) or turn(self, undecided, level))
    again = 0
    for seed in range(700):
        rng = np.random.default_rng(seed)
        n, m = int(rng.integers(2, 7)), int(rng.integers(1, 5))
        problem = random_problem(seed=seed, n=n, m=m, rows=2, quantity_max=2, capacity_max=3)
        columns = [rng.integers(0, rng.choice([2, 3, 8]), n) for _ in range(rng.integers(3, 6))]
        turns.clear()
        check(problem, columns, in_turn(problem, columns), floor=False)
        again += any(later <= earlier for earlier, later in pairwise(turns))
    assert again > 20


def test_many_classes_of_large_weights_are_decided_one_after_the_other() -> None:
    rng = np.random.default_rng(4)
    problem, priority = random_problem(seed=4, n=240, m=60, rows=2), np.arange(240) % 24
    columns = classes_to_levels(priority, rng.integers(2**40, 2**41, 240))
    with pytest.raises(DoesNotFit):
        combine(problem, columns)
    answer = lexicographic.solve(problem, columns, Budget(steps=50_000_000), names=[f"priority {p}" for p in range(24)])
    assert answer.optimal
    assert [level.value for level in answer.levels] == [level.upper_bound for level in answer.levels]
    assert sums_of(columns, answer.chosen) == tuple(level.value for level in answer.levels) >= by_levels(problem, columns)


def test_a_budget_of_one_step_is_still_answered_and_never_below_greedy() -> None:
    problem, rng = random_problem(seed=3, n=300, m=60, rows=3), np.random.default_rng(3)
    columns = [rng.integers(0, 2**50, problem.n) for _ in range(3)]
    answer = lexicographic.solve(problem, columns, Budget(steps=1))
    assert tuple(level.value for level in answer.levels) >= by_levels(problem, columns)
    assert all(level.value <= level.upper_bound <= INT64_MAX for level in answer.levels)
    assert not answer.optimal
    assert verify(answer.problem, answer.selection) == []


def test_the_same_steps_give_the_same_bytes_and_a_start_is_kept() -> None:
    problem, rng = random_problem(seed=5, n=150, m=40, rows=3), np.random.default_rng(5)
    columns = [rng.integers(0, 3, problem.n) * 2**50, *(rng.integers(0, 2**50, problem.n) for _ in range(2))]
    one, other = (lexicographic.solve(problem, columns, Budget(steps=2_000_000), seed=2) for _ in range(2))
    assert one.selection.digest() == other.selection.digest()
    assert one.levels == other.levels
    again = lexicographic.solve(problem, columns, Budget(steps=1), start=one.chosen)
    assert [level.value for level in again.levels] >= [level.value for level in one.levels]
