"""Tighter bounds: rows that the problem does not have and every feasible selection keeps, found where the relaxation breaks them.

Two kinds: rounded rows (`rounded_rows.py`) and cliques (`clique_rows.py`). Price, separate, price again, from where the iterations
stood. Search and feasibility go on with the rows of the problem alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import NO_CUTS, Cuts
from pipeline_project.solvers.clique_rows import Conflicts
from pipeline_project.solvers.cut_columns import joined, keys, priced, some_of
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import ExactPrices, Prices, PricesParams, exact_prices, find_prices, reduced_weights
from pipeline_project.solvers.rounded_rows import rounded_rows, write_out
from pipeline_project.solvers.solver import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class CutsParams:
    """base             share of the budget for the relaxation before any cuts
    separation       share of the rest for rounds of separation and pricing; then the bound is brought down as far as it goes, and
                     if that was worth while and something is left, all begins again
    rounds_max       each adds at most one rounded row for each resource, and one clique for each candidate
    progress_min     no further round when the last four lowered the bound by less than this share of it
    iterations       of pricing between two rounds: the relaxation need not be solved to see what breaks a row
    iterations_min   no rounds where the relaxation itself had to end sooner: it needs all there is
    rows_min         no rounds where fewer cuts than this share of the resources are found at first
    violation_min    by how much a row must be broken, measured along its normal (rounded rows) or in candidates (cliques)
    conflicts_max    no cliques where more pairs than this share a resource: they would have to be written out
    pairs_to_drop    rows of two holders are left to the cliques where there are more than this for each candidate: they say so little
    """

    base: float = 0.25
    separation: float = 0.6
    rounds_max: int = 40
    progress_min: float = 1e-3
    iterations: int = 128
    iterations_min: int = 48
    rows_min: float = 1e-3
    violation_min: float = 0.02
    conflicts_max: int = 10_000_000
    pairs_to_drop: int = 8


DEFAULT: Final = CutsParams()
FREE: Final = 1e-9  # a price below this share of the mean weight is noise too
SORTING: Final = 16  # steps for each candidate: ranking them, once a round
FINAL: Final = PricesParams(iterations_max=2_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tightened:
    """relaxed  prices of the rows of `inc`; its bound is what they and the cuts certify, its share the fractional selection
    inc      the problem with its cuts as further resources: any method that bounds by prices can take it for the problem
    cuts     which rows those are, after the resources of the problem; their prices are in `relaxed`, not here
    """

    relaxed: Prices
    inc: Incidence
    cuts: Cuts

    def exact(self, resources: int) -> tuple[ExactPrices, Cuts]:
        """Integer prices of the problem's own `resources`, and the cuts that cost something with theirs, in the same unit."""
        every = exact_prices(self.inc, self.relaxed.per_unit)
        return replace(every, per_unit=every.per_unit[:resources]), priced(self.cuts, every.per_unit[resources:])


def with_cuts(inc: Incidence, cuts: Cuts) -> Incidence:
    """The same problem with its cuts as further resources: first the rounded rows, then the cliques. O(k), and the size of the cuts."""
    if not len(cuts):
        return inc
    return inc.with_rows(*written_out(inc, cuts))


def written_out(inc: Incidence, cuts: Cuts) -> tuple[Int64, Int64, Int64, Int64]:
    """Who takes how much of which cut, row by row in the order of `with_cuts`: owner, row, amount; and the capacity of each row."""
    a, lengths = len(cuts.resource), np.diff(inc.row_starts)[cuts.resource]
    owner, row, amount = (np.empty(int(lengths.sum()) + len(cuts.members), np.int64) for _ in range(3))
    capacities = np.ones(len(cuts), np.int64)
    columns = (cuts.resource, cuts.numerator, cuts.denominator, cuts.complemented_starts, cuts.complemented)
    used = write_out(inc, *columns, owner, row, amount, capacities)
    used_by_all = used + len(cuts.members)
    owner[used:used_by_all], amount[used:used_by_all] = cuts.members, 1
    row[used:used_by_all] = a + np.repeat(np.arange(len(cuts.clique_price)), np.diff(cuts.clique_starts))
    return owner[:used_by_all], row[:used_by_all], amount[:used_by_all], capacities


