"""Components of a special shape, solved to proven optimality: one resource, matchings, transportation, intervals; and what falls apart.

First everybody whom prices decide is fixed: if putting a candidate elsewhere lowers the bound below one point more than the best known
selection, then whatever is better than that has it where prices want it. What is left is smaller, and often of a special shape, or so
many small components, even where the whole was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.exact import prove_small
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.knapsack import pack_knapsack
from pipeline_project.solvers.matching import match
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.network_flow import most_valuable_flow
from pipeline_project.solvers.prices import ExactPrices
from pipeline_project.solvers.reductions import Reduced, cut_out

DOUBLED_MAX: Final = 2**60  # sums of weights up to this can be doubled, and multiplied by nothing else, in 64 bits
SHAPELESS_MAX: Final = 16  # large components that are looked at one by one, after fixing

Settled = tuple[str, Bools]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialParams:
    """steps_per_row   a special case begins only if the meter affords so many steps for each demand row of what is left
    small_share        of the steps left, for the search of small components
    """

    steps_per_row: int = 20
    small_share: float = 0.5


DEFAULT: Final = SpecialParams()


class _Part(NamedTuple):
    """What prices leave to decide: a smaller problem, its prices, a feasible start, and who of the whole is in for certain."""

    reduced: Reduced
    prices: ExactPrices
    start: Bools
    fixed: Bools


def settle(inc: Incidence, chosen: Bools, prices: ExactPrices, bound: int, meter: Meter, params: SpecialParams = DEFAULT) -> Settled | None:
    """(what settled it, a selection proven optimal), or None where no special case fits or the meter does not allow it.

    chosen  bool[n]  the best feasible selection known
    bound   what the prices certify for the whole, in points; the proof needs it only where the prices are safe
    """
    if not meter.affords(params.steps_per_row * (inc.k + inc.n + inc.m)):
        return None
    value = int(inc.weights[chosen].sum())
    if value >= bound:
        return "prices", chosen
    part = _undecided(inc, chosen, prices, value)
    meter.spend(6 * (inc.k + inc.n + inc.m))
    if part is None:
        return "fixing", chosen
    settled = _solve(part.reduced.inc, part.start, part.prices, meter, params)
    if settled is None:
        return None
    name, rest = settled
    found = part.fixed.copy()
    found[part.reduced.candidates[rest]] = True
    return name, found if int(inc.weights[found].sum()) > value else chosen


def _undecided(inc: Incidence, chosen: Bools, prices: ExactPrices, value: int) -> _Part | None:
    """Fix whom prices decide; None: nothing can be better than `value`."""
    fixed, members = np.zeros(inc.n, np.bool_), np.ones(inc.n, np.bool_)
    if prices.safe:
        fixed, members = decided(inc, prices, value)
    left = inc.left_by(fixed)
    if (left < 0).any():
        return None
    reduced = cut_out(inc, members, left)
    start = pack(reduced.inc, descending(chosen[reduced.candidates].astype(np.int64)))
    theirs = ExactPrices(per_unit=prices.per_unit[reduced.resources], scale=prices.scale, safe=prices.safe)
    return _Part(reduced, theirs, start, fixed)


def decided(inc: Incidence, prices: ExactPrices, value: int) -> tuple[Bools, Bools]:
    """(in, open), bool[n] each: who is in every selection worth more than `value`, and who is in some, as far as safe prices tell."""
    cost = np.zeros(inc.k + 1, np.int64)
    np.cumsum(inc.quantities * prices.per_unit[inc.resources], out=cost[1:])  # may wrap; differences are right again
    worth = inc.weights * prices.scale - (cost[inc.starts[1:]] - cost[inc.starts[:-1]])
    held = np.diff(inc.row_starts) > 0
    total = int(np.maximum(worth, 0).sum()) + int((inc.capacities[held] * prices.per_unit[held]).sum())
    spare = total - (value + 1) * prices.scale
    return worth > max(spare, 0), np.abs(worth) <= spare


def _solve(inc: Incidence, start: Bools, prices: ExactPrices, meter: Meter, params: SpecialParams) -> Settled | None:
    settled = _solve_shape(inc, start, prices, meter)
    if settled is not None:
        return settled
    parts, chosen = Components.of(inc), start.copy()
    small = meter.phase(params.small_share)
    proven = np.zeros(parts.count, np.bool_)
    proven[prove_small(inc, parts, np.arange(parts.count), prices, chosen, small)] = True
    meter.close(small)
    left = np.flatnonzero(~proven)
    if len(left) > SHAPELESS_MAX or (parts.count == 1 and len(left)):
        return None
    for g in left.tolist():
        members = parts.label == g
        reduced = cut_out(inc, members, inc.capacities)
        theirs = ExactPrices(per_unit=prices.per_unit[reduced.resources], scale=prices.scale, safe=prices.safe)
        found = _solve_shape(reduced.inc, chosen[reduced.candidates], theirs, meter)
        if found is None:
            return None
        chosen[members] = False
        chosen[reduced.candidates[found[1]]] = True
    return "fixing", chosen


def _solve_shape(inc: Incidence, start: Bools, prices: ExactPrices, meter: Meter) -> Settled | None:
    """By the one method that its shape allows, if any."""
    if inc.m == 0:
        return "fixing", np.ones(inc.n, np.bool_)
    if inc.m == 1:
        return _one_resource(inc, start, meter)
    room, found, name = _rooms(inc), None, ""
    if room is None or inc.weights.sum(dtype=np.float64) > DOUBLED_MAX:
        return None
    pairs = int(np.diff(inc.starts).max()) <= 2
    if pairs and room.max() == 1:
        name, found = "matching", _matching(inc, start, prices, meter)
    elif pairs and (side := _two_sides(inc)) is not None:
        name, found = "transportation", _transportation(inc, room, side, meter)
    elif _consecutive(inc):
        name, found = "intervals", _intervals(inc, room, meter)
    return None if found is None else (name, found)


def _one_resource(inc: Incidence, start: Bools, meter: Meter) -> Settled | None:
    """Everybody demands the same resource, and what demands nothing has none."""
    takes = np.diff(inc.starts) > 0
    capacity, chosen = int(inc.capacities[0]), ~takes
    if int(inc.quantities.min()) == int(inc.quantities.max()):
        best = descending(np.where(takes, inc.weights, -1))[: capacity // int(inc.quantities[0])]
        chosen[best] = True
        return "top-k", chosen
    candidates = inc.holders.astype(np.int64)
    known = int(inc.weights[start & takes].sum())
    found = pack_knapsack(inc.weights[candidates], inc.held, capacity, known, meter)
    if found is None:
        return None
    if not found.any():
        return "knapsack", start
    chosen[candidates[found]] = True
    return "knapsack", chosen


def _rooms(inc: Incidence) -> Int64 | None:
    """int64[m]: how many holders each resource has room for, where all of them demand the same of it; else None."""
    first = inc.held[inc.row_starts[:-1]]
    if (inc.held != np.repeat(first, np.diff(inc.row_starts))).any():
        return None
    return inc.capacities // first


def _ends(inc: Incidence) -> tuple[Int64, Int64, Int64]:
    """(candidates that demand anything, their first resource, their last)."""
    some = np.flatnonzero(np.diff(inc.starts))
    return some, inc.resources[inc.starts[some]].astype(np.int64), inc.resources[inc.starts[some + 1] - 1].astype(np.int64)


def _matching(inc: Incidence, start: Bools, prices: ExactPrices, meter: Meter) -> Bools | None:
    """Candidates are edges between their resources; one that has only one gets a second of its own."""
    some, one, other = _ends(inc)
    lone = one == other
    other = np.where(lone, inc.m + np.cumsum(lone) - 1, other)
    guess = np.zeros(inc.m + int(lone.sum()), np.int64)
    guess[: inc.m] = 2 * prices.per_unit / prices.scale
    chosen: Bools = np.diff(inc.starts) == 0
    found = match(one, other, inc.weights[some], guess, start[some], meter)
    if found is None:
        return None
    chosen[some[found]] = True
    return chosen


def _two_sides(inc: Incidence) -> Bools | None:
    """bool[m]: a side for each resource, so that no candidate demands two of the same side; None: there is no such thing.

    Resource r on either side is a vertex r or m + r; an odd cycle joins both.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, one, other = _ends(inc)
    ends = np.concatenate((one, inc.m + one)), np.concatenate((inc.m + other, other))
    apart = np.tile(one != other, 2)
    ends = ends[0][apart], ends[1][apart]
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(2 * inc.m, 2 * inc.m))
    _, label = connected_components(graph, directed=False)
    here, there = label[: inc.m], label[inc.m :]
    side: Bools = here < there
    return None if (here == there).any() else side


