"""Claim, complete, fail: tokens, replays, and what a failure comes to."""

from __future__ import annotations

from tests.world import World


def test_the_best_fit_is_selected_claimed_and_completed(world: World) -> None:
    world.resources(node=2)
    for key, weight in {"a": 5, "b": 9, "c": 7}.items():
        world.submit(key, weight, {"node": 1})
    assert world.cycle()["value"] == 16
    claims = world.claim()
    assert list(claims) == ["b", "c"]
    assert [answer["state"] for answer in world.complete(claims)] == ["completed", "completed"]
    assert world.states() == {"a": "pending", "b": "completed", "c": "completed"}
