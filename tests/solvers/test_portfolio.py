"""The portfolio: never below greedy, never hurt by a competitor, the same answer in a fresh process, on time when a clock is set."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline_project.bench import families
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.verification import claimed, verify
from pipeline_project.solvers import competitors, portfolio, rivals
from pipeline_project.solvers.competitors import Competitor
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import overdrawn, problem_of, random_problem, small_problems

SOME = Budget(steps=20_000_000)
SLACK_OF_A_BUSY_MACHINE = 1.0  # the tests run beside others; the bench measures the promise itself


def plain_greedy(problem: PackingProblem, order: Int64) -> int:
    free, value = problem.capacities.copy(), 0
    for c in order:
        rows = slice(problem.indptr[c], problem.indptr[c + 1])
        if (problem.quantities[rows] <= free[problem.resources[rows]]).all():
            free[problem.resources[rows]] -= problem.quantities[rows]
            value += int(problem.weights[c])
    return value


@settings(deadline=None, max_examples=100)
@given(problem=small_problems())
def test_it_is_never_below_plain_greedy_however_small_the_budget(problem: PackingProblem) -> None:
    size = np.bincount(problem.candidates(), weights=problem.quantities, minlength=problem.n)
    by_weight = np.argsort(-problem.weights, kind="stable")
    by_rate = np.argsort(-problem.weights / np.maximum(size, 1e-300), kind="stable")
    value = portfolio.solve(problem, Budget(steps=1)).certificate.value
    assert value >= max(plain_greedy(problem, by_weight), plain_greedy(problem, by_rate))


def test_a_better_start_is_kept() -> None:
    # Greedy by weight and by size both take the first; the other two together are worth more, and one step searches nothing.
    problem = problem_of(
        [10, 8, 8, 1], [(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 2, 9), (2, 1, 1), (2, 3, 9), (3, 2, 1), (3, 3, 1)], [1, 1, 9, 9]
    )
    assert portfolio.solve(problem, Budget(steps=1)).certificate.value == 11
    assert portfolio.solve(problem, Budget(steps=1), start=np.array([1, 2])).certificate.value == 16


def hard(n: int = 400) -> PackingProblem:
    """One component that prices say little about: nothing but search gets anywhere."""
    return random_problem(seed=4, n=n, m=n // 4, rows=6, quantity_max=1, capacity_max=1)


def stranger(name: str, *, bound_trusted: bool = False, memory_max: int = 2**30) -> Competitor:
    return Competitor(name=name, solver=f"tests.solvers.strangers:{name}", bound_trusted=bound_trusted, memory_max=memory_max)


@pytest.mark.parametrize("name", ["crash", "die", "overdraw", "prove_too_much", "nobody", "twice", "nonsense", "eat_memory", "chatter"])
def test_a_competitor_that_crashes_lies_or_eats_memory_changes_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    problem = hard()
    without = portfolio.solve(problem, SOME, rivals=())
    answer = portfolio.solve(problem, SOME, rivals=[stranger(name)])
    assert answer.certificate.value >= 0.99 * without.certificate.value
    assert answer.certificate.upper_bound == without.certificate.upper_bound
    assert answer.certificate.reproducible
    assert name not in answer.certificate.solvers
    assert verify(problem, answer) == []
    assert name in {"prove_too_much", "chatter"} or name in caplog.text


def test_a_competitor_that_is_here_for_proofs_is_asked_only_where_one_is_in_reach(caplog: pytest.LogCaptureFixture) -> None:
    problem = hard()
    for gap_max, small, asked in ((0.01, 0, False), (1.0, 0, True), (0.01, problem.n, True)):
        caplog.clear()
        portfolio.solve(problem, SOME, rivals=[replace(stranger("crash"), gap_max=gap_max, small=small)])
        assert ("crash" in caplog.text) == asked


@pytest.mark.parametrize("name", ["hang", "eat_memory", "crash"])
def test_a_competitor_never_breaks_the_time_limit(name: str) -> None:
    problem = hard(2000)
    begin = time.monotonic()
    answer = portfolio.solve(problem, Budget(steps=10**12, seconds=2.0), rivals=[stranger(name, memory_max=2**40)])
    assert time.monotonic() - begin < 2.0 * 1.1 + 0.2 + SLACK_OF_A_BUSY_MACHINE
    assert verify(problem, answer) == []
    assert answer.certificate.value >= portfolio.solve(problem, Budget(steps=1), rivals=()).certificate.value


def test_one_that_hangs_where_no_clock_is_set_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "PATIENCE_SECONDS", 1.0)
    answer = portfolio.solve(hard(), SOME, rivals=[stranger("hang")])
    assert not answer.certificate.reproducible


def test_a_competitor_that_finds_more_is_believed_as_far_as_it_can_be_checked() -> None:
    problem = random_problem(seed=4, n=300, m=60, rows=3, quantity_max=1, capacity_max=1)
    little = Budget(steps=100_000)
    alone = portfolio.solve(problem, little, rivals=())
    helped = portfolio.solve(problem, little, rivals=[stranger("oracle", bound_trusted=True)])
    assert helped.certificate.value > alone.certificate.value
    assert helped.certificate.upper_bound < alone.certificate.upper_bound
    assert "oracle" in helped.certificate.solvers
    assert {claim.solver for claim in helped.certificate.claims} == {"oracle"}
    assert claimed(helped.certificate) > 0
    assert verify(problem, helped) == []


def test_the_bound_of_a_plug_in_that_nobody_can_check_counts_for_nothing() -> None:
    problem = random_problem(seed=4, n=300, m=60, rows=3, quantity_max=1, capacity_max=1)
    answer = portfolio.solve(problem, Budget(steps=100_000), rivals=[stranger("oracle")])
    assert "oracle" in answer.certificate.solvers
    assert answer.certificate.claims == ()


def test_solvers_plug_in_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in = EntryPoints([EntryPoint(name="mine", value="my.package:solve", group="pipeline_project.solvers")])
    monkeypatch.setattr(competitors, "entry_points", lambda group: plugged_in.select(group=group))
    found = competitors.competitors.__wrapped__()
    assert [(entry.name, entry.bound_trusted) for entry in found] == [("cpsat", True), ("mine", False)]
    assert found[1].solver == "my.package:solve"


def test_a_fresh_process_gives_the_same_bytes() -> None:
    script = """
