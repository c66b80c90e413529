"""Solvers that may try their luck on one component at a time; the portfolio checks whatever they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers import cpsat
from pipeline_project.solvers.solver import Solver


@dataclass(frozen=True, slots=True, kw_only=True)
class Competitor:
    """name              as certificates report it
    solve              the solver; it may fail, lie or find nothing
    candidates_max     larger components are not even cut out for it
    accepts            whether it is worth trying on this component
    steps_to_begin     what goes by before its search begins: a budget below is not worth starting
    seconds_to_begin   the same by the clock, when there is one
    """

    name: str
    solve: Solver
    candidates_max: int
    accepts: Callable[[PackingProblem], bool]
    steps_to_begin: Callable[[PackingProblem], int] = lambda _: 0
    seconds_to_begin: Callable[[PackingProblem], float] = lambda _: 0.0


COMPETITORS: Final = (
    Competitor(
        name="cpsat",
        solve=cpsat.solve,
        candidates_max=cpsat.DEFAULT.candidates_max,
        accepts=cpsat.accepts,
        steps_to_begin=cpsat.steps_to_begin,
        seconds_to_begin=cpsat.seconds_to_begin,
    ),
)
