"""A cycle that is being written: what its owner, others who want to write, and those who change its items meanwhile can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline_project.core.errors import CycleInFlight, Fenced, Refused
from pipeline_project.engine import finishing
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.store import cycles
from tests.store.planting import run
from tests.world import World, entered

NEVER = "300d"


@pytest.fixture
def pair(world: World) -> World:
    """Two places; a (1), b (2) and c (3) want one each, c not for long. A transaction of a commit selects one item."""
    world.policy({"ttl": {"hold": NEVER}})
    world.resources(node=2)
    for weight, key in enumerate("ab", 1):
        world.submit(key, weight, {"node": 1})
    world.submit("c", 3, {"node": 1}, expires_at=(world.now() + timedelta(seconds=30)).isoformat())
    return world


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Commit, "_chunk_size", lambda _: 1)


def another(world: World) -> Cycles:
    return Cycles(world.engine.database, world.engine.artifacts, "UTC")


def unpublished(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """All is written, and its owner is about to publish it."""
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_publish", lambda *_: None)
        return str(world.cycle()["cycle"])


# -- chunk by chunk, once each


def test_a_repeated_chunk_says_what_it_did_and_does_nothing_more(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, told = Commit._chunk, []

    def twice(self: Commit, *arguments: Any) -> dict[str, int]:
        first, second = chunk(self, *arguments), chunk(self, *arguments)
        told.append((first, second))
        return first

    monkeypatch.setattr(Commit, "_chunk", twice)
    report = pair.cycle()
    assert [first for first, _ in told] == [second for _, second in told]
    assert (len(told), report["selected"], report["value"]) == (2, 2, 5)
    assert [pair.events(key) for key in "bc"] == [["submit", "select"]] * 2


def test_each_chunk_prolongs_its_owners_lease(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they take longer than a lease; whoever looks in between finds the owner alive."""
    chunk, finished = Commit._chunk, []

    def slow(self: Commit, *arguments: Any) -> dict[str, int]:
        pair.advance(seconds=0.7 * cycles.LEASE_S)
        finished.append(another(pair).finish_lapsed("p"))
        return chunk(self, *arguments)

    monkeypatch.setattr(Commit, "_chunk", slow)
    pair.engine.intake.revise("p", "c", {"expires_at": None})
    assert pair.cycle()["selected"] == 2
    assert finished == [[], []]


