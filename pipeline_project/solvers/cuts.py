"""Tighter bounds: rows that the problem does not have and every feasible selection keeps, found where the relaxation breaks them.

Two kinds. Rounded rows: one resource's row times a fraction, some of its candidates complemented, mixed-integer rounded (Marchand,
Wolsey: Aggregation and mixed integer rounding to solve MIPs, Oper. Res. 49, 2001); covers are among them. Clique rows: at most one of
candidates that conflict two by two, grown greedily from what the relaxation takes. Price, separate, price again, from where the
iterations stood. Search and feasibility go on with the rows of the problem alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int32, Int64
from pipeline_project.core.selection import MEMBERS_MAX, NO_CUTS, Cuts
from pipeline_project.solvers.incidence import INCIDENCE, Incidence
from pipeline_project.solvers.kernels import f8, flag, i4, i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import ExactPrices, Prices, PricesParams, exact_prices, find_prices, reduced_weights
from pipeline_project.solvers.solver import Bools, Floats


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


UInt64 = NDArray[np.uint64]
DEFAULT: Final = CutsParams()
TAKEN: Final = 0.01  # of a candidate: less is noise of the iterations
FREE: Final = 1e-9  # a price below this share of the mean weight is noise too
TRIES: Final = 16  # candidates of one row that are complemented on trial
SORTING: Final = 16  # steps for each candidate: ranking them, once a round
GROWING_MAX: Final = 64_000_000  # steps of growing cliques in one round, the fullest candidates first: no clock is looked at meanwhile
BLIND_PER_SECOND: Final = 20_000_000  # steps of such work that a slow core does
OWN: Final = 8  # candidates of one row whose quantities become multipliers
MULTIPLIERS: Final = sorted({Fraction(p, q) for q in range(2, 9) for p in range(1, q)}, key=lambda u: (u.denominator, u))
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
    return _appended(inc, *written_out(inc, cuts))


def written_out(inc: Incidence, cuts: Cuts) -> tuple[Int64, Int64, Int64, Int64]:
    """Who takes how much of which cut, row by row in the order of `with_cuts`: owner, row, amount; and the capacity of each row."""
    a, lengths = len(cuts.resource), np.diff(inc.row_starts)[cuts.resource]
    owner, row, amount = (np.empty(int(lengths.sum()) + len(cuts.members), np.int64) for _ in range(3))
    capacities = np.ones(len(cuts), np.int64)
    columns = (cuts.resource, cuts.numerator, cuts.denominator, cuts.complemented_starts, cuts.complemented)
    used = _write_rounded(inc, *columns, owner, row, amount, capacities)
    used_by_all = used + len(cuts.members)
    owner[used:used_by_all], amount[used:used_by_all] = cuts.members, 1
    row[used:used_by_all] = a + np.repeat(np.arange(len(cuts.clique_price)), np.diff(cuts.clique_starts))
    return owner[:used_by_all], row[:used_by_all], amount[:used_by_all], capacities


def priced(cuts: Cuts, prices: Int64) -> Cuts:
    """The cuts with these prices, in the order of `with_cuts`; those that are free are left out."""
    a = len(cuts.price)
    return _chosen(replace(cuts, price=prices[:a], clique_price=prices[a:]), prices > 0)


def in_original_numbers(cuts: Cuts, candidates: Int64, resources: Int64) -> Cuts:
    """Cuts of a reduced problem, as cuts of the problem where its candidates and resources have these (ascending) numbers."""
    return replace(cuts, resource=resources[cuts.resource], complemented=candidates[cuts.complemented], members=candidates[cuts.members])


def tightened_prices(inc: Incidence, meter: Meter, params: CutsParams = DEFAULT, warm: Floats | None = None) -> Tightened:
    """Prices of the problem, then rounds of separation and pricing while the bound falls and the meter allows.

    warm  float64[m], prices to begin with
    """
    pairs = np.diff(inc.row_starts) == 2
    dropped = int(pairs.sum()) > params.pairs_to_drop * inc.n and Conflicts.few_enough(inc, meter, params)
    kept = np.flatnonzero(~pairs) if dropped else np.arange(inc.m)
    base = _of_rows(inc, ~pairs) if dropped else inc
    part = meter.phase(params.base)
    relaxed = find_prices(base, part, warm=None if warm is None else warm[kept])
    meter.close(part)
    best = Tightened(relaxed=relaxed, inc=base, cuts=NO_CUTS)
    if relaxed.iterations >= params.iterations_min:
        best = _tightened(best, Conflicts.of(inc, meter, params), meter, params)
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
    cuts = _chosen(found.cuts, some)
    cuts = replace(cuts, resource=kept[cuts.resource])
    per_unit = np.zeros(inc.m + len(cuts))
    per_unit[kept], per_unit[inc.m :] = own, prices[len(kept) :][some]
    return Tightened(relaxed=replace(found.relaxed, per_unit=per_unit, last=per_unit), inc=with_cuts(inc, cuts), cuts=cuts)


def _separated(base: Incidence, conflicts: Conflicts, now: Tightened, meter: Meter, params: CutsParams) -> tuple[Cuts, Floats]:
    """The cuts that cost something and those that the relaxation breaks, with the prices of all rows to go on from."""
    prices, share = now.relaxed.last, now.relaxed.share
    costly = prices[base.m :] > FREE * float(base.weights.sum()) / max(1, base.n)
    old = _chosen(now.cuts, costly)
    worth = np.empty(now.inc.n)
    reduced_weights(now.inc, prices, worth)
    new = _rounded(base, share, meter, params)
    if meter.affords(SORTING * base.n):
        new = _joined(new, conflicts.cliques(share, worth, meter, params))
    old_keys, new_keys = _keys(old), _keys(new)
    first = np.zeros(len(new), np.bool_)
    first[np.unique(new_keys, return_index=True)[1]] = True
    new = _chosen(new, first & ~np.isin(new_keys, old_keys))
    a, costs = len(old.price), prices[base.m :][costly]
    free, also_free = np.zeros(len(new.price)), np.zeros(len(new.clique_price))
    return _joined(old, new), np.concatenate((prices[: base.m], costs[:a], free, costs[a:], also_free))


def _rounded(inc: Incidence, share: Floats, meter: Meter, params: CutsParams) -> Cuts:
    widest = int(np.diff(inc.row_starts).max(initial=0))
    found, ends, complemented = np.empty((inc.m, 3), np.int64), np.zeros(inc.m + 1, np.int64), np.empty(inc.k, np.int64)
    numerators, denominators = (np.array([getattr(u, part) for u in MULTIPLIERS], np.int64) for part in ("numerator", "denominator"))
    flags, state = (np.empty(widest, np.bool_), np.empty(widest, np.bool_)), np.zeros(3, np.int64)
    while state[ROW] < inc.m and (steps := meter.slice()):
        state[SPENT] = 0
        _separate_rounded(inc, share, numerators, denominators, params.violation_min, steps, *flags, found, ends, complemented, state)
        meter.spend(int(state[SPENT]))
    count = int(state[COUNT])
    columns = found[:count].T.copy()
    return replace(
        NO_CUTS,
        resource=columns[0],
        numerator=columns[1],
        denominator=columns[2],
        price=np.zeros(count, np.int64),
        complemented_starts=ends[: count + 1].copy(),
        complemented=complemented[: ends[count]].copy(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """Who conflicts with whom: c with neighbours[starts[c]:starts[c + 1]]. None where there are too many to write them out.

    starts      int64[n + 1]
    neighbours  int32[*]
    """

    starts: Int64
    neighbours: Int32

    @classmethod
    def of(cls, inc: Incidence, meter: Meter, params: CutsParams) -> Conflicts:
        if not cls.few_enough(inc, meter, params):
            return cls(starts=np.zeros(inc.n + 1, np.int64), neighbours=np.zeros(0, np.int32))
        starts, room = np.zeros(inc.n + 1, np.int64), np.empty(int(_meetings(inc)), np.int32)
        used = _neighbours(inc, starts, room)
        meter.spend(len(room))
        return cls(starts=starts, neighbours=room[:used].copy())

    @staticmethod
    def few_enough(inc: Incidence, meter: Meter, params: CutsParams) -> bool:
        meetings = _meetings(inc)
        return meetings <= min(params.conflicts_max, meter.at_most(params.conflicts_max, BLIND_PER_SECOND))

    def cliques(self, share: Floats, worth: Floats, meter: Meter, params: CutsParams) -> Cuts:
        """Cliques of which the relaxation takes more than one candidate: one grown from each candidate that it takes."""
        if not len(self.neighbours):
            return NO_CUTS
        order = np.lexsort((-worth, -np.round(share, 4)))
        rank, seeds = np.empty(len(order), np.int64), order[share[order] > TAKEN]
        rank[order] = np.arange(len(order))
        ends, members, spent = np.zeros(len(seeds) + 1, np.int64), np.empty(self._room, np.int64), np.zeros(1, np.int64)
        least, steps = 1.0 + params.violation_min, meter.at_most(GROWING_MAX, BLIND_PER_SECOND)
        count = _grow(self.starts, self.neighbours, rank, share, seeds, least, steps, ends, members, spent)
        meter.spend(int(spent[0]))
        ends = ends[: count + 1].copy()
        owner = np.repeat(np.arange(count), np.diff(ends))
        ascending = members[: ends[count]][np.lexsort((members[: ends[count]], owner))]
        return replace(NO_CUTS, clique_starts=ends, members=ascending, clique_price=np.zeros(count, np.int64))

    @property
    def _room(self) -> int:
        return max(1_000_000, 8 * len(self.starts))


def _meetings(inc: Incidence) -> float:
    """How often a candidate meets one, itself included, at a resource."""
    holders = np.diff(inc.row_starts).astype(np.float64)
    return float((holders * holders).sum())


# ---- columns of cuts


def _chosen(cuts: Cuts, keep: Bools) -> Cuts:
    a = len(cuts.price)
    complemented_starts, complemented = _lists_of(cuts.complemented_starts, cuts.complemented, keep[:a])
    clique_starts, members = _lists_of(cuts.clique_starts, cuts.members, keep[a:])
    return Cuts(
        resource=cuts.resource[keep[:a]],
        numerator=cuts.numerator[keep[:a]],
        denominator=cuts.denominator[keep[:a]],
        price=cuts.price[keep[:a]],
        complemented_starts=complemented_starts,
        complemented=complemented,
        clique_starts=clique_starts,
        members=members,
        clique_price=cuts.clique_price[keep[a:]],
    )


def _lists_of(starts: Int64, values: Int64, keep: Bools) -> tuple[Int64, Int64]:
    lengths = np.diff(starts)
    return _starts_of(lengths[keep]), values[np.repeat(keep, lengths)]


def _starts_of(lengths: Int64) -> Int64:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _joined(one: Cuts, other: Cuts) -> Cuts:
    columns = {name: np.concatenate((getattr(one, name), getattr(other, name))) for name in one.__slots__}
    for starts in ("complemented_starts", "clique_starts"):
        columns[starts] = _starts_of(np.concatenate((np.diff(getattr(one, starts)), np.diff(getattr(other, starts)))))
    return Cuts(**columns)


def _keys(cuts: Cuts) -> UInt64:
    """A number for each row; where two rows happen to share one, one of them is lost, which harms nobody."""
    about = _mixed(cuts.resource) + _mixed(cuts.numerator << 32 | cuts.denominator)
    absent = _sums(_mixed(_mixed(cuts.complemented)), cuts.complemented_starts)
    return np.concatenate((_mixed(about + absent), _sums(_mixed(cuts.members), cuts.clique_starts)))


def _sums(values: UInt64, starts: Int64) -> UInt64:
    running = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=running[1:])
    return running[starts[1:]] - running[starts[:-1]]


def _mixed(values: Int64 | UInt64) -> UInt64:
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)  # splitmix64
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


# ---- rows appended to, or taken from, an incidence


def _appended(inc: Incidence, owner: Int64, row: Int64, amount: Int64, capacities: Int64) -> Incidence:
    starts = inc.starts + _starts_of(np.bincount(owner, minlength=inc.n))
    resources, quantities = np.empty(inc.k + len(owner), np.int32), np.empty(inc.k + len(owner), np.int64)
    _append(inc, owner, row, amount, starts, resources, quantities)
    return Incidence.from_rows(inc.weights, starts, resources, quantities, np.concatenate((inc.capacities, capacities)))


def _of_rows(inc: Incidence, keep: Bools) -> Incidence:
    entries, number = keep[inc.resources], np.cumsum(keep) - 1
    owner = np.repeat(np.arange(inc.n), np.diff(inc.starts))[entries]
    resources, starts = number[inc.resources[entries]].astype(np.int32), _starts_of(np.bincount(owner, minlength=inc.n))
    return Incidence.from_rows(inc.weights, starts, resources, inc.quantities[entries], inc.capacities[keep])


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], i8[::1], i4[::1], i8[::1])
def _append(inc: Incidence, owner: Int64, row: Int64, amount: Int64, starts: Int64, resources: Int32, quantities: Int64) -> None:
    """Each candidate's own demands, then those appended, in the order given."""
    n = len(inc.weights)
    place = np.empty(n, np.int64)
    for c in range(n):
        place[c] = starts[c]
        for e in range(inc.starts[c], inc.starts[c + 1]):
            resources[place[c]], quantities[place[c]] = inc.resources[e], inc.quantities[e]
            place[c] += 1
    for i in range(len(owner)):
        at = place[owner[i]]
        resources[at], quantities[at] = len(inc.capacities) + row[i], amount[i]
        place[owner[i]] += 1


