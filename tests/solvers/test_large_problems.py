"""What large problems do otherwise says the same: sorted by digits, in halves, in single precision, settled by exchanges."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline_project.bench import families
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.verification import dual_bound, verify
from pipeline_project.solvers import sorting, stages, two_cores
from pipeline_project.solvers.cuts import tightened_prices
from pipeline_project.solvers.exchange import exchange
from pipeline_project.solvers.greedy import pack, plain_ranks
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.portfolio import solve
from pipeline_project.solvers.prices import exact_prices, find_prices
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.solver import Budget, Floats
from tests.solvers.packing_problems import random_problem, small_problems

PLENTY = Budget(steps=10**8)
on_patched = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
whole = st.integers(-(2**63) + 1, 2**63 - 1)
numbers = st.one_of(
    hnp.arrays(np.int64, st.integers(1, 40), elements=st.one_of(st.integers(-2, 2), whole)),
    hnp.arrays(np.float64, st.integers(1, 40), elements=st.one_of(st.sampled_from([0.0, -0.0, 1.5]), st.floats(allow_nan=False))),
)


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large."""
    monkeypatch.setattr(two_cores, "HALVES_MIN", 1)
    monkeypatch.setattr(stages, "LARGE", 1)
    monkeypatch.setattr(sorting, "MANY", 1)


@on_patched
@given(values=numbers)
@pytest.mark.usefixtures("halved")
def test_sorting_by_digits_is_sorting(values: Int64 | Floats) -> None:
    assert sorting.descending(values).tolist() == np.argsort(-values, kind="stable").tolist()


@on_patched
@given(first=st.lists(st.integers(0, 3), min_size=1, max_size=40), seed=st.integers(0, 9))
@pytest.mark.usefixtures("halved")
def test_equals_keep_the_second_order(first: list[int], seed: int) -> None:
    ranks, then = np.array(first), np.random.default_rng(seed).integers(-2, 3, len(first)) / 2
    assert sorting.descending_by(ranks, then).tolist() == np.lexsort((-then, -ranks)).tolist()


