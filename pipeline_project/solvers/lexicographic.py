"""Select by objective levels, whatever their size: as one problem where a scale fits int64 (`levels.py`), else level after level.

In turn means: as many levels as fit, then the next among the selections that have as much of those (preemptive goal programming: Ehrgott,
Multicriteria Optimization, 2nd ed., Springer 2005, ch. 5). Two things stand for "as much of those", since a packing problem has no rows
of that kind. Whom prices decide is fixed, which often leaves little, and few large numbers. And points of the levels above go on counting,
as much as still fits: for any rates r >= 0, nobody who has at least v of the levels above has more of the next one than
max(r above + next) - r v (Lagrangian relaxation). So every bound is one that prices and searches proved, never an assumption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import INT64_MAX, Bools, Int64, PackingProblem
from pipeline_project.core.selection import Selection
from pipeline_project.solvers import portfolio
from pipeline_project.solvers.certify import certify
from pipeline_project.solvers.cuts import with_cuts
from pipeline_project.solvers.greedy import pack
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.levels import (
    PROVABLE,
    DoesNotFit,
    Level,
    LevelledSelection,
    combine,
    how_many_fit,
    in_units,
    most_of_each,
)
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.prices import exact_prices
from pipeline_project.solvers.reductions import Reduced, cut_out
from pipeline_project.solvers.solver import Budget
from pipeline_project.solvers.special_cases import decided

TINY: Final = Budget(steps=1)
TURN: Final = 0.5  # share of what is left for one turn that is not the last: what matters first deserves most
TURNS_PER_LEVEL: Final = 3  # turns that find more of a level above start again below it, which must end


def solve(
    problem: PackingProblem,
    levels: Sequence[Int64],
    budget: Budget,
    seed: int = 0,
    start: Int64 | None = None,
    *,
    names: Sequence[str] | None = None,
) -> LevelledSelection:
    """Select by `levels` (int64[n] each, >= 0, most significant first); the problem's own weights do not matter.

    The best selection that the budget allows; when the last level is optimal, no selection is better in any of them. Never worse, level
    by level, than taking what fits in the order of the levels. Deterministic like the portfolio. Raises UsageError or Refused for levels
    that are none.
    """
    meter = Meter(budget)  # from here on, as looking for a scale takes time too
    try:
        combined = combine(problem, levels, names=names)
    except DoesNotFit:
        turns = InTurn(problem, levels, meter, seed)
        turns.run(start)
        return turns.answer([f"level {i}" for i in range(len(levels))] if names is None else names)
    return combined.solve(meter.budget() or TINY, seed, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """What is left to decide: everybody who is neither fixed nor open is out. `rest` is the problem among the open.

    held     of each level, by those who are fixed
    columns  of each level, int64[rest]
    """

    fixed: Bools
    rest: Reduced
    held: tuple[int, ...]
    columns: tuple[Int64, ...]


class InTurn:
    """Levels one after the other. Always a feasible selection, the best seen level by level, and a bound for each of its levels."""

    def __init__(self, problem: PackingProblem, levels: Sequence[Int64], meter: Meter, seed: int) -> None:
        self._problem, self._levels, self._seed, self._meter = problem, tuple(levels), seed, meter
        self._inc = Incidence.of(problem)
        able = cut_out(self._inc, np.ones(problem.n, np.bool_), self._inc.capacities)
        self._most = most_of_each(able.inc, [level[able.candidates] for level in levels])
        self._bounds = list(self._most)
        self._chosen, self._values = np.zeros(problem.n, np.bool_), (0,) * len(levels)
        self._first: tuple[PackingProblem, Selection] | None = None  # what the answer's certificate is made of
        self._solvers: dict[str, int] = {}

    def run(self, start: Int64 | None) -> None:
        """Through all levels, as far as the budget goes."""
        order = np.lexsort(tuple(-level for level in reversed(self._levels)))
        if start is not None:  # first, so that only what is better replaces it
            self._offer(pack(self._inc, np.concatenate((start, order))), {"start": self._problem.n})
        self._offer(pack(self._inc, order), {"greedy": self._problem.n})
        undecided, level = self._everything(), 0
        for _ in range(TURNS_PER_LEVEL * len(self._levels)):
            if level == len(self._levels):
                break
            before = self._values
            done, after = self._turn(undecided, level)
            improved = next((i for i, (old, new) in enumerate(zip(before, self._values, strict=True)) if old != new), len(self._levels))
            if improved < level:  # what was proven, and who was fixed, below that level was about selections with less of it
                self._bounds[improved + 1 :] = self._most[improved + 1 :]
                undecided, level = self._everything(), improved + 1
            else:
                undecided, level = after, done

    def answer(self, names: Sequence[str]) -> LevelledSelection:
        problem, selection = self._first or self._unproven()
        chosen = np.flatnonzero(self._chosen)
        certificate = replace(
            selection.certificate,
            value=int(problem.weights[chosen].sum()),
            steps=self._meter.spent,
            reproducible=not self._meter.struck,
            solvers=self._solvers,
        )
        found, settled = [], True
        for name, value, bound in zip(names, self._values, self._bounds, strict=True):
            settled = settled and value == bound
            found.append(Level(name=name, value=value, upper_bound=bound, optimal=settled))
        return LevelledSelection(problem=problem, selection=Selection(chosen=chosen, certificate=certificate), levels=tuple(found))

    def _turn(self, undecided: Undecided, level: int) -> tuple[int, Undecided]:
        """Decide about this level, and as many below it as fit beside those above. Returns the next level, and what is left then."""
        rest = undecided.rest.inc.problem()
        fitting = how_many_fit(rest, undecided.columns)
        last = fitting >= len(self._levels)
        part = self._meter.phase(1.0 if last or level == len(self._levels) - 1 else TURN)
        if fitting > level:
            problem, selection = self._exactly(undecided, rest, range(level, fitting), part)
        else:
            problem, selection = self._beside(undecided, rest, level, part)
        self._meter.close(part)
        if self._first is None:  # and so nothing is fixed yet
            self._first = problem, selection
        return max(fitting, level + 1), self._fixed(undecided, problem, selection)

    def _exactly(self, undecided: Undecided, rest: PackingProblem, now: range, part: Meter) -> tuple[PackingProblem, Selection]:
        """These levels at once, and those above with them: one scale holds all."""
        combined = combine(rest, undecided.columns[: now.stop])
        selection = self._solved(combined.problem, undecided.fixed, undecided.rest.candidates, part)
        best = self._on(undecided.rest.candidates)
        at_best = replace(selection.certificate, value=int(combined.problem.weights[best].sum()))
        found = combined.read(Selection(chosen=best, certificate=at_best))
        for i in now:
            self._bounds[i] = min(self._bounds[i], undecided.held[i] + found[i].upper_bound)
        return combined.problem, selection

    def _beside(self, undecided: Undecided, rest: PackingProblem, level: int, part: Meter) -> tuple[PackingProblem, Selection]:
        """This level, with points of those above counting as much as fits; then once more where all that has such points is held."""
        columns, units = in_units(undecided.columns[: level + 1])
        rates = _rates([_total(column) for column in columns], most_of_each(undecided.rest.inc, columns))
        weights = np.zeros(rest.n, np.int64)
        for column, rate in zip(columns, rates, strict=True):
            weights += column * rate
        problem, share = replace(rest, weights=weights), part.phase(TURN)
        above = sum(rates[i] * ((self._values[i] - undecided.held[i]) // units[i]) for i in range(level))
        selection = self._solved(problem, undecided.fixed, undecided.rest.candidates, share)
        part.close(share)
        bound = undecided.held[level] + (selection.certificate.upper_bound - above) * units[level]
        self._bounds[level] = min(self._bounds[level], bound)
        if self._values[level] < bound:
            self._hold(undecided, level, part)
        return problem, selection

    def _hold(self, undecided: Undecided, level: int, part: Meter) -> None:
        """Keep those of the best selection that have points above, and choose anew, by this level and those below, beside them."""
        rest, chosen = undecided.rest, self._chosen[undecided.rest.candidates]
        counts = np.zeros(rest.inc.n, np.bool_)
        for column in undecided.columns[:level]:
            counts |= column > 0
        held, fixed = chosen & counts, undecided.fixed.copy()
        fixed[rest.candidates[held]] = True
        beside = cut_out(rest.inc, ~held, rest.inc.left_by(held))
        problem, candidates = beside.inc.problem(), rest.candidates[beside.candidates]
        below = [column[candidates] for column in self._levels[level:]]
        combined = combine(problem, below[: max(1, how_many_fit(problem, below))])
        self._solved(combined.problem, fixed, candidates, part)

    def _solved(self, problem: PackingProblem, fixed: Bools, candidates: Int64, part: Meter) -> Selection:
        """The portfolio's selection among these candidates, from the best one known; offered together with the fixed ones."""
        with np.errstate(over="ignore"):  # see Combined.solve
            selection = portfolio.solve(problem, part.budget() or TINY, self._seed, self._on(candidates))
        part.spend(selection.certificate.steps)
        part.struck |= not selection.certificate.reproducible
        whole = fixed.copy()
        whole[candidates[selection.chosen]] = True
        above = {"levels above": int(fixed.sum())} if fixed.any() else {}
        self._offer(whole, selection.certificate.solvers | above)
        return selection

    def _on(self, candidates: Int64) -> Int64:
        """Who of them is in the best selection, by their places."""
        return np.flatnonzero(self._chosen[candidates])

    def _offer(self, chosen: Bools, solvers: dict[str, int]) -> None:
        """Taken when it is better level by level."""
        values = tuple(int(level[chosen].sum()) for level in self._levels)
        if values > self._values or not self._solvers:
            self._chosen, self._values, self._solvers = chosen, values, solvers

    def _everything(self) -> Undecided:
        all_of_it = Reduced(inc=self._inc, candidates=np.arange(self._inc.n), resources=np.arange(self._inc.m))
        nobody = np.zeros(self._inc.n, np.bool_)
        return Undecided(fixed=nobody, rest=all_of_it, held=(0,) * len(self._levels), columns=self._levels)

    def _fixed(self, undecided: Undecided, problem: PackingProblem, selection: Selection) -> Undecided:
        """Fix whom prices decide: whoever is as good as the best selection, level by level, is not worth less than it in `problem`."""
        rest, certificate = undecided.rest, selection.certificate
        rows = with_cuts(rest.inc._replace(weights=problem.weights), certificate.cuts)
        every = np.concatenate((certificate.prices, certificate.cuts.price, certificate.cuts.clique_price))
        prices = exact_prices(rows, every / certificate.price_scale)
        if not prices.safe:
            return undecided
        inside, undone = decided(rows, prices, int(problem.weights[self._on(rest.candidates)].sum()) - 1)
        fixed, members = undecided.fixed.copy(), np.zeros(self._inc.n, np.bool_)
        fixed[rest.candidates[inside]], members[rest.candidates[undone]] = True, True
        assert not (self._chosen & ~fixed & ~members).any(), "prices cannot exclude what is as good as itself"
        left = cut_out(self._inc, members, self._inc.left_by(fixed))
        return Undecided(
            fixed=fixed,
            rest=left,
            held=tuple(int(level[fixed].sum()) for level in self._levels),
            columns=tuple(level[left.candidates] for level in self._levels),
        )

    def _unproven(self) -> tuple[PackingProblem, Selection]:
        problem = replace(self._problem, weights=self._levels[0])
        return problem, certify(problem, np.flatnonzero(self._chosen), solvers={}, seed=self._seed, steps=0)


def _rates(sums: Sequence[int], bounds: Sequence[int]) -> list[int]:
    """What a point of each level is worth in points of the last: more than all below it where that fits, else as much as does.

    One limit for how much a point is worth in points of the next level, the largest power of two with which the sum of all weights fits.
    """
    room = PROVABLE if sums[-1] <= PROVABLE // 2 else INT64_MAX
    for power in range(63, -1, -1):
        rates = [1]
        for bound in reversed(bounds[1:]):
            rates.append(rates[-1] * min(bound + 1, 2**power))
        rates.reverse()
        if sum(rate * total for rate, total in zip(rates, sums, strict=True)) <= room:
            return rates
    return [0] * (len(sums) - 1) + [1]


def _total(column: Int64) -> int:
    return int(column.sum())
