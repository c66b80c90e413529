"""From an import to published decisions: the whole way, and what each part of it takes."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline_project.bench.families import Uniform
from pipeline_project.engine.engine import Engine

POOL = "bench"

Result = TypeVar("Result")
CycleRunner = Callable[[Engine, str], dict[str, Any]]


def measure(engine: Engine, family: Uniform, run_cycle: CycleRunner, peer: str) -> dict[str, Any]:
    """Import the family into a fresh database, run one cycle, check every invariant; seconds of each part, peak memory of this process.

    value, gap and selected are the cycle's own figures, so that a fast run that selects little shows.
    """
    engine.intake.create_pool(POOL)
    with tempfile.TemporaryDirectory() as folder:
        items, resources = family.write(Path(folder))
        resources_s, _ = _timed(lambda: engine.intake.import_resources(POOL, resources))
        items_s, receipt = _timed(lambda: engine.intake.import_items(POOL, items))
    cycle_s, report = _timed(lambda: run_cycle(engine, POOL))
    check_s, violated = _timed(engine.upkeep.check)
    assert receipt.accepted == family.items
    return {
        "peer": peer,
        "items": family.items,
        "demands": family.demands,
        "seed": family.seed,
        "import_resources_s": resources_s,
        "import_items_s": items_s,
        "cycle_s": cycle_s,
        "seconds": round(items_s + cycle_s, 3),
        "per_second": round(family.items / (items_s + cycle_s)),
        "selected": report["selected"],
        "value": report["value"],
        "gap": report["gap"],
        "check_s": check_s,
        "invariants_violated": len(violated),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.monotonic()
    result = work()
    return round(time.monotonic() - began, 3), result
