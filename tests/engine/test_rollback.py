"""The way back: every effect listed, exactly what was previewed or nothing, and finished whatever breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_project.core.errors import CycleInFlight, StalePlan, UsageError
from pipeline_project.engine import finishing
from pipeline_project.engine.cycle import Cycles
from pipeline_project.store import items
from tests.world import World


@pytest.fixture
def running(world: World) -> World:
    """Of one cycle: `a` is completed, `b` claimed, `c` and `d` selected, `e` failed."""
    world.policy({"retries": {"max_attempts": 1}})
    world.resources(node=9)
    world.resources(kind="consumable", fuel=10)
    for weight, key in enumerate("abcde", 1):
        world.submit(key, weight, {"node": 1, "fuel": 2}, payload={"job": key})
    world.cycle()
    world.complete(world.claim("a"))
    world.fail(world.claim("e"), "disk full")
    world.claim("b")
    return world


def newest(world: World) -> str:
    return str(world.engine.inquiry.cycles("p")[0]["cycle"])


def rollback(world: World, **options: Any) -> dict[str, Any]:
    return world.engine.cycles.rollback(newest(world), **options)


def test_a_preview_lists_every_effect(running: World) -> None:
    preview = rollback(running, preview=True)
    assert {item["item"]: item["effect"] for item in preview["items"]} == {
        "a": "completed",
        "b": "claimed",
        "c": "release",
        "d": "release",
        "e": "ended",
    }
    assert {name: preview[name] for name in ("released", "claimed", "completed", "ended", "moved_on")} == {
        "released": 2,
        "claimed": 1,
        "completed": 1,
        "ended": 1,
        "moved_on": 0,
    }
    by_key = {item["item"]: item for item in preview["items"]}
    assert by_key["c"]["demands"] == {"fuel": 2, "node": 1}
    assert (by_key["b"]["executor"], by_key["b"]["token"]) == ("e", 1)
    assert by_key["b"]["lease_until"].startswith("2026-01-15T12:")
    assert (by_key["e"]["state"], by_key["e"]["reason"], by_key["e"]["attempts"]) == ("failed", "failed", 1)
    assert [(r["resource"], r["gets_back"], r["in_use"], r["in_use_after"]) for r in preview["resources"]] == [
        ("node", 2, 3, 1),
        ("fuel", 4, 6, 2),
    ]
    assert running.state("c") == "selected"
    assert rollback(running, preview=True)["hash"] == preview["hash"]


def test_what_was_previewed_is_done(running: World) -> None:
    preview = rollback(running, preview=True, hold_s=60)
    done = rollback(running, expect=preview["hash"], hold_s=60)
    assert (done["status"], done["released"], done["overtaken"]) == ("rolled_back", 2, [])
    for resource in preview["resources"]:
        assert running.use(resource["resource"])[0] == resource["in_use_after"]
    again = rollback(running, expect=preview["hash"], hold_s=60)
    assert (again["status"], again["released"]) == ("rolled_back", 0)
    assert running.events("c") == ["submit", "select", "release"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda world: world.claim("c"),
            r"1 items moved since the preview: c was to be released \(version 2\), found claimed \(version 3\)",
        ),
        (lambda world: world.complete({"b": 1}), "b was to be claimed .*, found completed"),
        (lambda world: world.engine.intake.cancel("p", ["d"]), "d was to be released .*, found ended"),
        (lambda world: world.engine.intake.revise("p", "c", {"weight": 99}), "c was to be released .*, found moved on"),
    ],
)
def test_anything_else_than_the_previewed_is_refused_and_named(running: World, change: Any, said: str) -> None:
    preview = rollback(running, preview=True)
    change(running)
    before = running.states()
    with pytest.raises(StalePlan, match=said):
        rollback(running, expect=preview["hash"])
    assert running.states() == before
    assert rollback(running, preview=True)["status"] == "published"


def test_a_heartbeat_does_not_make_a_preview_stale(running: World) -> None:
    preview = rollback(running, preview=True)
    running.engine.execution.heartbeat("p", "e", ttl_s=3600)
    assert rollback(running, expect=preview["hash"])["released"] == 2


def test_a_preview_of_something_else_is_refused(running: World) -> None:
    preview = rollback(running, preview=True, hold_s=60)
    with pytest.raises(StalePlan, match=r"made with another --hold or --compensate than this call's \(0 s, without --compensate\)"):
        rollback(running, expect=preview["hash"])
    with pytest.raises(StalePlan, match="no preview of that hash is kept"):
        rollback(running, expect="0" * 32, hold_s=60)


def test_who_expects_something_else_of_a_cycle_that_is_rolled_back_is_told(running: World) -> None:
    """Two operators previewed; the other one's was done."""
    mine, other = rollback(running, preview=True, hold_s=60), rollback(running, preview=True)
    rollback(running, expect=other["hash"])
    before = running.states()
    with pytest.raises(StalePlan, match="rolled back, but not as that preview says: it was with a hold of 0 s, without --compensate"):
        rollback(running, expect=mine["hash"], hold_s=60)
    with pytest.raises(StalePlan, match="no preview of that hash is kept"):
        rollback(running, expect="0" * 32)
    assert running.states() == before
    assert rollback(running, expect=other["hash"])["released"] == 0
    assert rollback(running, expect=rollback(running, preview=True)["hash"])["released"] == 0