# ---- rounded rows


@kernel(i8, i8, i8, returns=i8)
def _rounded_amount(amount: int, denominator: int, kept: int) -> int:
    """The rounding function, in 1/(denominator - kept); `kept` is the remainder of the right-hand side. It never overestimates a sum."""
    whole = amount // denominator
    return whole * (denominator - kept) + max(0, amount - whole * denominator - kept)


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], returns=i8)
def _write_rounded(
    inc: Incidence,
    resource: Int64,
    numerator: Int64,
    denominator: Int64,
    complemented_starts: Int64,
    complemented: Int64,
    owner: Int64,
    row: Int64,
    amount: Int64,
    capacities: Int64,
) -> int:
    """Fills owner, row, amount (returns how many) and the first capacities."""
    used = 0
    absent = np.zeros(len(inc.weights), np.bool_)
    for i in range(len(resource)):
        first, last = inc.row_starts[resource[i]], inc.row_starts[resource[i] + 1]
        rest = inc.capacities[resource[i]]
        for j in range(complemented_starts[i], complemented_starts[i + 1]):
            absent[complemented[j]] = True
        for e in range(first, last):
            if absent[inc.holders[e]]:
                rest -= inc.held[e]
        rest *= numerator[i]
        whole = rest // denominator[i]
        kept = rest - whole * denominator[i]
        capacities[i] = whole * (denominator[i] - kept)
        for e in range(first, last):
            c = inc.holders[e]
            sign = -1 if absent[c] else 1
            takes = sign * _rounded_amount(sign * inc.held[e] * numerator[i], denominator[i], kept)
            if absent[c]:
                capacities[i] += takes
            if takes > 0:
                owner[used], row[used], amount[used] = c, i, takes
                used += 1
        for j in range(complemented_starts[i], complemented_starts[i + 1]):
            absent[complemented[j]] = False
    return used


