"""The search of small components finds the optimum itself: from nothing, and whatever the prices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.exact import ExactParams, prove_small
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import ExactPrices
from pipeline_project.solvers.solver import Budget
from tests.solvers.packing_problems import best_value, random_problem, small_problems


@settings(deadline=None, max_examples=200)
@given(problem=small_problems(), data=st.data())
def test_it_finds_the_optimum_from_nothing_whatever_the_prices(problem: PackingProblem, data: st.DataObject) -> None:
    inc = Incidence.of(problem)
    parts = Components.of(inc)
    per_unit = data.draw(st.lists(st.integers(0, 3000), min_size=problem.m, max_size=problem.m))
    chosen = np.zeros(inc.n, np.bool_)
    prices = ExactPrices(per_unit=np.array(per_unit, np.int64), scale=100, safe=True)
    proven = prove_small(inc, parts, np.arange(parts.count), prices, chosen, Meter(Budget(steps=10**7)))
    assert proven.tolist() == list(range(parts.count))
    assert int(inc.weights[chosen].sum()) == best_value(problem)


def test_a_search_that_is_cut_short_proves_nothing_and_loses_nothing() -> None:
    inc = Incidence.of(random_problem(seed=2, n=40, m=10, rows=3))
    parts = Components.of(inc)
    chosen = np.zeros(inc.n, np.bool_)
    prices = ExactPrices(per_unit=np.zeros(10, np.int64), scale=1, safe=True)
    proven = prove_small(inc, parts, np.arange(parts.count), prices, chosen, Meter(Budget(steps=10**7)), ExactParams(component_steps=500))
    assert len(proven) < parts.count
    assert (inc.left_by(chosen) >= 0).all()
