"""Objective levels: what matters first decides alone, what matters next decides among equals, and so on; exactly, as one packing problem.

A selection is better when its sum of the first level is larger; on equality, of the second; and so on (lexicographic optimisation:
Ehrgott, Multicriteria Optimization, 2nd ed., Springer 2005, ch. 5). The levels become one column of weights by scaling with proven
bounds (Sherali, Soyster: Preemptive and nonpreemptive multi-objective programming, J. Optim. Theory Appl. 39, 1983): one point of a
level is worth more than all that any selection can have of the levels below it. So nothing is approximated, and the portfolio, its
certificate and its verification are those of any other problem. Where no scale fits int64, `lexicographic.py` goes level by level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem, starts_of
from pipeline_project.core.selection import Selection
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.reductions import Reduced, reduce
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.start import Start

LEVELS_MAX: Final = 64  # two points of each are 2**64 already; more can only be meant for classes that never meet
PROVABLE: Final = 2**59  # sums of weights up to here leave the portfolio room for prices finer than a point, and for its searches in losses
MUCH: Final = 1e300  # times a bound is still a float
Whole = NDArray[Any]  # Python integers (dtype object): products of bounds may exceed int64 before we know that they do not fit


class DoesNotFit(Refused):
    """No exact scale of these levels fits int64: use coarser points in the lower levels, or take the levels in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What a selection has of one level.

    value        sum of the level's weights over the chosen
    upper_bound  no selection that has as much of each level above has more of this one; for the first level: no selection at all
    optimal      proven: no selection is better in this level or one above. It needs the levels above to be optimal, so it may be
                 False although value == upper_bound
    """

    name: str
    value: int
    upper_bound: int
    optimal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelledSelection:
    """selection: of `problem`, whose weights combine the levels, or the first of them where not all fit one column;
    `core.verification.verify(problem, selection)` holds it to its word.
    """

    problem: PackingProblem
    selection: Selection
    levels: tuple[Level, ...]

    @property
    def chosen(self) -> Int64:
        """int64[s], ascending candidate numbers."""
        return self.selection.chosen

    @property
    def optimal(self) -> bool:
        """No selection is better in any level."""
        return self.levels[-1].optimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """Levels as one problem. Groups of candidates that never meet have scales of their own, where one for all would not fit int64.

    problem   weights[c] = sum over levels i of scales[i, group of c] * (levels[i][c] / units[i]); 0 for what can never be chosen
    levels    int64[n] each, most significant first
    names     of the levels
    units     greatest common divisor of each level's weights
    group     int64[n], -1 for what can never be chosen
    scales    object[levels, groups]  Python integers
    bounds    object[levels, groups]  no selection has more units of the level from the group
    """

    problem: PackingProblem
    levels: tuple[Int64, ...]
    names: tuple[str, ...]
    units: tuple[int, ...]
    group: Int64
    scales: Whole
    bounds: Whole

    def solve(self, budget: Budget, seed: int = 0, start: Int64 | Start | None = None) -> LevelledSelection:
        """The portfolio's selection, read level by level."""
        with np.errstate(over="ignore"):  # weight per size of what demands nothing: infinity is where it belongs in the order
            selection = portfolio.solve(self.problem, budget, seed, start)
        return LevelledSelection(problem=self.problem, selection=selection, levels=self.read(selection))

    def read(self, selection: Selection) -> tuple[Level, ...]:
        """Value and bound of each level. O(levels x groups log groups) beyond the sums.

        Groups are independent, so all of them together are at most upper_bound - value points below their optima.
        """
        certificate, held = selection.certificate, self._held(selection.chosen)
        slack, settled, found = certificate.upper_bound - certificate.value, True, []
        below = np.zeros_like(held)  # what each group's points of lower levels are worth
        for i in range(len(held) - 1, 0, -1):
            below[i - 1] = below[i] + held[i] * self.scales[i]
        for i, name in enumerate(self.names):
            room = self.bounds[i] - held[i]
            more = _affordable(slack, self.scales[i] - below[i], self.scales[i], room) if settled else int(room.sum())
            value = int(held[i].sum()) * self.units[i]
            settled = settled and more == 0
            found.append(Level(name=name, value=value, upper_bound=value + more * self.units[i], optimal=settled))
        return tuple(found)

    def _held(self, chosen: Int64) -> Whole:
        """Units of each level that the chosen have, group by group."""
        columns = (level[chosen] // unit for level, unit in zip(self.levels, self.units, strict=True))
        return _by_group(columns, self.group[chosen], self.scales.shape[1])


def classes_to_levels(priority: Int64, weights: Int64) -> list[Int64]:
    """One level for each priority class that occurs, lowest number first: the weights of its candidates, 0 for all others.

    Most value of class 0, then of class 1, ...:      classes_to_levels(priority, weights)
    Most candidates of class 0, then of class 1, ...,
    and among equals the most value:                  [*classes_to_levels(priority, np.ones_like(weights)), weights]

    Raises Refused for negative classes, or more than LEVELS_MAX of them.
    """
    if (priority < 0).any():
        at = int(np.argmax(priority < 0))
        raise Refused(f"candidate {at}: expected priority >= 0, found {priority[at]} ({int((priority < 0).sum())} such in all)")
    classes = np.unique(priority)
    if len(classes) > LEVELS_MAX:
        raise Refused(f"priority: expected at most {LEVELS_MAX} classes, found {len(classes)}; use fewer classes")
    return [np.where(priority == one, weights, 0) for one in classes]


def combine(problem: PackingProblem, levels: Sequence[Int64], *, names: Sequence[str] | None = None) -> Combined:
    """The levels as one column of weights: with one scale for all candidates where that fits int64 well, else with one for each component.

    Components share no resource that can bind, so the best selection is the best of each, whatever its scale. Raises UsageError and
    Refused for levels that are none, DoesNotFit where no scale fits. O(levels x n log n + k).
    """
    named = tuple(f"level {i}" for i in range(len(levels))) if names is None else tuple(names)
    assert len(named) == len(levels)
    _refuse_malformed(problem, levels, named)
    reduced = reduce(problem)
    columns, units = in_units([level[reduced.candidates] for level in levels])
    group, scales, bounds = _scaled(reduced, columns, named)
    weights, of = np.zeros(problem.n, np.int64), np.full(problem.n, -1, np.int64)
    of[reduced.candidates] = group
    for column, scale in zip(columns, np.minimum(scales, INT64_MAX).astype(np.int64), strict=True):  # a scale beyond is of zeros alone
        weights[reduced.candidates] += column * scale[group]
    combined = PackingProblem(
        weights=weights,
        indptr=problem.indptr,
        resources=problem.resources,
        quantities=problem.quantities,
        capacities=problem.capacities,
    )
    return Combined(problem=combined, levels=tuple(levels), names=named, units=units, group=of, scales=scales, bounds=bounds)


def _scaled(reduced: Reduced, columns: Sequence[Int64], names: Sequence[str]) -> tuple[Int64, Whole, Whole]:
    """Groups, and the scales and bounds of each: the first way to group that leaves room for proofs, else the first that fits."""
    row, fitting = _scarcest(reduced.inc), None
    for group, count in _groupings(reduced):
        sums, bounds = _by_group(columns, group, count), _by_group(_takeable(reduced.inc, row, columns), group, count)
        scales = np.ones_like(bounds)
        for i in range(len(columns) - 1, 0, -1):
            scales[i - 1] = scales[i] * (bounds[i] + 1)
        total = int((sums * scales).sum())
        if total <= PROVABLE:
            return group, scales, bounds
        if total <= INT64_MAX and fitting is None:
            fitting = group, scales, bounds
    if fitting is None:
        raise DoesNotFit(_does_not_fit(names, columns, bounds, total))
    return fitting


def in_units(columns: Sequence[Int64]) -> tuple[list[Int64], tuple[int, ...]]:
    """Each column divided by the greatest common divisor of its numbers, and that divisor."""
    units = tuple(max(1, int(np.gcd.reduce(column))) if len(column) else 1 for column in columns)
    return [column // unit for column, unit in zip(columns, units, strict=True)], units


def most_of_each(inc: Incidence, columns: Sequence[Int64]) -> list[int]:
    """No selection has more of the column than this. O(columns x n log n + k)."""
    return [int(counted.sum()) for counted in _takeable(inc, _scarcest(inc), columns)]


def how_many_fit(problem: PackingProblem, levels: Sequence[Int64]) -> int:
    """The most levels, from the first on, that `combine` takes with room for proofs; 0 when the first alone leaves none."""
    reduced = reduce(problem)
    columns, _ = in_units([level[reduced.candidates] for level in levels])
    takeable, most = _takeable(reduced.inc, _scarcest(reduced.inc), columns), 0
    for group, count in _groupings(reduced):
        total = np.zeros(count)
        for i, (sums, bounds) in enumerate(zip(_by_group(columns, group, count), _by_group(takeable, group, count), strict=True)):
            total = np.minimum(total * (bounds.astype(np.float64) + 1.0) + sums.astype(np.float64), MUCH)  # off by far less than the room
            if total.sum() > PROVABLE:
                break
            most = max(most, i + 1)
    return most


def _refuse_malformed(problem: PackingProblem, levels: Sequence[Int64], names: Sequence[str]) -> None:
    if not 1 <= len(levels) <= LEVELS_MAX:
        raise UsageError(f"levels: expected 1 to {LEVELS_MAX}, found {len(levels)}; use fewer classes")
    for name, level in zip(names, levels, strict=True):
        if level.shape != (problem.n,) or level.dtype != np.int64:
            raise UsageError(f"{name}: expected int64[{problem.n}], found {level.dtype}{list(level.shape)}")
        if (level < 0).any():
            at = int(np.argmax(level < 0))
            raise Refused(f"{name}, candidate {at}: expected >= 0, found {level[at]} ({int((level < 0).sum())} such in all)")
        if float(level.sum(dtype=np.float64)) > INT64_MAX / 2 and (total := _exact_sum(level)) > INT64_MAX:
            raise Refused(f"{name}: expected a sum of at most {INT64_MAX}, found {total}; use coarser points")


def _groupings(reduced: Reduced) -> Iterator[tuple[Int64, int]]:
    """Ways to divide the candidates into independent groups: not at all, by components."""
    yield np.zeros(reduced.inc.n, np.int64), 1
    parts = Components.of(reduced.inc)
    yield parts.label, parts.count


def _does_not_fit(names: Sequence[str], columns: Sequence[Int64], bounds: Whole, total: int) -> str:
    most = ", ".join(
        f"{name} up to {max(bound)} in one component (sum of all weights {_exact_sum(column)})"
        for name, column, bound in zip(names, columns, bounds.tolist(), strict=True)
    )
    return (
        f"levels: expected combined weights of at most {INT64_MAX} in all, found {total} even with a scale for each independent "
        f"component: {most}; use coarser points in the lower levels, or fewer levels or classes"
    )


def _by_group(columns: Any, group: Int64, count: int) -> Whole:
    """object[levels, groups]: exact sums of int64 columns whose whole sum fits int64."""
    sums = []
    for column in columns:
        total = np.zeros(count, np.int64)
        np.add.at(total, group, column)
        sums.append(total)
    return np.array(sums, np.int64).reshape(len(sums), count).astype(object)


def _scarcest(inc: Incidence) -> Int64:
    """int64[n]: the demand row of each candidate whose resource is the most wanted for what there is; -1 without any."""
    wanted = np.bincount(inc.resources, weights=inc.quantities, minlength=inc.m) / np.maximum(inc.capacities, 1)
    rank = np.empty(inc.m, np.int64)
    rank[np.argsort(wanted, kind="stable")] = np.arange(inc.m)
    demanding, row = np.flatnonzero(np.diff(inc.starts)), np.full(inc.n, -1, np.int64)
    if len(demanding):  # rank and row in one number, each below 2**31, so that a maximum finds both
        row[demanding] = np.maximum.reduceat(rank[inc.resources] * inc.k + np.arange(inc.k), inc.starts[demanding]) % inc.k
    return row


def _takeable(inc: Incidence, row: Int64, columns: Sequence[Int64]) -> list[Int64]:
    """Each column where it may count towards a bound, 0 elsewhere: no selection has more of any group than what is left of it.

    Of the candidates that are counted at resource r, at most capacity // least quantity are chosen together: the heaviest count.
    """
    at = np.flatnonzero(row >= 0)
    resource, quantity = inc.resources[row[at]], inc.quantities[row[at]]
    least = np.full(inc.m, INT64_MAX, np.int64)
    np.minimum.at(least, resource, quantity)
    together, first = inc.capacities // least, starts_of(np.bincount(resource, minlength=inc.m))
    kept = []
    for column in columns:
        order = np.lexsort((-column[at], resource))
        rank = np.arange(len(at)) - first[resource[order]]
        counted = column.copy()
        counted[at[order[rank >= together[resource[order]]]]] = 0
        kept.append(counted)
    return kept


def _affordable(slack: int, first: Whole, further: Whole, room: Whole) -> int:
    """How many units more the groups can have for `slack` points: a group's first costs `first`, each other one `further` >= first.

    Cheapest first is the most: costs within a group do not fall.
    """
    open_groups = np.flatnonzero(room > 0)
    costs = [(int(first[g]), 1) for g in open_groups] + [(int(further[g]), int(room[g]) - 1) for g in open_groups]
    count = 0
    for cost, many in sorted(costs):
        bought = min(many, slack // cost)
        count, slack = count + bought, slack - bought * cost
        if bought < many:
            break
    return count


def _exact_sum(column: Int64) -> int:
    return sum(column.tolist())  # Python integers: int64 may not hold it