from pipeline_project.solvers.portfolio import solve
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import random_problem
selection = solve(random_problem(seed=8, n=600, m=150, rows=3), Budget(steps=30_000_000), seed=1)
print(selection.digest(), selection.certificate.upper_bound, selection.certificate.prices.tobytes().hex())
"""
    answers = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout for _ in range(3)}
    here = portfolio.solve(random_problem(seed=8, n=600, m=150, rows=3), Budget(steps=30_000_000), seed=1)
    assert answers == {f"{here.digest()} {here.certificate.upper_bound} {here.certificate.prices.tobytes().hex()}\n"}


def test_when_the_clock_ends_the_search_the_certificate_says_so() -> None:
    problem = random_problem(seed=2, n=5000, m=1500, rows=3)
    answer = portfolio.solve(problem, Budget(steps=10**15, seconds=1e-6))
    assert not answer.certificate.reproducible
    assert verify(problem, answer) == []


def test_small_components_are_proven_one_by_one() -> None:
    parts = [random_problem(seed=i, n=40, m=25, rows=3, quantity_max=1, capacity_max=1) for i in range(50)]
    problem = PackingProblem.from_triples(
        np.concatenate([p.weights for p in parts]),
        np.concatenate([p.candidates() + 40 * i for i, p in enumerate(parts)]),
        np.concatenate([p.resources.astype(np.int64) + 25 * i for i, p in enumerate(parts)]),
        np.concatenate([p.quantities for p in parts]),
        np.concatenate([p.capacities for p in parts]),
    )
    answer = portfolio.solve(problem, Budget(steps=1_000_000_000), rivals=())
    assert answer.certificate.optimal
    assert verify(problem, answer) == []


@pytest.mark.parametrize(
    ("problem", "value"),
    [
        (problem_of([], [], []), 0),
        (problem_of([], [], [3, 0]), 0),
        (problem_of([4, 0, 5], [], []), 9),
        (problem_of([4, 5], [(0, 0, 1), (1, 0, 1)], [0]), 0),
        (problem_of([0, 0], [(0, 0, 1), (1, 0, 1)], [1]), 0),
    ],
    ids=["nothing", "no candidates", "no resources", "no capacity", "worthless"],
)
def test_the_smallest_problems_are_proven(problem: PackingProblem, value: int) -> None:
    answer = portfolio.solve(problem, SOME)
    assert answer.certificate.value == value
    assert answer.certificate.optimal
    assert verify(problem, answer) == []


def test_numbers_too_large_to_prove_anything_with_are_still_selected_from() -> None:
    problem = problem_of([2**61, 2**61, 2**61], [(0, 0, 2**60), (1, 0, 2**60), (2, 0, 2**60)], [2**61])
    answer = portfolio.solve(problem, SOME)
    assert answer.certificate.value == 2**62
    assert verify(problem, answer) == []


def test_one_resource_with_a_hundred_thousand_holders() -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 10**6, n)
    problem = PackingProblem.from_triples(weights, np.arange(n), np.zeros(n, np.int64), np.ones(n, np.int64), np.array([1000]))
    answer = portfolio.solve(problem, Budget(steps=500_000_000))
    assert answer.certificate.value == np.sort(weights)[-1000:].sum()
    assert answer.certificate.gap < 1e-4
    assert not overdrawn(problem, answer.chosen)


def test_many_small_components_are_proven_without_cuts_and_each_rounds_its_bound_down_by_itself() -> None:
    apart = families.clustered(4_000, 5)
    answer = portfolio.solve(apart, Budget(steps=200_000_000), rivals=())
    assert answer.certificate.optimal
    assert "prices" in {claim.solver for claim in answer.certificate.claims}
    assert answer.certificate.price_bound is not None
    assert answer.certificate.upper_bound < answer.certificate.price_bound
    assert not answer.certificate.cuts, "small components are proven before anybody looks for cuts"
    assert verify(apart, answer) == []
