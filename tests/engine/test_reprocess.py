"""Deciding a past day anew: twice changes nothing, only what is strictly better moves, and nothing that has begun is touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pipeline_project.core.errors import CycleInFlight, StalePlan
from pipeline_project.core.selection import Selection
from pipeline_project.core.snapshot import Mode
from pipeline_project.engine import cycle as cycle_module
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.cycle import Cycles
from tests.store.planting import run
from tests.world import NOON, World, entered

DAY = NOON.date()


def reprocess(world: World) -> dict[str, Any]:
    (report,) = world.engine.cycles.reprocess("p", DAY, DAY)
    return report


@pytest.fixture
def decided(world: World) -> World:
    """Two of three items have the two places, decided on the day that lies behind us now."""
    world.policy({"ttl": {"hold": "10d"}})
    world.resources(node=2)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    world.cycle()
    world.advance(days=1)
    return world


def test_a_day_that_cannot_be_decided_better_stays_as_it_is(decided: World) -> None:
    versions = {key: decided.item(key)["version"] for key in "abc"}
    report = reprocess(decided)
    assert (report["day"], report["mode"], report["status"], report["changed"]) == (DAY, "reprocess", "published", 0)
    assert report["value"] == 5
    assert {key: decided.item(key)["version"] for key in "abc"} == versions


def test_twice_is_once(decided: World) -> None:
    decided.engine.intake.set_capacity("p", "node", 3)
    first = reprocess(decided)
    assert (first["changed"], decided.state("a")) == (1, "selected")
    second = reprocess(decided)
    third = reprocess(decided)
    assert second["changed"] == 0
    assert (third["cycle"], third["attempt"]) == (second["cycle"], second["attempt"])


def test_a_strictly_better_selection_takes_the_place_of_the_present_one_in_one_commit(decided: World) -> None:
    decided.engine.intake.revise("p", "a", {"weight": 9})
    report = reprocess(decided)
    assert (report["changed"], report["value"]) == (2, 12)
    assert decided.states() == {"a": "selected", "b": "pending", "c": "selected"}
    assert decided.events("b") == ["submit", "select", "release"]
    assert decided.events("c") == ["submit", "select"]
    assert decided.verdicts(report["cycle"]) == {"a": "selected", "b": "released"}


def test_what_it_left_where_it_was_counts_if_it_is_still_there(decided: World) -> None:
    """Of b and c, which stay, one is gone before the commit."""
    cycles = decided.engine.cycles
    proposal = cycles.propose(cycles.graph(cycles.snapshot("p", day=DAY, mode=Mode.REPROCESS)))
    decided.engine.intake.cancel("p", ["c"])
    report = cycles.commit(proposal)
    assert (report["value"], report["changed"]) == (2, 0)
    assert decided.engine.inquiry.cycles("p")[0]["value"] == 5


def test_one_of_which_nothing_is_left_is_stale(decided: World) -> None:
    """Both that were to stay are gone before the commit: published it would say that the day is worth nothing."""
    cycles = decided.engine.cycles
    proposal = cycles.propose(cycles.graph(cycles.snapshot("p", day=DAY, mode=Mode.REPROCESS)))
    decided.claim("b")
    decided.engine.intake.cancel("p", ["c"])
    with pytest.raises(StalePlan, match="all 2 proposed items changed since it was planned"):
        cycles.commit(proposal)
    assert decided.engine.inquiry.cycles("p")[0]["status"] == "abandoned"


def test_an_equal_one_does_not(world: World) -> None:
    world.resources(node=1)
    world.submit("a", 5, {"node": 1})
    world.submit("b", 5, {"node": 1})
    world.cycle()
    before = world.states()
    assert reprocess(world)["changed"] == 0
    assert world.states() == before


def test_a_solver_that_finds_less_than_what_is_there_changes_nothing(decided: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = cycle_module.solve

    def lazy(problem: Any, *arguments: Any) -> Selection:
        certificate = replace(honest(problem, *arguments).certificate, value=0)
        return Selection(chosen=np.zeros(0, np.int64), certificate=certificate)

    monkeypatch.setattr(cycle_module, "solve", lazy)
    assert reprocess(decided)["changed"] == 0
    assert decided.states() == {"a": "pending", "b": "selected", "c": "selected"}


def test_what_is_claimed_or_completed_is_not_touched(decided: World) -> None:
    claims = decided.claim()
    decided.complete({"c": claims["c"]})
    decided.engine.intake.revise("p", "a", {"weight": 100})
    report = reprocess(decided)
    assert decided.states() == {"a": "selected", "b": "claimed", "c": "completed"}
    assert report["items"] == 1


def test_what_failed_is_revived_once_under_each_policy(decided: World) -> None:
    decided.policy({"ttl": {"hold": "10d"}, "retries": {"max_attempts": 1}})
    decided.fail(decided.claim("c"))
    assert reprocess(decided)["changed"] == 1
    assert decided.events("c")[-3:] == ["fail", "revive", "select"]
    decided.fail(decided.claim("c"))
    reprocess(decided)
    assert decided.state("c") == "failed"
    decided.policy({"ttl": {"hold": "10d"}, "retries": {"max_attempts": 1, "backoff": "1s"}})
    reprocess(decided)
    assert decided.state("c") == "selected"


FORGETFUL = {"ttl": {"hold": "10d"}, "retries": {"max_attempts": 1}, "retention": {"items": "1d"}}


def archived(world: World) -> None:
    world.advance(days=1)
    assert world.engine.upkeep.sweep()["items_archived"] > 0


def test_what_failed_and_is_archived_is_revived_too(decided: World) -> None:
    decided.policy(FORGETFUL)
    decided.fail(decided.claim("c"))
    archived(decided)
    assert reprocess(decided)["changed"] == 1
    assert decided.events("c")[-3:] == ["fail", "revive", "select"]
    assert decided.use("node") == (2, 0)
    decided.fail(decided.claim("c"))
    archived(decided)
    reprocess(decided)
    assert (decided.state("c"), decided.item("c")["archived_at"] is None) == ("failed", False)
    assert decided.engine.upkeep.check() == []


def test_of_an_archived_bundle_those_come_back_that_failed(world: World) -> None:
    """x is done; y and z, which failed, compete together, as they would if nobody had archived them."""
    world.policy(FORGETFUL)
    world.resources(node=3)
    world.bundle("crew", "x", "y", "z", demands={"node": 1})
    world.cycle()
    claims = world.claim()
    world.complete({"x": claims.pop("x")})
    world.fail(claims)
    archived(world)
    assert reprocess(world)["changed"] == 2
    assert world.states() == {"x": "completed", "y": "selected", "z": "selected"}


def test_what_was_archived_and_is_stale_by_the_commit_is_archived_again(decided: World) -> None:
    decided.policy(FORGETFUL)
    decided.engine.intake.revise("p", "c", {"expires_at": (decided.now() + timedelta(days=2)).isoformat()})
    decided.cycle()
    decided.fail(decided.claim("c"))
    archived(decided)
    cycles = decided.engine.cycles
    proposal = cycles.propose(cycles.graph(cycles.snapshot("p", day=DAY, mode=Mode.REPROCESS)))
    decided.advance(days=1)
    assert cycles.commit(proposal)["stale"] == 1
    assert decided.state("c") == "failed"
    assert decided.engine.upkeep.sweep()["items_archived"] == 1


def test_what_the_policy_demands_now_is_done_though_it_is_worth_less(decided: World) -> None:
    decided.policy({"ttl": {"hold": "10d"}, "limits": {"max_selected": 1}})
    report = reprocess(decided)
    assert (report["changed"], report["value"]) == (1, 3)
    assert decided.states() == {"a": "pending", "b": "pending", "c": "selected"}


def test_items_that_no_cycle_of_the_day_saw_are_not_its_business(decided: World) -> None:
    decided.submit("new", 100, {"node": 1})
    assert reprocess(decided)["items"] == 3
    assert decided.state("new") == "pending"


def test_a_day_without_cycles_is_decided_as_empty(decided: World) -> None:
    (report,) = decided.engine.cycles.reprocess("p", DAY.replace(day=1), DAY.replace(day=1))
    assert (report["items"], report["changed"]) == (0, 0)


def test_several_days_are_one_cycle_each(decided: World) -> None:
    reports = decided.engine.cycles.reprocess("p", DAY.replace(day=14), DAY.replace(day=16))
    assert [report["day"].day for report in reports] == [14, 15, 16]


def test_a_live_cycle_cannot_steal_what_is_being_decided_anew(decided: World) -> None:
    """Between the snapshot of a reprocess and its commit a live cycle takes the place that became free."""
    decided.engine.intake.set_capacity("p", "node", 3)
    cycles = decided.engine.cycles
    proposal = cycles.propose(cycles.graph(cycles.snapshot("p", day=DAY, mode=cycle_module.Mode.REPROCESS)))
    decided.submit("thief", 100, {"node": 1})
    decided.cycle()
    report = cycles.commit(proposal)
    assert (report["selected"], report["nofit"]) == (0, 1)
    assert decided.use("node") == (3, 0)


# -- more than one transaction may move


@pytest.fixture
def upset(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A bundle and three lone items have the five places; five others are worth more since. A transaction moves three items at most."""
    monkeypatch.setattr(Commit, "_chunk_size", lambda _: 3)
    world.policy({"ttl": {"hold": "10d"}})
    world.resources(node=5)
    world.submit("a1", 10, {"node": 1})
    world.submit("x", 10, {"node": 1}, bundle_key="crew", bundle_size=2)
    for key in ("a2", "a3"):
        world.submit(key, 10, {"node": 1})
    world.submit("y", 10, {"node": 1}, bundle_key="crew", bundle_size=2)
    for n in range(5):
        world.submit(f"b{n}", 1, {"node": 1})
    world.cycle()
    for n in range(5):
        world.engine.intake.revise("p", f"b{n}", {"weight": 20 + n})
    return world


