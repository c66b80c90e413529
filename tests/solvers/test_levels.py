"""Objective levels: what the scale decides is what comparing level by level decides, by brute force; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from pipeline_project.solvers import levels, lexicographic
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import problem_of, random_problem

SOME = Budget(steps=5_000_000)
Sums = tuple[int, ...]


def feasible(problem: PackingProblem) -> list[Int64]:
    """Every selection, by brute force."""
    subsets = (np.arange(2**problem.n)[:, None] >> np.arange(problem.n)) & 1
    demands = np.zeros((problem.n, problem.m), np.int64)
    demands[problem.candidates(), problem.resources] = problem.quantities
    fit = (subsets @ demands <= problem.capacities).all(axis=1)
    return [np.flatnonzero(subset) for subset in subsets[fit]]


def sums_of(columns: list[Int64], chosen: Int64) -> Sums:
    return tuple(int(column[chosen].sum()) for column in columns)


def tiny(seed: int) -> tuple[PackingProblem, list[Int64]]:
    """Up to 6 candidates, up to 3 levels with many equal weights; common divisors, candidates that fit nowhere, several components."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 7)), int(rng.integers(1, 6))
    problem = random_problem(seed=seed, n=n, m=m, rows=int(rng.integers(1, 3)), quantity_max=2, capacity_max=3)
    return problem, [rng.integers(0, rng.choice([2, 4, 50]), n) * int(rng.choice([1, 10])) for _ in range(rng.integers(1, 4))]


def answered(combined: levels.Combined, chosen: Int64, upper_bound: int) -> Selection:
    """A solver's answer that is `upper_bound - value` points short of a proof."""
    selection = certify(combined.problem, chosen, solvers={}, seed=0, steps=0)
    return replace(selection, certificate=replace(selection.certificate, upper_bound=upper_bound))


