"""Data that changes under a plan: dead letters, new expiries, bundles that lose or gain members; and two connections stepped by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import PipelineError, Refused, StalePlan, UsageError
from pipeline_project.store import items, pools, resources
from tests.store.planting import run
from tests.world import NOON, World, entered

DAY = NOON.date()


# -- bundles


def test_a_source_that_drops_one_member_does_not_cancel_its_mate_for_good(world: World) -> None:
    with entered(world.engine.database) as connection:
        run(connection, "create table job (key text primary key)")
        run(connection, "insert into job values ('a'), ('b'), ('c')")
        run(connection, "grant select on job to pipeline")
    query = "select key, 1 as weight, '{}'::jsonb as demands, 'crew' as bundle_key, 3 as bundle_size from job"
    world.policy({"source": {"items": query, "on_vanish": "cancel", "max_vanish": 100}})
    world.engine.intake.pull("p")
    with entered(world.engine.database) as connection:
        run(connection, "delete from job where key = 'a'")
    assert world.engine.intake.pull("p")["cancelled"] == 1
    assert world.states() == {"a": "cancelled", "b": "pending", "c": "pending"}
    assert world.cycle()["items"] == 0
    why = world.engine.inquiry.why("p", "b")
    assert why["waits_for"] == ["a, which is cancelled (vanished from its source)"]
    with entered(world.engine.database) as connection:
        run(connection, "insert into job values ('a')")
    world.engine.intake.pull("p")
    assert world.cycle()["selected"] == 3


def test_why_says_what_an_incomplete_bundle_waits_for(world: World) -> None:
    world.submit("a", bundle_key="crew", bundle_size=3)
    world.cycle()
    why = world.engine.inquiry.why("p", "a")
    assert why["waits_for"] == ["2 of 3 members of its bundle crew that have not come"]
    assert "waits for 2 of 3 members" in why["sentence"]


def test_a_reprocess_waits_for_no_member_that_is_gone(world: World) -> None:
    """One member is completed, one was claimed and is cancelled; the third failed and may come back, alone."""
    world.policy({"retries": {"max_attempts": 1}})
    world.bundle("crew", "a", "b", "c")
    world.cycle()
    claims = world.claim()
    world.complete({"a": claims["a"]})
    world.engine.intake.cancel("p", ["b"])
    world.fail({"c": claims["c"]})
    (report,) = world.engine.cycles.reprocess("p", DAY, DAY)
    assert (report["changed"], world.state("c")) == (1, "selected")


def test_a_late_member_is_refused_and_its_bundle_goes_on(world: World) -> None:
    world.bundle("crew", "a", "b")
    plan = world.engine.cycles.plan("p")["cycle"]
    (refusal,) = world.submit_all({"key": "late", "weight": 9, "demands": {}, "bundle_key": "crew", "bundle_size": 2}).refused
    assert (refusal.expected, refusal.found) == ("a bundle that is not sealed yet", "crew, sealed with 2")
    assert world.engine.cycles.commit_planned(plan)["selected"] == 2


# -- dead letters


@pytest.fixture
def dead(world: World) -> World:
    """`a` failed, `b` is quarantined; `c` waits."""
    world.policy({"retries": {"max_attempts": 1, "quarantine_after": 2}})
    for key in "abc":
        world.submit(key)
    world.cycle()
    for key in "ab":
        world.fail(world.claim(key), f"{key} broke")
    world.engine.intake.revive("p", ["b"])
    world.cycle()
    world.fail(world.claim("b"), "b broke again")
    return world


def test_poison_is_quarantined_and_dead_letters_say_why_and_since_when(dead: World) -> None:
    letters = dead.engine.inquiry.dead("p")
    assert [(row["key"], row["state"], row["error"], row["attempts"], row["claims"]) for row in letters] == [
        ("b", "quarantined", "b broke again", 1, 2),
        ("a", "failed", "a broke", 1, 1),
    ]
    assert {row["since"] for row in letters} == {NOON}
    assert [row["key"] for row in dead.engine.inquiry.dead("p", state="failed")] == ["a"]
    assert [row["key"] for row in dead.engine.inquiry.dead("p", error="again")] == ["b"]


@pytest.mark.parametrize(("chosen", "moved"), [({"state": "failed"}, ["a"]), ({"error": "broke"}, ["a", "b"]), ({"error": "%"}, [])])
def test_dead_letters_are_revived_in_bulk(dead: World, chosen: dict[str, str], moved: list[str]) -> None:
    assert sorted(dead.engine.intake.revive_dead("p", **chosen)) == moved
    assert [key for key, state in dead.states().items() if state == "pending" and key != "c"] == moved


def test_an_expired_item_is_revived_with_a_new_expiry(world: World) -> None:
    world.resources(node=1)
    world.submit("a", 3, {"node": 1}, expires_at=(NOON + timedelta(hours=1)).isoformat(), payload={"x": 1})
    world.advance(hours=2)
    world.engine.upkeep.sweep()
    assert world.engine.intake.revive("p", ["a"]) == []
    with pytest.raises(Refused, match="expires_at: expected a time after"):
        world.engine.intake.revive("p", ["a"], expires_at=NOON)
    until = NOON + timedelta(hours=3)
    assert world.engine.intake.revive("p", ["a"], expires_at=until) == ["a"]
    item = world.item("a")
    assert (item["state"], item["expires_at"], item["revision"], item["payload"]) == ("pending", until, 2, {"x": 1})
    assert world.events("a") == ["submit", "expire", "revive", "revise"]
    assert world.cycle()["selected"] == 1
    assert world.use("node") == (1, 0)
    world.advance(hours=2)
    world.engine.upkeep.sweep()
    assert (world.state("a"), world.use("node")) == ("expired", (0, 0))


def test_pending_and_selected_items_are_quarantined_with_their_bundle(world: World) -> None:
    world.resources(node=9)
    world.bundle("crew", "a", "b", demands={"node": 1})
    world.submit("lone", 1, {"node": 1})
    world.submit("busy", 1, {"node": 1})
    world.cycle()
    world.claim("busy")
    world.submit("new")
    moved = world.engine.intake.quarantine("p", ["a", "new", "busy"], reason="its input is damaged")
    assert moved == ["a", "new"]
    assert world.states() == {"a": "quarantined", "b": "quarantined", "lone": "selected", "busy": "claimed", "new": "quarantined"}
    assert (world.events("a"), world.use("node")) == (["submit", "select", "release", "quarantine"], (2, 0))
    assert [row["reason"] for row in world.engine.inquiry.dead("p")] == ["its input is damaged"] * 3
    world.engine.intake.revive_dead("p", state="quarantined")
    assert world.cycle()["selected"] == 3


# -- two connections, stepped by hand: one waits where the other has stopped


@contextmanager
def stopped(world: World, step: Callable[[sa.Connection], Any]) -> Iterator[None]:
    """A transaction that has done its step and not yet committed; it commits at the end of the block."""
    with world.engine.database.begin(actor="the first") as connection:
        step(connection)
        yield


def behind(world: World, first: Callable[[sa.Connection], Any], second: Callable[[], Any]) -> Any:
    """`second` begins while `first` holds its locks, is seen to wait for them, and goes on when it commits. Its answer, or failure."""
    answer: list[Any] = []

    def act() -> None:
        try:
            answer.append(second())
        except PipelineError as failure:
            answer.append(failure)

    thread = threading.Thread(target=act)
    with stopped(world, first):
        thread.start()
        world.until_somebody_waits()
    thread.join(60)
    assert answer, "the second never ended"
    return answer[0]


@pytest.fixture
def planned(world: World) -> tuple[World, str, dict[str, int]]:
    """`a` and `b`, worth less, are planned for both places of a node; their ids by key."""
    world.resources(node=2)
    world.submit("a", 1, {"node": 1})
    world.submit("b", 2, {"node": 1})
    ids = {key: world.item(key)["item_id"] for key in "ab"}
    return world, world.engine.cycles.plan("p")["cycle"], ids


def test_race_a_commit_behind_a_cancel_leaves_the_cancelled_out(planned: tuple[World, str, dict[str, int]]) -> None:
    world, plan, ids = planned
    report = behind(world, lambda c: items.cancel(c, [ids["a"]], reason="x"), lambda: world.engine.cycles.commit_planned(plan))
    assert (report["selected"], report["stale"]) == (1, 1)
    assert world.states() == {"a": "cancelled", "b": "selected"}


@pytest.mark.parametrize("reason", ["", " "])
def test_nothing_is_put_aside_without_a_reason(world: World, reason: str) -> None:
    world.submit("a")
    with pytest.raises(UsageError, match="reason: expected why these items are put aside, found nothing"):
        world.engine.intake.quarantine("p", ["a"], reason=reason)
    assert world.state("a") == "pending"


def test_race_a_commit_behind_a_quarantine_leaves_the_item_out(planned: tuple[World, str, dict[str, int]]) -> None:
    world, plan, ids = planned
    report = behind(world, lambda c: items.quarantine(c, [ids["a"]], reason="x"), lambda: world.engine.cycles.commit_planned(plan))
    assert (report["selected"], report["stale"]) == (1, 1)


def test_race_a_commit_behind_a_lowered_capacity_drops_the_lowest_rank(planned: tuple[World, str, dict[str, int]]) -> None:
    world, plan, _ = planned
    report = behind(
        world, lambda c: resources.set_capacity(c, pools.find(c, "p"), "node", 1), lambda: world.engine.cycles.commit_planned(plan)
    )
    assert (report["selected"], report["nofit"]) == (1, 1)
    assert world.verdicts(plan) == {"a": "nofit", "b": "selected"}


def test_race_a_revision_behind_a_commit_releases_what_was_just_selected(planned: tuple[World, str, dict[str, int]]) -> None:
    world, _, ids = planned
    report = behind(
        world,
        lambda c: items.lock(c, [ids["a"]]),
        lambda: world.engine.intake.revise("p", "a", {"weight": 7}),
    )
    assert report.revised == 1
    world.cycle()
    world.engine.intake.revise("p", "a", {"weight": 8})
    assert world.events("a") == ["submit", "revise", "select", "release", "revise"]


def test_race_a_commit_behind_a_revision_finds_it_stale(planned: tuple[World, str, dict[str, int]]) -> None:
    world, plan, ids = planned
    world.engine.intake.cancel("p", ["b"])

    with pytest.raises(StalePlan):
        raise behind(world, revise_of(world, ids["a"]), lambda: world.engine.cycles.commit_planned(plan))


def test_race_of_two_revisions_neither_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at an item and its revision somebody else revises another column of it."""
    world.submit("a", 1)
    find, others = items.find, [lambda: world.engine.intake.revise("p", "a", {"payload": {"n": 2}})]

    def overtaken(*arguments: Any) -> dict[str, Any]:
        seen = find(*arguments)
        if others:
            others.pop()()
        return seen

    monkeypatch.setattr(items, "find", overtaken)
    world.engine.intake.revise("p", "a", {"weight": 3})
    assert (world.item("a")["weight"], world.item("a")["payload"]) == (3, {"n": 2})


