"""OR-Tools' CP-SAT on a component of up to some thousand candidates: with a hint it often proves the optimum in a second.

This module knows numpy and OR-Tools only, no compiled loop: it starts in a process of its own (`rivals`), where every import counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.solvers.proposal import Proposal
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


DEFAULT: Final = CpSatParams()


def accepts(problem: PackingProblem, params: CpSatParams = DEFAULT) -> bool:
    """Whether it is worth trying."""
    small = problem.n <= params.candidates_max and len(problem.resources) <= params.demands_max
    return small and max(int(problem.weights.sum()), int(problem.quantities.sum())) <= params.weight_max


def steps_to_begin(problem: PackingProblem) -> int:
    """What goes by before it searches: handing over the problem, presolve."""
    return STEPS_PER_ROW * len(problem.resources)


def propose(problem: PackingProblem, budget: Budget, seed: int = 0, start: Int64 | None = None) -> Proposal:
    """Maximise from `start`, which is feasible. Within a clock's reach its search may be cut, then it is not reproducible."""
    hint = np.zeros(0, np.int64) if start is None else start
    steps = budget.steps - steps_to_begin(problem)
    if steps <= 0 or not accepts(problem):
        return Proposal(chosen=hint, upper_bound=None, steps=0, reproducible=True)
    return _search(problem, hint, Budget(steps=steps, seconds=budget.seconds), seed)


def _search(problem: PackingProblem, hint: Int64, budget: Budget, seed: int) -> Proposal:
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
    response: Any = search.solve(_model(problem, hint, cp_sat))  # type: ignore[no-untyped-call]  # OR-Tools' stubs leave it open
    optimal = response.status == cp_sat.CpSolverStatus.OPTIMAL
    chosen, bound = hint, None
    if optimal or response.status == cp_sat.CpSolverStatus.FEASIBLE:  # UNKNOWN carries values too: rubbish
        found = np.flatnonzero(np.asarray(response.solution) == 1)
        chosen = max(hint, found, key=lambda candidates: int(problem.weights[candidates].sum()))
        bound = math.ceil(-response.best_objective_bound - 1e-6)
    return Proposal(
        chosen=chosen,
        upper_bound=bound,
        steps=steps_to_begin(problem) + int(response.deterministic_time * STEPS_PER_DETERMINISTIC_SECOND),
        reproducible=optimal or budget.seconds is None or response.deterministic_time >= limit,
    )


def _model(problem: PackingProblem, hint: Int64, cp_sat: Any) -> Any:
    """One Boolean per candidate; rows say "at most one of these" where that is what they mean, else they are linear."""
    model = cp_sat.CpModelProto()
    for _ in range(problem.n):
        model.variables.add().domain.extend((0, 1))
    by_resource = np.argsort(problem.resources, kind="stable")
    holders, held = problem.candidates()[by_resource], problem.quantities[by_resource]
    ends = np.cumsum(np.bincount(problem.resources, minlength=problem.m))
    for begin, end, capacity in zip(np.append(0, ends), ends, problem.capacities.tolist(), strict=False):
        if capacity == 1:  # a demand above it fits nobody: the portfolio sends none
            model.constraints.add().at_most_one.literals.extend(holders[begin:end].tolist())
        else:
            linear = model.constraints.add().linear
            linear.vars.extend(holders[begin:end].tolist())
            linear.coeffs.extend(held[begin:end].tolist())
            linear.domain.extend((0, capacity))
    everyone = range(problem.n)
    model.objective.vars.extend(everyone)
    model.objective.coeffs.extend((-problem.weights).tolist())
    hinted = np.zeros(problem.n, np.int64)
    hinted[hint] = 1
    model.solution_hint.vars.extend(everyone)
    model.solution_hint.values.extend(hinted.tolist())
    return model
