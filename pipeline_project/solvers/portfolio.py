"""The engine's solver: reduce, split, price, start, improve, prove, verify; every step may only add to what is already there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.core.verification import verify
from pipeline_project.solvers import greedy
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.competitors import COMPETITORS, Competitor
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.exact import prove_small
from pipeline_project.solvers.greedy import descending, fill, pack, plain_orders
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.local_search import Doubt, search
from pipeline_project.solvers.merging import best_of
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import ExactPrices, exact_prices, find_prices, reduced_weights
from pipeline_project.solvers.reductions import Reduced, reduce
from pipeline_project.solvers.solver import Budget, Floats
from pipeline_project.solvers.standing import Standing

log = logging.getLogger(__name__)

DEFAULT_STEPS: Final = 2_000_000_000  # ten seconds or so of one core, when nothing ends the search earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioParams:
    """Shares of what is left when a phase begins; what a phase leaves over goes to the next.

    prices  the bound, the start and the proofs hang on them
    small   search of the small components; most end after microseconds
    search  local search before the competitors; afterwards it gets all that is left
    """

    prices: float = 0.25
    small: float = 0.5
    search: float = 0.2


DEFAULT = PortfolioParams()


def solve(
    problem: PackingProblem,
    budget: Budget,
    seed: int = 0,
    start: Int64 | None = None,
    *,
    competitors: Sequence[Competitor] = COMPETITORS,
    params: PortfolioParams = DEFAULT,
) -> Selection:
    """The most valuable selection that the budget allows, never below any plain greedy order, verified, with its certificate.

    The same problem, seed, start and steps give the same bytes, unless the certificate says reproducible: false. A start or a
    competitor that is wrong costs nothing but its time.
    """
    meter = Meter(_reserved(problem, budget))
    reduced = reduce(problem)
    inc = reduced.inc
    standing = Standing(inc, Components.of(inc))
    _start_plain(standing, reduced, start)
    prices, worth = _start_priced(standing, meter, params) if meter.affords(0) else _unpriced(inc)
    _prove(standing, prices, meter, params)
    _search(standing, worth, meter.phase(params.search), meter, seed)
    for competitor in competitors:
        _compete(standing, competitor, meter, seed)
    _search(standing, worth, meter.phase(1.0), meter, seed + 1)
    return _checked(problem, _certified(problem, reduced, standing, prices, meter, seed), budget, seed)


def _reserved(problem: PackingProblem, budget: Budget) -> Budget:
    """Keep time for what comes after the search: certificate and verification."""
    if budget.seconds is None:
        return budget
    afterwards = 0.02 + 2e-7 * (problem.n + len(problem.resources))
    return replace(budget, seconds=max(0.5 * budget.seconds, budget.seconds - afterwards))


def _start_plain(standing: Standing, reduced: Reduced, start: Int64 | None) -> None:
    if start is not None:  # first, so that only what is strictly better replaces it
        kept = np.flatnonzero(np.isin(reduced.candidates, start))
        standing.offer(pack(standing.inc, np.concatenate((kept, descending(standing.inc.weights)))), "start")
    for order in plain_orders(standing.inc):
        standing.offer(pack(standing.inc, order), "greedy")


def _start_priced(standing: Standing, meter: Meter, params: PortfolioParams) -> tuple[ExactPrices, Floats]:
    """Take candidates in the order of the relaxation; returns the prices and what each candidate is worth beyond them."""
    inc = standing.inc
    part = meter.phase(params.prices)
    relaxed = find_prices(inc, part)
    meter.close(part)
    worth = np.empty(inc.n)
    reduced_weights(inc, relaxed.per_unit, worth)
    order = np.lexsort((-worth, -np.round(relaxed.share, 3)))
    standing.offer(best_of(inc, standing.chosen, pack(inc, order)), "prices")
    prices = exact_prices(inc, relaxed.per_unit)
    standing.price(prices)
    return prices, worth


def _unpriced(inc: Incidence) -> tuple[ExactPrices, Floats]:
    # The clock struck before the search began: everything that follows finds nothing to do.
    return ExactPrices(per_unit=np.zeros(inc.m, np.int64), scale=1, safe=False), np.zeros(inc.n)


def _prove(standing: Standing, prices: ExactPrices, meter: Meter, params: PortfolioParams) -> None:
    """Search the components that are small enough to be proven optimal one and all."""
    part = meter.phase(params.small)
    chosen = standing.chosen.copy()
    proven = prove_small(standing.inc, standing.parts, standing.open(), prices, chosen, part)
    meter.close(part)
    standing.offer(chosen, "exact")
    standing.claim(proven, standing.value[proven], "exact")


def _search(standing: Standing, worth: Floats, part: Meter, meter: Meter, seed: int) -> None:
    """Local search in the components that are still open."""
    todo = standing.open()
    if len(todo):
        doubt = Doubt(worth=worth, open=standing.parts.members_of(todo), bound=standing.bound_of(todo))
        standing.offer(search(standing.inc, standing.chosen, doubt, seed, part), "search")
    meter.close(part)


def _compete(standing: Standing, competitor: Competitor, meter: Meter, seed: int) -> None:
    """Give a competitor each component that is still open, time in proportion to its size."""
    todo = standing.open()
    todo = todo[standing.parts.sizes[todo] <= competitor.candidates_max]
    sizes = standing.parts.sizes[todo]
    for i, g in enumerate(todo.tolist()):
        if not meter.affords(0):  # only a clock can say so; what a competitor needs at least, it says itself
            return
        group = standing.parts.group(g)
        part = standing.problem_of(g)
        if not competitor.accepts(part):
            continue
        turn = meter.phase(max(0.1, float(sizes[i] / sizes[i:].sum())))
        budget = turn.budget(competitor.seconds_to_begin(part))
        answer = None
        if budget is not None and budget.steps > competitor.steps_to_begin(part):
            answer = _isolated(competitor, part, budget, seed, np.flatnonzero(standing.chosen[group]))
        if answer is not None:
            certificate = answer.certificate
            turn.spend(certificate.steps)
            turn.struck |= not certificate.reproducible
            standing.offer_part(g, answer.chosen, competitor.name)
            standing.claim(np.array([g]), np.array([certificate.upper_bound]), competitor.name)
        meter.close(turn)


def _isolated(competitor: Competitor, part: PackingProblem, budget: Budget, seed: int, hint: Int64) -> Selection | None:
    """Its answer if it gives one that the verifier finds nothing wrong with."""
    try:
        answer = competitor.solve(part, budget, seed, hint)
        violations = verify(part, answer)
    except Exception:  # a competitor is a stranger: whatever it dies of, the answer that stands is still good
        log.warning("solver %s failed on a component of %d candidates; its part stays as it was", competitor.name, part.n, exc_info=True)
        return None
    if violations:
        log.warning("solver %s lied about a component of %d candidates: %s", competitor.name, part.n, violations[0])
        return None
    return answer


def _certified(problem: PackingProblem, reduced: Reduced, standing: Standing, prices: ExactPrices, meter: Meter, seed: int) -> Selection:
    """In the numbers of the original problem; what is worth nothing but fits comes along, so that it does not wait for ever."""
    chosen = standing.chosen.copy()
    fill(standing.inc, np.arange(standing.inc.n), standing.inc.left_by(chosen), chosen)
    return certify(
        problem,
        reduced.candidates[chosen],
        solvers=standing.solvers(),
        seed=seed,
        steps=meter.spent,
        prices=reduced.original_prices(problem.m, prices.per_unit),
        scale=prices.scale,
        claims=[replace(claim, candidates=reduced.candidates[claim.candidates]) for claim in standing.claims()],
        reproducible=not meter.struck,
    )


def _checked(problem: PackingProblem, selection: Selection, budget: Budget, seed: int) -> Selection:
    violations = verify(problem, selection)
    if not violations:
        return selection
    log.error("the portfolio's own answer is wrong, falling back to greedy: %s", violations[0])
    return greedy.solve(problem, budget, seed)