def test_an_item_keeps_its_key(world: World) -> None:
    world.submit("a", 1)
    with pytest.raises(Refused, match="key: expected 'a', found 'b': an item keeps its key"):
        world.engine.intake.revise("p", "a", {"key": "b"})
    assert world.states() == {"a": "pending"}


def revise_of(world: World, item: int) -> Callable[[sa.Connection], None]:
    """A revision as the intake makes it, by hand."""

    def revise(connection: sa.Connection) -> None:
        items.lock(connection, [item])
        connection.execute(items.SQL["renew"], {"ids": [item], "reason": "x", "expires_at": (NOON + timedelta(days=9)).isoformat()})

    return revise


def test_race_a_reprocess_waits_for_a_bundle_mate_before_it_holds_what_comes_later(world: World) -> None:
    """Else it and a completion of both could wait for each other."""
    world.policy({"retries": {"max_attempts": 1}})
    world.bundle("crew", "a", "b")
    world.cycle()
    world.fail({"b": world.claim()["b"]})
    lock = "select from pipeline.item_state where item_id = :item for no key update nowait"
    thread = threading.Thread(target=world.engine.cycles.reprocess, args=("p", DAY, DAY))
    with world.engine.database.begin() as connection:
        run(connection, lock, item=world.item("a")["item_id"])
        thread.start()
        world.until_somebody_waits()
        run(connection, lock, item=world.item("b")["item_id"])
    thread.join(60)
    assert world.states() == {"a": "claimed", "b": "selected"}


