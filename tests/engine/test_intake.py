"""What comes in: idempotent by key, revised in place, bundles sealed, every row accounted for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from pipeline_project.core.errors import Refused, Unknown
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from tests.store.planting import run
from tests.world import World, entered


def member(key: str, *, bundle: str = "crew", size: int = 2, **columns: Any) -> dict[str, Any]:
    return {"key": key, "weight": 1, "demands": {}, "bundle_key": bundle, "bundle_size": size, **columns}


def counts(world: World, *rows: dict[str, Any]) -> tuple[int, int, int, int]:
    """(accepted, unchanged, revised, refused)."""
    receipt = world.submit_all(*rows)
    return receipt.accepted, receipt.unchanged, receipt.revised, len(receipt.refused)


@pytest.fixture
def node(world: World) -> World:
    world.resources(node=2)
    return world


def test_the_same_item_twice_is_one_item(node: World) -> None:
    row = {"key": "a", "weight": 3, "demands": {"node": 1}, "payload": {"x": [1]}}
    assert counts(node, row) == (1, 0, 0, 0)
    assert counts(node, row) == (0, 1, 0, 0)
    assert node.events("a") == ["submit"]


@pytest.mark.parametrize(
    "change", [{"weight": 4}, {"demands": {"node": 2}}, {"demands": {}}, {"payload": {"x": 2}}, {"not_before": "2026-01-15T13:00:00Z"}]
)
def test_a_changed_item_is_revised_and_its_old_body_kept(node: World, change: dict[str, Any]) -> None:
    row = {"key": "a", "weight": 3, "demands": {"node": 1}, "payload": {"x": 1}}
    node.submit_all(row)
    assert counts(node, {**row, **change}) == (0, 0, 1, 0)
    assert node.events("a") == ["submit", "revise"]
    with node.engine.database.begin() as connection:
        assert run(connection, "select array_agg(revision order by revision) from pipeline.item").scalar_one() == [1, 2]


def test_a_selected_item_is_released_before_it_is_revised(node: World) -> None:
    node.submit("a", 3, {"node": 2})
    node.cycle()
    node.engine.intake.revise("p", "a", {"demands": {"node": 1}})
    assert node.events("a") == ["submit", "select", "release", "revise"]
    assert node.use("node") == (0, 0)
    node.cycle()
    assert node.use("node") == (1, 0)


def test_revising_a_selected_member_releases_its_mates(node: World) -> None:
    node.bundle("crew", "a", "b", demands={"node": 1})
    node.cycle()
    node.engine.intake.revise("p", "a", {"weight": 9})
    assert node.states() == {"a": "pending", "b": "pending"}
    assert node.use("node") == (0, 0)
    node.cycle()
    assert node.states() == {"a": "selected", "b": "selected"}


@pytest.mark.parametrize("state", ["claimed", "completed", "cancelled", "expired"])
def test_an_item_that_is_at_work_or_at_its_end_is_not_revised(node: World, state: str) -> None:
    at = (node.now() + timedelta(minutes=1)).isoformat() if state == "expired" else None
    node.submit("a", 3, {"node": 1}, **({"expires_at": at} if at else {}))
    if state == "cancelled":
        node.engine.intake.cancel("p", ["a"])
    elif state == "expired":
        node.advance(minutes=1)
        node.engine.upkeep.sweep()
    else:
        node.cycle()
        claims = node.claim()
        if state == "completed":
            node.complete(claims)
    assert node.state("a") == state
    receipt = node.submit_all({"key": "a", "weight": 4, "demands": {"node": 1}})
    (refusal,) = receipt.refused
    assert (refusal.line, refusal.field, refusal.item, refusal.found) == (1, "key", "a", f"an item that is {state}")
    assert node.item("a")["weight"] == 3


def test_every_row_is_accepted_or_refused_with_its_line_and_the_good_ones_go_in(node: World) -> None:
    receipt = node.submit_all(
        {"key": "good", "weight": 1, "demands": {"node": 1}},
        {"key": "stranger", "weight": 1, "demands": {"moon": 1}},
        {"key": "giant", "weight": 1, "demands": {"node": 3}},
        {"key": "late", "weight": 1, "demands": {}, "expires_at": "2026-01-15T12:00:00Z"},
        {"key": "negative", "weight": -1, "demands": {}},
        {"key": "good", "weight": 2, "demands": {}},
        {"key": "fine", "weight": 0, "demands": {}},
    )
    assert receipt.accepted == 2
    told = {refusal.line: (refusal.item, refusal.field) for refusal in receipt.refused}
    assert told == {
        2: ("stranger", "demands.moon"),
        3: ("giant", "demands.node"),
        4: ("late", "expires_at"),
        5: ("negative", "weight"),
        6: ("good", "key"),
    }
    assert set(node.states()) == {"good", "fine"}


def test_an_import_goes_on_where_it_stopped(node: World, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("key,weight,demands\n" + "".join(f'i{n},{n},"{{""node"": 1}}"\n' for n in range(5)) + "bad,x,{}\n")
    read: list[int] = []
    first = node.engine.intake.import_items("p", path, progress=read.append)
    again = node.engine.intake.import_items("p", path)
    assert (first.accepted, [refusal.line for refusal in first.refused], read) == (5, [7], [6])
    assert (again.accepted, again.unchanged) == (0, 5)


def test_two_imports_of_the_same_keys_at_once_make_each_item_once(engine: Engine) -> None:
    engine.intake.create_pool("p")
    rows = [{"key": f"i{n}", "weight": n, "demands": {}} for n in range(300)]
    together = Barrier(4)

    def submit(n: int) -> tuple[int, int]:
        together.wait()
        receipt = engine.intake.submit("p", rows if n % 2 else rows[::-1])
        return receipt.accepted, receipt.unchanged

    with ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(submit, range(4)))
    assert sum(accepted for accepted, _ in receipts) == 300
    assert sum(unchanged for _, unchanged in receipts) == 900
    assert engine.upkeep.check() == []


def test_two_halves_of_a_bundle_at_once_seal_it(engine: Engine) -> None:
    engine.intake.create_pool("p")
    together = Barrier(3)

    def submit(n: int) -> int:
        together.wait()
        return engine.intake.submit("p", [member(f"m{n}", size=2)]).accepted

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(submit, range(3))) == [0, 1, 1]
    assert engine.upkeep.check() == []


def test_a_sealed_bundle_takes_no_late_member(world: World) -> None:
    world.bundle("crew", "a", "b")
    (refusal,) = world.submit_all(member("c")).refused
    assert (refusal.field, refusal.expected) == ("bundle_key", "a bundle that is not sealed yet")


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_members_that_disagree_about_the_size_are_all_refused(world: World, sizes: tuple[int, int]) -> None:
    receipt = world.submit_all(member("a", size=sizes[0]), member("b", size=sizes[1]), member("lone", bundle="other", size=1))
    assert receipt.accepted == 1
    assert {refusal.field for refusal in receipt.refused} == {"bundle_size"}
    assert {refusal.item: (refusal.expected, refusal.found) for refusal in receipt.refused} == {
        "a": (f"mates in this input that declare the same size, {sizes[0]}", f"one of {sizes[1]}"),
        "b": (f"the size the bundle was made with, {sizes[0]}", str(sizes[1])),
    }


def test_a_member_that_comes_again_with_another_size_is_refused(world: World) -> None:
    """A bundle is sealed: to call it revised would be untrue, and would release what is selected for nothing."""
    world.bundle("crew", "a", "b")
    world.cycle()
    (refusal,) = world.submit_all(member("a", bundle="crew", size=3)).refused
    assert (refusal.field, refusal.expected, refusal.found) == ("bundle_size", "the size the bundle was made with", "3")
    assert world.states() == {"a": "selected", "b": "selected"}


def test_a_bundle_that_was_refused_whole_may_come_again_with_another_size(world: World) -> None:
    assert counts(world, *(member(key, size=2) for key in "abc")) == (0, 0, 0, 3)
    assert counts(world, *(member(key, size=3) for key in "abc")) == (3, 0, 0, 0)


def test_an_item_stays_in_its_bundle(world: World) -> None:
    world.submit("a")
    world.bundle("crew", "b", "c")
    fields = [refusal.field for refusal in world.submit_all(member("a", size=3), member("b", bundle="other", size=1)).refused]
    assert fields == ["bundle_key", "bundle_key"]


def test_cancelling_a_pending_member_cancels_its_bundle(node: World) -> None:
    node.bundle("crew", "a", "b", demands={"node": 1})
    assert node.engine.intake.cancel("p", ["a"]) == ["a"]
    assert node.states() == {"a": "cancelled", "b": "cancelled"}
    assert node.item("b")["reason"] == "its bundle lost a member"


@pytest.mark.parametrize("claimed", [False, True])
def test_cancelling_gives_the_capacity_back(node: World, claimed: bool) -> None:
    node.submit("a", 1, {"node": 2})
    node.cycle()
    tokens = node.claim() if claimed else {}
    assert node.engine.intake.cancel("p", ["a"], reason="changed our mind", actor="ada") == ["a"]
    assert node.use("node") == (0, 0)
    last = node.engine.inquiry.timeline("p", "a")[-1]
    assert (last["event"], last["actor"], last["reason"]) == ("cancel", "ada", "changed our mind")
    if claimed:
        (answer,) = node.complete(tokens)
        assert (answer["accepted"], answer["state"]) == (False, "cancelled")


def test_an_unknown_key_is_named(world: World) -> None:
    for call in (world.engine.intake.cancel, world.engine.intake.revive):
        with pytest.raises(Unknown, match="pool p has no item 'nobody'"):
            call("p", ["nobody"])
    with pytest.raises(Unknown, match=r"pool 'q': expected one that exists \(p\)"):
        world.engine.intake.submit("q", [])


def test_a_revived_item_competes_again_with_its_attempts_forgiven(world: World) -> None:
    world.policy({"retries": {"max_attempts": 1}})
    world.submit("a")
    world.cycle()
    world.fail(world.claim())
    assert world.engine.intake.revive("p", ["a"]) == ["a"]
    assert world.engine.intake.revive("p", ["a"]) == []
    assert (world.item("a")["attempts"], world.events("a")[-1]) == (0, "revive")
    assert world.cycle()["selected"] == 1


def test_an_item_whose_time_is_over_is_not_revived(world: World) -> None:
    world.submit("a", expires_at=(world.now() + timedelta(minutes=1)).isoformat())
    world.advance(minutes=1)
    world.engine.upkeep.sweep()
    assert world.engine.intake.revive("p", ["a"]) == []


def test_a_capacity_is_not_lowered_below_what_is_in_use(node: World) -> None:
    node.submit("a", 1, {"node": 2})
    node.cycle()
    with pytest.raises(Refused, match=r"expected a capacity of at least 2 \(in use 2, spent 0\), found 1"):
        node.engine.intake.set_capacity("p", "node", 1)
    (refusal,) = node.resources(node=1).refused
    assert (refusal.field, refusal.found) == ("capacity", "1")
    assert node.engine.intake.set_capacity("p", "node", 5) == []


def test_unless_the_lowest_ranked_unclaimed_holders_make_room(world: World) -> None:
    world.resources(node=3)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    world.cycle()
    claims = world.claim("a")
    assert len(world.engine.intake.set_capacity("p", "node", 2, release=True)) == 1
    assert world.states() == {"a": "claimed", "b": "pending", "c": "selected"}
    with pytest.raises(Refused, match=r"expected a capacity of at least 1 .* all of it is claimed or spent: wait for its executors"):
        world.engine.intake.set_capacity("p", "node", 0, release=True)
    assert world.state("c") == "selected"
    world.complete(claims)
    world.engine.intake.set_capacity("p", "node", 0, release=True)
    assert world.state("c") == "pending"


@pytest.mark.parametrize("capacity", [-1, 1.5, 2**63])
def test_a_capacity_that_cannot_be_is_refused_in_words(node: World, capacity: int) -> None:
    with pytest.raises(Refused, match=f"expected a whole number from 0 to 9223372036854775807, found {capacity}"):
        node.engine.intake.set_capacity("p", "node", capacity)


def test_an_import_records_each_capacity_that_it_changes(world: World) -> None:
    world.resources(node=3, disk=4, tape=5)
    world.resources(node=3, disk=5, tape=1, lamp=2)
    events = [event["detail"] for event in world.engine.inquiry.pool("p")["events"] if event["kind"] == "capacity_changed"]
    assert events == [
        {"added": 1},
        {"resource": "tape", "before": 5, "after": 1},
        {"resource": "disk", "before": 4, "after": 5},
        {"added": 3},
    ]


def test_the_kind_of_a_resource_never_changes(world: World) -> None:
    world.resources(fuel=5, kind="consumable")
    (refusal,) = world.resources(fuel=5, kind="renewable").refused
    assert (refusal.field, refusal.expected) == ("kind", "consumable, as it was made")


def test_a_pool_is_made_once_and_keeps_its_policy(world: World) -> None:
    version = world.policy({"limits": {"max_selected": 1}})
    assert not world.engine.intake.create_pool("p", Policy())
    assert world.engine.inquiry.policy("p")[0] == version == 2
    assert world.policy({"limits": {"max_selected": 1}}) == 2


def test_two_policies_at_once_are_two_versions(engine: Engine) -> None:
    engine.intake.create_pool("p")
    together = Barrier(4)

    def apply(seed: int) -> int:
        together.wait()
        return engine.intake.apply_policy("p", Policy.from_document({"solver": {"seed": seed}}, "test"))

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(apply, range(1, 5))) == [2, 3, 4, 5]


@pytest.mark.parametrize("name", ["a|b", "", "x" * 65, "ä"])
def test_a_pool_name_that_is_not_safe_in_paths_is_refused(world: World, name: str) -> None:
    with pytest.raises(Refused):
        world.engine.intake.create_pool(name)


def test_who_acted_is_in_the_audit_trail(world: World) -> None:
    world.engine.intake.submit("p", [{"key": "a", "weight": 1, "demands": {}}], actor="ada")
    (submission,) = world.engine.inquiry.timeline("p", "a")
    assert (submission["actor"], submission["session_name"]) == ("ada", "pipeline")
    with entered(world.engine.database) as connection:
        assert run(connection, "select count(*) from pipeline.transition where xid is null or seq is null").scalar_one() == 0