@on_patched
@given(problem=small_problems())
def test_halves_make_the_whole(problem: PackingProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Incidence.of(problem), reduce(problem).inc
    with monkeypatch.context() as patched:
        patched.setattr(two_cores, "HALVES_MIN", 1)
        halves = Incidence.of(problem), reduce(problem).inc
    for one, other in zip(once, halves, strict=True):
        for column, same in zip(one, other, strict=True):
            assert column.dtype == same.dtype
            assert column.tolist() == same.tolist()


@pytest.mark.parametrize(("quantity_max", "capacity_max"), [(1, 1), (3, 6)])
@pytest.mark.usefixtures("halved")
def test_prices_in_single_precision_certify_as_much(quantity_max: int, capacity_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(1, 600, 200, 3, quantity_max, capacity_max)
    inc = reduce(problem).inc
    single = find_prices(inc, Meter(PLENTY))
    assert not single.iterate.whole
    with monkeypatch.context() as patched:
        patched.setattr(two_cores, "HALVES_MIN", 10**9)
        double = find_prices(inc, Meter(PLENTY))
    assert double.iterate.whole
    assert single.bound == pytest.approx(double.bound, rel=1e-3)
    exact = exact_prices(inc, single.per_unit)
    assert dual_bound(inc.problem(), exact.per_unit, exact.scale) == pytest.approx(single.bound, abs=2)


@pytest.mark.usefixtures("halved")
def test_going_on_in_single_precision_goes_on_from_there() -> None:
    inc = reduce(random_problem(2, 300, 100, 3, 1, 1)).inc
    some = find_prices(inc, Meter(Budget(steps=20_000)))
    more = find_prices(inc, Meter(PLENTY), resume=some.iterate)
    assert more.iterations > some.iterations
    assert more.bound < some.bound


@pytest.mark.parametrize("seed", range(20))
def test_an_exchange_pass_ends_where_no_insertion_pays(seed: int) -> None:
    inc = reduce(random_problem(seed, 60, 30, 3, 1, 1)).inc
    before = pack(inc, np.random.default_rng(seed).permutation(inc.n))
    after = exchange(inc, before, Meter(PLENTY))
    assert int(inc.weights[after].sum()) > int(inc.weights[before].sum())
    assert (inc.left_by(after) >= 0).all()
    for c in np.flatnonzero(~after):
        mine = inc.resources[inc.starts[c] : inc.starts[c + 1]]
        others = {h for r in mine for h in inc.holders[inc.row_starts[r] : inc.row_starts[r + 1]].tolist() if after[h]}
        assert int(inc.weights[list(others)].sum()) >= inc.weights[c]


def test_an_exchange_pass_leaves_alone_what_it_does_not_understand_or_cannot_afford() -> None:
    several, spent = reduce(random_problem(1, 60, 30, 3, 1, 4)).inc, Meter(Budget(steps=1))
    start = pack(several, np.arange(several.n))
    assert (exchange(several, start, Meter(PLENTY)) == start).all()
    spent.spend(1)
    unit = reduce(random_problem(1, 60, 30, 3, 1, 1)).inc
    start = pack(unit, np.arange(unit.n))
    assert (exchange(unit, start, spent) == start).all()


@pytest.mark.usefixtures("halved")
@pytest.mark.parametrize("steps", [1, 100, 10_000, 1_000_000])
def test_a_large_solve_is_sound_and_the_same_again_whatever_its_steps(steps: int) -> None:
    problem = random_problem(3, 400, 200, 3, 1, 1)
    one, other = (solve(problem, Budget(steps=steps), rivals=()) for _ in range(2))
    assert verify(problem, one) == []
    assert one.digest() == other.digest()
    assert one.certificate.upper_bound == other.certificate.upper_bound
    inc = reduce(problem).inc
    plain = max(int(inc.weights[pack(inc, sorting.descending(rank))].sum()) for rank in (inc.weights, inc.weights / 3))
    assert one.certificate.value >= plain


def test_a_clock_that_has_struck_before_the_beginning_leaves_a_plain_selection() -> None:
    problem = random_problem(4, 400, 200, 3, 1, 1)
    found = solve(problem, Budget(steps=10**9, seconds=1e-9), rivals=())
    assert found.certificate.claims == ()  # nobody has proven anything
    assert found.certificate.value >= int(problem.weights[pack(Incidence.of(problem), sorting.descending(problem.weights))].sum())


def test_a_resource_that_all_want_costs_what_its_demands_need() -> None:
    n = 100_000
    weights = np.random.default_rng(1).integers(1, 1001, n)
    problem = PackingProblem.from_triples(weights, np.arange(n), np.zeros(n, np.int64), np.ones(n, np.int64), np.ones(1, np.int64))
    tracemalloc.start()
    try:
        found = solve(problem, Budget(steps=10**8), rivals=())
        assert tracemalloc.get_traced_memory()[1] < 300 * n  # bytes; all pairs would be 5 * 10**9
    finally:
        tracemalloc.stop()
    assert found.certificate.value == found.certificate.upper_bound == 1000


def test_prices_that_would_come_too_late_are_not_begun_and_the_plain_start_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "START_ROWS_PER_SECOND", 1e-9)  # an age for each demand
    monkeypatch.setattr(stages, "SEARCH_ROWS_PER_SECOND", 1e-9)
    problem = families.dense(400, 1)
    found = solve(problem, Budget(steps=10**9, seconds=60.0), rivals=())
    inc = Incidence.of(problem)
    plain = max(int(inc.weights[pack(inc, sorting.descending(rank))].sum()) for rank in plain_ranks(inc))
    assert not found.certificate.prices.any()
    assert not found.certificate.reproducible, "the clock decided"
    assert found.certificate.value > plain
    assert verify(problem, found) == []


@pytest.mark.parametrize(("far", "priced"), [(3.0, False), (float("inf"), True)])
def test_prices_that_cannot_come_near_are_not_waited_for_beyond_their_share_of_the_time(
    far: float, priced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, asked = families.dense(400, 1), []
    monkeypatch.setattr(stages, "START_ROWS_PER_SECOND", len(problem.resources))  # a second of two, of which a quarter is for prices
    monkeypatch.setattr(stages, "tightened_prices", lambda *a, **k: (asked.append(True), tightened_prices(*a, **k))[1])
    budget = Budget(steps=10**12, seconds=2.0)
    selection = solve(problem, budget, 1, params=stages.PortfolioParams(far=far))
    assert bool(asked) == priced
    assert selection.certificate.solvers == {"search": problem.n}
    assert not verify(problem, selection)