def test_race_capacity_is_lowered_behind_a_commit_that_takes_the_room(
    planned: tuple[World, str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of the holders and the lock of the resource a cycle is committed: the holders are chosen anew."""
    world, plan, _ = planned
    choose, pending = resources.lowest_holders, [lambda: world.engine.cycles.commit_planned(plan)]

    def overtaken(*arguments: Any) -> Any:
        chosen = choose(*arguments)
        if pending:
            pending.pop()()
        return chosen

    monkeypatch.setattr(resources, "lowest_holders", overtaken)
    assert len(world.engine.intake.set_capacity("p", "node", 1, release=True)) == 1
    assert world.states() == {"a": "pending", "b": "selected"}
    assert world.use("node") == (1, 0)


def test_race_two_halves_of_a_bundle_the_second_one_too_many_is_refused(world: World) -> None:
    """The second import waits for the first one's bundle, and then counts its members too."""
    member = {"weight": 1, "demands": {}, "bundle_key": "crew", "bundle_size": 2}
    world.submit_all({"key": "a", **member})

    receipt = behind(
        world, lambda c: run(c, "select from pipeline.bundle for no key update"), lambda: world.submit_all({"key": "b", **member})
    )
    assert receipt.accepted == 1
    assert [r.field for r in world.submit_all({"key": "c", **member}).refused] == ["bundle_key"]
    assert world.cycle()["selected"] == 2
