"""Repair of an earlier selection after a change: work around what changed, and a bound that is certified anew.

What was chosen stays unless it no longer fits. The prices and cuts of the earlier certificate are kept, in whole numbers: prices move only
in the rows of what changed, each to where it alone lowers the bound most (coordinate descent), and the bound moves with them, so that it
needs no sum of its own at the end. Then a short local search among those around the change whom prices leave in doubt.

Three passes over all demands remain: resource -> holders is one counting sort; another finds what everybody is worth beyond the prices and
what is left of each resource; at the end, one look for whoever still fits. Cuts, where there are any, are written out once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import NO_CUTS, Certificate, Cuts, Selection
from pipeline_project.solvers.cut_columns import priced
from pipeline_project.solvers.cuts import with_cuts, written_out
from pipeline_project.solvers.greedy import fill
from pipeline_project.solvers.held_cuts import held
from pipeline_project.solvers.incidence import Incidence, owned
from pipeline_project.solvers.local_search import Doubt, LocalSearchParams, search
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import SAFE, exact_prices
from pipeline_project.solvers.reductions import reduce
from pipeline_project.solvers.repair_rows import (
    adopt,
    around,
    carve,
    charge_all,
    charge_for,
    charge_rows,
    descend,
    free_unwanted,
    relieve,
    size_of,
    sum_worth,
    touch,
)
from pipeline_project.solvers.solver import Bools, Budget, Floats
from pipeline_project.solvers.start import Start
from pipeline_project.solvers.walks import listed, walks

__all__ = ["DEFAULT", "RepairParams", "Start", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairParams:
    """sweeps         of the prices of touched rows
    holders_max    rows with more holders keep their price: sorting them would not be local
    rings          how many rows away from the change somebody is still tried
    near           whoever would lose at most this share of the mean chosen weight by moving is in doubt
    crowd          holders beyond which a row brings only those that would lose less
    each           candidates that are tried, for each that changed or went
    each_steps     what trying them may cost, for each that changed or went
    steps_min      and at least, in all
    large          from so many changes on the next two count instead: regions meet, and most of what is won is won between them
    each_large     as `each`
    each_steps_large   as `each_steps`
    trials         for each candidate that is tried, where these are few
    together_min   with at least so many, two walks search together
    hot            their heat, as a share of the mean chosen weight
    """

    sweeps: int = 3
    holders_max: int = 256
    rings: int = 3
    near: float = 0.15
    crowd: int = 64
    each: int = 12
    each_steps: int = 1_000
    steps_min: int = 20_000
    large: int = 400
    each_large: int = 40
    each_steps_large: int = 2_500
    trials: int = 4
    together_min: int = 10_000
    hot: float = 0.05


DEFAULT: Final = RepairParams()


def repair(
    problem: PackingProblem, start: Start, changed: Int64, budget: Budget, seed: int = 0, params: RepairParams = DEFAULT
) -> Selection:
    """The earlier selection, repaired around `changed`: candidates that are new, or whose weight, demands or capacities changed.

    Never worth less than what of the start still fits. Same problem, start, changed, seed and steps: same bytes.
    Raises UsageError for a start that cannot be one of this problem; one that is merely wrong costs nothing but its time.
    """
    start.check(problem)
    meter, touched = Meter(budget), np.zeros(problem.m, np.bool_)
    ground = _Ground.of(problem, start)
    freed = np.zeros(problem.m, np.bool_) if start.left is None else ground.left > start.left
    touched |= freed
    touch(ground.inc, changed, touched)
    events = len(changed) + -(-int(freed.sum()) * problem.n // max(1, ground.inc.k))  # who has gone freed about as many as others demand
    relieve(ground.inc, ground.chosen, ground.left, ground.worth, touched)
    meter.spend(PASSES * ground.inc.k + ground.reprice(np.flatnonzero(touched), params))
    _improve(ground, changed, touched, events, meter, seed, params)
    fill(ground.inc, np.arange(problem.n), ground.left, ground.chosen)
    return _certified(problem, ground, meter, seed)


PASSES: Final = 3  # over all demands, whatever changed


@dataclass(slots=True, kw_only=True)
class _Ground:
    """What a repair stands on.

    chosen   bool[n]   the selection
    left     int64[m]  what it leaves of each resource
    prices   int64[m]  in 1/scale points
    cuts     further rows, with prices in the same unit, which stay as they are
    worth    int64[n]  weights less what prices and cuts charge, in 1/scale points
    counted  bool[n]   who fits alone
    total    what prices and cuts bound, in 1/scale points
    safe     no sum of charges comes near the end of int64: prices may be moved
    """

    inc: Incidence
    chosen: Bools
    left: Int64
    prices: Int64
    scale: int
    cuts: Cuts
    worth: Int64
    counted: Bools
    total: int
    safe: bool

    @classmethod
    def of(cls, problem: PackingProblem, start: Start) -> _Ground:
        inc = Incidence.of(problem)
        cuts = held(inc, start.cuts)
        found = cls._charged(problem, inc, start, start.prices, start.price_scale, cuts)
        if found is None:  # the weights have grown out of the unit of the prices: a coarser one
            every = np.concatenate((start.prices, cuts.price, cuts.clique_price)) / start.price_scale
            exact = exact_prices(with_cuts(inc, cuts), every)
            cuts = priced(cuts, exact.per_unit[inc.m :])
            found = cls._charged(problem, inc, start, exact.per_unit[: inc.m], exact.scale, cuts)
        if found is None:
            found = cls._charged(problem, inc, start, np.zeros(inc.m, np.int64), 1, NO_CUTS, safe=False)
        assert found is not None, "nothing is charged, and the sum of all weights fits"
        return found

    @classmethod
    def _charged(
        cls, problem: PackingProblem, inc: Incidence, start: Start, prices: Int64, scale: int, cuts: Cuts, *, safe: bool = True
    ) -> _Ground | None:
        charged = _Charged.of(problem, start.chosen, prices, scale)
        return None if charged is None else cls._priced(inc, charged, cuts, safe=safe)

    @classmethod
    def _priced(cls, inc: Incidence, charged: _Charged, cuts: Cuts, *, safe: bool = True) -> _Ground | None:
        """With the cuts charged too; None where that is not safe. Rows that nobody who counts is in bound nothing: they become free."""
        prices, sums = np.concatenate((cuts.price, cuts.clique_price)), [(inc.capacities, charged.prices)]
        free_unwanted(inc, charged.prices, charged.counted)
        if len(cuts):
            owner, row, amount, capacities = written_out(inc, cuts)
            wanted = np.zeros(len(cuts), np.bool_)
            if not charge_rows(owner, row, amount, prices, charged.counted, charged.worth, wanted):
                return None
            if not wanted.all():
                prices[~wanted] = 0
                cuts = priced(cuts, prices)
            sums.append((capacities, prices))
        weights = float(inc.weights.sum(dtype=np.float64)) * charged.scale
        if safe and max(weights, *(size_of(a, b) for a, b in sums), 0.0) > SAFE:
            return None
        total = sum_worth(charged.worth, charged.counted) + sum(charge_for(a, b) for a, b in sums)
        return cls(
            inc=inc,
            chosen=charged.chosen,
            left=charged.left,
            prices=charged.prices,
            scale=charged.scale,
            cuts=cuts,
            worth=charged.worth,
            counted=charged.counted,
            total=total,
            safe=safe,
        )

    def reprice(self, rows: Int64, params: RepairParams) -> int:
        """Let the prices of these rows follow the change; returns the work."""
        work = 0
        for _ in range(params.sweeps if self.safe else 0):
            fell, done = descend(self.inc, rows, self.prices, self.worth, self.counted, params.holders_max)
            self.total -= fell
            work += done
            if not fell:
                break
        return work


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charged:
    """What one pass over the demands of all candidates finds; see `repair_rows.charge_all`."""

    prices: Int64
    scale: int
    chosen: Bools
    worth: Int64
    counted: Bools
    left: Int64

    @classmethod
    def of(cls, problem: PackingProblem, members: Int64, prices: Int64, scale: int) -> _Charged | None:
        """None where a sum might not fit int64."""
        if float(problem.weights.max(initial=0)) * scale > SAFE and scale > 1:
            return None
        chosen, counted = np.zeros((2, problem.n), np.bool_)
        chosen[members] = True
        worth, prices, left = np.empty(problem.n, np.int64), prices.copy(), problem.capacities.copy()
        weights, starts, resources = owned(problem.weights), owned(problem.indptr), owned(problem.resources)
        quantities, capacities = owned(problem.quantities), owned(problem.capacities)
        if not charge_all(weights, starts, resources, quantities, capacities, prices, scale, chosen, worth, counted, left):
            return None
        return cls(prices=prices, scale=scale, chosen=chosen, worth=worth, counted=counted, left=left)


def _improve(ground: _Ground, changed: Int64, touched: Bools, events: int, meter: Meter, seed: int, params: RepairParams) -> None:
    """Search among those around the change alone; everybody else stays."""
    inc, chosen, scale = ground.inc, ground.chosen, ground.scale
    value, count = int(inc.weights[chosen].sum()), int(chosen.sum())
    gap = ground.total // scale - value
    large = events >= params.large
    steps = min(meter.left, max(params.steps_min, (params.each_steps_large if large else params.each_steps) * events))
    if gap <= 0 or not steps or not events or not meter.affords(0):
        return
    near = int(min(params.near * value / max(1, count) * scale, SAFE))
    limit = (params.each_large if large else params.each) * events
    members = around(inc, changed, touched, ground.left, chosen, ground.counted, ground.worth, near, params.crowd, params.rings, limit)
    members.sort()
    lengths = inc.starts[members + 1] - inc.starts[members]
    room, starts = ground.left.copy(), np.zeros(len(members) + 1, np.int64)
    resources, quantities = np.empty(int(lengths.sum()), np.int32), np.empty(int(lengths.sum()), np.int64)
    carve(inc, members, chosen, room, starts, resources, quantities)
    part = reduce(PackingProblem(weights=inc.weights[members], indptr=starts, resources=resources, quantities=quantities, capacities=room))
    mine = members[part.candidates]
    start, everybody = chosen[mine], np.arange(len(mine))
    worth = ground.worth[mine] / scale
    fill(part.inc, np.argsort(-worth, kind="stable"), part.inc.left_by(start), start)
    phase = meter.phase(steps / meter.left, of_time=1.0)
    if len(mine) < params.together_min:
        found = _settled(part.inc, start, worth, phase, seed, params)
    else:
        doubt = Doubt(worth=worth, open=everybody, bound=float(inc.weights[mine[start]].sum()) + gap)
        knobs = LocalSearchParams(
            core_shares=(INFINITE,),
            together_min=0,
            together_min_unit=0,
            hot=INFINITE,
            hot_max=params.hot,
            hot_unit=INFINITE,
            hot_unit_max=params.hot,
        )
        found = search(part.inc, start, doubt, seed, phase, knobs)
    meter.close(phase)
    adopt(inc, mine, found, chosen, ground.left)


def _settled(inc: Incidence, start: Bools, worth: Floats, meter: Meter, seed: int, params: RepairParams) -> Bools:
    """One walk that never loses: two of them and heat are worth their beginnings only where there is much to try."""
    walk, everybody = walks(inc, listed(inc, meter), worth, (seed,), many=False)[0][0], np.arange(inc.n)
    walk.adopt(start)
    meter.spend(inc.k + walk.settle(everybody, meter.left))
    trials = params.trials * inc.n
    while trials > 0 and (limit := meter.slice()):
        work, done = walk.walk(everybody, 0.0, trials, limit, track=False)
        meter.spend(work)
        trials -= done
    return walk.chosen


INFINITE: Final = 1e18


def _certified(problem: PackingProblem, ground: _Ground, meter: Meter, seed: int) -> Selection:
    chosen, bound = np.flatnonzero(ground.chosen), ground.total // ground.scale
    certificate = Certificate(
        value=int(problem.weights[chosen].sum()),
        upper_bound=bound,
        prices=ground.prices,
        price_scale=ground.scale,
        seed=seed,
        steps=meter.spent,
        reproducible=not meter.struck,
        solvers={"repair": problem.n},
        price_bound=bound,
        cuts=ground.cuts,
    )
    return Selection(chosen=chosen, certificate=certificate)
