"""The answer to a packing problem, and the certificate that says how good it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

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


MEMBERS_MAX: Final = 4_096  # of one clique, so that checking it pair by pair stays small


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Rows that the problem does not have and every feasible selection keeps, each with its price, in 1/price_scale points, >= 0.

    Rounded rows: one resource's row times numerator/denominator, with some of its candidates counted by their absence (1 - chosen),
    rounded as in mixed-integer rounding (Marchand, Wolsey: Aggregation and mixed integer rounding to solve MIPs, Oper. Res. 49, 2001).
    Nothing else is needed to write them out again: `core.verification` does, and so does `solvers.cuts`, each in its own words.

    resource, numerator, denominator, price  int64[a]  0 < numerator < denominator
    complemented_starts  int64[a + 1]  row i counts complemented[complemented_starts[i]:complemented_starts[i + 1]] by their absence
    complemented         int64[*]      candidates that demand the row's resource, ascending within a row

    Clique rows: at most one of these candidates, as any two of them overdraw some resource.

    clique_starts  int64[b + 1]  clique i is members[clique_starts[i]:clique_starts[i + 1]]
    members        int64[*]      ascending within a clique, at most MEMBERS_MAX of them
    clique_price   int64[b]
    """

    resource: Int64
    numerator: Int64
    denominator: Int64
    price: Int64
    complemented_starts: Int64
    complemented: Int64
    clique_starts: Int64
    members: Int64
    clique_price: Int64

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.price) + len(self.clique_price)


_NONE: Final = np.zeros(0, np.int64)
_FROM_ZERO: Final = np.zeros(1, np.int64)
NO_CUTS: Final = Cuts(
    resource=_NONE,
    numerator=_NONE,
    denominator=_NONE,
    price=_NONE,
    complemented_starts=_FROM_ZERO,
    complemented=_NONE,
    clique_starts=_FROM_ZERO,
    members=_NONE,
    clique_price=_NONE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is proven about a selection; `core.verification` checks it without trusting any solver.

    value         sum of the chosen weights
    upper_bound   no selection is worth more: the bound of the claims, plus what the prices certify about all other candidates
    prices        int64[m]  price of one unit of each resource, in 1/price_scale points, >= 0. They certify a bound by
                  themselves (weak duality): sum(capacity * price) + sum(max(0, weight - demand * price)), cuts being further rows
    solvers       what decided how many candidates, for example {"exact": 1200, "greedy": 40}
    steps         work units spent; together with the seed they make the answer repeatable
    reproducible  False when a wall clock, not the step budget, ended the search
    price_bound   what prices and cuts alone certify about all candidates, >= upper_bound; None = not recorded. Anyone can check it
    claims        proofs by search, at most one for each solver; upper_bound < price_bound rests on them
    cuts          derived rows with their prices, which tighten the bound; only those that cost something
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
    cuts: Cuts = NO_CUTS

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
