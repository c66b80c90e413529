"""Local search never loses what it has, keeps the selection feasible whatever it undoes, and finds what greedy cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.bench import families
from pipeline_project.core.packing import Bools, PackingProblem
from pipeline_project.solvers import crowded_walk, tabu_walk, unit_walk
from pipeline_project.solvers.core_problem import core_of, in_doubt
from pipeline_project.solvers.crowded_walk import CrowdedWalk
from pipeline_project.solvers.general_walk import GeneralWalk
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.local_search import Doubt, LocalSearchParams, _Search, search
from pipeline_project.solvers.merging import best_of, changes_of_both
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.neighbours import Neighbours
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.tabu_walk import TabuWalk
from pipeline_project.solvers.tracking import VALUE
from pipeline_project.solvers.unit_walk import UnitWalk
from pipeline_project.solvers.walks import Walk, listed, walks
from tests.solvers.packing_problems import best_value, overdrawn, random_problem, small_problems


def value_of(inc: Incidence, chosen: Bools) -> int:
    return int(inc.weights[chosen].sum())


def in_doubt_all(inc: Incidence) -> Doubt:
    return Doubt(worth=np.zeros(inc.n), open=np.arange(inc.n), bound=float(inc.weights.sum()))


def start_of(inc: Incidence) -> Bools:
    return pack(inc, descending(inc.weights))


def incidence(*, seed: int, n: int, m: int, unit: bool) -> Incidence:
    largest = {"quantity_max": 1, "capacity_max": 1} if unit else {}
    return reduce(random_problem(seed=seed, n=n, m=m, rows=3, **largest)).inc


both_kinds = pytest.mark.parametrize("unit", [True, False], ids=["unit", "general"])


def walk_of(inc: Incidence, *, unit: bool, seed: int = 7, many: bool = False) -> Walk:
    walk = walks(inc, listed(inc, Meter(Budget(steps=10**9))), np.zeros(inc.n), (seed,), many=many)[0][0]
    assert isinstance(walk, UnitWalk if unit else GeneralWalk)
    return walk


@settings(deadline=None, max_examples=150)
@given(problem=small_problems(), seed=st.integers(0, 2**32), together=st.booleans(), crowded=st.booleans(), spoilt=st.booleans())
def test_it_keeps_the_selection_feasible_and_never_loses(
    problem: PackingProblem, seed: int, together: bool, crowded: bool, spoilt: bool
) -> None:
    inc = reduce(problem).inc
    start = np.zeros(inc.n, np.bool_) if spoilt else start_of(inc)
    before = value_of(inc, start)
    least = 0 if together else 10**9
    params = LocalSearchParams(together_min=least, together_min_unit=least)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CrowdedWalk, "suits", staticmethod(lambda _: crowded))
        found = search(inc, start, in_doubt_all(inc), seed, Meter(Budget(steps=20_000)), params)
    assert not overdrawn(inc.problem(), np.flatnonzero(found))
    assert before == value_of(inc, start), "the start belongs to the caller"
    assert before <= value_of(inc, found) <= best_value(inc.problem())


@both_kinds
def test_the_books_are_right_after_any_number_of_trials_and_undone_trials(unit: bool) -> None:
    inc = incidence(seed=3, n=200, m=60, unit=unit)
    walk = walk_of(inc, unit=unit)
    walk.adopt(start_of(inc))
    for heat in (0.0, 30.0, 1e6):
        before = value_of(inc, walk.chosen)
        walk.walk(np.arange(inc.n), heat, 1_000, 10**9, track=True)
        assert (inc.left_by(walk.chosen) >= 0).all()
        assert heat > 0 or value_of(inc, walk.chosen) >= before
        assert walk.best_value == value_of(inc, walk.best) >= value_of(inc, walk.chosen)
        assert walk._board.counts[VALUE] == value_of(inc, walk.chosen)  # type: ignore[attr-defined]  # the books themselves


@pytest.mark.parametrize(("family", "together"), [("uniform", True), ("paths", False)])
def test_two_walks_work_together_where_each_conflicts_with_few_of_many(family: str, together: bool) -> None:
    """Some 900 of the one and 500 of the other are chosen; a candidate there conflicts with 15, and with 35."""
    inc, ways = reduce(families.FAMILIES[family](6_000, 1)).inc, []
    with pytest.MonkeyPatch.context() as patched:
        for way in ("_work_together", "_race"):
            patched.setattr(_Search, way, lambda *_, way=way: ways.append(way))
        search(inc, start_of(inc), in_doubt_all(inc), 1, Meter(Budget(steps=10**8)))
    assert ways == ["_work_together" if together else "_race"]


def test_who_conflicts_with_whom_is_not_listed_where_the_clock_leaves_no_time_for_it() -> None:
    """The list looks at no clock. Where it fits into the time that is left, no clock has decided anything."""
    inc = incidence(seed=5, n=300, m=30, unit=True)
    for seconds, kind in ((1e-4, GeneralWalk), (10.0, UnitWalk)):
        meter = Meter(Budget(steps=10**9, seconds=seconds), lambda: 0.0)
        assert isinstance(walks(inc, listed(inc, meter), np.zeros(inc.n), (7,), many=False)[0][0], kind)
        assert meter.struck == (kind is GeneralWalk)


@pytest.mark.parametrize("many", [False, True], ids=["free", "holding"])
def test_a_unit_walk_knows_what_every_insertion_costs(many: bool) -> None:
    inc = incidence(seed=5, n=300, m=120, unit=True)
    near = Neighbours.of(inc)
    assert near is not None
    walk = walk_of(inc, unit=True, many=many)
    walk.adopt(start_of(inc))
    walk.walk(np.arange(inc.n), 100.0, 3_000, 10**9, track=False)
    rows, chosen = walk._board.rows, walk.chosen  # type: ignore[attr-defined]  # the books themselves
    for c in range(inc.n):
        blockers = [other for other in near.others[near.starts[c] : near.starts[c + 1]].tolist() if chosen[other]]
        expected = (sum(inc.weights[blockers].tolist()), sum(blockers), len(blockers))
        assert (rows[c, unit_walk.BLOCKED], rows[c, unit_walk.BLOCKERS], rows[c, unit_walk.FLAGS] // unit_walk.ONE) == expected
    assert not (rows[:, unit_walk.FLAGS] & (unit_walk.WAITING | unit_walk.BARRED)).any()


def test_whom_a_holding_walk_brings_in_stays_until_the_trial_ends() -> None:
    """Two exclude each other: the better one comes straight back into a free walk, at any heat."""
    pair = PackingProblem(
        weights=np.array([10, 9]),
        indptr=np.arange(3),
        resources=np.zeros(2, np.int32),
        quantities=np.ones(2, np.int64),
        capacities=np.ones(1, np.int64),
    )
    for many, found in ((False, {0}), (True, {0, 1})):
        walk, met = walk_of(Incidence.of(pair), unit=True, many=many), set()
        walk.adopt(np.array([True, False]))
        for _ in range(20):
            walk.walk(np.arange(2), 1e6, 1, 10**9, track=False)
            met.add(int(np.flatnonzero(walk.chosen)[0]))
        assert met == found


def test_a_general_walk_knows_who_holds_what() -> None:
    inc = incidence(seed=5, n=300, m=60, unit=False)
    walk = walk_of(inc, unit=False)
    walk.adopt(start_of(inc))
    walk.walk(np.arange(inc.n), 100.0, 3_000, 10**9, track=False)
    board, chosen = walk._board, walk.chosen  # type: ignore[attr-defined]  # the books themselves
    assert (board.free == inc.left_by(chosen)).all()
    for r in range(inc.m):
        rows = board.rows[inc.row_starts[r] : inc.row_starts[r] + board.holding[r]]
        holders = inc.holders[inc.row_starts[r] : inc.row_starts[r + 1]]
        assert sorted(board.owner[rows].tolist()) == [c for c in holders.tolist() if chosen[c]]


def crowd(*, seed: int, n: int = 120, m: int = 6) -> Incidence:
    rng = np.random.default_rng(seed)
    wanted = rng.integers(1, 1001, (n, m))
    owner, resource = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
    weights = np.floor(wanted.mean(1) + 500 * rng.random(n)).astype(np.int64)
    return reduce(PackingProblem.from_triples(weights, owner, resource, wanted.ravel(), wanted.sum(0) // 3)).inc


def test_a_crowded_walk_keeps_its_books_and_takes_back_what_it_does_not_accept() -> None:
    inc = crowd(seed=4)
    walk = walks(inc, listed(inc, Meter(Budget(steps=10**9))), np.zeros(inc.n), (7,), many=False)[0][0]
    assert isinstance(walk, CrowdedWalk)
    walk.adopt(start_of(inc))
    for heat in (0.0, 30.0, 1e6):
        before = value_of(inc, walk.chosen)
        walk.walk(np.arange(inc.n), heat, 1_000, 10**9, track=True)
        board, left = walk._board, inc.left_by(walk.chosen)
        assert (left >= 0).all()
        assert (board.free == left).all()
        assert board.counts[crowded_walk.OVERDRAWN] == 0
        assert board.counts[VALUE] == value_of(inc, walk.chosen)
        assert heat > 0 or value_of(inc, walk.chosen) >= before
        assert walk.best_value == value_of(inc, walk.best) >= value_of(inc, walk.chosen)


def test_in_a_crowd_it_beats_what_evicting_one_by_one_finds_with_the_same_work() -> None:
    inc, values = crowd(seed=9), []
    for suits in (True, False):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(CrowdedWalk, "suits", staticmethod(lambda _, answer=suits: answer))
            found = search(inc, start_of(inc), in_doubt_all(inc), 1, Meter(Budget(steps=3_000_000)))
        values.append(value_of(inc, found))
    assert values[0] > values[1] > value_of(inc, start_of(inc))


def tight(*, seed: int, n: int = 300) -> tuple[Incidence, Neighbours]:
    """A graph in which a tenth of all pairs conflict."""
    inc = reduce(families.dense(n, seed)).inc
    near = Neighbours.of(inc)
    assert near is not None
    return inc, near


def test_a_tabu_walk_knows_who_is_free_and_who_has_one_blocker() -> None:
    inc, near = tight(seed=3)
    walk = TabuWalk(inc, near, 7)
    board = walk._board
    walk.adopt(start_of(inc))
    for _ in range(30):
        walk.walk(np.arange(inc.n), 0.0, 777, 10**9, track=True)
        chosen = walk.chosen
        around = [near.others[near.starts[c] : near.starts[c + 1]] for c in range(inc.n)]
        blockers = [others[chosen[others]] for others in around]
        for where, expected in (
            (tabu_walk.FREE, [c for c in range(inc.n) if not chosen[c] and not len(blockers[c])]),
            (tabu_walk.ONE, [c for c in range(inc.n) if len(blockers[c]) == 1]),
        ):
            assert sorted(board.lists[where, : board.lengths[where]].tolist()) == expected
        assert all(board.rows[c, tabu_walk.BLOCKERS] == blockers[c].sum() for c in range(inc.n))
        assert board.counts[VALUE] == value_of(inc, chosen)
        assert walk.best_value == value_of(inc, walk.best) >= value_of(inc, chosen)
        assert (inc.left_by(walk.best) >= 0).all()
    assert board.counts[tabu_walk.MOVES] > 2 * tabu_walk.PATIENCE, "it began anew on the way"
    walk.adopt(start_of(inc))
    assert (walk.chosen == start_of(inc)).all()


def test_of_two_kinds_of_walk_the_better_one_goes_on() -> None:
    """Where conflicts are many and without order tabu search is ahead, on bids for bundles the walk that accepts losses is."""
    for problem, moves in ((families.dense(400, 1), True), (families.paths(1_000, 1), False)):
        inc, spent = reduce(problem).inc, {TabuWalk: 0, UnitWalk: 0}
        with pytest.MonkeyPatch.context() as patched:
            for kind in spent:
                patched.setattr(kind, "walk", counted(kind, spent))
            search(inc, start_of(inc), in_doubt_all(inc), 1, Meter(Budget(steps=60_000_000)))
        assert (spent[TabuWalk] > 5 * spent[UnitWalk]) == moves
        assert (spent[UnitWalk] > 5 * spent[TabuWalk]) != moves


def counted(kind: type[TabuWalk] | type[UnitWalk], spent: dict[type[TabuWalk] | type[UnitWalk], int]) -> Callable[..., tuple[int, int]]:
    plain = kind.walk

    def walk(self: Any, *arguments: Any, **keywords: Any) -> tuple[int, int]:
        work, trials = plain(self, *arguments, **keywords)
        spent[kind] += work
        return work, trials

    return walk


@both_kinds
def test_settling_ends_where_no_single_insertion_pays(unit: bool) -> None:
    inc = incidence(seed=7, n=300, m=100, unit=unit)
    walk = walk_of(inc, unit=unit)
    walk.adopt(np.zeros(inc.n, np.bool_))
    walk.settle(np.arange(inc.n), 10**8)
    settled = walk.chosen
    before = value_of(inc, settled)
    walk.settle(np.arange(inc.n), 10**8)
    assert 0 < before <= value_of(inc, walk.chosen) <= 1.02 * before


@both_kinds
def test_it_beats_the_local_optimum_it_starts_from_and_another_seed_goes_elsewhere(unit: bool) -> None:
    inc = incidence(seed=12, n=3000, m=1500, unit=unit)
    walk = walk_of(inc, unit=unit)
    walk.adopt(start_of(inc))
    walk.settle(np.arange(inc.n), 10**8)
    start = walk.chosen
    for together_min in (0, 10**9):
        params = LocalSearchParams(together_min=together_min, together_min_unit=together_min)
        found = [search(inc, start, in_doubt_all(inc), seed, Meter(Budget(steps=10**7)), params) for seed in (1, 1, 2)]
        assert all(value_of(inc, chosen) > 1.003 * value_of(inc, start) for chosen in found)
        assert (found[0] == found[1]).all()
        assert (found[0] != found[2]).any()


@settings(deadline=None, max_examples=300)
@given(problem=small_problems(), data=st.data())
def test_two_selections_merge_to_a_feasible_one_that_is_no_worse(problem: PackingProblem, data: st.DataObject) -> None:
    inc = reduce(problem).inc
    orders = [np.array(data.draw(st.permutations(range(inc.n))), np.int64) for _ in range(3)]
    before, first, second = (pack(inc, order) for order in orders)
    merged = best_of(inc, first, second)
    assert not overdrawn(inc.problem(), np.flatnonzero(merged))
    assert value_of(inc, merged) >= max(value_of(inc, first), value_of(inc, second))
    assert not overdrawn(inc.problem(), np.flatnonzero(changes_of_both(inc, before, first, second)))
    assert (changes_of_both(inc, before, before, second) == second).all(), "a change for the worse is kept as well"
    assert (changes_of_both(inc, before, first, before) == first).all()


def test_changes_in_different_places_all_count() -> None:
    inc = reduce(random_problem(seed=1, n=900, m=1500, rows=2, quantity_max=1, capacity_max=1)).inc
    before, after = start_of(inc), []
    for seed in (1, 2):
        walk = walk_of(inc, unit=True, seed=seed)
        walk.adopt(before)
        walk.walk(np.arange(inc.n), 0.0, 8, 10**9, track=False)
        after.append(walk.chosen)
    first, second = after
    merged = changes_of_both(inc, before, first, second)
    gains = [value_of(inc, chosen) - value_of(inc, before) for chosen in (first, second, merged)]
    assert min(gains) > 0
    assert gains[2] == gains[0] + gains[1]


def test_the_core_holds_who_is_in_doubt_and_whom_prices_want_elsewhere() -> None:
    worth = np.array([9.0, 1.0, -1.0, -9.0, 8.0, -8.0, 0.5])
    chosen = np.array([True, True, False, False, False, True, True])
    # Wanted elsewhere: 4 and 5. Then 6, whose loss of 0.5 puts 2 chosen times 0.5 at stake; then 1, 2: 3 times 1.
    assert sorted(in_doubt(chosen, worth, np.arange(7), gap=1.0, share=1.0).tolist()) == [4, 5, 6]
    assert sorted(in_doubt(chosen, worth, np.arange(7), gap=3.0, share=1.0).tolist()) == [1, 4, 5, 6]
    assert sorted(in_doubt(chosen, worth, np.arange(7), gap=1e9, share=1.0).tolist()) == list(range(7))


@settings(deadline=None)
@given(problem=small_problems(), data=st.data())
def test_whatever_is_chosen_in_the_core_fits_with_the_rest(problem: PackingProblem, data: st.DataObject) -> None:
    inc = reduce(problem).inc
    chosen = start_of(inc)
    doubtful = np.flatnonzero(np.array(data.draw(st.lists(st.booleans(), min_size=inc.n, max_size=inc.n)), np.bool_))
    core = core_of(inc, chosen, doubtful)
    lifted = chosen.copy()
    lifted[core.candidates] = pack(core.inc, np.arange(core.inc.n))
    assert not overdrawn(inc.problem(), np.flatnonzero(lifted))
