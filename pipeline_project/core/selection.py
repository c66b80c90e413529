"""The answer to a packing problem, and the certificate that says how good it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from pipeline_project.core.packing import Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A solver's word that these candidates alone, with all capacities to themselves, are never worth more than `bound`.

    solver      who proved it, by search; prices cannot confirm it
    candidates  int64, ascending; no candidate stands in two claims
    """

    solver: str
    candidates: Int64
    bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is proven about a selection; `core.verification` checks it without trusting any solver.

    value         sum of the chosen weights
    upper_bound   no selection is worth more: the bound of the claims, plus what the prices certify about all other candidates
    prices        int64[m]  price of one unit of each resource, in 1/price_scale points, >= 0. They certify a bound by
                  themselves (weak duality): sum(capacity * price) + sum(max(0, weight - demand * price))
    solvers       what decided how many candidates, for example {"exact": 1200, "greedy": 40}
    steps         work units spent; together with the seed they make the answer repeatable
    reproducible  False when a wall clock, not the step budget, ended the search
    price_bound   what the prices alone certify about all candidates, >= upper_bound; None = not recorded. Anyone can check it
    claims        proofs by search, at most one for each solver; upper_bound < price_bound rests on them
    """

    value: int
    upper_bound: int
    prices: Int64
    price_scale: int
    seed: int
    steps: int
    reproducible: bool
    solvers: dict[str, int] = field(default_factory=dict)
    price_bound: int | None = None
    claims: tuple[Claim, ...] = ()

    @property
    def gap(self) -> float:
        """(upper_bound - value) / upper_bound, 0 when both are 0."""
        return (self.upper_bound - self.value) / self.upper_bound if self.upper_bound else 0.0

    @property
    def optimal(self) -> bool:
        return self.value == self.upper_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """chosen: int64[s], ascending candidate numbers."""

    chosen: Int64
    certificate: Certificate

    def digest(self) -> str:
        """SHA-256 of the chosen candidates: two runs agree when their digests do."""
        return hashlib.sha256(b"selection-1" + np.ascontiguousarray(self.chosen, "<i8").tobytes()).hexdigest()