def test_each_batch_of_a_rollback_prolongs_it_too(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = pair.cycle()["cycle"]
    monkeypatch.setattr(finishing, "ROLLBACK_BATCH", 1)
    batch, finished = Cycles._release_batch, []

    def slow(self: Cycles, *arguments: Any) -> Any:
        pair.advance(seconds=0.7 * cycles.LEASE_S)
        finished.append(another(pair).finish_lapsed("p"))
        return batch(self, *arguments)

    monkeypatch.setattr(Cycles, "_release_batch", slow)
    assert pair.engine.cycles.rollback(key)["released"] == 2
    assert finished == [[]] * 3


def test_a_commit_that_fails_half_way_leaves_the_pool_to_the_next_at_once(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = Commit._chunk

    def fails(self: Commit, number: int, *arguments: Any) -> Any:
        return chunk(self, number, *arguments) if number == 0 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(Commit, "_chunk", fails)
        with pytest.raises(ZeroDivisionError):
            pair.cycle()
    assert pair.states() == {"a": "pending", "b": "pending", "c": "selected"}
    assert len(another(pair).finish_lapsed("p")) == 1
    assert pair.states() == {"a": "pending", "b": "selected", "c": "selected"}


# -- a zombie


@contextmanager
def overtaken(pair: World, monkeypatch: pytest.MonkeyPatch, step: str) -> Iterator[None]:
    """Just before this step of its owner the cycle is taken over, by one who gets no further: nothing but the fence tells the old one."""
    take = getattr(Cycles, step)

    def late(self: Cycles, *arguments: Any) -> None:
        if self is pair.engine.cycles:
            pair.advance(seconds=61)
            (lapsed,) = another(pair)._lapsed("p")
            assert another(pair)._take_over(lapsed)
        take(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Cycles, step, late)
        with pytest.raises(Fenced):
            yield


def test_an_owner_who_lost_its_cycle_after_the_last_chunk_publishes_nothing(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with overtaken(pair, monkeypatch, "_publish"):
        pair.cycle()
    assert pair.claim() == {}
    pair.advance(seconds=61)
    assert len(another(pair).finish_lapsed("p")) == 1
    assert pair.events("b") == ["submit", "select"]


def test_an_owner_who_lost_its_rollback_after_the_last_batch_closes_nothing(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = pair.cycle()["cycle"]
    with overtaken(pair, monkeypatch, "_close"):
        pair.engine.cycles.rollback(key)
    assert pair.engine.cycles.find(key)["status"] == "rolling_back"
    pair.advance(seconds=61)
    another(pair).finish_lapsed("p")
    assert pair.engine.cycles.find(key)["status"] == "rolled_back"


# -- others


def test_two_who_begin_in_the_same_pool_at_the_same_moment_are_one_who_does_and_one_who_is_told(
    pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at who is in flight and the write another begins: the partial unique index decides."""
    first = pair.engine.cycles.plan("p")["cycle"]
    pair.submit("d", 1, {})
    second = pair.engine.cycles.plan("p")["cycle"]
    refuse = cycles.refuse_rivals
    begun: list[int] = []

    def overtaken(*arguments: Any) -> None:
        refuse(*arguments)
        if not begun:
            begun.append(1)
            other = another(pair)
            other._begin("p", pair.engine.artifacts.load_proposal("p", second))

    monkeypatch.setattr(cycles, "refuse_rivals", overtaken)
    with pytest.raises(CycleInFlight, match="began to be written at the same moment"):
        pair.engine.cycles.commit_planned(first)
    assert [row["status"] for row in pair.engine.inquiry.cycles("p")] == ["committing", "planned"]
    pair.advance(seconds=61)
    pair.engine.cycles.finish_lapsed()


def cancel(world: World) -> None:
    assert world.engine.intake.cancel("p", ["c"]) == ["c"]


def expire(world: World) -> None:
    world.advance(seconds=30)
    assert world.engine.upkeep.sweep()["expired"] == 1


def lower(world: World) -> None:
    with pytest.raises(Refused):
        world.engine.intake.set_capacity("p", "node", 1)
    world.engine.intake.set_capacity("p", "node", 1, release=True)


def revise(world: World) -> None:
    assert world.engine.intake.revise("p", "c", {"weight": 9}).revised == 1


@pytest.mark.parametrize(
    ("change", "goes", "becomes"),
    [(cancel, "c", "cancelled"), (expire, "c", "expired"), (lower, "b", "pending"), (revise, "c", "pending")],
)
def test_what_an_unpublished_cycle_holds_can_be_taken_from_it(
    pair: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[World], None], goes: str, becomes: str
) -> None:
    """Its capacity is free at once, and the cycle is published without it."""
    key = unpublished(pair, monkeypatch)
    change(pair)
    assert (pair.state(goes), pair.use("node")) == (becomes, (1, 0))
    assert pair.engine.cycles.find(key)["status"] == "committing"
    assert pair.claim() == {}
    assert pair.engine.cycles.commit_planned(key)["status"] == "published"
    assert set(pair.claim()) == {"b", "c"} - {goes}


def test_the_hold_of_an_unpublished_cycle_does_not_run_out(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could claim it yet: whoever finishes the cycle decides."""
    pair.policy({"ttl": {"hold": "10s"}})
    key = unpublished(pair, monkeypatch)
    pair.advance(seconds=20)
    assert pair.engine.upkeep.sweep()["holds_released"] == 0
    assert pair.state("b") == "selected"
    pair.engine.cycles.commit_planned(key)
    assert pair.claim() == {}  # too late, to the second
    assert pair.engine.upkeep.sweep()["holds_released"] == 2


# -- how it ends


def test_one_whose_owner_died_and_whose_plan_does_not_hold_any_more_is_abandoned(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Cycles, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pair.cycle()
    pair.engine.intake.cancel("p", ["b", "c"])
    (key,) = another(pair).finish_lapsed("p")
    ended = pair.engine.cycles.find(key)
    assert (ended["status"], ended["reason"]) == ("abandoned", "nothing of the plan holds any more")


@pytest.mark.parametrize("end", ["abandoned", "rolled_back"])
def test_a_world_that_comes_again_after_its_cycle_was_undone_is_another_attempt(
    pair: World, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    proposal = pair.engine.cycles.propose(pair.engine.cycles.graph(pair.engine.cycles.snapshot("p")))
    pair.engine.cycles._plan("p", proposal)
    with entered(pair.engine.database) as connection:
        path = ["abandoned"] if end == "abandoned" else ["committing", "published", "rolling_back", "rolled_back"]
        for status in path:
            run(connection, "update pipeline.cycle set status = cast(:to as pipeline.cycle_status), fence = fence", to=status)
    again = pair.engine.cycles.commit(proposal)
    assert (again["cycle"], again["attempt"], again["status"]) == (proposal.cycle_key, 2, "published")
