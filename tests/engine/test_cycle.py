"""The main job: identity, what the commit judges again, publication, the way back, replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline_project.core.errors import CheckFailed, Refused, StalePlan, Unknown
from pipeline_project.core.selection import Selection
from pipeline_project.engine import cycle as cycle_module
from pipeline_project.engine.cycle import Cycles
from pipeline_project.store.artifacts import PENDING_ITEMS, PROPOSED_SELECTIONS
from tests.store.planting import run
from tests.world import World, entered


@pytest.fixture
def contested(world: World) -> World:
    """Four items want two places."""
    world.resources(node=2)
    for weight, key in enumerate("abcd", 1):
        world.submit(key, weight, {"node": 1})
    return world


def test_the_most_valuable_set_is_selected_and_the_bound_proves_it(contested: World) -> None:
    cycle = contested.cycle()
    assert (cycle["value"], cycle["upper_bound"], cycle["gap"]) == (7, 7, 0)
    assert (cycle["selected"], cycle["deferred"], cycle["stale"], cycle["nofit"]) == (2, 2, 0, 0)
    assert contested.states() == {"a": "pending", "b": "pending", "c": "selected", "d": "selected"}
    assert contested.use("node") == (2, 0)
    assert contested.item("d")["rank"] == 1


def test_an_unchanged_world_makes_no_new_cycle(contested: World) -> None:
    contested.cycle()
    second = contested.cycle()
    contested.advance(minutes=1)
    third = contested.cycle()
    assert (second["cycle"], second["attempt"]) == (third["cycle"], third["attempt"])
    assert len(contested.engine.inquiry.cycles("p")) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.submit("e", 1, {"node": 1}),
        lambda world: world.engine.intake.revise("p", "a", {"weight": 9}),
        lambda world: world.engine.intake.revise("p", "a", {"payload": {"x": 1}}),  # by its new version
        lambda world: world.engine.intake.set_capacity("p", "node", 3),
        lambda world: world.policy({"solver": {"seed": 7}}),
        lambda world: world.engine.intake.cancel("p", ["a"]),
        lambda world: world.advance(days=1),
    ],
)
def test_a_changed_world_is_another_cycle(contested: World, change: Callable[[World], Any]) -> None:
    before = contested.engine.cycles.snapshot("p").cycle_key()
    assert contested.engine.cycles.snapshot("p").cycle_key() == before
    change(contested)
    assert contested.engine.cycles.snapshot("p").cycle_key() != before


def test_a_cycle_is_found_by_the_beginning_of_its_key_and_of_no_other(contested: World) -> None:
    """The newer of two keys has two attempts: the newest two rows are of one cycle, and yet there are two."""
    contested.cycle()
    same = "mode, day, engine_version, artifact, items, value, upper_bound, proposed, certificate, planned_at"
    into = f"insert into pipeline.cycle (pool_id, policy_id, cycle_key, attempt, {same})"
    plant = f"{into} select pool_id, policy_id, :key, :attempt, {same} from pipeline.cycle where cycle_id = 1"  # noqa: S608  # our own names
    with entered(contested.engine.database) as connection:
        for key, attempt in (("f" * 30 + "01", 1), ("f" * 30 + "02", 1), ("f" * 30 + "02", 2)):
            run(connection, plant, key=key, attempt=attempt)
    find = contested.engine.cycles.find
    assert find("f" * 30 + "02")["attempt"] == 2
    with pytest.raises(Refused, match="expected the beginning of one cycle key, found several"):
        find("ffffffff")
    for nothing in ("nothing", "", "%", "_" * 32):
        with pytest.raises(Unknown, match="no cycle key begins so"):
            find(nothing)


def test_committing_a_published_cycle_again_does_nothing(contested: World) -> None:
    plan = contested.engine.cycles.plan("p")
    assert plan["status"] == "planned"
    assert set(contested.states().values()) == {"pending"}
    first = contested.engine.cycles.commit_planned(plan["cycle"])
    again = contested.engine.cycles.commit_planned(plan["cycle"][:8])
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert contested.events("d") == ["submit", "select"]


def test_what_changed_since_the_plan_is_stale_and_the_rest_goes_on(contested: World) -> None:
    plan = contested.engine.cycles.plan("p")["cycle"]
    contested.engine.intake.revise("p", "d", {"weight": 1})
    report = contested.engine.cycles.commit_planned(plan)
    assert (report["selected"], report["stale"], report["value"]) == (1, 1, 3)
    assert contested.verdicts(plan) == {"c": "selected", "d": "stale"}
    assert contested.state("d") == "pending"


def test_a_plan_of_which_nothing_holds_any_more_is_abandoned(contested: World) -> None:
    plan = contested.engine.cycles.plan("p")["cycle"]
    contested.engine.intake.cancel("p", ["c", "d"])
    with pytest.raises(StalePlan, match="all 2 proposed items changed since it was planned"):
        contested.engine.cycles.commit_planned(plan)
    assert contested.engine.cycles.find(plan)["status"] == "abandoned"
    assert contested.cycle()["selected"] == 2


def test_what_no_longer_fits_is_dropped_by_rank(contested: World) -> None:
    plan = contested.engine.cycles.plan("p")["cycle"]
    contested.engine.intake.set_capacity("p", "node", 1)
    report = contested.engine.cycles.commit_planned(plan)
    assert (report["selected"], report["nofit"]) == (1, 1)
    assert contested.verdicts(plan) == {"d": "selected", "c": "nofit"}


def test_a_cycle_that_found_no_room_at_all_does_not_bar_its_world_for_ever(world: World) -> None:
    """The room went away between plan and commit, and comes back: the same world, the same key, and nothing of it was decided."""
    world.resources(node=1)
    world.submit("a", 1, {"node": 1})
    plan = world.engine.cycles.plan("p")["cycle"]
    world.resources(node=0)
    report = world.engine.cycles.commit_planned(plan)
    assert (report["status"], report["selected"], report["nofit"]) == ("published", 0, 1)
    world.resources(node=1)
    again = world.cycle()
    assert (again["cycle"], again["attempt"], again["selected"]) == (plan, 2, 1)
    assert world.cycle()["cycle"] != plan
    assert world.engine.upkeep.check() == []


def test_a_bundle_that_no_longer_fits_is_dropped_whole_and_a_smaller_one_takes_its_place(world: World) -> None:
    world.resources(node=3)
    world.bundle("crew", "a", "b", weight=5, demands={"node": 1})
    world.submit("lone", 1, {"node": 1})
    plan = world.engine.cycles.plan("p")["cycle"]
    world.engine.intake.set_capacity("p", "node", 1)
    world.engine.cycles.commit_planned(plan)
    assert world.verdicts(plan) == {"a": "nofit", "b": "nofit", "lone": "selected"}


def test_a_bundle_with_one_stale_member_is_stale(world: World) -> None:
    world.bundle("crew", "a", "b")
    world.submit("lone")
    plan = world.engine.cycles.plan("p")["cycle"]
    world.engine.intake.revise("p", "a", {"weight": 3})
    world.engine.cycles.commit_planned(plan)
    assert world.verdicts(plan) == {"a": "stale", "b": "stale", "lone": "selected"}


@pytest.mark.parametrize("weights", [(9, 1), (1, 9)])
def test_a_bundle_is_selected_whole_or_not_at_all(world: World, weights: tuple[int, int]) -> None:
    world.resources(node=2)
    world.bundle("crew", "a", "b", weight=weights[0], demands={"node": 1})
    world.submit("lone", weights[1], {"node": 1})
    world.cycle()
    crew, lone = ("selected", "pending") if weights[0] > weights[1] else ("pending", "selected")
    assert world.states() == {"a": crew, "b": crew, "lone": lone}


def test_a_bundle_that_is_not_complete_waits(world: World) -> None:
    member = {"weight": 1, "demands": {}, "bundle_key": "crew", "bundle_size": 2}
    world.submit_all({"key": "a", **member})
    assert world.cycle()["items"] == 0
    world.submit_all({"key": "b", **member})
    assert world.cycle()["selected"] == 2


def test_the_rest_of_a_bundle_that_has_begun_is_not_forgotten(world: World) -> None:
    """Its first members were claimed, the hold of the others ran out: they compete again, together, instead of waiting for ever."""
    world.policy({"ttl": {"hold": "10m"}})
    world.resources(node=3)
    world.bundle("crew", "a", "b", "c", demands={"node": 1})
    world.cycle()
    claims = world.claim("a")
    world.engine.execution.heartbeat("p", "e", ttl_s=3600)
    world.advance(minutes=10)
    world.engine.upkeep.sweep()
    assert world.states() == {"a": "claimed", "b": "pending", "c": "pending"}
    world.resources(node=2)
    assert world.cycle()["selected"] == 0  # one place is left, and the two go together
    world.complete(claims)
    assert world.cycle()["selected"] == 2


def test_a_paused_pool_selects_nothing_and_its_executors_go_on(contested: World) -> None:
    contested.cycle()
    contested.submit("e", 1, {"node": 1})
    contested.engine.intake.pause("p")
    with pytest.raises(Refused, match="pool p is paused"):
        contested.cycle()
    assert len(contested.claim()) == 2
    contested.engine.intake.resume("p")
    contested.cycle()


def test_a_pause_also_stops_what_was_planned_before_it(contested: World) -> None:
    plan = contested.engine.cycles.plan("p")["cycle"]
    contested.engine.intake.pause("p")
    with pytest.raises(Refused, match="pool p is paused"):
        contested.engine.cycles.commit_planned(plan)
    assert set(contested.states().values()) == {"pending"}


def test_the_policy_limits_how_many_items_a_cycle_selects(world: World) -> None:
    world.policy({"limits": {"max_selected": 3}})
    world.bundle("crew", "a", "b", weight=9)
    for key in "cde":
        world.submit(key, 5)
    assert world.cycle()["selected"] == 3
    assert (world.state("a"), world.state("b")) == ("selected", "selected")


def test_waiting_is_worth_points_in_whole_steps(world: World) -> None:
    world.policy({"objective": {"ageing": {"step": "1h", "bonus": 10}}})
    world.resources(node=1)
    world.submit("old", 1, {"node": 1})
    world.advance(minutes=59)
    keys = {world.engine.cycles.snapshot("p").cycle_key()}
    world.advance(seconds=59)
    keys.add(world.engine.cycles.snapshot("p").cycle_key())
    assert len(keys) == 1
    world.advance(seconds=1)
    world.submit("new", 10, {"node": 1})
    assert world.engine.cycles.snapshot("p").weights.tolist() == [11, 10]
    world.cycle()
    assert world.state("old") == "selected"


def test_an_item_waits_for_its_not_before(world: World) -> None:
    world.submit("a", not_before=world.now().replace(hour=13).isoformat())
    assert world.cycle()["items"] == 0
    world.advance(hours=1)
    assert world.cycle()["selected"] == 1


def test_an_empty_pool_has_an_empty_cycle(world: World) -> None:
    cycle = world.cycle()
    assert (cycle["status"], cycle["value"], cycle["selected"]) == ("published", 0, 0)


def test_a_commit_in_many_chunks_is_one_cycle_and_cuts_no_bundle(world: World) -> None:
    world.policy({"limits": {"chunk": 1000}})
    world.resources(node=2001)
    lone = [{"key": f"i{n}", "weight": 9 if n < 999 else 3, "demands": {"node": 1}} for n in range(2500)]
    crew = [{"key": key, "weight": 4, "demands": {"node": 1}, "bundle_key": "crew", "bundle_size": 2} for key in "xy"]
    world.submit_all(*lone, *crew)
    report = world.cycle()
    assert (report["selected"], report["value"], world.use("node")) == (2001, 999 * 9 + 8 + 1000 * 3, (2001, 0))
    with world.engine.database.begin() as connection:
        assert run(connection, "select array_agg(selected order by chunk) from pipeline.cycle_chunk").scalar_one() == [999, 1000, 2]


# -- the way back


def test_a_rollback_gives_back_what_nobody_has_claimed(contested: World) -> None:
    cycle = contested.cycle()["cycle"]
    claims = contested.claim("d")
    preview = contested.engine.cycles.rollback(cycle, preview=True)
    assert (preview["released"], preview["claimed"], preview["completed"]) == (1, 1, 0)
    assert contested.state("c") == "selected"
    report = contested.engine.cycles.rollback(cycle)
    assert (report["status"], report["released"], report["claimed"]) == ("rolled_back", 1, 1)
    assert (contested.state("c"), contested.use("node")) == ("pending", (1, 0))
    assert contested.engine.cycles.rollback(cycle)["released"] == 0
    assert contested.complete(claims)[0]["accepted"]


def test_a_rolled_back_world_is_a_new_world(contested: World) -> None:
    first = contested.cycle()["cycle"]
    contested.engine.cycles.rollback(first)
    second = contested.cycle()
    assert second["cycle"] != first
    assert second["selected"] == 2


def test_a_rollback_with_a_hold_keeps_its_items_out_of_the_next_cycles(contested: World) -> None:
    contested.engine.cycles.rollback(contested.cycle()["cycle"], hold_s=600)
    assert contested.cycle()["selected"] == 2
    assert contested.states() == {"a": "selected", "b": "selected", "c": "pending", "d": "pending"}


@pytest.mark.parametrize("status", ["planned", "abandoned"])
def test_only_a_published_cycle_is_rolled_back(contested: World, status: str) -> None:
    plan = contested.engine.cycles.plan("p")["cycle"]
    if status == "abandoned":
        contested.advance(days=2)
        contested.engine.upkeep.sweep()
    with pytest.raises(Refused, match=f"expected a published one to roll back, found {status}"):
        contested.engine.cycles.rollback(plan)


# -- replay and verification


def test_a_replay_is_the_same_bit_for_bit(contested: World) -> None:
    cycle = contested.cycle()["cycle"]
    contested.engine.intake.cancel("p", ["a"])  # the world goes on; the stored one does not
    replay = contested.engine.cycles.replay(cycle)
    assert replay["same"]
    assert replay["hash"] == replay["replayed_hash"]
    assert contested.engine.cycles.verify(cycle)["verified"]


@pytest.mark.parametrize(("asset", "file"), [(PENDING_ITEMS, "items.parquet"), (PROPOSED_SELECTIONS, "selection.parquet")])
def test_a_changed_artifact_is_noticed(contested: World, asset: str, file: str) -> None:
    cycle = contested.cycle()["cycle"]
    artifacts = contested.engine.artifacts
    path = f"{artifacts.where('p', cycle, asset)}/{file}"
    artifacts.fs.pipe_file(path, artifacts.fs.cat_file(path)[:-1] + b"?")
    for use in (contested.engine.cycles.replay, contested.engine.cycles.verify):
        with pytest.raises(CheckFailed, match="the file was changed after the cycle"):
            use(cycle)


def test_an_unsound_selection_is_never_committed(contested: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = cycle_module.solve

    def greedy_beyond_reason(problem: Any, *arguments: Any) -> Selection:
        selection = honest(problem, *arguments)
        everything = np.arange(problem.n)
        value = int(problem.weights.sum())
        return Selection(chosen=everything, certificate=replace(selection.certificate, value=value, upper_bound=value))

    monkeypatch.setattr(cycle_module, "solve", greedy_beyond_reason)
    with pytest.raises(CheckFailed, match="unsound and was not committed"):
        contested.cycle()
    assert set(contested.states().values()) == {"pending"}


def test_two_threads_that_see_the_same_world_commit_it_once(contested: World) -> None:
    engine = contested.engine
    proposal = engine.cycles.propose(engine.cycles.graph(engine.cycles.snapshot("p")))
    other = Cycles(engine.database, engine.artifacts, "UTC")
    assert engine.cycles.commit(proposal)["cycle"] == other.commit(proposal)["cycle"]
    assert contested.events("d") == ["submit", "select"]
