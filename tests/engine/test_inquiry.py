"""Why an item is where it is, what happened to it, and what there is."""

from __future__ import annotations

import pytest

from pipeline_project.core.errors import Refused, Unknown
from tests.world import World


@pytest.fixture
def judged(world: World) -> World:
    world.resources(node=2, room=1)
    world.submit("big", 9, {"node": 2})
    world.submit("small", 2, {"node": 1})
    world.submit("aside", 1, {"room": 1})
    world.cycle()
    return world


def test_why_names_what_had_no_room_and_who_has_it(judged: World) -> None:
    why = judged.engine.inquiry.why("p", "small")
    (verdict,) = why["verdicts"]
    assert (why["state"], verdict["verdict"], verdict["weight"]) == ("pending", "deferred", 2)
    (blocker,) = verdict["blockers"]
    assert blocker == {"resource": "node", "holders": [{"item": "big", "weight": 9, "rank": 1}], "holders_in_all": 1}
    assert why["sentence"].endswith("judged it deferred: no room on node")


def test_why_shows_the_rank_of_what_was_selected(judged: World) -> None:
    why = judged.engine.inquiry.why("p", "big")
    assert why["sentence"] == "big is selected (selected)"
    assert (why["verdicts"][0]["verdict"], why["verdicts"][0]["rank"]) == ("selected", 1)


def test_why_has_nothing_to_say_before_the_first_cycle(world: World) -> None:
    world.submit("a")
    assert world.engine.inquiry.why("p", "a")["sentence"] == "a is pending (submitted); no cycle has looked at it yet"


def test_why_survives_the_artifacts(judged: World) -> None:
    for cycle in judged.engine.inquiry.cycles("p"):
        judged.engine.artifacts.forget("p", cycle["cycle"])
    assert judged.engine.inquiry.why("p", "small")["verdicts"] == []
    assert judged.engine.inquiry.why("p", "big")["verdicts"][0]["verdict"] == "selected"


def test_every_cycle_that_looked_is_named_newest_first(judged: World) -> None:
    judged.submit("more", 1, {"node": 1})
    newest = judged.cycle()["cycle"]
    verdicts = judged.engine.inquiry.why("p", "small")["verdicts"]
    assert [verdict["verdict"] for verdict in verdicts] == ["deferred", "deferred"]
    assert verdicts[0]["cycle"] == newest


def test_the_limit_on_selected_items_is_a_blocker_too(world: World) -> None:
    world.policy({"limits": {"max_selected": 1}})
    world.submit("a", 1)
    world.submit("b", 2)
    world.cycle()
    assert world.engine.inquiry.why("p", "a")["verdicts"][0]["reason"] == "no room on limits.max_selected"


def test_a_timeline_tells_every_move_with_its_cycle_and_token(judged: World) -> None:
    judged.complete(judged.claim("big"))
    moves = judged.engine.inquiry.timeline("p", "big")
    assert [(move["event"], move["token"], move["actor"].split()[0]) for move in moves] == [
        ("submit", 0, "pipeline"),
        ("select", 0, "cycle"),
        ("claim", 1, "e"),
        ("complete", 1, "pipeline"),
    ]
    assert moves[1]["cycle"] == judged.engine.inquiry.cycles("p")[0]["cycle"]


def test_a_pool_shows_its_counts_and_its_history(judged: World) -> None:
    judged.engine.intake.pause("p", actor="ada")
    pool = judged.engine.inquiry.pool("p")
    assert (pool["status"], pool["items"]) == ("paused", {"pending": 1, "selected": 2})
    assert [event["kind"] for event in pool["events"]] == ["pool_paused", "cycle_published", "capacity_changed", "pool_created"]
    assert pool["events"][0]["actor"] == "ada"
    assert judged.engine.inquiry.pools()[0]["pending"] == 1


def test_the_backlog_is_what_a_cycle_could_have_taken(judged: World) -> None:
    judged.submit("later", 1, not_before=judged.now().replace(hour=20).isoformat())
    judged.advance(minutes=2)
    backlog = judged.engine.inquiry.backlog("p")
    assert (backlog["pending"], backlog["oldest_age_s"]) == (1, 120)


def test_utilisation_begins_with_the_fullest(judged: World) -> None:
    judged.resources(idle=5)
    assert [row["key"] for row in judged.engine.inquiry.utilisation("p")] == ["node", "room", "idle"]


def test_what_is_not_there_is_unknown(judged: World) -> None:
    for ask in (judged.engine.inquiry.item, judged.engine.inquiry.why, judged.engine.inquiry.timeline):
        with pytest.raises(Unknown, match="pool p has none of that key"):
            ask("p", "nobody")
    with pytest.raises(Refused, match="expected a policy version from 1 to 1, found 7"):
        judged.engine.inquiry.policy("p", 7)


def test_lists_of_a_pool_that_does_not_exist_are_not_empty_but_refused(world: World) -> None:
    for listing in (world.engine.inquiry.resources, world.engine.inquiry.cycles):
        with pytest.raises(Unknown, match=r"pool 'pp': expected one that exists \(p\)"):
            listing("pp")


def test_why_says_when_a_bundle_wants_more_than_there_is(world: World) -> None:
    """Each member alone is let in; together they can wait for ever, and nobody who holds anything is to blame."""
    world.resources(node=3)
    world.bundle("crew", "a", "b", demands={"node": 2})
    world.cycle()
    (verdict,) = world.engine.inquiry.why("p", "a")["verdicts"]
    assert (verdict["verdict"], verdict["reason"]) == ("deferred", "no room on node: it wants 4 of node, which has 3 in all")
