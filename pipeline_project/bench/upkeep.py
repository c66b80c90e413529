"""What looking after a large store takes: checking, sweeping, archiving; and what filling it through the front door takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pipeline_project.bench.families import Uniform
from pipeline_project.bench.large import POOL
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from pipeline_project.store import cycles

Result = TypeVar("Result")


def measure(engine: Engine, items: int) -> list[dict[str, Any]]:
    """Rows of what, items (looked at or moved), seconds, per_second; on a store of `bench.large`, which is told the time."""
    rows = []

    def timed(what: str, work: Callable[[], Result], moved: Callable[[Result], int]) -> Result:
        began = time.monotonic()
        result = work()
        seconds = time.monotonic() - began
        n = moved(result)
        rows.append({"what": what, "items": n, "seconds": round(seconds, 3), "per_second": round(n / seconds)})
        return result

    upkeep = engine.upkeep
    _keep(engine, "300d")
    first = timed("db check --full", upkeep.check_all, lambda _: items)
    assert not first.violated, first.violated
    timed("sweep, the whole trail is sealed", upkeep.sweep, lambda swept: swept["sealed"])
    timed("sweep, nothing to do", upkeep.sweep, lambda _: 0)
    _touch(engine, 10_000)
    timed("db check, 10,000 items moved", upkeep.check_new, lambda checked: items if checked.items is None else checked.items)
    engine.intake.apply_policy(
        POOL, Policy.from_document({"retention": {"items": f"{_age_of_a_tenth(items)}s", "artifacts": "30000d"}}, "bench")
    )
    timed("sweep, a tenth of the store is archived", upkeep.sweep, lambda swept: swept["items_archived"])
    timed("db check --full, a tenth is archived", upkeep.check_all, lambda _: items)
    return rows


def measure_import(engine: Engine, items: int, demands: int, seed: int) -> list[dict[str, Any]]:
    """Rows of what, items, seconds, per_second."""
    family = Uniform(items=items, demands=demands, seed=seed)
    engine.intake.create_pool(POOL)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, resources = family.write(Path(folder))
        engine.intake.import_resources(POOL, resources)
        for what in ("new", "the same again"):
            began = time.monotonic()
            receipt = engine.intake.import_items(POOL, path)
            seconds = time.monotonic() - began
            assert items == (receipt.accepted if what == "new" else receipt.unchanged)
            row = {"what": what, "items": items, "demands": demands, "seconds": round(seconds, 3), "per_second": round(items / seconds)}
            rows.append(row)
    return rows


def _keep(engine: Engine, age: str) -> None:
    """Ended items stay hot for so long."""
    engine.intake.apply_policy(POOL, Policy.from_document({"retention": {"items": age, "artifacts": "30000d"}}, "bench"))


def _touch(engine: Engine, n: int) -> None:
    """So many selected items go back to pending."""
    with engine.database.begin() as connection:
        connection.execute(
            sa.text(
                "update pipeline.item_state set state = 'pending', version = version + 1, cycle_id = null, rank = null, hold_until = null"
                " where item_id in ("
                "select item_id from pipeline.item_state where pool_id = 1 and state = 'selected' order by rank limit :n)"
            ),
            {"n": n},
        )
        engine_now = cycles.now(connection)
    engine.upkeep.advance_clock(engine_now + timedelta(seconds=1))


def _age_of_a_tenth(items: int) -> int:
    """bench.large ends one item a second: the first tenth of them ended before this."""
    return items - items // 10 + 97
