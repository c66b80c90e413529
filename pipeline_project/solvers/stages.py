"""The stages of a solve: plain start, sparse kernel, prices, small proofs, search and its rivals.

Every stage only adds to what stands: a value never falls, a bound never rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline_project.core.packing import INT64_MAX, Int64
from pipeline_project.core.selection import NO_CUTS, Cuts
from pipeline_project.solvers import exact
from pipeline_project.solvers.cliques import with_cliques
from pipeline_project.solvers.competitors import Competitor
from pipeline_project.solvers.components import Components
from pipeline_project.solvers.cut_columns import priced
from pipeline_project.solvers.cuts import Tightened, tightened_prices, with_cuts
from pipeline_project.solvers.exact import prove_small
from pipeline_project.solvers.exchange import exchange
from pipeline_project.solvers.graph_reductions import Graph, Kernelized, kernelize
from pipeline_project.solvers.greedy import descending, pack, plain_ranks
from pipeline_project.solvers.held_cuts import held
from pipeline_project.solvers.incidence import Incidence
from pipeline_project.solvers.local_search import Doubt, search
from pipeline_project.solvers.merging import best_of
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.neighbours import Neighbours
from pipeline_project.solvers.price_iterations import bound_of
from pipeline_project.solvers.prices import ExactPrices, PricesParams, exact_prices, fair_value, find_prices, reduced_weights
from pipeline_project.solvers.rivals import Rival, still_open, tasks_for
from pipeline_project.solvers.solver import Bools, Floats
from pipeline_project.solvers.sorting import descending_by
from pipeline_project.solvers.special_cases import settle
from pipeline_project.solvers.standing import Standing
from pipeline_project.solvers.start import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioParams:
    """Shares of what is left when a stage begins; what it leaves over goes to the next.

    prices           the bound, the start and the proofs hang on them
    prices_sparse    the same where a sparse kernel has decided most
    far              prices that bound at so many times what is selected at best are not worth more than their share of the time
    small            search of the small components; most end after microseconds
    small_most       of the candidates in small components: these come before cuts
    special          what components of a special shape may cost
    hint             local search before the competitors begin, for a good hint
    competitor       steps of each competitor; seconds they all have as many as are left, beside our search
    neighbours_max   a conflict graph is sparse up to so many neighbours on average
    kernel           reductions of a sparse conflict graph
    kernel_max       what reductions must leave at most of a sparse graph, to be worth while
    """

    prices: float = 0.25
    prices_sparse: float = 0.05
    far: float = 3.0
    small: float = 0.5
    small_most: float = 0.5
    special: float = 0.4
    hint: float = 0.1
    competitor: float = 0.5
    neighbours_max: float = 10.0
    kernel: float = 0.5
    kernel_max: float = 0.5


DEFAULT: Final = PortfolioParams()
ROUGH: Final = PricesParams(iterations_max=128, iterations_min=128, cheap=0)  # enough to prove small components
ROWS_PER_SECOND: Final = 10_000_000  # of demands cut out and looked at for a special shape
HURRY_PER_SECOND: Final = 500_000  # candidates: with less time than this gives them, plain orders have to wait
START_ROWS_PER_SECOND: Final = 6_000_000  # of demands, from prices to a start that has settled
SEARCH_ROWS_PER_SECOND: Final = 4_000_000  # of demands, until both walks have settled
DEMANDS_TO_SETTLE: Final = 8  # of each candidate on average, at most
LARGE: Final = 150_000  # demands from which a start is worth settling before there is a core to walk in
SPECIAL_MAX: Final = 256  # components beyond are too small to matter one by one
SECONDS_TO_CHECK_A_PAIR: Final = 2e-7  # of a clique, by the verifier


class Solve:
    """One solve on one incidence.

    standing  the best selection known, and what is proven about it
    prices    what the certificate will state; free resources until priced
    cuts      the rows beyond those of the problem that cost something, in the same unit
    """

    def __init__(
        self, inc: Incidence, meter: Meter, seed: int, rivals: Sequence[Competitor], params: PortfolioParams, *, kernel: bool = False
    ) -> None:
        self.standing = Standing(inc, Components.of(inc))
        self.prices = ExactPrices(per_unit=np.zeros(inc.m, np.int64), scale=1, safe=False)
        self.cuts = NO_CUTS
        self._all_rows, self._all_prices = inc, self.prices  # with the cuts as further resources
        self._inc, self._meter, self._seed, self._rivals, self._params = inc, meter, seed, rivals, params
        self._worth = np.zeros(inc.n)
        self._is_kernel = kernel

    def run(self, start: Int64 | None, warm: Start | None = None) -> None:
        """Through all stages, from a start that may be infeasible, as far as the budget goes; `warm` has prices and cuts to begin with."""
        hurried = self._hurried()
        self._start_given(start)
        if warm is not None:  # now, so that no clock can strike before what is known counts
            self._bound_by(*_rows_and_prices(warm, self._inc))
        if not hurried:
            self._start_plain()
        decided = not self._is_kernel and self._decide_sparse()
        if self._meter.affords(0):
            self._start_small(warm)
            self._start_priced(self._params.prices_sparse if decided else self._params.prices, warm)
            self._prove_small()
            self._settle_special()
            self._search()
        if hurried and (self._meter.affords(0) or not self.standing.chosen.any()):
            self._start_plain()

    def _hurried(self) -> bool:
        """Whether plain orders would take the time of a priced start, which is worth far more: then they come last, if at all."""
        return self._meter.at_most(self._inc.n, HURRY_PER_SECOND) < self._inc.n

    def _far(self) -> bool:
        """Whether no prices of the problem's own rows come near what is selected: only cuts could, where there is time for them."""
        return bool(self.standing.chosen.any()) and fair_value(self._inc) > self._params.far * self.standing.total_value

    def _start_given(self, start: Int64 | None) -> None:
        if start is not None:  # first, so that only what is strictly better replaces it
            self.standing.offer(pack(self._inc, np.concatenate((start, descending(self._inc.weights)))), "start")

    def _start_plain(self) -> None:
        standing = self.standing
        with ThreadPoolExecutor(2) as cores:
            for chosen in cores.map(lambda rank: pack(self._inc, descending(rank)), plain_ranks(self._inc)):
                standing.offer(chosen, "greedy")

    def _decide_sparse(self) -> bool:
        """Where everybody conflicts with few: reduce the conflict graph, solve what is left, and lift the answer."""
        inc, standing, params = self._inc, self.standing, self._params
        near = Neighbours.of(inc, int(params.neighbours_max * inc.n))
        if near is None or not self._meter.affords(0):
            return False
        self._meter.spend(len(near.others))
        part = self._meter.phase(params.kernel)
        reduced = kernelize(Graph(near.starts, near.others), inc.weights, part)
        self._meter.close(part)
        if len(reduced.weights) > params.kernel_max * inc.n:
            return False
        part = self._meter.phase(1 - params.prices_sparse)
        inner = Solve(_kernel_incidence(reduced), part, self._seed, self._rivals, params, kernel=True)
        inner.run(np.flatnonzero(reduced.project(standing.chosen)))
        self._meter.close(part)
        standing.offer(reduced.restore(inner.standing.chosen), "reductions")
        standing.claim_all(reduced.offset + inner.standing.total_bound, "reductions")
        return True

    def _start_small(self, warm: Start | None) -> None:
        """Where most candidates are in small components, these are proven before anybody looks for cuts: few of them need any."""
        inc, sizes = self._inc, self.standing.parts.sizes
        if inc.m and sizes[sizes <= exact.DEFAULT.candidates_max].sum() > self._params.small_most * inc.n:
            part = self._meter.phase(self._params.prices)
            self._adopt_prices(Tightened(relaxed=find_prices(inc, part, ROUGH), inc=inc, cuts=NO_CUTS), warm)
            self._meter.close(part)
            self._prove_small()

    def _start_priced(self, share: float, warm: Start | None) -> None:
        """Price resources and cuts, and take candidates in the order of the relaxation."""
        allowed = self._meter.phase(share if self._far() else 1.0)
        late = allowed.seconds_left is not None and allowed.at_most(self._inc.k, START_ROWS_PER_SECOND) < self._inc.k
        self._meter.close(allowed)
        if late:
            self.standing.offer(exchange(self._inc, self.standing.chosen, self._meter), "greedy")
        elif len(self.standing.open()):
            part = self._meter.phase(share, self._time_for_prices(share))
            tightened = tightened_prices(self._inc, part, warm=None if warm is None else warm.prices / warm.price_scale)
            self._meter.close(part)
            self._adopt_prices(tightened, warm)

    def _adopt_prices(self, found: Tightened, warm: Start | None) -> None:
        inc, standing = self._inc, self.standing
        tightened = found if warm is None else _no_worse_than(warm, found, inc)
        reduced_weights(tightened.inc, tightened.relaxed.per_unit, self._worth)
        order = descending_by(np.rint(1000 * tightened.relaxed.share).astype(np.int64), self._worth)
        chosen = pack(inc, order)
        if standing.chosen.any():
            chosen = best_of(inc, standing.chosen, chosen)
        standing.offer(exchange(inc, chosen, self._meter) if inc.k >= LARGE else chosen, "prices")
        self._bound_by(tightened.inc, tightened.relaxed.per_unit, tightened.cuts)

    def _bound_by(self, rows: Incidence, prices: Floats, cuts: Cuts) -> None:
        """Let these prices of the problem's rows and cuts be what the certificate will state."""
        every, m = exact_prices(rows, prices), self._inc.m
        self.prices = replace(every, per_unit=every.per_unit[:m])
        self.cuts = priced(cuts, every.per_unit[m:])
        self._all_rows, self._all_prices = rows, every
        self.standing.price(rows, every)
        lengths = np.diff(self.cuts.clique_starts)
        self._meter.reserve(SECONDS_TO_CHECK_A_PAIR * int((lengths * lengths).sum()))

    def _time_for_prices(self, share: float) -> float:
        """Their share of the time: where there is none to search later, all that the start will not need."""
        left = self._meter.seconds_left
        if left is None:
            return share
        rest = left - self._meter.seconds_for(self._inc.k, START_ROWS_PER_SECOND)
        searching = self._meter.seconds_for(self._rows_to_settle, SEARCH_ROWS_PER_SECOND)
        return share if rest - searching > share * left else max(0.0, rest / left)

    @property
    def _rows_to_settle(self) -> int:
        """Where candidates demand very much, few of them can be chosen: most demands are met in passing."""
        return min(self._inc.k, DEMANDS_TO_SETTLE * self._inc.n)

    def _prove_small(self) -> None:
        """Search the components that are small enough to be proven optimal one and all."""
        standing, part = self.standing, self._meter.phase(self._params.small)
        chosen = standing.chosen.copy()
        proven = prove_small(self._all_rows, standing.parts, standing.open(), self._all_prices, chosen, part)
        self._meter.close(part)
        standing.offer(chosen, "exact")
        standing.claim(proven, standing.value[proven], "exact")

    def _settle_special(self) -> None:
        """Solve the components of a special shape, and those that fall apart once whom prices decide is fixed."""
        standing, part = self.standing, self._meter.phase(self._params.special)
        ways = [(self._inc, self.prices)] + ([(self._all_rows, self._all_prices)] if len(self.cuts) else [])
        timely = part.at_most(self._inc.k, ROWS_PER_SECOND) == self._inc.k  # else cutting out alone would take too long
        for g in standing.open()[:SPECIAL_MAX].tolist() if timely else ():
            if not part.affords(0):
                break
            for rows, prices in ways:
                alone = standing.part(g, rows)
                theirs = replace(prices, per_unit=prices.per_unit[alone.resources])
                settled = settle(alone.inc, standing.chosen[standing.parts.group(g)], theirs, INT64_MAX, part)
                if settled is not None:
                    name, chosen = settled
                    standing.offer_part(g, np.flatnonzero(chosen), name)
                    standing.claim(np.array([g]), standing.value[[g]], name)
                    break
        self._meter.close(part)

    def _search(self) -> None:
        """Local search in the components that are still open, beside it the competitors that accept any of them."""
        if self._meter.at_most(self._rows_to_settle, SEARCH_ROWS_PER_SECOND) < self._rows_to_settle:  # it could not even settle
            return
        teams = [(competitor, tasks_for(competitor, self.standing, self._meter)) for competitor in self._rivals]
        if any(tasks for _, tasks in teams):
            self._search_alone(self._params.hint)
            self._settle_special()
        teams = [(competitor, still_open(competitor, tasks, self.standing)) for competitor, tasks in teams]
        if not any(tasks for _, tasks in teams):
            self._search_alone(1.0)
            return
        with ExitStack() as stack:
            meters = [self._meter.phase(self._params.competitor, of_time=1.0) for _ in teams]
            rivals = [
                stack.enter_context(Rival(competitor, tasks, meter, self._seed))
                for (competitor, tasks), meter in zip(teams, meters, strict=True)
                if tasks
            ]
            self._contest(rivals)

    def _search_alone(self, share: float) -> None:
        part = self._meter.phase(share)
        self.standing.offer(self._local_search(part, self._seed), "search")
        self._meter.close(part)

    def _contest(self, rivals: Sequence[Rival]) -> None:
        """Search until the budget is spent, or the rivals have proven all that is open; then adopt what they found.

        Nothing may hang on who is faster: where the rivals have closed everything, what our search found meanwhile counts for nothing.
        """
        standing, part = self.standing, self._meter.phase(1.0)
        todo = set(standing.open().tolist())
        part.stop_when(lambda: _all_closed(rivals, todo))
        found = self._local_search(part, self._seed + 1)
        for rival in rivals:
            rival.wait_for(self._meter)
        if not _all_closed(rivals, todo):
            standing.offer(found, "search")
            self._meter.close(part)
        for rival in rivals:
            rival.hand_over(standing, self._meter)

    def _local_search(self, part: Meter, seed: int) -> Bools:
        standing = self.standing
        todo = standing.open()
        if not len(todo):
            return standing.chosen
        doubt = Doubt(worth=self._worth, open=standing.parts.members_of(todo), bound=standing.bound_of(todo))
        return search(self._inc, standing.chosen, doubt, seed, part)