@kernel(INCIDENCE, i8, i8, i8, f8[::1], flag[::1], returns=f8)
def _efficacy(inc: Incidence, r: int, numerator: int, denominator: int, share: Floats, absent: Bools) -> float:
    """How far the relaxation is beyond the rounded row, along its normal; negative: within. absent: by position in the row."""
    first = inc.row_starts[r]
    rest = inc.capacities[r]
    for e in range(first, inc.row_starts[r + 1]):
        if absent[e - first]:
            rest -= inc.held[e]
    rest *= numerator
    whole = rest // denominator
    kept = rest - whole * denominator
    if kept == 0:
        return -1.0  # says no more than the row itself
    beyond, norm = -float(whole * (denominator - kept)), 0.0
    for e in range(first, inc.row_starts[r + 1]):
        x, sign = share[inc.holders[e]], 1
        if absent[e - first]:
            x, sign = 1.0 - x, -1
        takes = float(_rounded_amount(sign * inc.held[e] * numerator, denominator, kept))
        beyond += takes * x
        norm += takes * takes
    return beyond / np.sqrt(norm) if norm > 0.0 else -1.0


@kernel(INCIDENCE, i8, i8, i8, f8[::1], flag[::1], i8[::1], returns=f8)
def _complement(inc: Incidence, r: int, numerator: int, denominator: int, share: Floats, absent: Bools, spent: Int64) -> float:
    """Complement what is mostly taken, then whoever is partly taken, one by one, where it breaks the row further."""
    first, last = inc.row_starts[r], inc.row_starts[r + 1]
    for e in range(first, last):
        absent[e - first] = share[inc.holders[e]] > 0.5
    best = _efficacy(inc, r, numerator, denominator, share, absent)
    tries = 1
    for e in range(first, last):
        if tries > TRIES:
            break
        if not TAKEN < share[inc.holders[e]] < 1.0 - TAKEN:
            continue
        tries += 1
        absent[e - first] = not absent[e - first]
        now = _efficacy(inc, r, numerator, denominator, share, absent)
        if now > best:
            best = now
        else:
            absent[e - first] = not absent[e - first]
    spent[0] += tries * (last - first)
    return best