def _transportation(inc: Incidence, room: Int64, side: Bools, meter: Meter) -> Bools | None:
    """From one side to the other; what a resource does not use goes to, or comes from, a last node of its own."""
    some, one, other = _ends(inc)
    m = inc.m
    lone = one == other
    one, other = np.where(side[one], one, other), np.where(side[one], other, one)
    tail = np.where(lone & ~side[one], m, one)
    head = np.where(lone & side[one], m, other)
    nodes, hub = np.arange(m), np.full(m, m)
    slack = np.where(side, nodes, hub), np.where(side, hub, nodes), room
    return _flow(inc, some, tail, head, slack, meter)


def _consecutive(inc: Incidence) -> bool:
    some, first, last = _ends(inc)
    return bool((last - first + 1 == np.diff(inc.starts)[some]).all())


def _intervals(inc: Incidence, room: Int64, meter: Meter) -> Bools | None:
    """As much flow as there is room goes from resource to resource, and a candidate carries one unit of it past those it demands."""
    some, first, last = _ends(inc)
    nodes = np.arange(inc.m)
    return _flow(inc, some, first, last + 1, (nodes, nodes + 1, room), meter)


def _flow(inc: Incidence, some: Int64, tail: Int64, head: Int64, slack: tuple[Int64, Int64, Int64], meter: Meter) -> Bools | None:
    chosen: Bools = np.diff(inc.starts) == 0
    found = most_valuable_flow(tail, head, inc.weights[some], slack, meter)
    if found is None:
        return None
    chosen[some[found]] = True
    return chosen