def _rows_and_prices(warm: Start, inc: Incidence) -> tuple[Incidence, Floats, Cuts]:
    """The rows of the problem and of the cuts that still hold, what they cost, and these cuts."""
    cuts = held(inc, warm.cuts)
    return with_cuts(inc, cuts), np.concatenate((warm.prices, cuts.price, cuts.clique_price)) / warm.price_scale, cuts


def _no_worse_than(warm: Start, found: Tightened, inc: Incidence) -> Tightened:
    """What was found, unless the prices and cuts that we began with bound more tightly: other cuts may have been looked for."""
    rows, prices, cuts = _rows_and_prices(warm, inc)
    bound = bound_of(rows, prices)
    if bound >= found.relaxed.bound:
        return found
    return Tightened(relaxed=replace(found.relaxed, per_unit=prices, last=prices, bound=bound), inc=rows, cuts=cuts)


def _all_closed(rivals: Sequence[Rival], todo: set[int]) -> bool:
    return all(rival.done for rival in rivals) and todo <= {g for rival in rivals for g in rival.closed}


def _kernel_incidence(reduced: Kernelized) -> Incidence:
    """Each edge a resource that either end can hold; pairs are merged to cliques where there are few."""
    starts, neighbours = reduced.graph
    first = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    once = first < neighbours
    ends = np.concatenate((first[once], neighbours[once].astype(np.int64)))
    edge = np.tile(np.arange(int(once.sum())), 2)
    order = np.lexsort((edge, ends))
    unit = np.ones(len(ends), np.int64)
    inc = Incidence.from_rows(reduced.weights, starts, edge[order].astype(np.int32), unit, np.ones(len(edge) // 2, np.int64))
    return with_cliques(inc)
