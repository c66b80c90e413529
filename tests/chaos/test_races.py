"""Pairs of calls that meet in one pool, at every point where they may: what comes out is what one after the other gives.

Each pair is interleaved systematically: one call goes n steps (statements and COMMITs), then the other goes as far as locks let it,
then the rest; for every n, in both directions. The histories of all items, the resources in use and the cycles must then be those of
one of the two serial orders, which are played first. Whoever is told to try again (Retryable) does so, once the other has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from pipeline_project.core.errors import Fenced, PipelineError, Retryable
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from tests.chaos.acts import reaper
from tests.chaos.depth import Depth
from tests.chaos.turns import STEPS_LIMIT, Player, Stage
from tests.store.planting import run
from tests.world import World

Deed = Callable[[], Any]
Setting = Callable[[World], tuple[Deed, Deed]]

POLICY = {"ttl": {"hold": "300d", "lease": "300d"}, "solver": {"steps": 100_000}, "retries": {"backoff": "0s"}}


# -- the pairs: what there is before, and the two calls


def another_owner(world: World) -> Cycles:
    return Cycles(world.engine.database, world.engine.artifacts, "UTC")


def planned(world: World) -> str:
    """Of a (1), b (2) and c (3) two have room; they are planned."""
    world.resources(node=2)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1})
    return str(world.engine.cycles.plan(world.pool)["cycle"])


def commit(world: World, key: str) -> Deed:
    return partial(another_owner(world).commit_planned, key, pool=world.pool)


def commit_x_cancel(world: World) -> tuple[Deed, Deed]:
    """c is selected and then cancelled, or stale; b is selected either way."""
    return commit(world, planned(world)), lambda: world.engine.intake.cancel(world.pool, ["c"])


def commit_x_expire(world: World) -> tuple[Deed, Deed]:
    """d is selected and expires, or it has expired and is stale."""
    world.resources(node=2)
    for weight, key in enumerate("ab", 1):
        world.submit(key, weight, {"node": 1})
    world.submit("d", 9, {"node": 1}, expires_at=(world.now() + timedelta(seconds=20)).isoformat())
    key = str(world.engine.cycles.plan(world.pool)["cycle"])

    def pass_and_sweep() -> None:
        world.advance(seconds=30)
        reaper(world).sweep()

    return commit(world, key), pass_and_sweep


def commit_x_commit(world: World) -> tuple[Deed, Deed]:
    """Two plans for the one place: whoever comes first has it, the other's item finds no room."""
    world.resources(node=1)
    world.submit("a", 1, {"node": 1})
    one = str(world.engine.cycles.plan(world.pool)["cycle"])
    world.submit("b", 2, {"node": 1})
    other = str(world.engine.cycles.plan(world.pool)["cycle"])
    return commit(world, one), commit(world, other)


def commit_x_lowered(world: World) -> tuple[Deed, Deed]:
    """Lowered after the commit it is refused, before it b finds no room."""
    return commit(world, planned(world)), lambda: world.engine.intake.set_capacity(world.pool, "node", 1)


def commit_x_lowered_with_release(world: World) -> tuple[Deed, Deed]:
    """After the commit b is released, before it b finds no room: refused it never is."""
    return commit(world, planned(world)), lambda: len(world.engine.intake.set_capacity(world.pool, "node", 1, release=True))


def commit_x_revise(world: World) -> tuple[Deed, Deed]:
    """c is selected, released and revised, or revised and stale."""
    return commit(world, planned(world)), lambda: world.engine.intake.revise(world.pool, "c", {"weight": 7}).revised


def revise_x_revise(world: World) -> tuple[Deed, Deed]:
    """Two revise different columns of one item: neither takes back what the other did."""
    world.submit("a", 1)
    intake = world.engine.intake
    return (
        lambda: intake.revise(world.pool, "a", {"weight": 7}).revised,
        lambda: intake.revise(world.pool, "a", {"payload": {"n": 2}}).revised,
    )


def commit_x_rollback(world: World) -> tuple[Deed, Deed]:
    """A cycle is rolled back while the next one, planned beside what it held, is committed."""
    world.resources(node=2)
    world.submit("a", 1, {"node": 1})
    before = world.cycle()["cycle"]
    world.submit("b", 2, {"node": 1})
    key = str(world.engine.cycles.plan(world.pool)["cycle"])
    return commit(world, key), partial(another_owner(world).rollback, before, pool=world.pool)


def commit_x_claim(world: World) -> tuple[Deed, Deed]:
    """Claimed before the whole cycle is published, there is nothing; afterwards both are there."""
    claim = partial(world.engine.execution.claim, world.pool, "e", most=9)
    return commit(world, planned(world)), lambda: [row["item"] for row in claim()]


