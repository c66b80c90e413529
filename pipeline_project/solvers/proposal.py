"""What a solver in a process of its own sends back, and how problem and answer travel: plain columns, nothing that could be executed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.solvers.solver import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """chosen        int64  candidate numbers, ascending; whoever receives them checks them
    upper_bound   no selection is worth more, says the solver; None = it does not say
    steps         work units it reports
    reproducible  False when a clock ended its search
    """

    chosen: Int64
    upper_bound: int | None
    steps: int
    reproducible: bool

    def to_bytes(self) -> bytes:
        bound = [] if self.upper_bound is None else [self.upper_bound]
        return _pack(
            chosen=self.chosen, bound=np.array(bound, np.int64), steps=np.int64(self.steps), reproducible=np.bool_(self.reproducible)
        )

    @classmethod
    def from_bytes(cls, message: bytes) -> Proposal:
        """Raises ValueError or KeyError where it is none."""
        columns = _unpack(message)
        bound = columns["bound"]
        return cls(
            chosen=columns["chosen"],
            upper_bound=int(bound[0]) if len(bound) else None,
            steps=int(columns["steps"]),
            reproducible=bool(columns["reproducible"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What it is asked: as the arguments of `Solver`."""

    problem: PackingProblem
    budget: Budget
    seed: int
    start: Int64

    def to_bytes(self) -> bytes:
        problem, seconds = self.problem, self.budget.seconds
        return _pack(
            weights=problem.weights,
            indptr=problem.indptr,
            resources=problem.resources,
            quantities=problem.quantities,
            capacities=problem.capacities,
            budget=np.array([self.budget.steps, self.seed], np.int64),
            seconds=np.array([] if seconds is None else [seconds]),
            start=self.start,
        )

    @classmethod
    def from_bytes(cls, message: bytes) -> Request:
        columns = _unpack(message)
        problem = PackingProblem(**{name: columns[name] for name in ("weights", "indptr", "resources", "quantities", "capacities")})
        steps, seed = columns["budget"].tolist()
        seconds = columns["seconds"].tolist()
        return cls(problem=problem, budget=Budget(steps=steps, seconds=seconds[0] if seconds else None), seed=seed, start=columns["start"])


def _pack(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    return buffer.getvalue()


def _unpack(message: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(message), allow_pickle=False) as columns:
        return dict(columns)
