"""Producers, cycles, executors, cancellers and a sweeper at once in one small pool; then it is drained, and every promise was kept."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import pytest

from pipeline_project.core.errors import Refused, Retryable, StalePlan
from pipeline_project.core.policy import Policy
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.engine import Engine
from tests.store.planting import run

SECONDS = 5
POLICY = {
    "ttl": {"hold": "1s", "lease": "1s"},
    "retries": {"max_attempts": 3, "backoff": "0s", "bundle_on_failure": "cancel_rest", "on_failure": "requeue"},
    "solver": {"steps": 100_000},
}
RESOURCES = [{"key": f"r{n}", "capacity": n + 1} for n in range(5)] + [{"key": "fuel", "capacity": 10_000, "kind": "consumable"}]


@pytest.fixture
def pool(engine: Engine) -> str:
    engine.intake.create_pool("p", Policy.from_document(POLICY, "test"))
    engine.intake.put_resources("p", RESOURCES)
    engine.intake.submit("p", [{"key": "first", "weight": 1, "demands": {"r0": 1}}])
    engine.cycles.run("p")  # a cold cache of compiled loops is filled before any clock starts
    return "p"


class Actor:
    """One thread's part, with dice of its own."""

    def __init__(self, engine: Engine, pool: str, seed: int) -> None:
        self.engine, self.pool = engine, pool
        self.dice = random.Random(seed)
        self.names = (f"{seed}-{n}" for n in count())
        self.cycles = Cycles(engine.database, engine.artifacts, "UTC")  # as a process of its own would have

    def produce(self) -> None:
        demands = {f"r{self.dice.randrange(5)}": 1, "fuel": 1}
        row: dict[str, Any] = {"weight": self.dice.randrange(100), "demands": demands}
        if self.dice.random() < 0.3:
            bundle = next(self.names)
            rows = [{**row, "key": next(self.names), "bundle_key": bundle, "bundle_size": 2} for _ in range(2)]
        else:
            rows = [{**row, "key": next(self.names)}]
        self.engine.intake.submit(self.pool, rows)

    def meddle(self) -> None:
        """Revise, cancel or squeeze something, whatever it is at just now."""
        key = self.dice.choice([row["key"] for row in self.engine.inquiry.items(self.pool)] or [""])
        match self.dice.randrange(4):
            case 0:
                self.engine.intake.cancel(self.pool, [key])
            case 1 | 2:
                self.engine.intake.revise(self.pool, key, {"weight": self.dice.randrange(100)})
            case 3:
                self.engine.intake.set_capacity(self.pool, f"r{self.dice.randrange(5)}", self.dice.randrange(1, 6), release=True)

    def cycle(self) -> None:
        report = self.cycles.run(self.pool)
        if self.dice.random() < 0.1:
            self.cycles.rollback(report["cycle"], pool=self.pool)

    def execute(self) -> None:
        claims = self.engine.execution.claim(self.pool, f"e{self.dice.randrange(3)}", most=3)
        if self.dice.random() < 0.2:
            return  # forget them
        pairs = [(claim["item"], claim["token"]) for claim in claims]
        if self.dice.random() < 0.3:
            self.engine.execution.fail(self.pool, pairs, error="boom")
        else:
            self.engine.execution.complete(self.pool, pairs)

    def sweep(self) -> None:
        self.engine.upkeep.sweep()
        self.engine.execution.heartbeat(self.pool, "e0", ttl_s=1)


def keep_doing(deed: Callable[[], None], until: float) -> int:
    """As an operator would: again after what the classes of failures tell to try again, never after anything else."""
    done = 0
    while time.monotonic() < until:
        try:
            deed()
            done += 1
        except (Retryable, StalePlan, Refused):
            time.sleep(0.001)
    return done