def live_x_reprocess(world: World) -> tuple[Deed, Deed]:
    """Both want the place that became free: the live cycle for a newcomer, the reprocess for what the day's cycle saw."""
    planned(world)
    world.cycle()
    world.engine.intake.set_capacity(world.pool, "node", 3)
    world.submit("new", 9, {"node": 1})
    day = world.now().date()
    return partial(another_owner(world).run, world.pool), partial(another_owner(world).reprocess, world.pool, day, day)


def claim_x_rollback(world: World) -> tuple[Deed, Deed]:
    """What is claimed first stays with its executor; what is rolled back first is claimed by nobody."""
    planned(world)
    key = world.cycle()["cycle"]
    claim = partial(world.engine.execution.claim, world.pool, "e", most=1)
    return lambda: [row["item"] for row in claim()], partial(another_owner(world).rollback, key, pool=world.pool)


def complete_x_lapse(world: World) -> tuple[Deed, Deed]:
    """Completed in time, or the lease has lapsed and the completion comes too late."""
    planned(world)
    world.cycle()
    claims = world.claim("c", ttl_s=10)

    def pass_and_sweep() -> None:
        world.advance(seconds=11)
        reaper(world).sweep()

    return lambda: [row["accepted"] for row in world.complete(claims)], pass_and_sweep


def commit_x_late_member(world: World) -> tuple[Deed, Deed]:
    """A bundle that was selected, or is about to be, is sealed: whoever comes late is refused."""
    world.resources(node=3)
    world.bundle("crew", "x", "y", demands={"node": 1})
    key = str(world.engine.cycles.plan(world.pool)["cycle"])
    late = {"key": "z", "weight": 1, "demands": {"node": 1}, "bundle_key": "crew", "bundle_size": 2}
    return commit(world, key), lambda: len(world.submit_all(late).refused)


def commit_x_bundle_cancelled(world: World) -> tuple[Deed, Deed]:
    """One of its members is cancelled: before the commit both are stale, after it both had been selected."""
    world.resources(node=3)
    world.submit("a", 9, {"node": 1})
    world.bundle("crew", "x", "y", demands={"node": 1})
    key = str(world.engine.cycles.plan(world.pool)["cycle"])
    return commit(world, key), lambda: world.engine.intake.cancel(world.pool, ["x"])


def cycle_x_last_member(world: World) -> tuple[Deed, Deed]:
    """The last member of a bundle comes before the cycle looks, and all are selected, or after it, and none is."""
    world.resources(node=3)
    member = {"weight": 1, "demands": {"node": 1}, "bundle_key": "crew", "bundle_size": 3}
    world.submit_all(*({"key": key, **member} for key in "xy"))
    return partial(another_owner(world).run, world.pool), lambda: world.submit_all({"key": "z", **member}).accepted


def commit_x_takeover(world: World) -> tuple[Deed, Deed]:
    """An owner who was thought dead and is not: its lease lapses, a reaper finishes its cycle, and it goes on where it was."""
    key = planned(world)

    def fall_silent_and_sweep() -> None:
        world.advance(seconds=61)
        reaper(world).sweep()

    return commit(world, key), fall_silent_and_sweep


def sweep_x_sweep(world: World) -> tuple[Deed, Deed]:
    """Two reapers find an expired item, a lapsed hold, a lapsed lease and a cycle whose owner fell silent: each is dealt with once."""
    planned(world)
    world.cycle()
    world.claim("c", ttl_s=10)
    other = World(world.engine, f"{world.pool}-other")
    other.engine.intake.create_pool(other.pool)
    stranded = planned(other)
    strand(other, stranded)
    world.advance(seconds=61)
    return reaper(world).sweep, reaper(world).sweep


def strand(world: World, key: str) -> None:
    """Its owner has begun and is never heard of again."""
    lost = another_owner(world)
    lost._begin(world.pool, world.engine.artifacts.load_proposal(world.pool, key))


PAIRS: list[Setting] = [
    commit_x_cancel,
    commit_x_expire,
    commit_x_commit,
    commit_x_lowered,
    commit_x_lowered_with_release,
    commit_x_revise,
    revise_x_revise,
    commit_x_rollback,
    commit_x_claim,
    live_x_reprocess,
    claim_x_rollback,
    complete_x_lapse,
    commit_x_late_member,
    commit_x_bundle_cancelled,
    cycle_x_last_member,
    commit_x_takeover,
    sweep_x_sweep,
]


CHUNKS: dict[Setting, int] = {commit_x_late_member: 2, commit_x_bundle_cancelled: 2, cycle_x_last_member: 3}
"""Items a transaction of a commit selects, so that calls meet between two of them; a bundle is never larger."""