@kernel(INCIDENCE, f8[::1], i8, returns=flag)
def _worth_rounding(inc: Incidence, share: Floats, r: int) -> bool:
    """A tight row with a quantity above 1, whose products with the multipliers surely fit."""
    used, most, total = 0.0, 0, 0
    for e in range(inc.row_starts[r], inc.row_starts[r + 1]):
        used += inc.held[e] * share[inc.holders[e]]
        most = max(most, inc.held[e])
        total += inc.held[e]
    return most > 1 and used > 0.95 * inc.capacities[r] and float(total + inc.capacities[r]) * 16.0 * float(most) < 2.0**60


ROW, COUNT, SPENT = range(3)


@kernel(INCIDENCE, f8[::1], i8[::1], i8[::1], f8, i8, flag[::1], flag[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1])
def _separate_rounded(
    inc: Incidence,
    share: Floats,
    numerators: Int64,
    denominators: Int64,
    least: float,
    steps: int,
    absent: Bools,
    best_absent: Bools,
    found: Int64,
    ends: Int64,
    complemented: Int64,
    state: Int64,
) -> None:
    """For each tight resource the rounded row that is broken most, if any: by the given multipliers, and by one over the quantities
    (times 1, 2, 4, 8) of candidates that are partly taken. state: where to begin and where it ended, see the indices above."""
    count = state[COUNT]
    own, spent = np.empty(4 * OWN, np.int64), np.zeros(1, np.int64)
    for r in range(state[ROW], len(inc.capacities)):
        if spent[0] >= steps:
            break
        state[ROW] = r + 1
        first, last = inc.row_starts[r], inc.row_starts[r + 1]
        spent[0] += last - first
        if not _worth_rounding(inc, share, r):
            continue
        owns, most = 0, 0
        for e in range(first, last):
            most = max(most, inc.held[e])
            if inc.held[e] > 8 and owns < 4 * OWN and TAKEN < share[inc.holders[e]] < 1.0 - TAKEN:
                for i in range(4):
                    own[owns + i] = inc.held[e] << i
                owns += 4
        plain = len(numerators) if most <= 64 else 0
        best, numerator, denominator = least, 0, 1
        for i in range(plain + owns):
            p = numerators[i] if i < plain else 1
            d = denominators[i] if i < plain else own[i - plain]
            if i < plain and d > most + 2:
                continue  # says nothing that a smaller denominator has not said
            now = _complement(inc, r, p, d, share, absent, spent)
            if now > best:
                best, numerator, denominator = now, p, d
                best_absent[: last - first] = absent[: last - first]
        if numerator > 0:
            found[count, 0], found[count, 1], found[count, 2] = r, numerator, denominator
            count += 1
            ends[count] = ends[count - 1]
            for e in range(first, last):
                if best_absent[e - first]:
                    complemented[ends[count]] = inc.holders[e]
                    ends[count] += 1
    state[COUNT], state[SPENT] = count, spent[0]