def test_a_claim_that_came_before_the_other_rollback_is_not_told_as_released(running: World) -> None:
    mine = rollback(running, preview=True)
    running.claim("c")
    rollback(running)
    with pytest.raises(StalePlan, match="1 items that were to be released were not"):
        rollback(running, expect=mine["hash"])


@pytest.mark.parametrize("hold_s", [-1, 2**31])
def test_a_hold_that_cannot_be_kept_is_refused(running: World, hold_s: int) -> None:
    with pytest.raises(UsageError, match=f"hold: expected 0 to 2147483647 seconds .24855d., found {hold_s}"):
        rollback(running, preview=True, hold_s=hold_s)


def test_what_was_completed_is_made_up_for_by_one_new_item(running: World) -> None:
    cycle = newest(running)
    preview = rollback(running, preview=True, compensate=True)
    undo = f"a~undo~{cycle[:12]}"
    assert preview["compensations"] == [{"item": "a", "by": undo}]
    done = rollback(running, expect=preview["hash"], compensate=True)
    assert (done["compensated"], done["not_compensated"]) == (1, [])
    item = running.item(undo)
    assert (item["state"], item["weight"], item["payload"]) == (
        "pending",
        1,
        {"job": "a", "undoes": {"item": "a", "cycle": cycle, "token": 1}},
    )
    assert [(demand["key"], demand["quantity"]) for demand in item["demands"]] == [("node", 1)]
    assert rollback(running, compensate=True)["compensated"] == 1
    assert running.events(undo) == ["submit"]
    running.complete({"b": 1})
    assert rollback(running, compensate=True)["compensated"] == 2  # what was claimed then, and is completed now


def test_a_compensation_that_nothing_has_room_for_is_reported(running: World) -> None:
    running.engine.intake.cancel("p", ["b"])
    running.engine.intake.set_capacity("p", "node", 0, release=True)
    done = rollback(running, compensate=True)
    assert done["compensated"] == 0
    assert [(row["item"], row["field"], row["expected"]) for row in done["not_compensated"]] == [
        (f"a~undo~{done['cycle'][:12]}", "demands.node", "at most its capacity, 0")
    ]


def test_items_that_were_released_and_selected_again_are_not_touched(running: World) -> None:
    first = newest(running)
    running.engine.intake.revise("p", "c", {"weight": 50})
    assert running.cycle()["selected"] == 1
    report = running.engine.cycles.rollback(first)
    assert (report["released"], report["moved_on"]) == (1, 1)
    assert running.state("c") == "selected"


def test_a_rollback_goes_batch_by_batch_and_cuts_no_bundle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "ROLLBACK_BATCH", 3)
    world.resources(node=20)
    world.bundle("crew", *(f"c{n}" for n in range(8)), demands={"node": 1})
    for n in range(7):
        world.submit(f"i{n}", 1, {"node": 1})
    world.cycle()
    assert rollback(world, hold_s=60)["released"] == 15
    assert world.use("node") == (0, 0)
    assert world.cycle()["items"] == 0


def test_a_rollback_that_fails_half_way_leaves_the_pool_to_the_next_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease ends with it: nobody waits a minute for one who has given up."""
    monkeypatch.setattr(finishing, "ROLLBACK_BATCH", 1)
    world.resources(node=2)
    for key in "ab":
        world.submit(key, 1, {"node": 1})
    world.cycle()
    release, tries = items.release, []

    def fails_once(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) == 2:
            raise RuntimeError("out of memory")
        return release(*arguments, **options)

    monkeypatch.setattr(items, "release", fails_once)
    with pytest.raises(RuntimeError):
        rollback(world, reason="wrong day", hold_s=60)
    other = Cycles(world.engine.database, world.engine.artifacts, "UTC")
    assert other.run("p")["selected"] == 0  # at once, and by another process: nothing is on hold but what the rollback held
    assert world.engine.cycles.find(newest_but_one := world.engine.inquiry.cycles("p")[1]["cycle"])["status"] == "rolled_back"
    assert {world.item(key)["reason"] for key in "ab"} == {"wrong day"}, newest_but_one


def test_a_commit_that_is_finished_and_fails_again_is_let_go_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_publish", lambda *_: None)
        world.cycle()
    world.advance(seconds=61)
    other = Cycles(world.engine.database, world.engine.artifacts, "UTC")
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.finish_lapsed("p")
    assert len(world.engine.cycles.finish_lapsed("p")) == 1
    assert world.claim() == {"a": 1}


def test_what_somebody_takes_away_meanwhile_is_named(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Cycles._begin_rollback

    def overtaken(self: Cycles, *arguments: Any) -> int:
        fence = begin(self, *arguments)
        running.engine.intake.cancel("p", ["d"])
        return fence

    monkeypatch.setattr(Cycles, "_begin_rollback", overtaken)
    done = rollback(running)
    assert (done["released"], done["overtaken"]) == (1, ["d"])
    assert running.state("d") == "cancelled"


def test_while_another_owner_rolls_back_nobody_else_begins(running: World) -> None:
    running.submit("f", 9, {"node": 1})
    second = running.cycle()["cycle"]
    first = running.engine.inquiry.cycles("p")[1]["cycle"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cycles, "_unwind", lambda *_, **__: ([], finishing.Receipt()))
        running.engine.cycles.rollback(first)
    other = Cycles(running.engine.database, running.engine.artifacts, "UTC")
    with pytest.raises(CycleInFlight, match="is rolling_back by"):
        other.rollback(second)
    running.advance(seconds=61)
    assert other.rollback(second)["released"] == 1