def tightened_prices(inc: Incidence, meter: Meter, params: CutsParams = DEFAULT, warm: Floats | None = None) -> Tightened:
    """Prices of the problem, then rounds of separation and pricing while the bound falls and the meter allows.

    warm  float64[m], prices to begin with
    """
    pairs = np.diff(inc.row_starts) == 2
    dropped = int(pairs.sum()) > params.pairs_to_drop * inc.n and Conflicts.few_enough(inc, meter, params.conflicts_max)
    kept = np.flatnonzero(~pairs) if dropped else np.arange(inc.m)
    base = inc.with_only(~pairs) if dropped else inc
    part = meter.phase(params.base)
    relaxed = find_prices(base, part, warm=None if warm is None else warm[kept])
    meter.close(part)
    best = Tightened(relaxed=relaxed, inc=base, cuts=NO_CUTS)
    if relaxed.iterations >= params.iterations_min:
        best = _tightened(best, Conflicts.of(inc, meter, params.conflicts_max), meter, params)
    if not len(best.cuts):
        best = replace(best, relaxed=find_prices(base, meter, resume=relaxed.iterate))
    return _on_all_rows(inc, best, kept)


def _tightened(best: Tightened, conflicts: Conflicts, meter: Meter, params: CutsParams) -> Tightened:
    """Rounds of separation, then the bound as far down as it goes; again while that helps."""
    base, now, before = best.inc, best, np.inf
    while before - _bound(best) > params.progress_min * _bound(best):
        before = _bound(best)
        part = meter.phase(params.separation)
        now, best = _rounds(base, conflicts, now, best, part, params)
        meter.close(part)
        if not len(now.cuts):
            break
        now = _priced_again(now.inc, now.cuts, now.relaxed.last, now.relaxed, meter, FINAL)
        best = min(best, now, key=_bound)
    return best


def _rounds(
    base: Incidence, conflicts: Conflicts, now: Tightened, best: Tightened, meter: Meter, params: CutsParams
) -> tuple[Tightened, Tightened]:
    """Separate and price by turns. Returns the last round, and the best."""
    bounds = [_bound(best)]
    iterations = min(params.iterations, now.relaxed.iterations)
    between = PricesParams(iterations_max=iterations, iterations_min=iterations, cheap=0)
    while iterations >= params.iterations_min and len(bounds) <= params.rounds_max:
        cuts, prices = _separated(base, conflicts, now, meter, params)
        few = not len(now.cuts) and len(cuts) < params.rows_min * base.m
        if few or not len(cuts) or not meter.affords(base.k + len(cuts.members)):
            break
        now = _priced_again(with_cuts(base, cuts), cuts, prices, now.relaxed, meter, between)
        meter.spend(now.inc.k + SORTING * base.n)
        best = min(best, now, key=_bound)
        bounds.append(_bound(best))
        if len(bounds) > 4 and bounds[-5] - bounds[-1] <= params.progress_min * bounds[-1]:
            break
    return now, best


def _bound(found: Tightened) -> float:
    return found.relaxed.bound


def _priced_again(inc: Incidence, cuts: Cuts, prices: Floats, before: Prices, meter: Meter, params: PricesParams) -> Tightened:
    relaxed = find_prices(inc, meter, params, prices, share=before.share, balance=before.balance)
    return Tightened(relaxed=relaxed, inc=inc, cuts=cuts)


def _on_all_rows(inc: Incidence, found: Tightened, kept: Int64) -> Tightened:
    """The same with the rows that were left to the cliques, which cost nothing, and without the cuts that cost nothing."""
    prices = found.relaxed.per_unit
    own, some = prices[: len(kept)], prices[len(kept) :] > 0
    cuts = some_of(found.cuts, some)
    cuts = replace(cuts, resource=kept[cuts.resource])
    per_unit = np.zeros(inc.m + len(cuts))
    per_unit[kept], per_unit[inc.m :] = own, prices[len(kept) :][some]
    return Tightened(relaxed=replace(found.relaxed, per_unit=per_unit, last=per_unit), inc=with_cuts(inc, cuts), cuts=cuts)


def _separated(base: Incidence, conflicts: Conflicts, now: Tightened, meter: Meter, params: CutsParams) -> tuple[Cuts, Floats]:
    """The cuts that cost something and those that the relaxation breaks, with the prices of all rows to go on from."""
    prices, share = now.relaxed.last, now.relaxed.share
    costly = prices[base.m :] > FREE * float(base.weights.sum()) / max(1, base.n)
    old = some_of(now.cuts, costly)
    worth = np.empty(now.inc.n)
    reduced_weights(now.inc, prices, worth)
    new = rounded_rows(base, share, params.violation_min, meter)
    if meter.affords(SORTING * base.n):
        new = joined(new, conflicts.clique_rows(share, worth, params.violation_min, meter))
    old_keys, new_keys = keys(old), keys(new)
    first = np.zeros(len(new), np.bool_)
    first[np.unique(new_keys, return_index=True)[1]] = True
    new = some_of(new, first & ~np.isin(new_keys, old_keys))
    a, costs = len(old.price), prices[base.m :][costly]
    free, also_free = np.zeros(len(new.price)), np.zeros(len(new.clique_price))
    return joined(old, new), np.concatenate((prices[: base.m], costs[:a], free, costs[a:], also_free))
