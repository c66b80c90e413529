"""Local search among the candidates that prices leave in doubt: two walks, on two cores where there are two.

Many chosen candidates: both walks start each round from the same selection, and what either has changed is put together again, part by part
(`merging`); so the round goes twice as far as one walk would. Few, where every change touches every other: the walks race
at different heats, from the best selection known, and the winner's heat is the middle of the next race. Where two kinds of walk are
worth a trial they race each other first, and whoever found the best goes on alone. They meet after fixed numbers of trials and steps,
never by the clock: the answer does not depend on how many cores there are. Heat is measured by what prices say is lost: the gap, per
chosen candidate in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.core_problem import core_of, in_doubt
from pipeline_project.solvers.crowded_walk import CrowdedWalk
from pipeline_project.solvers.greedy import fill
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.merging import best_of, changes_of_both
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.neighbours import Neighbours
from pipeline_project.solvers.randomness import HOTTEST
from pipeline_project.solvers.solver import Floats
from pipeline_project.solvers.walks import Walk, listed, walks

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSearchParams:
    """core_shares       width of each successive core: what its chosen candidates could lose, in gaps
    together_min      with at least so many chosen candidates in the core the walks work together, below they race
    together_min_unit        the same where every resource can be held once: so many times as each conflicts with on average
    round_trials      trials of one round of working together, per chosen candidate: few, so that changes seldom meet
    hot, hot_max      heat to begin with: in gaps per chosen candidate, and at most this share of the mean chosen weight
    hot_unit, hot_unit_max   the same where every resource can be held once
    race_hot, race_hot_max   the same for the first race
    race_hot_crowded         race_hot where the walks are crowded ones
    race_trial        share of the budget in which two kinds of walk race each other
    race_spread       the two heats of a race are the middle times and divided by this
    epoch_steps       of the first race, per demand and candidate; each next one takes half as long again
    coldest           share of its heat that an epoch ends with
    """

    core_shares: tuple[float, ...] = (8.0,)
    together_min: int = 2_000
    together_min_unit: int = 50
    round_trials: float = 0.8
    hot: float = 8.0
    hot_max: float = 0.15
    hot_unit: float = 4.0
    hot_unit_max: float = 0.3
    race_hot: float = 4.0
    race_hot_max: float = 0.4
    race_hot_crowded: float = 25.0
    race_trial: float = 0.2
    race_spread: float = 1.5
    epoch_steps: int = 200
    epoch_growth: float = 1.5
    coldest: float = 0.1


DEFAULT: Final = LocalSearchParams()
COOLINGS: Final = 40  # heats of one race


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What prices say before the search.

    worth  float64[n]  reduced weights: what each candidate is worth beyond the price of what it demands
    open   int64       the candidates of components that may still be improved
    bound  float       what the value of these is at most
    """

    worth: Floats
    open: Int64
    bound: float


def search(inc: Incidence, chosen: Bools, doubt: Doubt, seed: int, meter: Meter, params: LocalSearchParams = DEFAULT) -> Bools:
    """The best selection met on the way from `chosen`, never worth less."""
    best = chosen.copy()
    for i, share in enumerate(params.core_shares):
        value = int(inc.weights[doubt.open[best[doubt.open]]].sum())
        if value >= doubt.bound or not meter.affords(inc.k + inc.n):
            break
        gap = doubt.bound - value
        core = core_of(inc, best, in_doubt(best, doubt.worth, doubt.open, gap, share))
        meter.spend(2 * (inc.k + inc.n))
        part = meter.phase(1 / (len(params.core_shares) - i))
        found = _Search(core.inc, best[core.candidates], doubt.worth[core.candidates], gap, seed + 7 * i, part, params).run()
        meter.close(part)
        best[core.candidates] = found
        fill(inc, doubt.open, inc.left_by(best), best)
    return best


