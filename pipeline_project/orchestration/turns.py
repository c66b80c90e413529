"""One cycle of a pool commits at a time: who comes second, a backfill beside a live cycle, waits for its turn instead of failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import dagster as dg

from pipeline_project.core.errors import CycleInFlight

WAIT_S: Final = 10.0
TURNS: Final = 12
"""Twice the lease of an owner that fell silent: by then somebody has finished its cycle, this run at the latest."""

Made = TypeVar("Made")
Wanted = TypeVar("Wanted")


def in_turn(commit: Callable[[Wanted], Made], wanted: Wanted) -> Made:
    """Commit, or ask Dagster to try this step again in a while. Nothing was written when it does."""
    try:
        return commit(wanted)
    except CycleInFlight as busy:
        raise dg.RetryRequested(max_retries=TURNS, seconds_to_wait=WAIT_S) from busy
