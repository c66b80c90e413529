"""Repair after a change beside a cold solve of the changed problem: how long it takes, and how much of the value it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any, Final

import numpy as np

from pipeline_project.bench.families import FAMILIES
from pipeline_project.core.changes import Change, Identities
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.repair import repair
from pipeline_project.solvers.resume import carried
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.start import Start

STEPS: Final = 10**15  # the clock ends each search; none of them gets so far
TIMES: Final = 5

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """shares: of the candidates that change. seconds: of the earlier solve, and of the cold one."""

    families: Sequence[str]
    sizes: Sequence[int]
    shares: Sequence[float]
    seconds: Sequence[float]
    seeds: Sequence[int]


def compare(protocol: Protocol, progress: Callable[[Row], None] = lambda _: None) -> list[Row]:
    """One row for each family, size, budget, seed and share; the seed draws problem and change, and is the solver's too."""
    rows = []
    for family, size, seconds, seed in product(protocol.families, protocol.sizes, protocol.seconds, protocol.seeds):
        problem = FAMILIES[family](size, seed)
        budget = Budget(steps=STEPS, seconds=seconds)
        before = portfolio.solve(problem, budget, seed)
        for share in protocol.shares:
            now, change = changed(problem, FAMILIES[family](size, seed + ANOTHER), share, seed)
            start = carried(before, problem.left_by(before.chosen), change, now)
            repaired, milliseconds = _repaired(now, start, change.changed, seed)
            cold = portfolio.solve(now, budget, seed)
            row = {"family": family, "candidates": problem.n, "changed": share, "seed": seed, "seconds": seconds}
            rows.append(row | {"milliseconds": milliseconds} | _beside(now, repaired, cold))
            progress(rows[-1])
    return rows


ANOTHER: Final = 1_000_003  # the seed of the draw that new candidates and weights come from


def changed(problem: PackingProblem, another: PackingProblem, share: float, seed: int) -> tuple[PackingProblem, Change]:
    """Of this share of the candidates half get new weights, a quarter goes, and as many come, as `another` draw of the family has them.

    Resources that only the other draw has become others of this one, counted around.
    """
    rng, count = np.random.default_rng((seed, 1)), max(4, round(share * problem.n))
    picked, new = rng.permutation(problem.n)[:count], rng.permutation(another.n)[: count // 4]
    altered, gone = picked[: count // 2], picked[count // 2 : count // 2 + len(new)]
    weights = problem.weights.copy()
    weights[altered] = another.weights[rng.integers(0, another.n, len(altered))]
    stay = np.delete(np.arange(problem.n), gone)
    old, rows = problem.restrict(stay)
    fresh, fresh_rows = another.restrict(new)
    now = PackingProblem.from_triples(
        np.concatenate((weights[stay], fresh.weights)),
        np.concatenate((old.candidates(), len(stay) + fresh.candidates())),
        np.concatenate((rows[old.resources], fresh_rows[fresh.resources] % problem.m)),
        np.concatenate((old.quantities, fresh.quantities)),
        problem.capacities,
    )
    ids, resources = np.concatenate((stay, problem.n + np.arange(len(new)))), np.arange(problem.m)
    earlier = Identities.of(problem, np.arange(problem.n), resources)
    return now, Change.between(earlier, Identities.of(now, ids, resources))


def _repaired(problem: PackingProblem, start: Start, altered: Int64, seed: int) -> tuple[Selection, float]:
    """The repair and the median of its milliseconds, from the problem in memory to the certified selection; the loops are loaded before."""
    spent = []
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        selection = repair(problem, start, altered, Budget(steps=STEPS), seed)
        spent.append(1_000 * (time.perf_counter() - began))
    return selection, round(median(spent[1:]), 2)


def _beside(problem: PackingProblem, repaired: Selection, cold: Selection) -> Row:
    ours, theirs = repaired.certificate, cold.certificate
    return {
        "value": ours.value,
        "cold_value": theirs.value,
        "percent_of_cold": 100 * ours.value / theirs.value if theirs.value else 100.0,
        "upper_bound": ours.upper_bound,
        "cold_upper_bound": theirs.upper_bound,
        "verified": not verify(problem, repaired) and not verify(problem, cold),
    }
