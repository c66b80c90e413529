"""Solvers that may try their luck on one component at a time, each in a process of its own; the portfolio checks whatever they say.

Others plug in by entry point: group `pipeline_project.solvers`, any name, value `module:function` of a `solver.Solver`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from pipeline_project.core.packing import PackingProblem
from pipeline_project.solvers import cpsat

ENTRY_POINTS: Final = "pipeline_project.solvers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Competitor:
    """name            as certificates report it
    solver           `module:function` of the solver; it may fail, lie, hang, eat memory or find nothing
    candidates_max   larger components are not even cut out for it
    gap_max          of a component with more than `small` candidates, as share of its bound: beyond, its core is better spent on our search
    small            components that it gets whatever their gap
    accepts          whether it is worth trying on this component
    steps_to_begin   what goes by before its search begins: a budget below is not worth starting
    bound_trusted    whether its upper bound, which nobody can check, may close a component
    memory_max       bytes of address space
    """

    name: str
    solver: str
    candidates_max: int = 100_000
    gap_max: float = 1.0
    small: int = 0
    accepts: Callable[[PackingProblem], bool] = lambda _: True
    steps_to_begin: Callable[[PackingProblem], int] = lambda _: 0
    bound_trusted: bool = False
    memory_max: int = 4 * 2**30


CP_SAT: Final = Competitor(
    name="cpsat",
    solver=f"{cpsat.__name__}:propose",
    candidates_max=cpsat.DEFAULT.candidates_max,
    gap_max=0.15,  # it is here for proofs: from further away it has found none within minutes
    small=200,
    accepts=cpsat.accepts,
    steps_to_begin=cpsat.steps_to_begin,
    bound_trusted=True,
)


@cache
def competitors() -> tuple[Competitor, ...]:
    """CP-SAT, and whatever is plugged in, by name."""
    plugged_in = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)
    return (CP_SAT, *(Competitor(name=entry.name, solver=entry.value) for entry in plugged_in))
