"""Small packing problems, and the truth about them by trying every subset."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from pipeline_project.core.packing import Int64, PackingProblem


def problem_of(weights: list[int], demands: list[tuple[int, int, int]], capacities: list[int]) -> PackingProblem:
    """demands: (candidate, resource, quantity)"""
    columns = np.array(demands, np.int64).reshape(-1, 3).T.copy()
    return PackingProblem.from_triples(np.array(weights, np.int64), *columns, np.array(capacities, np.int64))


def random_problem(seed: int, n: int, m: int, rows: int, quantity_max: int = 3, capacity_max: int = 6) -> PackingProblem:
    rng = np.random.default_rng(seed)
    return PackingProblem.from_triples(
        rng.integers(1, 1000, n),
        np.repeat(np.arange(n), rows),
        rng.integers(0, m, n * rows),
        rng.integers(1, quantity_max + 1, n * rows),
        rng.integers(1, capacity_max + 1, m),
    )


@st.composite
def small_problems(draw: st.DrawFn, weight_max: int = 50) -> PackingProblem:
    """Up to 9 candidates and 5 resources; capacities from 0, quantities above 1, some candidates without demands or with too many."""
    n, m = draw(st.integers(0, 9)), draw(st.integers(0, 5))
    weights = draw(st.lists(st.integers(0, weight_max), min_size=n, max_size=n))
    capacities = draw(st.lists(st.integers(0, 6), min_size=m, max_size=m))
    pairs = (
        [] if not n or not m else draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, m - 1), st.integers(1, 4)), max_size=24))
    )
    return problem_of(weights, pairs, capacities)


def overdrawn(problem: PackingProblem, chosen: Int64) -> bool:
    used = [0] * problem.m
    for c in chosen.tolist():
        for e in range(problem.indptr[c], problem.indptr[c + 1]):
            used[problem.resources[e]] += int(problem.quantities[e])
    return any(u > b for u, b in zip(used, problem.capacities.tolist(), strict=True))


def best_value(problem: PackingProblem) -> int:
    """By brute force."""
    subsets = (np.flatnonzero(flags) for flags in product((False, True), repeat=problem.n))
    return max(int(problem.weights[subset].sum()) for subset in subsets if not overdrawn(problem, subset))