@pytest.mark.parametrize("seed", [1])
def test_a_crowd_breaks_no_promise(engine: Engine, pool: str, seed: int) -> None:
    print(f"seed {seed}")  # noqa: T201  # shown when it fails
    actors = [Actor(engine, pool, 100 * seed + n) for n in range(6)]
    deeds = [actors[0].produce, actors[1].cycle, actors[2].cycle, actors[3].execute, actors[4].meddle, actors[5].sweep]
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(len(deeds)) as threads:
        done = [future.result() for future in [threads.submit(keep_doing, deed, until) for deed in deeds]]
    assert all(done), done
    assert engine.upkeep.check() == []
    drain(engine, pool)
    assert engine.upkeep.check() == []
    assert not engine.inquiry.counts(pool).keys() & {"pending", "selected", "claimed"}
    assert engine.inquiry.counts(pool)["completed"]
    assert all(row["in_use"] == 0 for row in engine.inquiry.resources(pool))


def drain(engine: Engine, pool: str) -> None:
    """Let the last items through, one cycle after the other."""
    engine.intake.put_resources(pool, [{**row, "capacity": 10_000} for row in RESOURCES])
    for _ in range(50):
        engine.upkeep.sweep()
        engine.cycles.run(pool)
        claims = engine.execution.claim(pool, "last", most=100_000)
        engine.execution.complete(pool, [(claim["item"], claim["token"]) for claim in claims])
        if not engine.inquiry.counts(pool).keys() & {"pending", "selected", "claimed"}:
            return
        time.sleep(0.2)  # until the forgotten leases lapse


def test_the_locks_of_a_crowd_never_form_a_ring(engine: Engine, pool: str) -> None:
    """Revisions, commits, rollbacks, claims and failures of the same items at the same time wait for each other in one order."""
    keys = [f"i{n}" for n in range(60)]

    def rows(dice: random.Random, n: int) -> list[dict[str, Any]]:
        shuffled = dice.sample(keys, n)
        return [{"key": key, "weight": dice.randrange(9), "demands": {"fuel": 1, f"r{int(key[1:]) % 5}": 1}} for key in shuffled]

    actors = [Actor(engine, pool, seed) for seed in range(4)]
    engine.intake.submit(pool, rows(actors[0].dice, len(keys)))

    def revise(actor: Actor) -> None:
        engine.intake.submit(pool, rows(actor.dice, 8))

    def fail(actor: Actor) -> None:
        claims = [(claim["item"], claim["token"]) for claim in engine.execution.claim(pool, "e", most=9)]
        engine.execution.heartbeat(pool, "e")
        engine.execution.fail(pool, actor.dice.sample(claims, len(claims)), error="again")

    def decide(actor: Actor) -> None:
        actor.cycles.rollback(actor.cycles.run(pool)["cycle"], pool=pool)

    until = time.monotonic() + 4
    deeds = [partial(deed, actor) for deed, actor in zip((revise, revise, fail, decide), actors, strict=True)]
    with ThreadPoolExecutor(len(deeds)) as threads:
        done = [future.result() for future in [threads.submit(keep_doing, deed, until) for deed in deeds]]
    assert all(done), done
    with engine.database.begin() as connection:
        run(connection, "select pg_stat_force_next_flush()")
        assert run(connection, "select deadlocks from pg_stat_database where datname = current_database()").scalar_one() == 0
    assert engine.upkeep.check() == []


def test_two_committers_in_one_pool_take_turns(engine: Engine, pool: str) -> None:
    engine.intake.submit(pool, [{"key": f"i{n}", "weight": n, "demands": {f"r{n % 5}": 1}} for n in range(40)])
    owners = [Cycles(engine.database, engine.artifacts, "UTC") for _ in range(2)]

    def commit(owner: Cycles) -> int:
        done = 0
        while done < 4:
            try:
                owner.run(pool)
                done += 1
            except (Retryable, StalePlan):
                time.sleep(0.01)
        return done

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(commit, owners)) == [4, 4]
    assert engine.inquiry.counts(pool)["selected"] == sum(row["capacity"] for row in RESOURCES[:5])
    assert engine.upkeep.check() == []
