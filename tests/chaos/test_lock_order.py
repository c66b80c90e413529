"""Whoever locks several items locks them in the order of their ids: with the middle one taken, it has the first, and not yet the last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import PipelineError
from tests.chaos.acts import reaper
from tests.store.planting import run
from tests.world import World, entered

PATIENCE_S: Final = 60.0

Prepare = Callable[[World], Callable[[], Any]]


def _commit(world: World) -> Callable[[], Any]:
    key = world.engine.cycles.plan(world.pool)["cycle"]
    return lambda: world.engine.cycles.commit_planned(key, pool=world.pool)


def _rollback(world: World) -> Callable[[], Any]:
    key = world.cycle()["cycle"]
    return lambda: world.engine.cycles.rollback(key, pool=world.pool)


def _claims(world: World) -> list[tuple[str, int]]:
    world.cycle()
    return sorted(world.claim().items(), reverse=True)


def _complete(world: World) -> Callable[[], Any]:
    claims = _claims(world)
    return lambda: world.engine.execution.complete(world.pool, claims)


def _fail(world: World) -> Callable[[], Any]:
    claims = _claims(world)
    return lambda: world.engine.execution.fail(world.pool, claims, error="boom")


def _heartbeat(world: World) -> Callable[[], Any]:
    _claims(world)
    return lambda: world.engine.execution.heartbeat(world.pool, "e")


def _lapse(world: World) -> Callable[[], Any]:
    _claims(world)
    world.advance(hours=1)
    return reaper(world).sweep


def _cancel(world: World) -> Callable[[], Any]:
    return lambda: world.engine.intake.cancel(world.pool, ["c", "b", "a"])


def _lower(world: World) -> Callable[[], Any]:
    world.cycle()
    return lambda: world.engine.intake.set_capacity(world.pool, "node", 0, release=True)


@pytest.mark.parametrize("prepare", [_commit, _rollback, _complete, _fail, _heartbeat, _lapse, _cancel, _lower])
def test_items_are_locked_in_the_order_of_their_ids(world: World, prepare: Prepare) -> None:
    world.policy({"solver": {"steps": 100_000}})
    world.resources(node=3)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    world.engine.intake.revise(world.pool, "a", {"weight": 4})  # in the table it comes last from now on
    call = prepare(world)
    with entered(world.engine.database) as holder:
        item(holder, "b", "")
        calling = threading.Thread(target=lambda: quietly(call), daemon=True)
        calling.start()
        try:
            wait_until_blocked(world, holder)
            with entered(world.engine.database) as prober:
                assert item(prober, "a", "skip locked") == 0, "it waits for b and has not locked a"
                assert item(prober, "c", "skip locked") == 1, "it waits for b and has locked c"
        finally:
            holder.rollback()
    calling.join(PATIENCE_S)
    assert not calling.is_alive()


def item(connection: sa.Connection, key: str, how: str) -> int:
    """How many of this one it could lock."""
    query = "select item_id from pipeline.item_state where item_id = (select item_id from pipeline.item_key where key = :key)"
    return len(run(connection, f"{query} for no key update {how}", key=key).all())


def wait_until_blocked(world: World, holder: sa.Connection) -> None:
    pid = run(holder, "select pg_backend_pid()").scalar_one()
    give_up = time.monotonic() + PATIENCE_S
    blocked = "select count(*) from pg_stat_activity where datname = current_database() and :pid = any (pg_blocking_pids(pid))"
    with entered(world.engine.database) as watcher:
        while time.monotonic() < give_up:
            if run(watcher, blocked, pid=pid).scalar_one():
                return
            run(watcher, "select pg_stat_clear_snapshot()")
            time.sleep(0.02)
    raise AssertionError("it never waited for b")


def quietly(call: Callable[[], Any]) -> None:
    """It may give up waiting; that is other tests' business."""
    with suppress(PipelineError, sa.exc.DBAPIError):
        call()
