"""Special cases are proven optimal: against every subset where that is possible, against other programs where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Final

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from pipeline_project.bench import families
from pipeline_project.core.packing import Bools, Int64, PackingProblem
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.matching import match
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import ExactPrices, component_bounds, exact_prices, find_prices
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.special_cases import decided, settle
from tests.solvers.packing_problems import problem_of

PLENTY: Final = 10**9
Triples = list[tuple[int, int, int]]
Kind = Callable[[np.random.Generator, int], tuple[Triples, list[int]]]


def equal(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    return [(c, 0, 2) for c in range(n) if rng.random() < 0.9], [int(rng.integers(0, 12))]


def knapsack(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    largest = int(rng.choice([3, 9, 10**6]))
    return [(c, 0, int(rng.integers(1, largest + 1))) for c in range(n) if rng.random() < 0.9], [int(rng.integers(0, 3 * largest))]


def matching(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    m = int(rng.integers(2, 9))
    return [(c, int(r), 1) for c in range(n) for r in rng.choice(m, rng.choice([0, 1, 2, 2, 2, 2]), replace=False)], [1] * m


def transportation(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    """The quantities differ from resource to resource, but not from candidate to candidate."""
    half = int(rng.integers(1, 4))
    ends = [(c, r) for c in range(n) for r in (int(rng.integers(half)), half + int(rng.integers(half)))]
    return [(c, r, 1 + r % 2) for c, r in ends if rng.random() < 0.9], rng.integers(0, 9, 2 * half).tolist()


def intervals(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    m = int(rng.integers(5, 10))
    begin = rng.integers(0, m - 1, n)
    end = begin + rng.integers(0, 6, n)
    return [(c, r, 1 + r % 2) for c in range(n) for r in range(begin[c], min(m, end[c]))], rng.integers(1, 4, m).tolist()


def shapeless(rng: np.random.Generator, n: int) -> tuple[Triples, list[int]]:
    m = int(rng.integers(1, 7))
    rows = [(c, int(r)) for c in range(n) for r in rng.choice(m, min(m, int(rng.integers(0, 4))), replace=False)]
    return [(c, r, int(rng.integers(1, 4))) for c, r in rows], rng.integers(0, 7, m).tolist()


# Which answers each kind must have given now and then: it may also happen to be of a simpler shape, or fall apart.
KINDS: Final[dict[Kind, str]] = {
    equal: "top-k",
    knapsack: "knapsack",
    matching: "matching",
    transportation: "transportation",
    intervals: "intervals",
    shapeless: "fixing",
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_tiny_ones_are_worth_what_the_best_subset_is_worth(kind: Kind) -> None:
    rng = np.random.default_rng(11)
    names: Counter[str] = Counter()
    for i in range(1000):
        problem = tiny(kind, rng)
        inc, best = Incidence.of(problem), best_of_all(problem)
        prices = some_prices(inc, rng, i % 4)
        chosen = pack(inc, rng.permutation(inc.n)) if i % 2 else np.zeros(inc.n, np.bool_)
        settled = settle(inc, chosen, prices, bound_of(inc, prices), Meter(Budget(steps=PLENTY)))
        if settled is None:  # nothing can be fixed, or searched, without prices that can be summed
            assert kind is shapeless and not prices.safe
            continue
        names[settled[0]] += 1
        assert worth_of(inc, settled[1]) == best, f"problem {i}: {settled[0]}"
        hurried = settle(inc, chosen, prices, bound_of(inc, prices), Meter(Budget(steps=int(rng.integers(1, 3000)))))
        assert hurried is None or worth_of(inc, hurried[1]) == best, f"problem {i}, few steps"
    assert names[KINDS[kind]] >= 50, names


def test_whatever_is_better_agrees_with_what_is_fixed() -> None:
    rng, fixed = np.random.default_rng(12), 0
    for i in range(400):
        problem = tiny(shapeless, rng)
        inc = Incidence.of(problem)
        prices = some_prices(inc, rng, 1 + i % 3)
        value = worth_of(inc, pack(inc, rng.permutation(inc.n)))
        inside, still_open = decided(inc, prices, value)
        for subset in feasible_subsets(problem):
            if int(inc.weights[subset].sum()) > value:
                assert (subset[~still_open] == inside[~still_open]).all()
        fixed += int((~still_open).sum())
    assert fixed > 500


@pytest.mark.parametrize("weight_max", [1, 3, 50, 10**12])
def test_matchings_of_graphs_that_are_not_bipartite(weight_max: int) -> None:
    """With ties and without, sparse and dense, whatever the prices: blossoms form, nest and expand."""
    rng = np.random.default_rng(weight_max)
    for i in range(150):
        v = int(rng.integers(2, 26))
        e = int(rng.integers(1, 5 * v))
        one = rng.integers(0, v, e)
        other, weights = (one + rng.integers(1, v, e)) % v, rng.integers(0, weight_max + 1, e)
        prices = rng.integers(0, 2 * weight_max + 1, v) if i % 2 else np.zeros(v, np.int64)
        chosen = match(one, other, weights, prices, rng.random(e) < 0.3, Meter(Budget(steps=PLENTY)))
        assert chosen is not None
        assert np.bincount(np.concatenate((one[chosen], other[chosen]))).max(initial=0) <= 1
        assert int(weights[chosen].sum()) == matched_by_networkx(one, other, weights), f"graph {i}"


def test_a_larger_matching() -> None:
    problem = families.matching(900, 5)
    one, other = problem.resources.reshape(-1, 2).T.astype(np.int64)
    assert settled_value(problem, "matching") == matched_by_networkx(one, other, problem.weights)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("intervals", families.intervals(800, 1)),
        ("intervals", families.intervals(3000, 2)),
        ("matching", families.bipartite(1500, 3)),
        ("matching", families.matching(1500, 4)),
    ],
    ids=["intervals", "more intervals", "bipartite", "general"],
)
def test_mid_size_families_agree_with_highs(name: str, problem: PackingProblem) -> None:
    assert settled_value(problem, name) == by_highs(problem)


def test_a_transportation_problem_agrees_with_highs() -> None:
    rng = np.random.default_rng(6)
    ends = np.stack((rng.integers(0, 40, 1500), 40 + rng.integers(0, 40, 1500)), 1)
    problem = PackingProblem.from_triples(
        rng.integers(0, 30, 1500), np.repeat(np.arange(1500), 2), ends.ravel(), np.ones(3000, np.int64), rng.integers(1, 20, 80)
    )
    assert settled_value(problem, "transportation") == by_highs(problem)


@pytest.mark.parametrize("likeness", [0.0, 0.9, 1.0])
def test_a_knapsack_agrees_with_highs(likeness: float) -> None:
    """Worth and quantity have nothing, much, or almost everything to do with each other."""
    rng = np.random.default_rng(7)
    quantities = rng.integers(1, 1001, 300)
    weights = 1 + (likeness * quantities + (1 - likeness) * rng.integers(1, 1001, 300)).astype(np.int64)
    problem = PackingProblem.from_triples(weights, np.arange(300), np.zeros(300, np.int64), quantities, np.array([40_000]))
    assert settled_value(problem, "knapsack") == by_highs(problem)


def test_large_ones_cost_few_steps() -> None:
    for name, problem, millions in (
        ("matching", families.matching(30_000, 1), 5),
        ("matching", families.bipartite(30_000, 1), 5),
        ("intervals", families.intervals(20_000, 1), 20),
    ):
        inc = Incidence.of(problem)
        meter = Meter(Budget(steps=millions * 10**6))
        prices = exact_prices(inc, find_prices(inc, Meter(Budget(steps=50_000_000))).per_unit)
        settled = settle(inc, pack(inc, descending(inc.weights)), prices, bound_of(inc, prices), meter)
        assert settled is not None
        assert settled[0] == name


def test_equal_weights_and_mixed_prices_do_not_trap_a_matching() -> None:
    """Prices from the middle of many optima: a search from them alone takes a hundred times as long."""
    rng = np.random.default_rng(0)
    v, e = 3_000, 30_000
    one = rng.integers(0, v, e)
    other, weights = (one + rng.integers(1, v, e)) % v, rng.integers(1, 4, e)
    nobody, values = np.zeros(e, np.bool_), []
    for prices in (rng.integers(2, 5, v), np.full(v, 3)):
        chosen = match(one, other, weights, prices, nobody, Meter(Budget(steps=10_000_000)))
        assert chosen is not None
        values.append(int(weights[chosen].sum()))
    assert values[0] == values[1]


def test_the_same_again_gives_the_same_bytes() -> None:
    for problem in (families.matching(2000, 8), families.intervals(2000, 8)):
        inc = Incidence.of(problem)
        prices = exact_prices(inc, find_prices(inc, Meter(Budget(steps=10**7))).per_unit)
        answers = []
        for _ in range(2):
            meter = Meter(Budget(steps=PLENTY))
            settled = settle(inc, pack(inc, descending(inc.weights)), prices, bound_of(inc, prices), meter)
            assert settled is not None
            answers.append((settled[0], settled[1].tobytes(), meter.spent))
        assert answers[0] == answers[1]


def test_a_clock_that_has_struck_settles_nothing() -> None:
    inc = Incidence.of(families.matching(3000, 9))
    prices = free_of_charge(inc)
    for looks in range(1, 6):
        ticks = iter([0.0] * looks + [10.0] * 1000)
        meter = Meter(Budget(steps=PLENTY, seconds=1.0), clock=lambda ticks=ticks: next(ticks))  # type: ignore[misc]
        settled = settle(inc, np.zeros(inc.n, np.bool_), prices, bound_of(inc, prices), meter)
        assert settled is None or worth_of(inc, settled[1]) == by_highs(inc.problem())
        if settled is None:
            assert meter.struck
    assert settled is not None


def test_what_has_no_shape_falls_apart_under_good_prices() -> None:
    """Clusters that only one candidate, too poor to be chosen, holds together."""
    clusters = families.clustered(160, 3)
    owner, m = clusters.candidates(), clusters.m
    everywhere = np.arange(0, m, 24)
    bridge = np.full(len(everywhere), clusters.n)
    problem = PackingProblem.from_triples(
        np.append(clusters.weights, 1),
        np.concatenate((owner, bridge)),
        np.concatenate((clusters.resources, everywhere)),
        np.ones(len(owner) + len(bridge), np.int64),
        clusters.capacities,
    )
    inc = Incidence.of(problem)
    assert Components.of(inc).sizes.max() > 100
    relaxed = find_prices(inc, Meter(Budget(steps=20_000_000)))
    prices = exact_prices(inc, relaxed.per_unit)
    settled = settle(inc, pack(inc, descending(relaxed.share)), prices, bound_of(inc, prices), Meter(Budget(steps=PLENTY)))
    assert settled is not None
    assert settled[0] == "fixing"
    assert worth_of(inc, settled[1]) == by_highs(problem)


def tiny(kind: Kind, rng: np.random.Generator) -> PackingProblem:
    """Up to 10 candidates; weights of nothing, few different ones, many."""
    n = int(rng.integers(0, 11))
    triples, capacities = kind(rng, n)
    weights = rng.integers(0, rng.choice([2, 6, 50, 10**9]), n)
    return problem_of(weights.tolist(), triples, capacities)


def feasible_subsets(problem: PackingProblem) -> Bools:
    subsets = np.array(list(product((False, True), repeat=problem.n)), np.bool_).reshape(2**problem.n, problem.n)
    demand = np.zeros((problem.n, problem.m), np.int64)
    demand[problem.candidates(), problem.resources] = problem.quantities
    return subsets[(subsets.astype(np.int64) @ demand <= problem.capacities).all(axis=1)]


def best_of_all(problem: PackingProblem) -> int:
    return int((feasible_subsets(problem).astype(np.int64) @ problem.weights).max())


def free_of_charge(inc: Incidence) -> ExactPrices:
    return ExactPrices(per_unit=np.zeros(inc.m, np.int64), scale=1, safe=True)


def some_prices(inc: Incidence, rng: np.random.Generator, kind: int) -> ExactPrices:
    """Unsafe ones, none, any, good ones."""
    if kind == 0:
        return ExactPrices(per_unit=np.zeros(inc.m, np.int64), scale=1, safe=False)
    if kind == 1:
        return free_of_charge(inc)
    good = find_prices(inc, Meter(Budget(steps=5_000))).per_unit
    return exact_prices(inc, good if kind == 3 else rng.random(inc.m) * inc.weights.max(initial=1))


def bound_of(inc: Incidence, prices: ExactPrices) -> int:
    return int(component_bounds(inc, Components.of(inc), prices).sum()) if prices.safe else int(inc.weights.sum()) + 1


def worth_of(inc: Incidence, chosen: Bools) -> int:
    assert (inc.left_by(chosen) >= 0).all()
    return int(inc.weights[chosen].sum())


def settled_value(problem: PackingProblem, name: str) -> int:
    """From a plain start, under prices of a few iterations."""
    inc = Incidence.of(problem)
    prices = exact_prices(inc, find_prices(inc, Meter(Budget(steps=100 * inc.k))).per_unit)
    settled = settle(inc, pack(inc, descending(inc.weights)), prices, bound_of(inc, prices), Meter(Budget(steps=PLENTY)))
    assert settled is not None
    assert settled[0] == name
    return worth_of(inc, settled[1])


def by_highs(problem: PackingProblem) -> int:
    rows = csr_array((problem.quantities, (problem.resources, problem.candidates())), shape=(problem.m, problem.n))
    answer = milp(
        -problem.weights,
        integrality=np.ones(problem.n, np.int64),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, ub=problem.capacities),
        options={"mip_rel_gap": 0.0},
    )
    assert answer.success
    return round(-answer.fun)


def matched_by_networkx(one: Int64, other: Int64, weights: Int64) -> int:
    graph: nx.Graph[int] = nx.Graph()
    for a, b, weight in zip(one.tolist(), other.tolist(), weights.tolist(), strict=True):
        if not graph.has_edge(a, b) or graph[a][b]["weight"] < weight:
            graph.add_edge(a, b, weight=weight)
    return sum(int(graph[a][b]["weight"]) for a, b in nx.max_weight_matching(graph))
