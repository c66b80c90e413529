"""Small components, proven optimal by depth-first branch and bound in losses against the resource prices.

The price bound of a component is total = sum(capacity * price) + sum(max(0, reduced weight)). Every decision loses some of it: taking a
candidate of negative reduced weight, leaving one of positive, and, once all holders of a resource are decided, what stays free of it
at its price. A branch whose losses leave less than one point more than the best known selection is cut. All in exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from pipeline_project.core.packing import Int64, PackingProblem
from pipeline_project.core.selection import Claim, Selection
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.greedy import descending, pack
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, fits, take
from pipeline_project.solvers.kernels import flag, i8, kernel, record
from pipeline_project.solvers.meter import SLICE, Meter
from pipeline_project.solvers.prices import ExactPrices, exact_prices, find_prices
from pipeline_project.solvers.solver import Bools, Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactParams:
    """candidates_max   larger components are left to other solvers
    component_steps     what one component may cost before it is given up
    """

    candidates_max: int = 64
    component_steps: int = SLICE


DEFAULT = ExactParams()
LEFT, TAKEN, UNDECIDED = 0, 1, 2  # what the search has decided about a candidate; it counts down


class _Scratch(NamedTuple):
    """Per candidate its place in the search order (-1: not placed yet); per resource its undecided holders (later the place of its
    last one), and what the search leaves free of it. Components share no resource, so nothing is ever put back."""

    place: Int64
    undecided: Int64
    free: Int64


class _Groups(NamedTuple):
    """Candidates by component: component g is members[starts[g]:starts[g + 1]]; which components to search, and which were proven."""

    members: Int64
    starts: Int64
    todo: Int64
    proven: Bools


class _Tree(NamedTuple):
    """One component laid out for the search: candidates in order with their reduced weights, its resources, and those whose last
    holder is at place t: closing[closing_at[t]:closing_at[t + 1]]."""

    order: Int64
    reduced: Int64
    resources: Int64
    closing: Int64
    closing_at: Int64


_SCRATCH = record(_Scratch, (i8[::1],) * 3)
_GROUPS = record(_Groups, (i8[::1], i8[::1], i8[::1], flag[::1]))
_TREE = record(_Tree, (i8[::1],) * 5)


def solve(problem: PackingProblem, budget: Budget, seed: int = 0, start: Int64 | None = None) -> Selection:
    """Prices, a greedy start, then the search of every small component; the rest stays greedy."""
    meter, inc = Meter(budget), Incidence.of(problem)
    prices = find_prices(inc, meter.phase(0.5))
    chosen = pack(inc, np.concatenate((np.zeros(0, np.int64) if start is None else start, descending(prices.share))))
    exact, parts = exact_prices(inc, prices.per_unit), Components.of(inc)
    proven = prove_small(inc, parts, np.arange(parts.count), exact, chosen, meter)
    members = np.flatnonzero(np.isin(parts.label, proven))
    claim = Claim(solver="exact", candidates=members, bound=int(problem.weights[members[chosen[members]]].sum()))
    solvers = {"exact": len(members), "greedy": problem.n - len(members)}
    return certify(
        problem,
        np.flatnonzero(chosen),
        solvers=solvers,
        seed=seed,
        steps=meter.spent,
        prices=exact.per_unit,
        scale=exact.scale,
        claims=[claim],
        reproducible=not meter.struck,
    )


def prove_small(
    inc: Incidence, parts: Components, among: Int64, prices: ExactPrices, chosen: Bools, meter: Meter, params: ExactParams = DEFAULT
) -> Int64:
    """Improve `chosen` in place, component by component of those `among`; returns which of them are now proven optimal."""
    if not prices.safe:  # sums of prices would overflow: nothing here could be trusted
        return np.zeros(0, np.int64)
    todo = among[parts.sizes[among] <= params.candidates_max]
    groups = _Groups(parts.members, parts.starts, todo, np.zeros(len(todo), np.bool_))
    scratch = _Scratch(np.empty(inc.n, np.int64), np.zeros(inc.m, np.int64), inc.capacities.copy())
    at = 0
    while at < len(todo) and (steps := meter.slice()):
        at, spent = _prove_some(
            inc, groups, prices.per_unit, prices.scale, chosen, scratch, at, steps, min(params.component_steps, meter.left)
        )
        meter.spend(spent)
    return todo[groups.proven]


@kernel(INCIDENCE, i8[::1], i8[::1], i8[::1], i8, _SCRATCH, i8[::1], i8[::1], i8[::1])
def _close(
    inc: Incidence,
    order: Int64,
    resources: Int64,
    prices: Int64,
    scale: int,
    scratch: _Scratch,
    reduced: Int64,
    closing: Int64,
    closing_at: Int64,
) -> None:
    """Fill in the reduced weights, and after which candidate each resource is closed. Leaves the scratch clean."""
    place, last = scratch.place, scratch.undecided
    for r in resources:
        last[r] = -1
        for h in range(inc.row_starts[r], inc.row_starts[r + 1]):
            last[r] = max(last[r], place[inc.holders[h]])
    closed = 0
    for t in range(len(order)):
        c = order[t]
        reduced[t] = inc.weights[c] * scale
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            reduced[t] -= inc.quantities[e] * prices[r]
            if last[r] == t:
                closing[closed] = r
                closed += 1
        closing_at[t + 1] = closed
    for r in resources:
        last[r] = 0


@kernel(INCIDENCE, i8[::1], i8[::1], i8, _SCRATCH, returns=_TREE)
def _lay_out(inc: Incidence, group: Int64, prices: Int64, scale: int, scratch: _Scratch) -> _Tree:
    """Order a component so that resources close early: next the holders of the resource with the fewest undecided, then the dearest."""
    place, undecided = scratch.place, scratch.undecided
    n, rows, m, placed = len(group), 0, 0, 0
    for c in group:
        place[c] = -1
        rows += inc.starts[c + 1] - inc.starts[c]
    order, resources = group.copy(), np.empty(rows, np.int64)
    for c in group:
        for e in range(inc.starts[c], inc.starts[c + 1]):
            r = inc.resources[e]
            if undecided[r] == 0:
                resources[m] = r
                m += 1
            undecided[r] += 1
    while placed < n and m:
        best = -1
        for r in resources[:m]:
            if undecided[r] > 0 and (
                best < 0 or undecided[r] < undecided[best] or (undecided[r] == undecided[best] and prices[r] > prices[best])
            ):
                best = r
        for h in range(inc.row_starts[best], inc.row_starts[best + 1]):
            c = inc.holders[h]
            if place[c] < 0:
                place[c] = placed
                order[placed] = c
                placed += 1
                for e in range(inc.starts[c], inc.starts[c + 1]):
                    undecided[inc.resources[e]] -= 1
    reduced, closing, closing_at = np.empty(n, np.int64), np.empty(m, np.int64), np.zeros(n + 1, np.int64)
    _close(inc, order, resources[:m], prices, scale, scratch, reduced, closing, closing_at)
    return _Tree(order, reduced, resources[:m].copy(), closing, closing_at)


@kernel(INCIDENCE, _TREE, i8[::1], i8, flag[::1], i8[::1], i8, returns=numba.types.Tuple((flag, i8)))
def _search(inc: Incidence, tree: _Tree, prices: Int64, scale: int, chosen: Bools, free: Int64, steps_max: int) -> tuple[bool, int]:
    """Depth first, taking before leaving. Returns whether the search ended (then `chosen` is optimal here) and what it cost."""
    order, reduced = tree.order, tree.reduced
    n = len(order)
    total = value = steps = t = 0
    for r in tree.resources:
        total += inc.capacities[r] * prices[r]
    for i in range(n):
        total += max(0, reduced[i])
        value += inc.weights[order[i]] * chosen[order[i]]
    state = np.full(n, UNDECIDED, np.int64)
    lost, worth = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    need = (value + 1) * scale
    while t >= 0 and steps < steps_max:
        if t == n:  # a better selection than any before
            need = (worth[n] + 1) * scale
            for i in range(n):
                chosen[order[i]] = state[i] == TAKEN
            t -= 1
            continue
        c = order[t]
        steps += 1 + inc.starts[c + 1] - inc.starts[c]
        if state[t] == TAKEN:
            take(inc, free, c, -1)
        state[t] -= 1
        if state[t] == TAKEN and not fits(inc, free, c):
            state[t] = LEFT
        if state[t] < LEFT:  # both ways tried
            state[t] = UNDECIDED
            t -= 1
            continue
        if state[t] == TAKEN:
            take(inc, free, c, 1)
        loss = lost[t] + max(0, -reduced[t] if state[t] == TAKEN else reduced[t])
        for i in range(tree.closing_at[t], tree.closing_at[t + 1]):
            loss += free[tree.closing[i]] * prices[tree.closing[i]]
        if total - loss >= need:
            lost[t + 1] = loss
            worth[t + 1] = worth[t] + inc.weights[c] * state[t]
            t += 1
    return t < 0, steps


@kernel(INCIDENCE, _GROUPS, i8[::1], i8, flag[::1], _SCRATCH, i8, i8, i8, returns=numba.types.UniTuple(i8, 2))
def _prove_some(
    inc: Incidence, groups: _Groups, prices: Int64, scale: int, chosen: Bools, scratch: _Scratch, at: int, steps: int, component_steps: int
) -> tuple[int, int]:
    """Components todo[at], todo[at + 1], ... until the steps are spent; returns where it stopped, and what it spent."""
    spent = 0
    while at < len(groups.todo) and spent < steps:
        g = groups.todo[at]
        group = groups.members[groups.starts[g] : groups.starts[g + 1]]
        tree = _lay_out(inc, group, prices, scale, scratch)
        groups.proven[at], cost = _search(inc, tree, prices, scale, chosen, scratch.free, component_steps)
        spent += cost + len(group)
        at += 1
    return at, spent