# ---- cliques


@kernel(INCIDENCE, i8[::1], i4[::1], returns=i8)
def _neighbours(inc: Incidence, starts: Int64, neighbours: Int32) -> int:
    used = 0
    seen_by = np.full(len(inc.weights), -1)
    for c in range(len(inc.weights)):
        seen_by[c] = c
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            for f in range(inc.row_starts[r], inc.row_starts[r + 1]):
                d = inc.holders[f]
                if seen_by[d] != c and inc.held[f] > inc.capacities[r] - inc.quantities[e]:
                    seen_by[d] = c
                    neighbours[used] = d
                    used += 1
        starts[c + 1] = used
    return used


@kernel(i8[::1], i4[::1], i8[::1], f8[::1], i8[::1], f8, i8, i8[::1], i8[::1], i8[::1], returns=i8)
def _grow(
    starts: Int64,
    neighbours: Int32,
    rank: Int64,
    share: Floats,
    seeds: Int64,
    least: float,
    steps: int,
    ends: Int64,
    members: Int64,
    spent: Int64,
) -> int:
    """From each seed, take on the first in rank that is adjacent to all members, while there is one; keep what takes `least` together."""
    count, marks = 0, 0
    marked, common = np.zeros(len(rank), np.int64), np.empty(len(rank), np.int64)
    for seed in seeds:
        if ends[count] + MEMBERS_MAX > len(members) or spent[0] >= steps:
            break
        used, total, left, best = ends[count], share[seed], 0, -1
        members[used] = seed
        for e in range(starts[seed], starts[seed + 1]):
            d = neighbours[e]
            common[left] = d
            left += 1
            if best < 0 or rank[d] < rank[best]:
                best = d
        spent[0] += left
        while best >= 0 and used + 1 < ends[count] + MEMBERS_MAX:
            used += 1
            members[used] = best
            total += share[best]
            marks += 1
            for e in range(starts[best], starts[best + 1]):
                marked[neighbours[e]] = marks
            spent[0] += starts[best + 1] - starts[best] + left
            kept, best = 0, -1
            for i in range(left):
                d = common[i]
                if marked[d] == marks:
                    common[kept] = d
                    kept += 1
                    if best < 0 or rank[d] < rank[best]:
                        best = d
            left = kept
        if total >= least:
            count += 1
            ends[count] = used + 1
    return count