# -- how they are played


@dataclass
class Theatre:
    """A new pool for each performance of a pair, in one database."""

    engine: Engine
    stage: Stage

    def __post_init__(self) -> None:
        self._numbers = count()

    def world(self) -> World:
        world = World(self.engine, f"p{next(self._numbers)}")
        self.engine.intake.create_pool(world.pool)
        world.policy(POLICY)
        return world

    def serial(self, setting: Setting, *, swapped: bool) -> object:
        world = self.world()
        deeds = setting(world)
        endings: list[object] = [None, None]
        for i in (1, 0) if swapped else (0, 1):
            try:
                endings[i] = told(deeds[i](), None)
            except PipelineError as failure:
                endings[i] = told(None, failure)
        return outcome(world), endings

    def interleaved(self, setting: Setting, steps: int, *, swapped: bool) -> tuple[object, Player]:
        world = self.world()
        deeds = list(setting(world))
        order = (1, 0) if swapped else (0, 1)
        players = self.stage.interleave(deeds[order[0]], deeds[order[1]], steps)
        endings: list[object] = [None, None]
        for i, player in zip(order, players, strict=True):
            answer, failure = player.answer, player.failure
            if isinstance(failure, Retryable):
                answer, failure = deeds[i](), None
            endings[i] = told(answer, failure)
        return (outcome(world), endings), players[0]


def told(answer: object, failure: Exception | None) -> object:
    """What the caller learns, without what differs from one performance to the next."""
    if failure is not None and not isinstance(failure, PipelineError):
        raise failure
    return type(failure).__name__ if failure else answer if isinstance(answer, int | list) and not _reports(answer) else None


def _reports(answer: object) -> bool:
    return isinstance(answer, list) and any(isinstance(row, dict) for row in answer)


def outcome(world: World) -> object:
    pools = [world.pool] + [row["pool"] for row in world.engine.inquiry.pools() if row["pool"] == f"{world.pool}-other"]
    worlds = [World(world.engine, pool) for pool in pools]
    return [
        (
            {key: (state, world.events(key), *_body(world, key)) for key, state in world.states().items()},
            {row["key"]: (row["capacity"], row["in_use"], row["spent"]) for row in world.engine.inquiry.resources(world.pool)},
            sorted(str(row["status"]) for row in world.engine.inquiry.cycles(world.pool) if row["status"] != "planned"),
        )
        for world in worlds
    ]


def _body(world: World, key: str) -> tuple[object, ...]:
    item = world.item(key)
    return item["weight"], item["payload"]


@pytest.fixture
def theatre(simulation: Any, engine: Engine) -> Iterator[Theatre]:
    stage = Stage(engine.database)
    yield Theatre(engine, stage)
    stage.close()


@pytest.mark.parametrize("setting", PAIRS, ids=lambda setting: setting.__name__)
def test_wherever_two_calls_meet_it_is_as_if_one_had_come_after_the_other(
    theatre: Theatre, depth: Depth, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = CHUNKS.get(setting, 1)
    monkeypatch.setattr(Commit, "_chunk_size", lambda _: chunk)
    serial = [theatre.serial(setting, swapped=swapped) for swapped in (False, True)]
    for swapped in (False, True):
        _, alone = theatre.interleaved(setting, STEPS_LIMIT, swapped=swapped)
        for steps in depth.some(range(alone.steps)):
            found, _ = theatre.interleaved(setting, steps, swapped=swapped)
            assert found in serial, f"{'second' if swapped else 'first'} call paused after {steps} of {alone.steps} steps"
    assert theatre.engine.upkeep.check() == []
    with theatre.engine.database.begin() as connection:
        run(connection, "select pg_stat_force_next_flush()")
        assert run(connection, "select deadlocks from pg_stat_database where datname = current_database()").scalar_one() == 0


def test_who_lost_its_cycle_between_two_chunks_writes_no_other(world: World) -> None:
    """The status is still `committing`, for the new owner is at it: nothing but the fence tells the old one."""
    key = planned(world)
    old, new = another_owner(world), another_owner(world)
    proposal = world.engine.artifacts.load_proposal(world.pool, key)
    cycle, fence = old._begin(world.pool, proposal)
    assert fence is not None
    world.advance(seconds=61)
    (lapsed,) = new._lapsed(world.pool)
    assert new._take_over(lapsed) == fence + 1
    with pytest.raises(Fenced):
        Commit(world.engine.database, proposal, cycle["cycle_id"], fence).run()
    assert set(world.states().values()) == {"pending"}
    world.advance(seconds=61)
    assert world.engine.cycles.finish_lapsed() == [key]
