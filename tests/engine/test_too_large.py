"""Items with which sums would not be exact are put aside, so that the others go on; with smaller numbers they come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline_project.core.excess import Excess
from pipeline_project.store import items
from tests.world import NOON, World

TOP = 2**63 - 1


@pytest.fixture
def stopped(world: World) -> World:
    """Three items of which one, with the others, is more than 64 bits hold."""
    world.resources(node=2)
    for key, weight in {"a": 5, "huge": TOP - 5, "b": 3}.items():
        world.submit(key, weight, {"node": 1})
    return world


def test_the_others_go_on_and_why_says_what_became_of_it(stopped: World) -> None:
    report = stopped.cycle()
    assert (report["value"], report["selected"], report["items"]) == (8, 2, 2)
    assert stopped.states() == {"a": "selected", "huge": "quarantined", "b": "selected"}
    reason = (
        f"put aside as too large: with it the weights of all that wait add up to {TOP + 3}, expected at most {TOP}; "
        "import or revise it with smaller numbers"
    )
    assert stopped.engine.inquiry.why("p", "huge")["sentence"] == f"huge is quarantined ({reason})"
    assert stopped.engine.inquiry.too_large("p") == [{"key": "huge", "weight": TOP - 5, "reason": reason}]
    assert stopped.events("huge") == ["submit", "quarantine"]


def test_with_a_smaller_weight_it_comes_back_and_with_the_same_it_stays(stopped: World) -> None:
    stopped.cycle()
    assert stopped.submit("huge", TOP - 5, {"node": 1}).unchanged == 1
    assert stopped.state("huge") == "quarantined"
    assert stopped.submit("huge", 9, {"node": 1}).revised == 1
    assert stopped.state("huge") == "pending"
    assert stopped.events("huge") == ["submit", "quarantine", "revive", "revise"]
    assert stopped.engine.inquiry.too_large("p") == []


def test_it_may_be_revised_where_it_lies(stopped: World) -> None:
    stopped.cycle()
    stopped.engine.intake.revise("p", "huge", {"weight": 9})
    assert (stopped.state("huge"), stopped.item("huge")["weight"], stopped.item("huge")["reason"]) == ("pending", 9, "revised")


def test_long_after_too(stopped: World) -> None:
    """History keeps an item that lay aside for as long as items are kept among the others."""
    stopped.cycle()
    stopped.advance(days=31)
    stopped.engine.upkeep.sweep()
    assert stopped.item("huge")["archived_at"] is not None
    assert stopped.submit("huge", TOP - 5, {"node": 1}).unchanged == 1
    assert stopped.item("huge")["archived_at"] is not None
    assert stopped.submit("huge", 9, {"node": 1}).revised == 1
    assert stopped.state("huge") == "pending"


def test_what_somebody_put_aside_by_hand_is_not_brought_back_by_an_import(world: World) -> None:
    world.submit("a", 1)
    world.engine.intake.quarantine("p", ["a"], reason="its input is damaged")
    (refused,) = world.submit_all({"key": "a", "weight": 2, "demands": {}}).refused
    assert refused.found == "an item that is quarantined"


def test_no_more_are_put_aside_than_must_be_the_largest_first_and_of_equals_the_latest(world: World) -> None:
    for key, weight in {"first": 2**62, "second": 2**62, "small": 2**61, "largest": 2**62 + 1, "third": 2**62}.items():
        world.submit(key, weight)
    assert world.cycle()["value"] == 2**62 + 2**61
    aside = ["second", "largest", "third"]
    assert [row["key"] for row in world.engine.inquiry.too_large("p")] == aside
    assert world.states() == {"first": "selected", "small": "selected", **dict.fromkeys(aside, "quarantined")}


def test_demands_are_added_up_too(world: World) -> None:
    world.resources(bytes=TOP, disk=TOP)
    world.submit("a", 1, {"bytes": 3})
    world.submit("b", 1, {"bytes": TOP - 3, "disk": 4})
    assert world.cycle()["selected"] == 1
    assert world.states() == {"a": "selected", "b": "quarantined"}
    assert "the demanded quantities of all that wait add up to" in world.item("b")["reason"]


def test_a_limit_on_selected_items_finds_room_in_the_sum(world: World) -> None:
    world.policy({"limits": {"max_selected": 1}})
    world.resources(bytes=TOP)
    world.submit("a", 1, {"bytes": TOP - 1})
    world.submit("b", 1, {"bytes": 1})
    assert world.cycle()["selected"] == 1
    assert world.states() == {"a": "quarantined", "b": "selected"}


def test_a_bundle_is_put_aside_whole_and_comes_back_whole(world: World) -> None:
    member = {"demands": {}, "bundle_key": "crew", "bundle_size": 3}
    world.submit("a", 7)
    world.submit_all(*({"key": key, "weight": weight, **member} for key, weight in {"x": TOP, "y": TOP, "z": 2}.items()))
    assert world.cycle()["value"] == 7  # and not what TOP + TOP + 2 wraps to
    assert world.states() == {"a": "selected", "x": "quarantined", "y": "quarantined", "z": "quarantined"}
    world.submit_all(*({"key": key, "weight": weight, **member} for key, weight in {"x": 3, "y": 3}.items()))
    assert world.cycle()["value"] == 8
    assert set(world.states().values()) == {"selected"}
    assert world.engine.upkeep.check() == []


def test_ageing_puts_nobody_aside(world: World) -> None:
    """It is the policy's doing and no item's: nobody gets more of it than there is room for."""
    world.policy({"objective": {"ageing": {"step": "1h", "bonus": 10**9}}})
    for key, weight in {"a": 2**61, "b": 2**61 - 1000, "c": 2**62}.items():
        world.submit(key, weight)
    world.advance(days=36_500)
    assert world.cycle()["selected"] == 3
    assert world.engine.inquiry.too_large("p") == []


def test_a_reprocess_leaves_out_what_is_too_much_and_takes_nothing_from_it(world: World) -> None:
    world.resources(node=2)
    for key in ("a", "b"):
        world.submit(key, 2**62, {"node": 1})
        world.cycle()
    (report,) = world.engine.cycles.reprocess("p", NOON.date(), NOON.date())
    assert (report["items"], report["changed"]) == (1, 0)
    assert world.states() == {"a": "selected", "b": "selected"}


@pytest.mark.parametrize("change", [{"weight": 2}, {"payload": {"x": 1}}])
def test_who_was_changed_since_the_look_is_not_put_aside_nor_its_mates(world: World, change: dict[str, Any]) -> None:
    world.bundle("crew", "x", "y")
    ids = [world.item(key)["item_id"] for key in "xy"]
    seen = Excess(what="weights", total=2**64, most=TOP, item_ids=np.array(ids), versions=np.array([1, 1]))
    world.engine.intake.revise("p", "x", change)
    with world.engine.database.begin() as connection:
        assert items.put_aside(connection, seen) == []
    assert world.states() == {"x": "pending", "y": "pending"}
