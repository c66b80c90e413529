"""From a change in the database to the decision it leads to, through the real daemon; and how many cycles it keeps up with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

from pipeline_project.core.errors import CycleInFlight, PipelineError
from pipeline_project.engine.engine import Engine

POOL: Final = "watched"
BESIDE: Final = "beside"
BACKLOG: Final = 200
LOOK_S: Final = 0.02
WAIT_S: Final = 180.0
PHASE_S: Final = 5.0
"""Changes come at no particular moment of the sensor's turn, so each waits for a random part of it."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """When Dagster made the run, and when its process began to work."""

    created: datetime
    started: datetime


def furnish(engine: Engine, pool: str) -> None:
    """A backlog that wants places which are all taken: every cycle looks at it, and selects what is new."""
    engine.intake.create_pool(pool)
    engine.intake.put_resources(pool, [{"key": f"place-{i}", "capacity": 1} for i in range(20)])
    rows = [{"key": f"waiting-{i}", "weight": i + 1, "demands": {f"place-{i % 20}": 1}} for i in range(BACKLOG)]
    engine.intake.submit(pool, rows)
    with suppress(CycleInFlight):  # the daemon was faster, and does the same
        engine.cycles.run(pool)


def measure(engine: Engine, stamps: Callable[[str], Stamps], is_idle: Callable[[], bool], changes: int, seed: int) -> dict[str, Any]:
    """Seconds of each part of the way, medians; after them the same cycles through the engine alone, in another pool.

    is_idle        whether no run is queued or at work: a change waits until the run of the one before has ended
    dagster_share  what is left of the median when the engine's own seconds are taken away, as a share of it
    """
    phases, seen, alone = random.Random(seed), [], []  # noqa: S311  # moments, no secrets
    for number in range(changes):
        _wait_until(is_idle)
        time.sleep(phases.uniform(0, PHASE_S))
        seen.append(_through_the_daemon(engine, stamps, f"change-{number}"))
    for number in range(changes):  # only now: the daemon wakes for these as well, and its runs would stand in the way of the others
        engine.intake.submit(BESIDE, [{"key": f"change-{number}", "weight": 1, "demands": {}}])
        began = time.monotonic()
        with suppress(CycleInFlight):  # the daemon has it: one figure less
            engine.cycles.run(BESIDE)
            alone.append(time.monotonic() - began)
    if not alone:
        raise PipelineError(f"pool {BESIDE}: expected a cycle by the engine alone, found the daemon at work each time; try more changes")
    whole, engine_s = sorted(row["whole"] for row in seen), median(alone)
    return {
        "peer": "daemon",
        "changes": changes,
        "median_s": round(median(whole), 2),
        "p99_s": round(whole[min(len(whole) - 1, int(0.99 * len(whole)))], 2),
        "until_run_made_s": round(median(row["made"] for row in seen), 2),
        "until_process_works_s": round(median(row["starting"] for row in seen), 2),
        "working_s": round(median(row["working"] for row in seen), 2),
        "engine_alone_s": round(engine_s, 3),
        "dagster_share": round(1 - engine_s / median(whole), 4),
    }


def keep_up(engine: Engine, pools: int) -> dict[str, Any]:
    """One change in each of so many pools at once, until all are decided."""
    names = [f"pool-{i}" for i in range(pools)]
    for name in names:
        engine.intake.create_pool(name)
    began = time.monotonic()
    for name in names:
        engine.intake.submit(name, [{"key": "change", "weight": 1, "demands": {}}])
    for name in names:
        _decided(engine, name, "change")
    seconds = time.monotonic() - began
    return {"peer": f"daemon, {pools} pools", "changes": pools, "seconds": round(seconds, 1), "per_minute": round(60 * pools / seconds, 1)}


def warm_up(engine: Engine, pools: Sequence[str] = (POOL, BESIDE)) -> None:
    """The daemon's first ticks also load the definitions."""
    for pool in pools:
        furnish(engine, pool)
    engine.intake.submit(POOL, [{"key": "first", "weight": 1, "demands": {}}])
    _decided(engine, POOL, "first")


def _through_the_daemon(engine: Engine, stamps: Callable[[str], Stamps], key: str) -> dict[str, float]:
    engine.intake.submit(POOL, [{"key": key, "weight": 1, "demands": {}}])
    cycle = _decided(engine, POOL, key)
    begun = engine.inquiry.timeline(POOL, key)[0]["at"]
    row = engine.cycles.find(cycle, pool=POOL)
    run = engine.inquiry.lineage(cycle, pool=POOL)["run"]
    if run is None:
        raise PipelineError(f"cycle {cycle}: expected the daemon to have decided it, found {row['owner']}")
    at = stamps(run)
    return {
        "whole": (row["published_at"] - begun).total_seconds(),
        "made": (at.created - begun).total_seconds(),
        "starting": (at.started - at.created).total_seconds(),
        "working": (row["published_at"] - at.started).total_seconds(),
    }


def _wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > give_up:
            raise PipelineError(f"expected every run to have ended within {WAIT_S:.0f} s, found one at work")
        time.sleep(LOOK_S)


def _decided(engine: Engine, pool: str, key: str) -> str:
    """The cycle that selected and published the item; waits for it."""
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        item = engine.inquiry.item(pool, key)
        if item["state"] == "selected":
            cycle = engine.inquiry.timeline(pool, key)[-1]["cycle"]
            if engine.cycles.find(cycle, pool=pool)["published_at"]:
                return str(cycle)
        time.sleep(LOOK_S)
    raise PipelineError(f"pool {pool}: expected {key} to be selected within {WAIT_S:.0f} s of its submission; does the daemon run?")