class _Search:
    """Two walks over one problem, and the best they have found."""

    def __init__(self, inc: Incidence, start: Bools, worth: Floats, gap: float, seed: int, meter: Meter, params: LocalSearchParams) -> None:
        self._inc, self._gap, self._meter, self._params = inc, gap, meter, params
        self.best = start.copy()
        self._candidates = np.flatnonzero(inc.weights > 0)
        near = listed(inc, meter)
        self._is_unit, self._together = near is not None, self._are_many(start, near)
        self._kinds = walks(inc, near, worth, (2 * seed, 2 * seed + 1), many=self._together)
        self._walks = self._kinds[0]

    def _are_many(self, start: Bools, near: Neighbours | None) -> bool:
        """Whether so many are chosen that two walks seldom change the same."""
        count = int(start.sum())
        if near is None:
            return count >= self._params.together_min and not CrowdedWalk.suits(self._inc)
        return count * self._inc.n >= self._params.together_min_unit * len(near.others)

    def run(self) -> Bools:
        if not len(self._candidates):
            return self.best
        with ThreadPoolExecutor(1) as self._other_core:
            count = self._settle()
            mean = self._value(self.best) / max(1, count)
            per_chosen = self._gap / max(1, count)
            params = self._params
            if self._together:
                hot, hot_max = (params.hot_unit, params.hot_unit_max) if self._is_unit else (params.hot, params.hot_max)
                self._work_together(min(hot * per_chosen, hot_max * mean, HOTTEST))
            else:
                hot = params.race_hot_crowded if isinstance(self._walks[0], CrowdedWalk) else params.race_hot
                self._race(min(hot * per_chosen, params.race_hot_max * mean, HOTTEST))
        return self.best

    def _both(self, work: Callable[[Walk, int], Result]) -> list[Result]:
        """Let both walks work at once."""
        second = self._other_core.submit(work, self._walks[1], 1)
        return [work(self._walks[0], 0), second.result()]

    def _settle(self) -> int:
        """Bring both walks to the start and improve it, each with half of the candidates; returns how many are chosen."""
        halves = self._candidates[::2].copy(), self._candidates[1::2].copy()
        start, limit = self.best, self._meter.left // 2

        def settle(walk: Walk, i: int) -> int:
            walk.adopt(start)
            return walk.settle(halves[i], limit)

        self._meter.spend(sum(self._both(settle)))
        self.best = self._meet(start)
        return int(self.best.sum())

    def _meet(self, before: Bools) -> Bools:
        """Put together what both walks made of `before`, and bring both there."""
        merged = changes_of_both(self._inc, before, self._walks[0].chosen, self._walks[1].chosen)
        for walk in self._walks:
            walk.adopt(merged)
        self._meter.spend(4 * self._inc.n + self._inc.k // 4)
        return merged

    def _work_together(self, hottest: float) -> None:
        meter, current = self._meter, self.best

        def walk_on(walk: Walk, _: int) -> int:
            return walk.walk(self._candidates, heat, trials, limit, track=False)[0]

        while limit := meter.slice():
            heat = hottest * _cooled(meter.progress, self._params.coldest)
            trials = max(1, int(self._params.round_trials * int(current.sum())))
            meter.spend(sum(self._both(walk_on)))
            current = self._meet(current)
            self.best = best_of(self._inc, self.best, current)

    def _race(self, middle: float) -> None:
        meter, spread, steps = self._meter, self._params.race_spread, float(self._params.epoch_steps * (self._inc.k + self._inc.n))
        finder = 0
        while meter.left and meter.affords(0):
            on_trial = len(self._kinds) > 1 and meter.progress < self._params.race_trial
            self._walks = [self._kinds[0][0], self._kinds[1][1]] if on_trial else self._kinds[finder]
            for walk in self._walks:
                walk.adopt(self.best)
                walk.forget_best()
            heats = (middle, middle) if on_trial else (middle * spread, middle / spread)
            self._run_epoch(heats, int(steps))
            values = [walk.best_value for walk in self._walks]
            winner = values.index(max(values))
            if values[winner] > self._value(self.best):
                self.best = self._walks[winner].best.copy()
                finder = winner if on_trial else finder
            if values[0] != values[1] and not on_trial:
                middle = min(heats[winner], HOTTEST)
            steps *= self._params.epoch_growth

    def _run_epoch(self, heats: tuple[float, float], steps: int) -> None:
        at = 0

        def walk_on(walk: Walk, i: int) -> int:
            return walk.walk(self._candidates, heats[i] * cold, limit, limit, track=True)[0]

        while at < steps and (limit := min(self._meter.slice() // 2, max(1, steps // COOLINGS))):
            cold = _cooled(at / steps, self._params.coldest)
            self._meter.spend(sum(self._both(walk_on)))
            at += limit

    def _value(self, chosen: Bools) -> int:
        return int(self._inc.weights[chosen].sum())


def _cooled(progress: float, coldest: float) -> float:
    # By multiplication alone: the last bit of a power differs between machines.
    return max(coldest, (1.0 - progress) * (1.0 - progress))
