"""What is broken at every statement: a world to begin with, a call, and what must be so when it was broken and made again.

A call is named, and what it needs is JSON, so that a process that is to be killed can be told to make it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from pipeline_project.core.policy import Policy
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from pipeline_project.engine.retention import Retention
from pipeline_project.engine.transactions import repeatable
from pipeline_project.engine.upkeep import Upkeep
from pipeline_project.store import pools
from pipeline_project.store.pools import Pool
from tests.chaos.breaking import Broken, at_step, fail
from tests.store.planting import run
from tests.world import World

CHUNK: Final = 2
"""Items that one transaction of a commit moves: d by itself, for the bundle that follows it would be cut."""

POLICY: Final = {"ttl": {"hold": "300d", "lease": "300d"}, "solver": {"steps": 100_000}, "retries": {"backoff": "0s"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """prepare  furnishes a new pool and gives what the call needs
    call     may be made twice: the second time it does what the first has not done
    repeats  a lost connection is not its caller's business: every transaction of it is repeated by the engine itself
    check    looks at the pool after a call that was broken and made again; it fails where something is lost or happened twice
    """

    prepare: Callable[[World], Any]
    call: Callable[[World, Any], Any]
    check: Callable[[World], None]
    repeats: bool = False


def furnished(engine: Engine, pool: str) -> World:
    """d, a bundle (x, y) that is worth less, and c that finds no room beside them. In few transactions: each break has its own."""
    engine.intake.create_pool(pool, Policy.from_document(POLICY, "test"))
    world = World(engine, pool)
    engine.intake.put_resources(pool, [{"key": "node", "capacity": 3}, {"key": "fuel", "capacity": 9, "kind": "consumable"}])
    crew = {"weight": 1, "demands": {"node": 1, "fuel": 1}, "bundle_key": "crew", "bundle_size": 2}
    lone = {"demands": {"node": 1}}
    receipt = world.submit_all(
        {"key": "x", **crew}, {"key": "y", **crew}, {"key": "c", "weight": 1, **lone}, {"key": "d", "weight": 3, **lone}
    )
    assert receipt.accepted == 4, receipt
    return world


def _events(world: World, **expected: str) -> None:
    moves = """select k.key, string_agg(t.event, ' ' order by t.version) as events
                 from pipeline.item_key k join pipeline.pool p using (pool_id) join pipeline.transition t using (item_id)
                where p.name = :pool group by k.key"""
    with world.engine.database.begin() as connection:
        found = {row.key: row.events for row in run(connection, moves, pool=world.pool)}
    assert found == expected, found


def _cycles(world: World, *expected: str) -> None:
    assert [row["status"] for row in reversed(world.engine.inquiry.cycles(world.pool))] == list(expected)


def _use(world: World, node: int, fuel: int, spent: int = 0) -> None:
    assert (world.use("node"), world.use("fuel")) == ((node, 0), (fuel, spent))


# -- plan and commit


def _planned(world: World) -> None:
    _events(world, x="submit", y="submit", c="submit", d="submit")
    _cycles(world, "planned")


def _plan(world: World) -> str:
    return str(world.engine.cycles.plan(world.pool)["cycle"])


def _committed(world: World) -> None:
    _events(world, x="submit select", y="submit select", c="submit", d="submit select")
    _cycles(world, "published")
    _use(world, 3, 2)


# -- claim, complete, fail


def _run(world: World) -> str:
    return str(world.cycle()["cycle"])


def _claims(world: World) -> list[tuple[str, int]]:
    world.cycle()
    return list(world.claim().items())


def _claimed(world: World) -> None:
    _events(world, x="submit select claim", y="submit select claim", c="submit", d="submit select claim")
    assert {world.item(key)["token"] for key in "xyd"} == {1}
    _use(world, 3, 2)


def _complete(world: World, claims: list[tuple[str, int]]) -> None:
    answers = world.engine.execution.complete(
        world.pool, [(key, token) for key, token in claims], results=[{"by": key} for key, _ in claims]
    )
    assert all(answer["accepted"] for answer in answers), answers


def _completed(world: World) -> None:
    done = "submit select claim complete"
    _events(world, x=done, y=done, c="submit", d=done)
    _use(world, 0, 0, spent=2)


def _one_of_them(world: World) -> list[tuple[str, int]]:
    world.cycle()
    return [(claim["item"], claim["token"]) for claim in world.engine.execution.claim(world.pool, "e", keys=["d"])]


def _turn(world: World, claims: list[tuple[str, int]]) -> None:
    """The request is named, so that whoever makes the call again is given what the first may have got."""
    answers, following = world.engine.execution.turn(world.pool, "e", claims, most=9, request="the only one")
    assert all(answer["accepted"] for answer in answers), answers
    assert {claim["item"] for claim in following} == {"x", "y"}, following


def _turned(world: World) -> None:
    held = "submit select claim"
    _events(world, x=held, y=held, c="submit", d=f"{held} complete")
    assert {world.item(key)["token"] for key in "xyd"} == {1}


def _fail(world: World, claims: list[tuple[str, int]]) -> None:
    answers = world.engine.execution.fail(world.pool, [(key, token) for key, token in claims], error="boom")
    assert all(answer["accepted"] for answer in answers), answers


def _failed(world: World) -> None:
    retried = "submit select claim retry"
    _events(world, x=retried, y=retried, c="submit", d=retried)
    assert {world.item(key)["attempts"] for key in "xyd"} == {1}


def _beaten(world: World) -> None:
    _claimed(world)
    assert {world.item(key)["version"] for key in "xyd"} == {3}


# -- rollback, reprocess, sweep


def _rolled_back(world: World) -> None:
    released = "submit select release"
    _events(world, x=released, y=released, c="submit", d=released)
    _cycles(world, "rolled_back")
    _use(world, 0, 0)


def _day_to_decide_again(world: World) -> str:
    """c is worth most now, and the bundle cannot stay beside it and d: more than one transaction moves, so it is taken back first."""
    world.cycle()
    world.engine.intake.revise(world.pool, "c", {"weight": 7})
    return world.now().date().isoformat()


def _reprocess(world: World, day: str) -> None:
    world.engine.cycles.reprocess(world.pool, date.fromisoformat(day), date.fromisoformat(day))


def _reprocessed(world: World) -> None:
    _events(world, x="submit select release", y="submit select release", c="submit revise select", d="submit select")
    _use(world, 2, 0)


def _day_to_decide_again_a_little(world: World) -> str:
    """c is worth more than d, and the bundle more than both: one goes, one comes."""
    world.engine.intake.revise(world.pool, "x", {"weight": 9})
    world.cycle()
    world.engine.intake.revise(world.pool, "c", {"weight": 7})
    return world.now().date().isoformat()


def _reprocessed_a_little(world: World) -> None:
    _events(world, x="submit revise select", y="submit select", c="submit revise select", d="submit select release")
    _use(world, 3, 2)


def _something_to_sweep(world: World) -> None:
    """An expired item, a lapsed lease, and a cycle that its owner left in the middle."""
    world.cycle()
    world.claim("d", ttl_s=10)
    world.submit("e", 1, {"fuel": 1}, expires_at=(world.now() + timedelta(seconds=5)).isoformat())
    world.submit("f", 1, {"fuel": 1})
    key = _plan(world)
    with at_step(world.engine.database, 12, fail), suppress(Broken):
        world.engine.cycles.commit_planned(key, pool=world.pool)
    world.advance(seconds=61)


class OfOnePool(Retention):
    """Looks at this pool alone: what it would find in the hundred others is their business."""

    def __init__(self, world: World) -> None:
        super().__init__(world.engine.database, world.engine.artifacts)
        self._pool = world.pool

    @repeatable
    def _pools(self) -> list[Pool]:
        with self._database.begin() as connection:
            return [pools.find(connection, self._pool)]


class Reaper(Upkeep):
    """Another owner than the world's own."""

    def __init__(self, world: World) -> None:
        engine = world.engine
        super().__init__(engine.database, engine.artifacts, Cycles(engine.database, engine.artifacts, "UTC"), engine.audit)
        self._retention = OfOnePool(world)


