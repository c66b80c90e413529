"""Housekeeping: time limits are exact without it; it gives back, counts, and finishes what fell silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import CycleInFlight, Refused, Retryable
from pipeline_project.engine import upkeep
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.upkeep import Checked
from pipeline_project.store import items
from pipeline_project.store.artifacts import PROPOSED_SELECTIONS
from tests.store.planting import run, unwatched
from tests.world import World, entered


def silent(world: World, monkeypatch: pytest.MonkeyPatch, *, before: str = "_publish") -> dict[str, Any]:
    """A cycle whose owner stopped before this step, and whose lease has lapsed."""
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, before, lambda *_: None)
        report = world.cycle()
    world.advance(seconds=61)
    return report


def rival(world: World) -> Cycles:
    """Another process's engine over the same database."""
    return Cycles(world.engine.database, world.engine.artifacts, "UTC")


def test_a_sweep_does_each_thing_once_and_says_how_often(world: World) -> None:
    world.policy({"ttl": {"hold": "10m", "lease": "1m"}})
    at = world.now()
    world.submit("late", expires_at=(at + timedelta(minutes=5)).isoformat())
    world.submit("on time")
    world.submit("claimed")
    world.cycle()
    world.claim("claimed")
    world.advance(minutes=10)
    swept = {name: count for name, count in world.engine.upkeep.sweep().items() if count and name != "sealed"}
    assert swept == {"expired": 1, "holds_released": 1, "leases_lapsed": 1, "executors_lost": 1}
    assert world.states() == {"late": "expired", "on time": "pending", "claimed": "selected"}
    assert not any(count for name, count in world.engine.upkeep.sweep().items() if name != "sealed")


def test_a_sweep_goes_on_until_nothing_is_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    at = (world.now() + timedelta(minutes=5)).isoformat()
    world.submit_all(*({"key": f"i{n}", "weight": 1, "demands": {}, "expires_at": at} for n in range(7)))
    world.advance(minutes=5)
    assert world.engine.upkeep.sweep()["expired"] == 7


def test_what_somebody_holds_for_too_long_keeps_nothing_else_from_being_swept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that nobody ends holds an expired item; else leases, cycles and seals would wait for it with every sweep."""
    world.submit("stuck", expires_at=(world.now() + timedelta(minutes=1)).isoformat())
    world.policy({"ttl": {"lease": "1m"}, "retries": {"max_attempts": 1}})
    world.submit("a")
    world.cycle()
    world.claim("a")
    world.advance(minutes=2)
    due = items.expire_due

    def impatient(connection: sa.Connection, *, most: int) -> list[int]:
        run(connection, "set local lock_timeout = '20ms'")
        return due(connection, most=most)

    monkeypatch.setattr(items, "expire_due", impatient)
    with entered(world.engine.database) as stranger:
        run(stranger, "select from pipeline.item_state where item_id = :id for update", id=world.item("stuck")["item_id"])
        with pytest.raises(Retryable, match=r"for expired \(.*lock timeout\); the rest is done: holds_released 0, leases_lapsed 1"):
            world.engine.upkeep.sweep()
    assert world.states() == {"stuck": "selected", "a": "failed"}
    assert world.engine.upkeep.sweep()["expired"] == 1


def test_an_expired_item_is_not_selected_though_nobody_swept(world: World) -> None:
    world.submit("a", expires_at=(world.now() + timedelta(minutes=5)).isoformat())
    plan = world.engine.cycles.plan("p")
    world.advance(minutes=5)
    assert world.cycle()["items"] == 0
    with pytest.raises(Exception, match="all 1 proposed items changed"):
        world.engine.cycles.commit_planned(plan["cycle"])


def test_a_bundle_expires_and_lapses_as_one(world: World) -> None:
    world.policy({"ttl": {"hold": "10m"}})
    at = (world.now() + timedelta(minutes=20)).isoformat()
    world.submit_all(
        {"key": "a", "weight": 1, "demands": {}, "bundle_key": "b", "bundle_size": 2, "expires_at": at},
        {"key": "b", "weight": 1, "demands": {}, "bundle_key": "b", "bundle_size": 2},
    )
    world.cycle()
    world.advance(minutes=10)
    assert world.engine.upkeep.sweep()["holds_released"] == 2
    world.advance(minutes=10)
    assert world.engine.upkeep.sweep()["expired"] == 2


def test_what_was_prolonged_while_the_sweep_waited_does_not_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep reads what is due, then waits for a lock: what it judges by must be what it finds after the wait."""
    at = world.now()
    world.submit("a", expires_at=(at + timedelta(minutes=5)).isoformat())
    world.advance(minutes=5)
    between(monkeypatch, lambda: world.engine.intake.revise("p", "a", {"expires_at": (at + timedelta(days=1)).isoformat()}))
    assert world.engine.upkeep.sweep()["expired"] == 0
    assert world.state("a") == "pending"