def scale_components_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where one scale for all, which is tried first, would fit."""
    every = levels._groupings
    monkeypatch.setattr(levels, "_groupings", lambda reduced: list(every(reduced))[1:])


@pytest.mark.parametrize("apart", [False, True], ids=["one scale", "a scale for each component"])
def test_scale_and_bounds_agree_with_brute_force_on_thousands(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if apart:
        scale_components_apart(monkeypatch)
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        problem, columns = tiny(seed)
        combined = levels.combine(problem, columns)
        selections = feasible(problem)
        reached = [sums_of(columns, chosen) for chosen in selections]
        worth = [int(combined.problem.weights[chosen].sum()) for chosen in selections]
        best = int(np.argmax(np.array(worth)))
        assert reached[best] == max(reached), seed

        at = int(rng.integers(len(selections)))
        bound = max(worth) + int(rng.integers(0, 3)) * int(rng.integers(0, 1 + max(worth)))
        found = combined.read(answered(combined, selections[at], bound))
        assert tuple(level.value for level in found) == reached[at], seed
        for i, level in enumerate(found):
            alike = [sums[i] for sums in reached if sums[:i] == reached[at][:i]]
            assert level.upper_bound >= max(alike), seed
            assert not level.optimal or reached[at][: i + 1] == max(reached)[: i + 1], seed
        proven = combined.read(answered(combined, selections[best], worth[best]))
        assert all(level.optimal and level.value == level.upper_bound for level in proven), seed


def side_by_side(parts: list[PackingProblem]) -> PackingProblem:
    """Parts that share nothing as one problem."""
    first = np.cumsum([0, *(part.n for part in parts)])
    row = np.cumsum([0, *(part.m for part in parts)])
    return PackingProblem.from_triples(
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.candidates() + at for part, at in zip(parts, first, strict=False)]),
        np.concatenate([part.resources + at for part, at in zip(parts, row, strict=False)]),
        np.concatenate([part.quantities for part in parts]),
        np.concatenate([part.capacities for part in parts]),
    )


@pytest.mark.parametrize("top", [4, 60_000], ids=["one scale", "only a scale for each component fits"])
def test_the_portfolio_proves_the_best_of_many_small_parts_in_every_level(top: int) -> None:
    rng = np.random.default_rng(top)
    parts = [random_problem(seed=seed, n=7, m=3, rows=2, capacity_max=4) for seed in range(300)]
    columns = [[rng.integers(0, top, part.n) for _ in range(3)] for part in parts]
    truth = [max(sums_of(own, chosen) for chosen in feasible(part)) for part, own in zip(parts, columns, strict=True)]
    problem, whole = side_by_side(parts), [np.concatenate(column) for column in zip(*columns, strict=True)]
    answer = lexicographic.solve(problem, whole, SOME)
    assert (levels.combine(problem, whole).scales.shape[1] > 1) == (top > 4)
    assert answer.optimal
    assert [level.value for level in answer.levels] == [level.upper_bound for level in answer.levels] == np.sum(truth, axis=0).tolist()
    assert sums_of(whole, answer.chosen) == tuple(level.value for level in answer.levels)
    assert verify(answer.problem, answer.selection) == []


def test_a_budget_too_small_for_proofs_still_bounds_each_level() -> None:
    problem, rng = random_problem(seed=3, n=400, m=60, rows=3), np.random.default_rng(3)
    columns = [rng.integers(0, 100, problem.n), rng.integers(0, 100, problem.n)]
    first, second = lexicographic.solve(problem, columns, Budget(steps=1)).levels
    assert first.value < first.upper_bound <= columns[0].sum()
    assert not first.optimal
    assert not second.optimal
    assert second.value <= second.upper_bound <= columns[1].sum()


def test_the_same_seed_and_steps_give_the_same_bytes_and_a_start_is_kept() -> None:
    problem, rng = random_problem(seed=5, n=150, m=40, rows=3), np.random.default_rng(5)
    columns = [rng.integers(0, 3, problem.n), rng.integers(0, 1000, problem.n)]
    one, other = (lexicographic.solve(problem, columns, Budget(steps=200_000), seed=2) for _ in range(2))
    assert one.selection.digest() == other.selection.digest()
    assert one.levels == other.levels
    again = lexicographic.solve(problem, columns, Budget(steps=1), start=one.chosen)
    assert [level.value for level in again.levels] >= [level.value for level in one.levels]


def test_one_point_of_a_level_outweighs_everything_below() -> None:
    # One slot: a single first-class point, or 10**12 points of the second level.
    problem = problem_of([0, 0], [(0, 0, 1), (1, 0, 1)], [1])
    answer = lexicographic.solve(problem, [np.array([1, 0]), np.array([0, 10**12])], SOME)
    assert answer.chosen.tolist() == [0]
    assert answer.levels[1] == levels.Level(name="level 1", value=0, upper_bound=0, optimal=True)


def test_a_level_is_bounded_by_what_fits_not_by_what_there_is() -> None:
    # Together the second level would be 2**62; but only one of them has a place, and common divisors do not count.
    n = 2**10
    problem = problem_of([0] * n, [(c, 0, 1) for c in range(n)], [1])
    combined = levels.combine(problem, [np.full(n, 3), np.full(n, 2**52)])
    assert (combined.units, combined.scales.tolist(), combined.bounds.tolist()) == ((3, 2**52), [[2], [1]], [[1], [1]])


def test_what_fits_no_scale_is_refused_with_the_sums() -> None:
    problem = problem_of([0, 0], [(0, 0, 1), (1, 0, 1)], [1])
    large = np.array([2**40 + 1, 2**40])
    most = rf"value up to {2**40 + 1} in one component \(sum of all weights {2**41 + 1}\)"
    with pytest.raises(levels.DoesNotFit, match=rf"at most {INT64_MAX} in all, found \d+ even .* {most}"):
        levels.combine(problem, [large, large], names=["class", "value"])


def test_components_have_scales_of_their_own_where_one_for_all_does_not_fit() -> None:
    # 32 independent pairs: one scale would need more than 2**63, their own need less than 2**59.
    most = 5 * 2**24
    parts = [problem_of([0, 0], [(0, 0, 1), (1, 0, 1)], [1]) for _ in range(32)]
    combined = levels.combine(side_by_side(parts), [np.array([most, most - 1] * 32), np.array([most - 1, most] * 32)])
    assert combined.scales.shape == (2, 32)
    answer = combined.solve(SOME)
    assert [(level.value, level.optimal) for level in answer.levels] == [(32 * most, True), (32 * (most - 1), True)]


def test_components_may_make_up_for_each_other_in_a_level_that_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two slots, candidates 0 or 1 and 2 or 3. With 1 and 2 chosen, 0 and 3 have as much of the first level and 99 more of the second.
    scale_components_apart(monkeypatch)
    problem = problem_of([0] * 4, [(0, 0, 1), (1, 0, 1), (2, 1, 1), (3, 1, 1)], [1, 1])
    combined = levels.combine(problem, [np.array([1, 0, 1, 0]), np.array([0, 1, 0, 100])])
    best = int(combined.problem.weights[[0, 2]].sum())
    first, second = combined.read(answered(combined, np.array([1, 2]), best))
    assert (first.value, first.upper_bound, first.optimal) == (1, 2, False)
    assert second.value == 1
    assert second.upper_bound >= 100


def test_classes_become_levels_from_the_lowest_number_on() -> None:
    priority, weights = np.array([7, 0, 7, 2]), np.array([5, 6, 7, 8])
    assert [level.tolist() for level in levels.classes_to_levels(priority, weights)] == [[0, 6, 0, 0], [0, 0, 0, 8], [5, 0, 7, 0]]
    with pytest.raises(Refused, match="candidate 1: expected priority >= 0, found -1"):
        levels.classes_to_levels(np.array([0, -1]), np.array([1, 1]))
    with pytest.raises(Refused, match="expected at most 64 classes, found 65; use fewer classes"):
        levels.classes_to_levels(np.arange(65), np.ones(65, np.int64))


def test_counting_a_class_differs_from_weighing_it() -> None:
    # Room for two units: one heavy candidate of class 0, or two light ones.
    problem = problem_of([9, 4, 4], [(0, 0, 2), (1, 0, 1), (2, 0, 1)], [2])
    priority = np.zeros(3, np.int64)
    assert lexicographic.solve(problem, levels.classes_to_levels(priority, problem.weights), SOME).chosen.tolist() == [0]
    count = [*levels.classes_to_levels(priority, np.ones_like(problem.weights)), problem.weights]
    assert lexicographic.solve(problem, count, SOME).chosen.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("columns", "failure", "sentence"),
    [
        ([], UsageError, "levels: expected 1 to 64, found 0"),
        ([np.zeros(3, np.int64)], UsageError, r"level 0: expected int64\[2\], found int64\[3\]"),
        ([np.zeros(2)], UsageError, "found float64"),
        ([np.array([1, -1])], Refused, "level 0, candidate 1: expected >= 0, found -1"),
        ([np.array([1, 1]), np.array([2**62, 2**62])], Refused, f"level 1: expected a sum of at most {INT64_MAX}, found {2**63}"),
    ],
)
def test_levels_that_are_none_are_refused(columns: list[Int64], failure: type[Exception], sentence: str) -> None:
    with pytest.raises(failure, match=sentence):
        levels.combine(problem_of([1, 1], [], []), columns)


@pytest.mark.parametrize("problem", [problem_of([], [], []), problem_of([4], [(0, 0, 2)], [1])], ids=["nothing", "nothing that fits"])
def test_where_nothing_can_be_chosen_every_level_is_proven(problem: PackingProblem) -> None:
    answer = lexicographic.solve(problem, [problem.weights, problem.weights], SOME)
    assert answer.optimal
    assert [level.value for level in answer.levels] == [0, 0]
