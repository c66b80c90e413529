"""Many small cycles in a row: seconds of each, what they leave on disk, and whether the process grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from pipeline_project.bench.memory import resident_mb
from pipeline_project.engine.engine import Engine

POOL: Final = "bench"
WARM_UP: Final = 3


def measure(engine: Engine, run_cycle: Callable[[str], Any], peer: str, cycles: int, bytes_now: Callable[[], int]) -> dict[str, Any]:
    """One item comes before each cycle, which selects it; the first few are not counted.

    rss_before_mb, rss_after_mb  resident memory of this process and its children after the warm-up, and after all
    """
    engine.intake.create_pool(POOL)
    took, before, stored = [], 0.0, 0
    for number in range(WARM_UP + cycles):
        if number == WARM_UP:
            before, stored = resident_mb(os.getpid()), bytes_now()
        engine.intake.submit(POOL, [{"key": f"item-{number}", "weight": 1, "demands": {}}])
        began = time.monotonic()
        run_cycle(POOL)
        took.append(time.monotonic() - began)
    ordered = sorted(took[WARM_UP:])
    return {
        "peer": peer,
        "cycles": cycles,
        "median_s": round(median(ordered), 3),
        "p99_s": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
        "per_minute": round(60 / median(ordered), 1),
        "rss_before_mb": round(before),
        "rss_after_mb": round(resident_mb(os.getpid())),
        "stored_kb_per_cycle": round((bytes_now() - stored) / cycles / 1000, 1),
    }
