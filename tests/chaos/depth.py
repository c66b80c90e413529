"""How deep a run of tests/chaos looks: at a few points that the seed picks, at every one, or for as long as it is told to."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pytest

T = TypeVar("T")

FEW: Final = 20
"""Of so many points a short run takes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """seed     printed, so that every failure replays by `--seed`
    soak_s   seconds for what has no end of its own; None = short
    whole    every point, not a few
    """

    seed: int
    soak_s: float | None
    whole: bool
    capture: pytest.CaptureFixture[str] = field(repr=False)

    def some(self, points: Sequence[T], *, one_in: int = FEW) -> list[T]:
        """All of them, or one of every few: the seed picks which, so that in time all have their turn."""
        if self.whole:
            return list(points)
        dice = random.Random(f"{self.seed} {len(points)}")
        return [points[min(start + dice.randrange(one_in), len(points) - 1)] for start in range(0, len(points), one_in)]

    def tell(self, line: str) -> None:
        """Progress of a soak, past pytest's capture; a short run shows it only when the test fails."""
        if self.soak_s is None:
            print(line)  # noqa: T201  # captured
            return
        with self.capture.disabled():
            sys.stderr.write(f"soak: {line}\n")
            sys.stderr.flush()
