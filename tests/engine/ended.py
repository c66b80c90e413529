"""Items that have ended, what becomes of them, and what is left of them in the hot tables."""

from __future__ import annotations

from typing import Any

from tests.store.planting import run
from tests.world import World, seal_everything

HOT = ("item_state", "item", "item_demand", "decision")


def hot(world: World) -> dict[str, int]:
    with world.engine.database.begin() as connection:
        return {table: run(connection, f"select count(*) from pipeline.{table}").scalar_one() for table in HOT}  # noqa: S608  # our own names


def archive(world: World, **lapse: float) -> int:
    world.advance(**(lapse or {"days": 1}))
    seal_everything(world.engine.audit)
    return world.engine.upkeep.sweep()["items_archived"]


def completed(world: World, *keys: str) -> dict[str, int]:
    for key in keys:
        world.submit(key, 3, {"node": 1, "fuel": 2})
    world.cycle()
    claims = world.claim(*keys)
    world.complete(claims)
    return claims


def told(row: dict[str, Any]) -> dict[str, Any]:
    """An item without what archiving changes."""
    return {name: value for name, value in row.items() if name != "archived_at"}


def months(world: World) -> dict[str, str]:
    with world.engine.database.begin() as connection:
        rows = run(connection, "select partition, detached_at, dropped_at from pipeline.audit_export").all()
        return {row.partition: "dropped" if row.dropped_at else "detached" if row.detached_at else "exported" for row in rows}
