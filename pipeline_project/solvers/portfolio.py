"""The engine's solver: what cannot fit or bind goes, the stages do their work, the certificate is made and verified."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import Violation, verify
from pipeline_project.solvers import greedy
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.competitors import Competitor, competitors
from pipeline_project.solvers.cut_columns import in_original_numbers
from pipeline_project.solvers.greedy import fill
from pipeline_project.solvers.kernels import get_ready
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.reductions import Reduced, reduce
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.stages import DEFAULT, PortfolioParams, Solve
from pipeline_project.solvers.start import Start, check_chosen

log = logging.getLogger(__name__)

get_ready()  # with the import, not out of the budget of the first solve
DEFAULT_STEPS: Final = 2_000_000_000  # ten seconds or so of two cores, when nothing ends the search earlier

REDUCED_PER_SECOND: Final = 40_000_000  # candidates and demands, by `reduce`
SECONDS_TO_END_A_ROW: Final = 6e-8  # of certificate and verification, for each candidate and demand


def solve(
    problem: PackingProblem,
    budget: Budget,
    seed: int = 0,
    start: Int64 | Start | None = None,
    *,
    rivals: Sequence[Competitor] | None = None,
    params: PortfolioParams = DEFAULT,
) -> Selection:
    """The most valuable selection that the budget allows, never below any plain greedy order, verified, with its certificate.

    The same problem, seed, start and steps give the same bytes, unless the certificate says reproducible: false. A start or a
    rival (default: `competitors()`) that is wrong costs nothing but its time; what cannot be a start of this problem is refused with a
    UsageError. A `Start` brings prices and cuts too: pricing begins with them, and ends with no worse a bound than they certify.
    """
    return solve_and_verify(problem, budget, seed, start, rivals=rivals, params=params)[0]


def solve_and_verify(
    problem: PackingProblem,
    budget: Budget,
    seed: int = 0,
    start: Int64 | Start | None = None,
    *,
    rivals: Sequence[Competitor] | None = None,
    params: PortfolioParams = DEFAULT,
) -> tuple[Selection, list[Violation]]:
    """The same, and what the verifier found wrong with it: nothing, as far as we know."""
    _check(problem, start)
    meter, rows = Meter(budget), problem.n + len(problem.resources)
    reduced = reduce(problem)
    meter.compare(rows, REDUCED_PER_SECOND)
    meter.reserve(0.02 + SECONDS_TO_END_A_ROW * rows)
    run = Solve(reduced.inc, meter, seed, competitors() if rivals is None else rivals, params)
    run.run(*_in_reduced_numbers(problem, reduced, start))
    return _checked(problem, _certified(problem, reduced, run, meter, seed), budget, seed)


def _check(problem: PackingProblem, start: Int64 | Start | None) -> None:
    if isinstance(start, Start):
        start.check(problem)
    elif start is not None:
        check_chosen(start, problem)


def _in_reduced_numbers(problem: PackingProblem, reduced: Reduced, start: Int64 | Start | None) -> tuple[Int64 | None, Start | None]:
    """Whom to begin with, and the prices and cuts that came along."""
    if not isinstance(start, Start):
        return None if start is None else np.flatnonzero(np.isin(reduced.candidates, start)), None
    candidates, resources = np.full(problem.n, -1), np.full(problem.m, -1)
    candidates[reduced.candidates], resources[reduced.resources] = np.arange(reduced.inc.n), np.arange(reduced.inc.m)
    warm = start.renumbered(candidates, resources, reduced.inc.m)
    return warm.chosen, warm


def _certified(problem: PackingProblem, reduced: Reduced, run: Solve, meter: Meter, seed: int) -> Selection:
    """In the numbers of the original problem; what is worth nothing but fits comes along, so that it does not wait for ever."""
    standing, chosen = run.standing, run.standing.chosen.copy()
    fill(reduced.inc, np.arange(reduced.inc.n), reduced.inc.left_by(chosen), chosen)
    return certify(
        problem,
        reduced.candidates[chosen],
        solvers=standing.solvers(),
        seed=seed,
        steps=meter.spent,
        prices=reduced.original_prices(problem.m, run.prices.per_unit),
        scale=run.prices.scale,
        cuts=in_original_numbers(run.cuts, reduced.candidates, reduced.resources),
        claims=[replace(claim, candidates=reduced.candidates[claim.candidates]) for claim in standing.claims()],
        reproducible=not meter.struck,
    )


def _checked(problem: PackingProblem, selection: Selection, budget: Budget, seed: int) -> tuple[Selection, list[Violation]]:
    violations = verify(problem, selection)
    if not violations:
        return selection, violations
    log.error("the portfolio's own answer is wrong, falling back to greedy: %s", violations[0])
    plain = greedy.solve(problem, budget, seed)
    return plain, verify(problem, plain)
