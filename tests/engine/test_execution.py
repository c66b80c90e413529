"""Claim, complete, fail: tokens, replays, and what a failure comes to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline_project.core.errors import UsageError
from tests.store.planting import run
from tests.world import World, entered

HOUR = 3600


@pytest.fixture
def selected(world: World) -> World:
    """Three items that hold what they need."""
    world.resources(node=3)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    world.cycle()
    return world


def test_the_best_rank_is_claimed_first(selected: World) -> None:
    first = selected.engine.execution.claim("p", "e", most=2)
    assert [claim["item"] for claim in first] == ["c", "b"]
    assert [claim["item"] for claim in selected.engine.execution.claim("p", "e", most=2)] == ["a"]
    assert selected.engine.execution.claim("p", "e", most=2) == []


def test_a_claim_brings_what_the_executor_needs(world: World) -> None:
    world.submit("a", payload={"do": "it"})
    world.cycle()
    (claim,) = world.engine.execution.claim("p", "e", ttl_s=90)
    assert (claim["item"], claim["token"], claim["payload"], claim["attempt"]) == ("a", 1, {"do": "it"}, 1)
    assert (claim["lease_until"] - world.now()).total_seconds() == 90


def test_a_completion_is_accepted_as_often_as_it_is_sent(selected: World) -> None:
    claims = selected.claim("a")
    for _ in range(3):
        (answer,) = selected.complete(claims)
        assert answer == {"item": "a", "token": 1, "accepted": True, "state": "completed"}
    assert selected.events("a").count("complete") == 1


def test_results_go_to_the_items_they_belong_to(selected: World) -> None:
    tokens = selected.claim()
    claims = [("b", tokens["b"]), ("nobody", 1), ("a", tokens["a"]), ("c", 99)]
    answers = selected.engine.execution.complete("p", claims, results=[{"r": "b"}, None, {"r": "a"}, {"r": "c"}])
    assert [answer["accepted"] for answer in answers] == [True, False, True, False]
    assert "no item of that key" in answers[1]["reason"]
    assert "stale token: expected 1" in answers[3]["reason"]
    for key in "ab":
        assert selected.engine.inquiry.timeline("p", key)[-1]["detail"] == {"r": key}
    assert selected.state("c") == "claimed"


def test_a_stale_token_moves_nothing(selected: World) -> None:
    first = selected.claim("a", ttl_s=60)
    selected.advance(seconds=61)
    selected.engine.upkeep.sweep()
    selected.advance(minutes=2)
    second = selected.claim("a", executor="other")
    assert second["a"] == first["a"] + 1
    (answer,) = selected.complete(first)
    assert (answer["accepted"], answer["state"]) == (False, "claimed")
    assert selected.fail(first) == {"a": "claimed"}
    (answer,) = selected.complete(second)
    assert answer["accepted"]


def test_a_late_completion_counts_while_nobody_else_has_the_item(selected: World) -> None:
    claims = selected.claim("a", ttl_s=60)
    selected.advance(seconds=61)
    (answer,) = selected.complete(claims)
    assert answer["accepted"]


def test_a_failure_is_accepted_as_often_as_it_is_sent_and_counts_once(selected: World) -> None:
    claims = list(selected.claim("a").items())
    for _ in range(2):  # as after a COMMIT whose outcome nobody knows
        (answer,) = selected.engine.execution.fail("p", claims, error="boom")
        assert (answer["accepted"], answer["state"]) == (True, "selected")
    assert selected.events("a") == ["submit", "select", "claim", "retry"]


def test_a_failure_sent_again_is_told_what_the_first_was_told_whatever_became_of_the_item_since(world: World) -> None:
    world.policy({"ttl": {"hold": "1m"}, "retries": {"backoff": "0s"}})
    world.submit("a")
    world.cycle()
    first = world.claim("a")

    def again() -> tuple[bool, str]:
        (answer,) = world.engine.execution.fail("p", list(first.items()), error="boom")
        return answer["accepted"], answer["state"]

    assert again() == (True, "selected")
    world.advance(minutes=1)
    world.engine.upkeep.sweep()
    assert world.state("a") == "pending"  # its hold ran out
    assert again() == (True, "selected")
    world.cycle()
    second = world.claim("a")
    assert again() == (True, "selected")  # another has it
    (answer,) = world.complete(first)
    assert (answer["accepted"], answer["reason"]) == (False, "stale token: expected 2; the item is claimed")
    world.complete(second)
    assert again() == (True, "selected")
    assert world.events("a").count("retry") == 1


def test_a_lapsed_claim_did_not_fail_by_its_executors_word(selected: World) -> None:
    claims = selected.claim("a", ttl_s=60)
    selected.advance(seconds=61)
    selected.engine.upkeep.sweep()
    (answer,) = selected.engine.execution.fail("p", list(claims.items()), error="boom")
    assert (answer["accepted"], answer["reason"]) == (False, "the claim is over; the item is selected")
    assert "no heartbeat" in selected.engine.inquiry.why("p", "a")["sentence"]


def test_a_claim_asked_for_again_gives_the_same_items(selected: World) -> None:
    def claim(executor: str, request: str | None, most: int = 2) -> list[tuple[str, int]]:
        claims = selected.engine.execution.claim("p", executor, most=most, request=request)
        return [(claim["item"], claim["token"]) for claim in claims]

    first = claim("e", "monday")
    assert first == claim("e", "monday") == [("c", 1), ("b", 1)]
    assert selected.complete({"c": 1})[0]["accepted"]
    assert claim("e", "monday") == [("b", 1)]  # as far as it still has them
    assert claim("other", "monday") == [("a", 1)]  # somebody else's name is another request
    assert claim("e", "tuesday") == []


def test_a_lapsed_lease_is_not_given_again(selected: World) -> None:
    def claim() -> list[str]:
        claims = selected.engine.execution.claim("p", "e", ttl_s=60, request="monday")
        return [claim["item"] for claim in claims]

    assert claim() == claim() == ["c"]
    selected.advance(seconds=60)
    assert claim() == ["b"]


def test_the_same_request_twice_at_once_is_one_claim(selected: World) -> None:
    selected.engine.execution.heartbeat("p", "e")  # both know their executor: no lock of its row is what the second waits for
    with ThreadPoolExecutor(2) as threads, entered(selected.engine.database) as first:
        run(first, "select * from pipeline.claim('p', 'e', 1, request => 'monday')")
        second = threads.submit(selected.engine.execution.claim, "p", "e", request="monday")
        selected.until_somebody_waits()
        assert not second.done()  # it waits for what the first got
        first.commit()
        assert [claim["item"] for claim in second.result(30)] == ["c"]
    assert selected.states() == {"a": "selected", "b": "selected", "c": "claimed"}


def test_a_turn_completes_what_is_done_and_claims_what_is_next(selected: World) -> None:
    execution = selected.engine.execution
    answers, claims = execution.turn("p", "e", [], most=2)
    assert (answers, [claim["item"] for claim in claims]) == ([], ["c", "b"])
    answers, claims = execution.turn("p", "e", [("c", 1), ("b", 9)], results=[{"rows": 7}, None])
    assert [answer["accepted"] for answer in answers] == [True, False]
    assert [claim["item"] for claim in claims] == ["a"]
    assert selected.item("c")["result"] == {"rows": 7}


def test_an_executor_that_lost_its_last_claim_is_known_until_its_next_sign_of_life(selected: World) -> None:
    def lost() -> bool:
        with selected.engine.database.begin() as connection:
            return bool(run(connection, "select lost_at is not null from pipeline.executor where name = 'e'").scalar_one())

    selected.claim("a", ttl_s=60)
    selected.claim("b", ttl_s=600)
    selected.advance(seconds=61)
    assert selected.engine.upkeep.sweep()["executors_lost"] == 0  # it still has b
    selected.advance(seconds=600)
    assert selected.engine.upkeep.sweep()["executors_lost"] == 1
    assert lost()
    selected.engine.execution.heartbeat("p", "e")
    assert not lost()


def test_the_rest_of_a_bundle_is_locked_in_id_order_before_it_is_cancelled(world: World) -> None:
    """Two mates fail at once, the later one first: neither may hold what the other waits for."""
    world.policy({"retries": {"max_attempts": 1, "bundle_on_failure": "cancel_rest"}})
    world.bundle("crew", "a", "b")
    world.cycle()
    claims = world.claim()
    with ThreadPoolExecutor(1) as threads, entered(world.engine.database) as first:
        run(first, "select from pipeline.item_state s join pipeline.item_key using (item_id) where key = 'a' for no key update of s")
        failing = threads.submit(world.fail, {"b": claims["b"]})
        world.until_somebody_waits()
        run(first, "set local lock_timeout = '5s'")
        run(first, "select * from pipeline.fail('p', '{a}', '{1}', 'boom')")  # would wait for b, had the other one locked it
        first.commit()
        assert failing.result(30) == {"b": "cancelled"}
    assert world.states() == {"a": "failed", "b": "cancelled"}


def test_a_heartbeat_prolongs_what_is_alive_and_nothing_else(selected: World) -> None:
    selected.claim("a", ttl_s=60)
    selected.claim("b", executor="other", ttl_s=60)
    selected.advance(seconds=30)
    assert selected.engine.execution.heartbeat("p", "e", ttl_s=60) == 1
    selected.advance(seconds=40)
    selected.engine.upkeep.sweep()
    assert selected.states() == {"a": "claimed", "b": "selected", "c": "selected"}
    assert selected.engine.execution.heartbeat("p", "other") == 0


RETRIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"max_attempts": 2}, ["selected", "failed"]),
    ({"max_attempts": 1}, ["failed"]),
    ({"max_attempts": 2, "on_failure": "requeue"}, ["pending", "failed"]),
    ({"max_attempts": 9, "quarantine_after": 2}, ["selected", "quarantined"]),
    ({"max_attempts": 1, "quarantine_after": 1}, ["quarantined"]),
]


@pytest.mark.parametrize(("retries", "fates"), RETRIES)
def test_what_a_failure_comes_to_is_the_policys_word(world: World, retries: dict[str, Any], fates: list[str]) -> None:
    world.policy({"retries": {**retries, "backoff": "10s"}})
    world.resources(node=1)
    world.submit("a", 1, {"node": 1})
    for n, fate in enumerate(fates, 1):
        world.cycle()
        assert world.fail(world.claim("a")) == {"a": fate}
        assert world.use("node") == ((1, 0) if fate == "selected" else (0, 0))
        assert world.claim("a") == {}  # not before the backoff is over
        world.advance(seconds=10 * 2 ** (n - 1))
    assert world.state("a") == fates[-1]
    assert world.item("a")["reason"] == "failed"


def test_failures_count_over_all_revivals_until_an_item_is_quarantined(world: World) -> None:
    world.policy({"retries": {"max_attempts": 1, "quarantine_after": 3, "backoff": "0s"}})
    world.submit("a")
    fates = []
    for _ in range(3):
        world.cycle()
        fates += world.fail(world.claim("a")).values()
        world.engine.intake.revive("p", ["a"])
    assert fates == ["failed", "failed", "quarantined"]


@pytest.mark.parametrize(
    ("policy", "claimed", "waiting"), [("keep_rest", "claimed", "selected"), ("cancel_rest", "cancelled", "cancelled")]
)
def test_when_a_member_fails_for_good_the_policy_decides_about_its_bundle(world: World, policy: str, claimed: str, waiting: str) -> None:
    world.policy({"retries": {"max_attempts": 1, "bundle_on_failure": policy}})
    world.resources(node=9)
    world.bundle("crew", "a", "b", "c", demands={"node": 3})
    world.cycle()
    claims = world.claim("a", "b")
    assert world.fail({"a": claims["a"]}) == {"a": "failed"}
    assert world.states() == {"a": "failed", "b": claimed, "c": waiting}
    assert world.use("node") == ((6, 0) if policy == "keep_rest" else (0, 0))
    (answer,) = world.complete({"b": claims["b"]})  # who works on a cancelled mate is told so
    assert answer["accepted"] == (policy == "keep_rest")
    assert answer.get("reason") == (None if answer["accepted"] else "the claim is over; the item is cancelled")


def test_a_member_of_a_bundle_keeps_its_hold_where_a_lone_item_would_not(world: World) -> None:
    world.policy({"retries": {"on_failure": "requeue", "backoff": "0s"}})
    world.bundle("crew", "a", "b")
    world.submit("lone")
    world.cycle()
    assert world.fail(world.claim("a", "lone")) == {"a": "selected", "lone": "pending"}


def test_nobody_claims_from_a_cycle_that_is_not_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.submit("a")
    monkeypatch.setattr(type(world.engine.cycles), "_publish", lambda *_: None)
    cycle = world.cycle()
    assert (cycle["status"], world.state("a")) == ("committing", "selected")
    assert world.claim() == {}
    monkeypatch.undo()
    world.engine.cycles.commit_planned(cycle["cycle"])
    assert world.claim() == {"a": 1}


@pytest.mark.parametrize(("limit", "column"), [("hold", None), ("expiry", "expires_at")])
def test_what_has_run_out_cannot_be_claimed_though_nobody_swept(world: World, limit: str, column: str | None) -> None:
    world.policy({"ttl": {"hold": "1h"}})
    at = world.now().replace(hour=13).isoformat()
    world.submit("a", **({column: at} if column else {}))
    world.cycle()
    world.advance(seconds=HOUR)
    assert world.state("a") == "selected"
    assert world.claim() == {}


def test_a_failure_after_the_rollback_of_its_cycle_gives_the_capacity_back(selected: World) -> None:
    claims = selected.claim("a")
    cycle = selected.engine.inquiry.cycles("p")[0]["cycle"]
    assert selected.engine.cycles.rollback(cycle)["claimed"] == 1
    assert selected.fail(claims) == {"a": "pending"}
    assert selected.use("node") == (0, 0)


def test_an_item_claimed_with_two_tokens_in_one_call_obeys_the_right_one(selected: World) -> None:
    token = selected.claim("a")["a"]
    answers = selected.engine.execution.complete("p", [("a", token - 1), ("a", token)])
    assert [answer["accepted"] for answer in answers] == [False, True]


def test_a_failure_that_is_sent_again_does_not_cancel_a_mate_that_was_revived(world: World) -> None:
    world.policy({"retries": {"max_attempts": 1, "bundle_on_failure": "cancel_rest"}})
    world.bundle("crew", "a", "b", "c")
    world.cycle()
    claims = world.claim("a", "b")
    assert world.fail(claims) == {"a": "failed", "b": "failed"}
    world.engine.intake.revive("p", ["a"])
    assert world.fail(claims) == {"a": "failed", "b": "failed"}
    assert world.states() == {"a": "pending", "b": "failed", "c": "cancelled"}


@pytest.mark.parametrize("claimed", ["a", "ab"])
def test_a_member_that_had_begun_when_its_bundle_lost_another_competes_again(world: World, claimed: str) -> None:
    """Its mate is cancelled, claimed or not, while it is claimed; then it fails, and its hold runs out. It must not wait for ever."""
    world.policy({"ttl": {"hold": "1m"}, "retries": {"backoff": "0s", "bundle_on_failure": "cancel_rest"}})
    world.bundle("crew", "a", "b")
    world.cycle()
    claims = world.claim(*claimed)
    world.engine.intake.cancel("p", ["b"])
    assert world.states() == {"a": "claimed", "b": "cancelled"}
    assert world.fail({"a": claims["a"]}) == {"a": "selected"}
    world.advance(minutes=1)
    world.engine.upkeep.sweep()
    assert world.state("a") == "pending"
    world.cycle()
    assert world.state("a") == "selected"


def test_a_member_that_had_begun_when_the_rest_of_its_bundle_expired_competes_again(world: World) -> None:
    """The same after an expiry and a rollback, which sends it back without a hold."""
    member = {"weight": 1, "demands": {}, "bundle_key": "crew", "bundle_size": 3}
    world.submit_all({"key": "a", **member}, {"key": "b", "expires_at": "2026-01-15T12:30:00Z", **member}, {"key": "c", **member})
    cycle = world.cycle()["cycle"]
    claims = world.claim("a", ttl_s=HOUR)
    world.advance(minutes=30)
    world.engine.upkeep.sweep()
    assert world.states() == {"a": "claimed", "b": "expired", "c": "expired"}
    world.engine.cycles.rollback(cycle)
    assert world.fail(claims) == {"a": "pending"}
    world.advance(minutes=1)  # its backoff
    world.cycle()
    assert world.state("a") == "selected"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"most": 2**40}, "integer out of range"),
        ({"ttl_s": 10**15}, "ttl: expected seconds that a lease may last"),
        ({"ttl_s": 8 * 86_400}, "ttl: expected at most 7 days"),
        ({"keys": ["a\0"]}, "NUL"),
    ],
)
def test_a_claim_that_cannot_be_meant_is_refused_in_words(selected: World, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        selected.engine.execution.claim("p", "e", **options)


def test_a_token_that_no_claim_can_have_is_refused_in_words(selected: World) -> None:
    with pytest.raises(UsageError, match="bigint out of range"):
        selected.engine.execution.complete("p", [("a", 2**63)])