def test_what_was_selected_anew_while_the_sweep_waited_keeps_its_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.policy({"ttl": {"hold": "10m"}})
    world.submit("a")
    cycle = world.cycle()["cycle"]
    world.advance(minutes=10)

    def release_and_select() -> None:
        world.engine.cycles.rollback(cycle)
        world.cycle()

    between(monkeypatch, release_and_select)
    assert world.engine.upkeep.sweep()["holds_released"] == 0
    assert world.state("a") == "selected"


def between(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any]) -> None:
    """Let something happen between the sweep's first look and its locks."""
    lock = items.lock
    pending = [meanwhile]

    def late(connection: Any, ids: Any, **options: Any) -> Any:
        if ids and pending:
            pending.pop()()
        return lock(connection, ids, **options)

    monkeypatch.setattr(items, "lock", late)


def test_a_cycle_whose_owner_fell_silent_is_finished_from_its_stored_selection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    cycle = silent(world, monkeypatch)
    assert world.engine.upkeep.sweep()["cycles_finished"] == 1
    assert world.engine.cycles.find(cycle["cycle"])["status"] == "published"
    assert world.claim() == {"a": 1}


def test_and_the_next_cycle_finishes_it_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    cycle = silent(world, monkeypatch)
    world.submit("b")
    world.cycle()
    assert world.engine.cycles.find(cycle["cycle"])["status"] == "published"
    assert world.states() == {"a": "selected", "b": "selected"}