OLD, NEW = ("a1", "a2", "a3", "x", "y"), tuple(f"b{n}" for n in range(5))


def chunks(world: World) -> list[tuple[int, int]]:
    """(released, selected) of each transaction of the newest cycle that was written, in order."""
    with entered(world.engine.database) as connection:
        newest = run(connection, "select max(cycle_id) from pipeline.cycle_chunk").scalar_one()
        rows = run(connection, "select released, selected from pipeline.cycle_chunk where cycle_id = :newest order by chunk", newest=newest)
        return [(row.released, row.selected) for row in rows]


def test_a_great_change_of_mind_is_written_chunk_by_chunk_and_cuts_no_bundle(upset: World) -> None:
    report = reprocess(upset)
    assert (report["changed"], report["selected"], report["value"]) == (10, 5, 110)
    assert chunks(upset) == [(3, 0), (2, 0), (0, 3), (0, 2)]
    assert {key: upset.state(key) for key in (*OLD, *NEW)} == dict.fromkeys(OLD, "pending") | dict.fromkeys(NEW, "selected")
    with entered(upset.engine.database) as connection:
        of_bundle = "select count(distinct xid) from pipeline.transition where event = 'release' and item_id = any (:ids)"
        assert run(connection, of_bundle, ids=[upset.item(key)["item_id"] for key in "xy"]).scalar_one() == 1
    assert reprocess(upset)["changed"] == 0


