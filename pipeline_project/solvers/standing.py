"""The best selection known so far, component by component, who found it, and what is proven about it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import Claim
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.prices import ExactPrices, component_bounds
from pipeline_project.solvers.reductions import Reduced, cut_out
from pipeline_project.solvers.solver import Bools

NOBODY: Final = ""
PRICES: Final = "prices"


class Standing:
    """Solvers offer; what is better in a component is adopted there. The value never falls.

    chosen  bool[n]    the selection
    value   int64[g]   its value in each component
    bound   int64[g]   what prices certify for each component; None before prices are known, or where they cannot be summed safely
    """

    def __init__(self, inc: Incidence, parts: Components) -> None:
        self.inc, self.parts = inc, parts
        self.chosen: Bools = np.zeros(inc.n, np.bool_)
        self.value: Int64 = np.zeros(parts.count, np.int64)
        self.bound: Int64 | None = None
        self._solver = np.full(parts.count, NOBODY, object)
        self._prover = np.full(parts.count, NOBODY, object)
        self._whole, self._whole_prover = sys.maxsize, NOBODY
        self._claimed: Int64 = np.zeros(parts.count, np.int64)

    def offer(self, chosen: Bools, solver: str) -> None:
        """Adopt a feasible selection wherever it is better, or the first."""
        value = self.parts.sums(np.where(chosen, self.inc.weights, 0))
        better = (value > self.value) | (self._solver == NOBODY)
        mine = better[self.parts.label]
        self.chosen[mine] = chosen[mine]
        self.value[better] = value[better]
        self._solver[better] = solver

    def offer_part(self, g: int, chosen: Int64, solver: str) -> None:
        """The same for one component; `chosen` are its positions within the group."""
        group = self.parts.group(g)
        value = int(self.inc.weights[group[chosen]].sum())
        if value > self.value[g]:
            self.chosen[group] = False
            self.chosen[group[chosen]] = True
            self.value[g], self._solver[g] = value, solver

    def price(self, rows: Incidence, prices: ExactPrices) -> None:
        """Learn what prices of these rows, the problem's or more, certify."""
        self.bound = component_bounds(rows, self.parts, prices) if prices.safe else None

    def claim(self, components: Int64, bounds: Int64, solver: str) -> None:
        """Keep bounds that a solver has proven, where they say more than what is known and are not refuted by the selection."""
        known = np.where(self._prover[components] == NOBODY, self._by_prices(components), self._claimed[components])
        news = (bounds < known) & (bounds >= self.value[components])
        self._claimed[components[news]] = bounds[news]
        self._prover[components[news]] = solver

    def open(self) -> Int64:
        """Components that may still be improved, the small ones first."""
        everyone = np.arange(self.parts.count)
        best = np.where(self._prover == NOBODY, self._by_prices(everyone), self._claimed)
        found = np.flatnonzero(self.value < best)
        return found[np.argsort(self.parts.sizes[found], kind="stable")]

    def bound_of(self, components: Int64) -> float:
        """What the value of these is at most, as far as is known."""
        best = np.where(self._prover == NOBODY, self._by_prices(np.arange(self.parts.count)), self._claimed)
        return float(best[components].sum(dtype=np.float64))

    def gap(self, g: int) -> float:
        """How much of its bound a component does not reach, as share of it."""
        bound = self.bound_of(np.array([g]))
        return 1.0 - float(self.value[g]) / bound if bound > 0 else 0.0

    def claim_all(self, bound: int, solver: str) -> None:
        """Keep a bound on everything together that a solver has proven; one that meets the value proves every component optimal."""
        if bound == self.total_value:
            self.claim(np.arange(self.parts.count), self.value, solver)
        elif self.total_value <= bound < self.total_bound:
            self._whole, self._whole_prover = bound, solver

    @property
    def total_value(self) -> int:
        return sum(self.value.tolist())

    @property
    def total_bound(self) -> int:
        """What prices and claims together say about the whole."""
        best = np.where(self._prover == NOBODY, self._by_prices(np.arange(self.parts.count)), self._claimed)
        return min(self._whole, int(sum(best.tolist())))

    def part(self, g: int, rows: Incidence | None = None) -> Reduced:
        """One component on its own, of these rows (default: the problem's); its candidates are the positions within the group."""
        inc, group = self.inc if rows is None else rows, self.parts.group(g)
        alone, resources = inc.restricted(group) if len(group) < inc.n else (inc, np.arange(inc.m))
        reduced = cut_out(alone, np.ones(alone.n, np.bool_), alone.capacities)
        return Reduced(inc=reduced.inc, candidates=reduced.candidates, resources=resources[reduced.resources])

    def claims(self) -> list[Claim]:
        """One for each solver: independent components add up. What prices say is rounded down in each of them: together that is more
        than rounding their sum, and so a claim."""
        if self._whole_prover != NOBODY and self.total_bound == self._whole:
            return [Claim(solver=self._whole_prover, candidates=np.arange(self.inc.n), bound=self._whole)]
        prover, bound = self._prover.copy(), self._claimed.copy()
        if self.bound is not None:
            priced = prover == NOBODY
            prover[priced], bound[priced] = PRICES, self.bound[priced]
        found = []
        for solver in sorted(set(prover) - {NOBODY}):
            mine = prover == solver
            found.append(Claim(solver=solver, candidates=np.flatnonzero(mine[self.parts.label]), bound=sum(bound[mine].tolist())))
        return found if set(prover) != {PRICES} or self.parts.count > 1 else []

    def solvers(self) -> dict[str, int]:
        """How many candidates each solver decided, in components that it won."""
        count: Counter[str] = Counter()
        for solver, size in zip(self._solver, self.parts.sizes.tolist(), strict=True):
            count[solver] += size
        return dict(sorted(count.items()))

    def _by_prices(self, components: Int64) -> Int64:
        return np.full(len(components), np.iinfo(np.int64).max) if self.bound is None else self.bound[components]
