"""An earlier answer carried over a change: whatever came, went or changed, what comes out is sound, and no worse than the repair."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.changes import Change, Identities
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from pipeline_project.solvers import compile, kernels, portfolio
from pipeline_project.solvers.repair import repair
from pipeline_project.solvers.resume import carried, resume
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.start import Start
from tests.solvers.packing_problems import best_value, problem_of, random_problem, small_problems

ENOUGH = Budget(steps=10**6)


def ids(draw: st.DrawFn, count: int) -> Int64:
    """Out of few, so that two problems share some."""
    return np.array(sorted(draw(st.lists(st.integers(0, 12), unique=True, min_size=count, max_size=count))), np.int64)


@st.composite
def named_problems(draw: st.DrawFn) -> tuple[PackingProblem, Identities]:
    problem = draw(small_problems())
    return problem, Identities.of(problem, ids(draw, problem.n), ids(draw, problem.m))


@settings(deadline=None, max_examples=150)
@given(before=named_problems(), now=named_problems())
def test_ids_that_come_and_go_never_make_an_unsound_answer(
    before: tuple[PackingProblem, Identities], now: tuple[PackingProblem, Identities]
) -> None:
    (earlier, named), (problem, named_now) = before, now
    solved = portfolio.solve(earlier, ENOUGH, rivals=())
    change = Change.between(named, named_now)
    start = carried(solved, earlier.left_by(solved.chosen), change, problem)
    best = best_value(problem)
    for answer in (repair(problem, start, change.changed, ENOUGH), resume(problem, start, change.changed, ENOUGH)):
        assert verify(problem, answer) == []
        assert answer.certificate.value <= best <= answer.certificate.upper_bound


def carried_over(problem: PackingProblem, selection: Selection, now: PackingProblem, kept: Int64) -> tuple[Start, Change]:
    keys = np.arange(problem.m)
    change = Change.between(Identities.of(problem, np.arange(problem.n), keys), Identities.of(now, kept, keys))
    return carried(selection, problem.left_by(selection.chosen), change, now), change


def without(problem: PackingProblem, gone: Int64) -> tuple[PackingProblem, Int64]:
    """The same resources, fewer candidates."""
    kept = np.delete(np.arange(problem.n), gone)
    part, rows = problem.restrict(kept)
    now = PackingProblem.from_triples(part.weights, part.candidates(), rows[part.resources], part.quantities, problem.capacities)
    return now, kept


def test_where_somebody_has_gone_others_are_tried_though_nothing_else_changed() -> None:
    problem = random_problem(seed=2, n=3_000, m=1_800, rows=3, quantity_max=1, capacity_max=1)
    solved = portfolio.solve(problem, Budget(steps=10_000_000), rivals=())
    now, kept = without(problem, solved.chosen[::10])
    start, change = carried_over(problem, solved, now, kept)
    assert len(change.changed) == 0
    seeing, blind = (repair(now, one, change.changed, ENOUGH).certificate for one in (start, replace(start, left=None)))
    assert seeing.value > blind.value
    assert seeing.upper_bound < blind.upper_bound


def test_searching_on_is_no_worse_than_the_repair_and_counts_all_steps() -> None:
    problem = random_problem(seed=3, n=2_000, m=700, rows=3)
    solved = portfolio.solve(problem, Budget(steps=5_000_000), rivals=())
    now, kept = without(problem, solved.chosen[::50])
    start, change = carried_over(problem, solved, now, kept)
    repaired = repair(now, start, change.changed, Budget(steps=10_000_000))
    found = [resume(now, start, change.changed, Budget(steps=10_000_000), seed=4) for _ in range(2)]
    assert verify(now, found[0]) == []
    assert found[0].digest() == found[1].digest()
    certificate = found[0].certificate
    assert certificate.value >= repaired.certificate.value
    assert certificate.upper_bound <= repaired.certificate.upper_bound
    assert repaired.certificate.steps < certificate.steps <= 10_500_000
    assert certificate.reproducible


def test_a_clock_that_strikes_at_once_loses_nothing_that_was_proven() -> None:
    problem = random_problem(seed=3, n=600, m=200, rows=3)
    solved = portfolio.solve(problem, Budget(steps=20_000_000), rivals=())
    assert len(solved.certificate.cuts)
    answer = portfolio.solve(problem, Budget(steps=10**9, seconds=1e-6), 0, Start.of(solved), rivals=())
    assert verify(problem, answer) == []
    assert answer.certificate.value == solved.certificate.value
    assert answer.certificate.price_bound == solved.certificate.price_bound


def test_an_optimal_repair_ends_it() -> None:
    problem = problem_of([5, 7], [(0, 0, 1), (1, 1, 1)], [1, 1])
    solved = portfolio.solve(problem, ENOUGH, rivals=())
    answer = resume(problem, Start.of(solved), np.zeros(0, np.int64), ENOUGH)
    assert answer.certificate.solvers == {"repair": 2}
    assert answer.certificate.optimal


def test_whoever_compiles_at_set_up_knows_every_file_with_loops() -> None:
    """In a process of its own: here, other tests have imported what they like."""
    ask = "import importlib, sys; importlib.import_module(sys.argv[1]); from pipeline_project.solvers import kernels;"
    ask += "print(*{loop.py_func.__module__.rpartition('.')[2] for loop, _ in kernels.LOOPS})"
    done = subprocess.run([sys.executable, "-c", ask, compile.EVERYTHING], capture_output=True, text=True, check=True)
    folder = Path(kernels.__file__).parent
    assert set(done.stdout.split()) == {path.stem for path in folder.glob("*.py") if "\n@kernel(" in path.read_text()}
