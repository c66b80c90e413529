"""Go on from an answer to an earlier problem: carry it over, repair it, and search on."""

from __future__ import annotations

from dataclasses import replace

from pipeline_project.core.changes import Change
from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.repair import repair
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.start import Start


def carried(selection: Selection, left: Int64 | None, change: Change, problem: PackingProblem) -> Start:
    """The earlier answer, and what it left of each resource, in the numbers of the present problem."""
    return Start.of(selection, left).renumbered(change.candidates, change.resources, problem.m)


def resume(problem: PackingProblem, start: Start, changed: Int64, budget: Budget, seed: int = 0) -> Selection:
    """Repair, then search on with what is left of the budget: never worth less than the repair, and never with a worse bound."""
    meter = Meter(budget)
    repaired = repair(problem, start, changed, budget, seed)
    meter.spend(repaired.certificate.steps)
    rest = meter.budget() if meter.left and not repaired.certificate.optimal else None
    if rest is None:
        return _counted(repaired, meter.spent, repaired.certificate.reproducible and not meter.struck)
    found = portfolio.solve(problem, rest, seed, Start.of(repaired))
    best = found if found.certificate.value >= repaired.certificate.value else repaired
    reproducible = repaired.certificate.reproducible and found.certificate.reproducible
    return _counted(best, meter.spent + found.certificate.steps, reproducible)


def _counted(selection: Selection, steps: int, reproducible: bool) -> Selection:
    return replace(selection, certificate=replace(selection.certificate, steps=steps, reproducible=reproducible))
