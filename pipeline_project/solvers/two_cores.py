"""Passes over large arrays, half on one core, half on the other: what they find never depends on how many cores there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from pipeline_project.core.packing import Int64

HALVES_MIN: Final = 150_000  # demands from which two cores are worth their meeting

Found = TypeVar("Found")


def halves(starts: Int64) -> list[tuple[int, int]]:
    """Candidates as two ranges with about as many demands each; one range where there are few. starts: int64[n + 1]."""
    n, k = len(starts) - 1, int(starts[-1])
    if k < HALVES_MIN:
        return [(0, n)]
    middle = int(np.searchsorted(starts[:-1], k // 2))
    return [(0, middle), (middle, n)]


def together(work: Sequence[Callable[[], Found]]) -> list[Found]:
    """Each on a core of its own, the first on this one; compiled loops let the others run meanwhile."""
    if len(work) < 2:
        return [one() for one in work]
    with ThreadPoolExecutor(len(work) - 1) as others:
        rest = [others.submit(one) for one in work[1:]]
        return [work[0](), *(one.result() for one in rest)]
