"""What every walk counts in the same place, and how it remembers the best selection that it met."""

from __future__ import annotations

from typing import Any, Final

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.solvers.kernels import f8, flag, i8, kernel
from pipeline_project.solvers.randomness import GENERATOR, Generator, allowed_loss

VALUE: Final = 0  # of counts: what the selection is worth
BEST: Final = 1  # the best value seen; -1: none


class Tracking:
    """Half of `walks.Walk`. The board, a named tuple of each walk's own, has `counts` as above and `best`, bool[n]."""

    _board: Any

    def forget_best(self) -> None:
        self._board.counts[BEST] = -1

    @property
    def best(self) -> Bools:
        return self._board.best  # type: ignore[no-any-return]  # boards differ

    @property
    def best_value(self) -> int:
        return int(self._board.counts[BEST])


@kernel(i8[::1], i8, f8, GENERATOR, returns=flag)
def loses_too_much(counts: Int64, before: int, heat: float, generator: Generator) -> bool:
    """Whether the selection, worth `before` ahead of a trial, has lost more than the heat allows (Metropolis)."""
    return bool(before - counts[VALUE] > allowed_loss(generator, heat))
