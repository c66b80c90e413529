"""Whoever reads the feed misses nothing and sees nothing twice, however long a writer takes to commit."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import pytest

from pipeline_project.core.items import check_item_rows
from pipeline_project.engine.inquiry import Changes
from pipeline_project.store import cycles, intake, pools
from tests.world import NOON, World

PATIENCE_S: Final = 60.0


def read(world: World, last: Changes) -> Changes:
    return world.engine.inquiry.changes(last.horizon, last.at)


def read_until_the_horizon_passes(world: World, last: Changes, position: int) -> list[Changes]:
    """The readings up to a position. Transactions are numbered for the whole server: writers of other databases may hold it back."""
    readings, give_up = [last], time.monotonic() + PATIENCE_S
    while int(readings[-1].horizon) <= position:
        assert time.monotonic() < give_up, f"horizon {readings[-1].horizon} does not pass {position}"
        readings.append(read(world, readings[-1]))
    return readings[1:]


def test_a_slow_writer_is_seen_once_when_it_has_committed(world: World) -> None:
    start = world.engine.inquiry.changes("0", world.now())
    batch, _ = check_item_rows([(1, {"key": "slow", "weight": 1, "demands": {}})])
    with world.engine.database.begin() as slow:
        intake.submit(slow, pools.find(slow, world.pool), batch)
        position = int(slow.exec_driver_sql("select pg_current_xact_id()::text").scalar_one())
        world.submit("fast")
        meanwhile = read(world, start)
        assert int(meanwhile.horizon) <= position, "what is not committed yet must not be passed"
        assert meanwhile.awake == {}
    readings = read_until_the_horizon_passes(world, meanwhile, position)
    assert [reading.awake for reading in readings if reading.awake] == [{world.pool: world.engine.inquiry.position()}]


def test_what_a_cycle_and_a_claim_do_wakes_nobody(world: World) -> None:
    world.resources(gpu=1)
    world.submit("a", demands={"gpu": 1})
    world.submit("b", demands={"gpu": 1})
    start = read_until_the_horizon_passes(world, world.engine.inquiry.changes("0", world.now()), _position(world))[-1]
    world.cycle()
    world.claim()
    readings = read_until_the_horizon_passes(world, start, _position(world))
    assert [reading.awake for reading in readings if reading.awake] == []


def test_a_not_before_that_passes_while_somebody_looks_is_told_by_the_next_look_and_by_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time the clock goes on from one statement of a look to the next; here it had gone two minutes on."""
    world.submit("later", not_before=(NOON + timedelta(minutes=5)).isoformat())
    start = read_until_the_horizon_passes(world, world.engine.inquiry.changes("0", world.now()), _position(world))[-1]
    before = world.advance(minutes=4)
    world.advance(minutes=2)
    with monkeypatch.context() as earlier:
        earlier.setattr(cycles, "now", lambda _: before)
        looked = read(world, start)
    told = read(world, looked)
    assert (looked.at, list(looked.awake), list(told.awake), list(read(world, told).awake)) == (before, [], [world.pool], [])


def _position(world: World) -> int:
    """Later than everything that has been committed."""
    with world.engine.database.begin() as connection:
        return int(connection.exec_driver_sql("select pg_current_xact_id()::text").scalar_one())