def test_and_finishes_it_before_it_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished after the look, what it selected would be stale to a cycle that wanted it too."""
    world.submit("a")
    world.submit("b")
    with monkeypatch.context() as patch:
        patch.setattr(Commit, "_chunk", lambda *_: {"selected": 1, "stale": 0, "nofit": 0, "released": 0})
        silent(world, monkeypatch)
    world.submit("c")
    report = world.cycle()
    assert (report["selected"], report["stale"]) == (1, 0)
    assert world.states() == {"a": "selected", "b": "selected", "c": "selected"}


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_without_its_stored_selection_it_is_abandoned_and_holds_nothing(world: World, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    world.resources(node=1)
    world.submit("a", 1, {"node": 1})
    cycle = silent(world, monkeypatch)
    artifacts = world.engine.artifacts
    if damage == "gone":
        artifacts.forget("p", cycle["cycle"])
    else:
        artifacts.fs.pipe_file(f"{artifacts.where('p', cycle['cycle'], PROPOSED_SELECTIONS)}/selection.parquet", b"nonsense")
    assert world.engine.upkeep.sweep()["cycles_finished"] == 1
    assert world.engine.cycles.find(cycle["cycle"])["status"] == "abandoned"
    assert (world.state("a"), world.use("node")) == ("pending", (0, 0))
    assert world.cycle()["selected"] == 1


def test_while_an_owner_is_alive_nobody_else_writes_in_its_pool(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_publish", lambda *_: None)
        cycle = world.cycle()["cycle"]
    world.submit("b")
    other = rival(world)
    for attempt in (lambda: other.run("p"), lambda: other.commit_planned(cycle)):
        with pytest.raises(CycleInFlight, match=f"cycle {cycle} is committing by"):
            attempt()
    world.engine.cycles.commit_planned(cycle)
    assert other.run("p")["selected"] == 1


def test_two_who_meet_a_silent_cycle_finish_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    cycle = silent(world, monkeypatch)
    first, second = rival(world), rival(world)
    take_over = Cycles._take_over

    def overtaken(self: Cycles, cycle: Any) -> Any:
        if self is second:
            first.finish_lapsed("p")
        return take_over(self, cycle)

    monkeypatch.setattr(Cycles, "_take_over", overtaken)
    second.finish_lapsed("p")
    assert world.engine.cycles.find(cycle["cycle"])["status"] == "published"
    assert world.events("a") == ["submit", "select"]


def test_an_owner_thought_dead_who_is_not_finds_its_fence_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    begin = Cycles._begin

    def slow(self: Cycles, pool: str, proposal: Any) -> Any:
        began = begin(self, pool, proposal)
        if self is world.engine.cycles:
            world.advance(seconds=61)
            rival(world).finish_lapsed("p")
        return began

    monkeypatch.setattr(Cycles, "_begin", slow)
    with pytest.raises(Exception, match="is no longer the owner's"):
        world.cycle()
    assert world.events("a") == ["submit", "select"]


def test_a_rollback_that_fell_silent_is_finished_with_its_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    cycle = world.cycle()["cycle"]
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_release_all", lambda *_: [])
        patch.setattr(Cycles, "_close", lambda *_: None)
        world.engine.cycles.rollback(cycle, hold_s=3600, reason="wrong day")
    world.advance(seconds=61)
    assert world.engine.upkeep.sweep()["cycles_finished"] == 1
    row = world.engine.cycles.find(cycle)
    assert (row["status"], row["reason"]) == ("rolled_back", "wrong day")
    assert world.cycle()["items"] == 0
    world.advance(hours=1)
    assert world.cycle()["selected"] == 1


def test_plans_that_nobody_committed_are_forgotten_after_a_day(world: World) -> None:
    world.submit("a")
    plan = world.engine.cycles.plan("p")["cycle"]
    assert world.engine.upkeep.sweep()["plans_forgotten"] == 0
    world.advance(days=1, seconds=1)
    assert world.engine.upkeep.sweep()["plans_forgotten"] == 1
    assert world.engine.cycles.find(plan)["status"] == "abandoned"


def test_artifacts_go_when_their_time_has_come_and_nothing_is_held_by_them(world: World) -> None:
    world.policy({"retention": {"artifacts": "1d"}, "ttl": {"hold": "5d"}})
    world.submit("a")
    cycle = world.cycle()["cycle"]
    world.advance(days=2)
    assert world.engine.upkeep.sweep()["artifacts_dropped"] == 0
    world.complete(world.claim())
    assert world.engine.upkeep.sweep()["artifacts_dropped"] == 1
    assert not world.engine.artifacts.exists("p", cycle, PROPOSED_SELECTIONS)


def test_time_is_told_to_simulations_only_and_only_forward(world: World) -> None:
    with pytest.raises(Refused, match="only moves forward"):
        world.engine.upkeep.advance_clock(world.now() - timedelta(seconds=1))


def test_a_check_looks_at_what_moved_since_the_last_one_and_at_everything_once_a_week(world: World) -> None:
    check = world.engine.upkeep.check_new
    world.submit_all(*({"key": key, "weight": 1, "demands": {}} for key in "ab"))
    assert check().items is None
    assert settled(check) == 0
    world.cycle()
    world.submit("c")
    assert check().items == 3
    assert settled(check) == 0
    world.advance(days=8)
    assert check().items is None


def settled(check: Callable[[], Checked]) -> int | None:
    """What a check looks at once the transactions of others on this server have ended: until then nothing below them is final."""
    for _ in range(200):
        if (items := check().items) == 0:
            break
        time.sleep(0.05)
    return items


def test_what_a_check_found_broken_is_found_again_until_it_is_mended(world: World) -> None:
    check = world.engine.upkeep.check_new
    check()
    world.submit("a")
    with entered(world.engine.database) as connection, unwatched(connection):
        run(connection, "update pipeline.item_state set version = 2")
    for _ in range(2):
        assert [broken["name"] for broken in check().violated] == ["state_not_last_transition", "state_not_replayed"]
    with entered(world.engine.database) as connection, unwatched(connection):
        run(connection, "update pipeline.item_state set version = 1")
    assert check().items == 1


def test_a_position_of_another_server_proves_nothing_here(world: World) -> None:
    """A restored backup brings its mark along; transactions are counted anew."""
    check = world.engine.upkeep.check_new
    check()
    with entered(world.engine.database) as connection:
        run(connection, "update pipeline.check_mark set position = '99999999999'")
    assert check().items is None
    assert check().items is not None


def test_after_a_cycle_its_own_items_are_looked_at(world: World) -> None:
    world.submit_all(*({"key": key, "weight": 1, "demands": {}} for key in "ab"))
    cycle = world.cycle()["cycle"]
    world.submit("later")
    item = world.item("a")["item_id"]
    with entered(world.engine.database) as connection, unwatched(connection):
        run(connection, "delete from pipeline.item where item_id = :item", item=world.item("later")["item_id"])
        assert world.engine.upkeep.check_cycle(cycle, pool="p") == []
        run(connection, "update pipeline.item_state set token = 5 where item_id = :item", item=item)
    broken = [broken["name"] for broken in world.engine.upkeep.check_cycle(cycle, pool="p")]
    assert broken == ["state_not_last_transition", "state_not_replayed"]
    with entered(world.engine.database) as connection, unwatched(connection):
        run(connection, "update pipeline.item_state set token = 0")
        run(connection, "insert into pipeline.item select 3, 1, 1, null, null, null, '', 'producer', pipeline.now()")


def test_a_broken_promise_is_found(world: World) -> None:
    world.resources(node=1)
    with entered(world.engine.database) as connection:
        run(connection, "update pipeline.resource set in_use = 1")
    assert [broken["name"] for broken in world.engine.upkeep.check()] == ["in_use_drifted", "resource_not_replayed"]
    with entered(world.engine.database) as connection:
        run(connection, "update pipeline.resource set in_use = 0")
