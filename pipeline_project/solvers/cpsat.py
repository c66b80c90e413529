"""CP-SAT (OR-Tools) for components of up to some thousand candidates: with a hint it often proves the optimum in a second."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Claim, Selection
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.cliques import merge_pairs
from pipeline_project.solvers.greedy import descending, fill
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.solver import Budget

STEPS_PER_DETERMINISTIC_SECOND: Final = 1_000_000_000  # CP-SAT counts its own work; a unit takes it one to three seconds
STEPS_PER_ROW: Final = 2_000  # handing over one demand costs about 3 microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CpSatParams:
    """What is worth trying; beyond these limits it returns almost nothing in useful time.

    candidates_max, demands_max   of one component
    weight_max                    sum of all weights: it reports bounds as floating point numbers, exact up to here
    """

    candidates_max: int = 12_000
    demands_max: int = 1_000_000
    weight_max: int = 2**52


DEFAULT = CpSatParams()


def accepts(problem: PackingProblem, params: CpSatParams = DEFAULT) -> bool:
    """Whether it is worth trying."""
    small = problem.n <= params.candidates_max and len(problem.resources) <= params.demands_max
    return small and max(int(problem.weights.sum()), int(problem.quantities.sum())) <= params.weight_max


def steps_to_begin(problem: PackingProblem) -> int:
    """What goes by before it searches: the import, handing over the problem, presolve."""
    return STEPS_PER_ROW * len(problem.resources)


def seconds_to_begin(problem: PackingProblem) -> float:
    """The same by the clock: no limit is looked at meanwhile."""
    importing = 0.0 if "ortools.sat.python.cp_model_helper" in sys.modules else 0.3
    return importing + 2e-6 * len(problem.resources)


def solve(problem: PackingProblem, budget: Budget, seed: int = 0, start: Int64 | None = None) -> Selection:
    """Maximise from `start` (else greedy by weight). Within a clock's reach its search may be cut, then it is not reproducible."""
    inc = Incidence.of(problem)
    hint = _completed(inc, start)
    answer = _Answer(chosen=hint, bound=None, steps=0, by_clock=False)
    steps = budget.steps - steps_to_begin(problem)
    if steps > 0 and accepts(problem):
        answer = _search(inc, hint, Budget(steps=steps, seconds=budget.seconds), seed)
    claims = [] if answer.bound is None else [Claim(solver="cpsat", candidates=np.arange(problem.n), bound=answer.bound)]
    return certify(
        problem,
        answer.chosen,
        solvers={"cpsat": problem.n},
        seed=seed,
        steps=min(budget.steps, steps_to_begin(problem) + answer.steps),
        claims=claims,
        reproducible=not answer.by_clock,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    chosen: Int64
    bound: int | None
    steps: int
    by_clock: bool


def _completed(inc: Incidence, start: Int64 | None) -> Int64:
    chosen, order = np.zeros(inc.n, np.bool_), descending(inc.weights)
    fill(inc, order if start is None else np.concatenate((start, order)), inc.capacities.copy(), chosen)
    return np.flatnonzero(chosen)


def _search(inc: Incidence, hint: Int64, budget: Budget, seed: int) -> _Answer:
    from ortools.sat.python import cp_model_helper as cp_sat  # the native core; `cp_model` would import pandas, which takes seconds

    limit = budget.steps / STEPS_PER_DETERMINISTIC_SECOND
    parameters = cp_sat.SatParameters()
    parameters.num_workers = 1  # several would race each other: never the same answer twice
    parameters.random_seed = seed % 2**31
    parameters.max_deterministic_time = limit
    if budget.seconds is not None:
        parameters.max_time_in_seconds = budget.seconds
    search = cp_sat.SolveWrapper()
    search.set_parameters(parameters)
    response: Any = search.solve(_model(inc, hint, cp_sat))  # type: ignore[no-untyped-call]  # OR-Tools' stubs leave it open
    optimal = response.status == cp_sat.CpSolverStatus.OPTIMAL
    chosen, bound = hint, None
    if optimal or response.status == cp_sat.CpSolverStatus.FEASIBLE:  # UNKNOWN carries values too: rubbish
        found = np.flatnonzero(np.asarray(response.solution) == 1)
        chosen = max(hint, found, key=lambda candidates: int(inc.weights[candidates].sum()))
        bound = math.ceil(-response.best_objective_bound - 1e-6)
    return _Answer(
        chosen=chosen,
        bound=bound,
        steps=int(response.deterministic_time * STEPS_PER_DETERMINISTIC_SECOND),
        by_clock=not optimal and budget.seconds is not None and response.deterministic_time < limit,
    )


def _model(inc: Incidence, hint: Int64, cp_sat: Any) -> Any:
    """One Boolean per candidate; rows say "at most one of these" where that is what they mean, else they are linear."""
    model = cp_sat.CpModelProto()
    for _ in range(inc.n):
        model.variables.add().domain.extend((0, 1))
    unit = (inc.capacities == 1) & (np.maximum.reduceat(np.append(inc.held, 0), inc.row_starts[:-1]) == 1)
    pairs = unit & (np.diff(inc.row_starts) == 2)
    exclusive = [inc.holders[inc.row_starts[r] : inc.row_starts[r + 1]] for r in np.flatnonzero(unit & ~pairs)]
    for clique in exclusive + merge_pairs(inc, pairs):
        model.constraints.add().at_most_one.literals.extend(clique.tolist())
    for r in np.flatnonzero(~unit):
        row = slice(inc.row_starts[r], inc.row_starts[r + 1])
        linear = model.constraints.add().linear
        linear.vars.extend(inc.holders[row].tolist())
        linear.coeffs.extend(inc.held[row].tolist())
        linear.domain.extend((0, int(inc.capacities[r])))
    everyone = range(inc.n)
    model.objective.vars.extend(everyone)
    model.objective.coeffs.extend((-inc.weights).tolist())
    hinted = np.zeros(inc.n, np.int64)
    hinted[hint] = 1
    model.solution_hint.vars.extend(everyone)
    model.solution_hint.values.extend(hinted.tolist())
    return model