def reaper(world: World) -> Upkeep:
    return Reaper(world)


def _swept(world: World) -> None:
    _events(
        world,
        x="submit select",
        y="submit select",
        c="submit",
        d="submit select claim retry",
        e="submit expire",
        f="submit select",
    )
    _cycles(world, "published", "published")
    assert world.item("d")["attempts"] == 1


# -- import, cancel, capacity


def _file(world: World) -> str:
    world.cycle()
    path = Path(world.engine.artifacts.root).with_name(f"{world.pool}.csv")
    path.write_text('key,weight,demands\nd,7,"{""node"": 1}"\nnew,1,"{""node"": 2}"\n')
    return str(path)


def _imported(world: World) -> None:
    _events(world, x="submit select", y="submit select", c="submit", d="submit select release revise", new="submit")
    assert world.item("d")["weight"] == 7


def _cancelled(world: World) -> None:
    gone = "submit select cancel"
    _events(world, x=gone, y=gone, c="submit", d="submit select")
    _use(world, 1, 0)


def _lowered(world: World) -> None:
    _events(world, x="submit select release", y="submit select release", c="submit", d="submit select")
    _use(world, 1, 0)


ACTS: Final[dict[str, Act]] = {
    "plan": Act(prepare=lambda _: None, call=lambda world, _: _plan(world), check=_planned),
    "commit": Act(prepare=_plan, call=lambda world, key: world.engine.cycles.commit_planned(key, pool=world.pool), check=_committed),
    "claim": Act(prepare=_run, call=lambda world, _: world.claim(), check=_claimed),
    "complete": Act(prepare=_claims, call=_complete, check=_completed, repeats=True),
    "turn": Act(prepare=_one_of_them, call=_turn, check=_turned, repeats=True),
    "fail": Act(prepare=_claims, call=_fail, check=_failed, repeats=True),
    "heartbeat": Act(prepare=_claims, call=lambda world, _: world.engine.execution.heartbeat(world.pool, "e"), check=_beaten, repeats=True),
    "rollback": Act(prepare=_run, call=lambda world, key: world.engine.cycles.rollback(key, pool=world.pool), check=_rolled_back),
    "reprocess": Act(prepare=_day_to_decide_again, call=_reprocess, check=_reprocessed),
    "reprocess-at-once": Act(prepare=_day_to_decide_again_a_little, call=_reprocess, check=_reprocessed_a_little),
    "sweep": Act(prepare=_something_to_sweep, call=lambda world, _: reaper(world).sweep(), check=_swept),
    "import": Act(
        prepare=_file, call=lambda world, path: world.engine.intake.import_items(world.pool, Path(path)), check=_imported, repeats=True
    ),
    "cancel": Act(prepare=_run, call=lambda world, _: world.engine.intake.cancel(world.pool, ["x"]), check=_cancelled, repeats=True),
    "lower": Act(
        prepare=_run,
        call=lambda world, _: world.engine.intake.set_capacity(world.pool, "node", 2, release=True),
        check=_lowered,
        repeats=True,
    ),
}