def test_a_small_one_is_one_transaction(decided: World) -> None:
    decided.engine.intake.revise("p", "a", {"weight": 9})
    reprocess(decided)
    assert chunks(decided) == [(1, 1)]


def test_what_it_has_taken_back_nobody_gets_before_all_is_written(upset: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its transactions nobody claims what it took back or is about to give, and no other cycle gives it away."""
    chunk, in_use = Commit._chunk, []

    def watched(self: Commit, number: int, *parts: Any) -> Any:
        if number:
            in_use.append(upset.use("node")[0])
            assert upset.claim(*NEW, *(key for key in OLD if upset.state(key) == "pending")) == {}
            with pytest.raises(CycleInFlight):
                Cycles(upset.engine.database, upset.engine.artifacts, "UTC").run("p")
        return chunk(self, number, *parts)

    monkeypatch.setattr(Commit, "_chunk", watched)
    reprocess(upset)
    assert min(in_use) == 0
    assert upset.use("node") == (5, 0)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_broken_off_between_two_chunks_it_is_finished_by_whoever_meets_it(
    upset: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    chunk = Commit._chunk

    def breaking(self: Commit, at: int, *parts: Any) -> Any:
        if at == number:
            raise KeyboardInterrupt
        return chunk(self, at, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(Commit, "_chunk", breaking)
        with pytest.raises(KeyboardInterrupt):
            reprocess(upset)
    assert upset.claim(*NEW) == {}
    upset.advance(seconds=61)
    assert upset.engine.upkeep.sweep()["cycles_finished"] == 1
    assert {key: upset.state(key) for key in (*OLD, *NEW)} == dict.fromkeys(OLD, "pending") | dict.fromkeys(NEW, "selected")
    assert set(upset.claim()) == set(NEW)
