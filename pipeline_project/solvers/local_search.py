"""Iterated local search: force a candidate in, repair around it, keep the result unless it is too much worse, and do it again.

Everything is local: a trial costs what it touches, whatever the size of the problem, and is undone from its log. Candidates are drawn
by how little prices say about them (small reduced weight, either way). What may be lost by a trial falls from `heat` to nothing within
an epoch, and epochs double in length, so that the search needs not know its budget and any two runs share their beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int64
from pipeline_project.solvers.improvement import BOARD, HEAD, LOGGED, NOBODY, TAIL, Board, ImprovementParams, insert, move, settle, wake
from pipeline_project.solvers.incidence import INCIDENCE, Incidence, take
from pipeline_project.solvers.kernels import i8, kernel
from pipeline_project.solvers.meter import Meter
from pipeline_project.solvers.solver import Bools

RANDOM = numba.types.uint64[::1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSearchParams:
    """heat          loss that the first trials of an epoch may bring, as a share of the mean chosen weight, at 100,000 candidates;
                  with fewer each is tried more often and can cool from hotter: it goes with one over the root of their number
    epoch_steps   length of the first epoch, per demand; each next one is twice as long
    trial_steps   what one repair may cost
    log_length    moves of one trial that can be undone
    """

    heat: float = 0.02
    epoch_steps: int = 200
    trial_steps: int = 100_000
    log_length: int = 4_096


DEFAULT: Final = LocalSearchParams()
MOVES: Final = ImprovementParams()
UNIT: Final = 1024  # heat is counted in parts of a point: where weights are small, less than one is allowed at a time
LOOK_EVERY: Final = 20  # steps per demand until the best selection is looked at: on a small problem it does not last long
HOTTEST: Final = 2.0**57
WHATEVER_IT_COSTS: Final = -(2**62)


def search(inc: Incidence, chosen: Bools, order: Int64, seed: int, meter: Meter, params: LocalSearchParams = DEFAULT) -> Bools:
    """The best selection met on the way from `chosen`, which is changed; `order`: candidates, the most doubtful first."""
    if not len(order):
        return chosen
    board = Board.of(inc, chosen, MOVES, params.log_length)
    generator = np.array([(seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 | 1], np.uint64)
    value = best_value = int(inc.weights[chosen].sum())
    best, heat = chosen.copy(), params.heat * math.sqrt(1e5 / len(order)) * value / max(1, int(chosen.sum()))
    epoch, age = params.epoch_steps * (inc.k + inc.n), 0
    while steps := meter.slice():
        if age >= epoch:
            epoch, age = 2 * epoch, 0
            board, value = Board.of(inc, best.copy(), MOVES, params.log_length), best_value
        cold = 1.0 - age / epoch
        allowed = int(min(heat * cold * cold * UNIT, HOTTEST))
        steps = min(steps, LOOK_EVERY * (inc.k + inc.n))
        gain, done = _trials(inc, board, order, generator, allowed, steps, params.trial_steps)
        meter.spend(done)
        age, value = age + int(done), value + int(gain)
        if value > best_value:
            best[:], best_value = board.chosen, value
    return best


@kernel(RANDOM, i8, returns=i8)
def _below(generator: NDArray[np.uint64], n: int) -> int:
    """A number in 0..n-1 (xorshift64, Marsaglia 2003)."""
    x = generator[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    generator[0] = x
    return np.int64(((x >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))  # type: ignore[return-value]  # compiled


@kernel(RANDOM, i8, returns=i8)
def _allowed_loss(generator: NDArray[np.uint64], heat: int) -> int:
    """Metropolis acceptance without a logarithm, whose last bit differs between machines: heat / UNIT for each of the heads in a row."""
    heads = 0
    while heads < 30 and _below(generator, 2):
        heads += 1
    return heads * heat // UNIT


@kernel(INCIDENCE, BOARD, returns=i8)
def _undo(inc: Incidence, board: Board) -> int:
    """Take back what the log says; returns the work."""
    work = 0
    for i in range(board.counts[LOGGED] - 1, -1, -1):
        c = board.log[i] if board.log[i] >= 0 else -1 - board.log[i]
        back_in = board.log[i] < 0
        board.chosen[c] = back_in
        take(inc, board.free, c, 1 if back_in else -1)
        work += inc.starts[c + 1] - inc.starts[c]
    return work


@kernel(INCIDENCE, BOARD, i8[::1], RANDOM, i8, i8, i8, returns=numba.types.UniTuple(i8, 2))
def _trials(
    inc: Incidence, board: Board, order: Int64, generator: NDArray[np.uint64], heat: int, steps: int, trial_steps: int
) -> tuple[int, int]:
    """Trials until the steps are spent; returns the gain and the work."""
    counts, n = board.counts, len(order)
    total, done = 0, 0
    while done < steps:
        counts[LOGGED] = 0
        c = order[_below(generator, n) * _below(generator, n) // n]
        if board.chosen[c]:
            move(inc, board, c, -1)
            gain, work = -inc.weights[c], wake(inc, board, c)
        else:
            gain, work = insert(inc, board, c, NOBODY, WHATEVER_IT_COSTS)
        repaired, more = settle(inc, board, c, trial_steps)
        while counts[HEAD] != counts[TAIL]:  # too long a repair: nobody may wait for the next trial
            board.waiting[board.ring[counts[HEAD]]] = False
            counts[HEAD] = (counts[HEAD] + 1) % len(board.ring)
        gain += repaired
        done += 1 + work + more
        if gain < -_allowed_loss(generator, heat) and counts[LOGGED] < len(board.log):
            done += _undo(inc, board)
        else:
            total += gain
    return total, done
