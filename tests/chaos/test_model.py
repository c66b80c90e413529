"""Any calls in any order: after each, every item is where the oracle says, and every answer is the one it foretold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis import seed as seeded
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from pipeline_project.core.errors import PipelineError
from pipeline_project.engine.engine import Engine
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.chaos.acts import reaper
from tests.chaos.depth import Depth
from tests.chaos.oracle import BACKOFF_S, HOLD_S, LEASE_S, MAX_ATTEMPTS, QUARANTINE_AFTER, Cycle, Denied, Item, Oracle
from tests.store.planting import run
from tests.world import NOON, World, entered

ITEMS_MAX = 9
"""The oracle tries every subset."""

numbers = count()
quantities = strategies.fixed_dictionaries({}, optional={"node": strategies.integers(1, 2), "fuel": strategies.integers(1, 2)})
which = strategies.integers(0, 10**6)
"""Of those that there are, this one: so every rule may always run."""


def foretold(call: Callable[[], Any], expectation: Callable[[], Any]) -> Any:
    """Both are made; they must agree on whether it is refused, and as what. The two answers, or None."""
    expected, refusal = None, None
    try:
        expected = expectation()
    except Denied as denied:
        refusal = str(denied)
    if refusal is None:
        return call(), expected
    with pytest.raises(PipelineError) as raised:
        call()
    assert type(raised.value).__name__ == refusal, raised.value
    return None


class PoolMachine(RuleBasedStateMachine):
    engine: Engine

    @initialize(keep_hold=strategies.booleans(), node=strategies.integers(1, 4))
    def begin(self, keep_hold: bool, node: int) -> None:
        self.world = World(self.engine, f"m{next(numbers)}")
        self.engine.intake.create_pool(self.world.pool)
        retries = {
            "max_attempts": MAX_ATTEMPTS,
            "backoff": f"{BACKOFF_S}s",
            "on_failure": "keep_hold" if keep_hold else "requeue",
            "quarantine_after": QUARANTINE_AFTER,
        }
        self.world.policy({"ttl": {"hold": f"{HOLD_S}s", "lease": f"{LEASE_S}s"}, "retries": retries, "solver": {"steps": 100_000}})
        self.world.resources(node=node)
        self.world.resources(kind="consumable", fuel=6)
        self.oracle = Oracle(self.world.now(), {"node": node, "fuel": 6}, keep_hold=keep_hold)
        self.keys: dict[int, str] = {}
        self.claims: list[tuple[str, int]] = []
        self.weights = iter(2**n for n in range(50))

    def one(self, n: int) -> Item:
        return list(self.oracle.items.values())[n % len(self.oracle.items)]

    def has_items(self) -> bool:
        return bool(self.oracle.items)

    def has_room(self) -> bool:
        return len(self.oracle.items) < ITEMS_MAX

    # -- what comes in

    @rule(size=strategies.integers(1, 3), demands=quantities, expires_s=strategies.sampled_from([None, None, 15, 100]))
    @precondition(has_room)
    def submit(self, size: int, demands: dict[str, int], expires_s: int | None) -> None:
        at = len(self.oracle.items) + next(numbers)
        until = self.oracle.now + timedelta(seconds=expires_s) if expires_s else None
        bundle = f"b{at}" if size > 1 else None
        items = [Item(len(self.oracle.items) + i, f"i{at}-{i}", next(self.weights), demands, bundle, size, until) for i in range(size)]
        rows = [{"key": item.key, "weight": item.weight, "demands": item.demands} for item in items]
        rows = [{**row, "expires_at": until.isoformat()} if until else row for row in rows]
        rows = [{**row, "bundle_key": bundle, "bundle_size": size} if bundle else row for row in rows]
        receipt = self.world.submit_all(*rows)
        assert len(receipt.refused) == self.oracle.submit(items)

    @rule(n=which)
    @precondition(has_items)
    def revise(self, n: int) -> None:
        item, weight = self.one(n), next(self.weights)
        intake = self.engine.intake
        foretold(lambda: intake.revise(self.world.pool, item.key, {"weight": weight}), lambda: self.oracle.revise(item, weight))

    @rule(n=which)
    @precondition(has_items)
    def cancel(self, n: int) -> None:
        item = self.one(n)
        assert bool(self.engine.intake.cancel(self.world.pool, [item.key])) == self.oracle.cancel(item)

    @rule(n=which)
    @precondition(lambda self: any(item.state in ("expired", "failed", "quarantined") for item in self.oracle.items.values()))
    def revive(self, n: int) -> None:
        back = [item for item in self.oracle.items.values() if item.state in ("expired", "failed", "quarantined")]
        item = back[n % len(back)]
        assert bool(self.engine.intake.revive(self.world.pool, [item.key])) == self.oracle.revive(item)

    @rule(resource=strategies.sampled_from(["node", "fuel"]), capacity=strategies.integers(0, 6), release=strategies.booleans())
    def set_capacity(self, resource: str, capacity: int, release: bool) -> None:
        foretold(
            lambda: self.engine.intake.set_capacity(self.world.pool, resource, capacity, release=release),
            lambda: self.oracle.set_capacity(resource, capacity, release=release),
        )

    @rule(paused=strategies.sampled_from([False, False, True]))
    def pause_or_resume(self, paused: bool) -> None:
        (self.engine.intake.pause if paused else self.engine.intake.resume)(self.world.pool)
        self.oracle.paused = paused

    # -- cycles

    @rule()
    def plan(self) -> None:
        self._remember(foretold(lambda: self.engine.cycles.plan(self.world.pool), self.oracle.plan))

    def _remember(self, both: tuple[dict[str, Any], Cycle] | None) -> None:
        """An unchanged world is the same cycle: then the oracle's second one is the first, or another attempt at it."""
        if both is None:
            return
        report, cycle = both
        assert report["value"] == sum(item.weight for candidate in cycle.chosen for item, _ in candidate) or report["status"] != "planned"
        known = next((number for number, key in self.keys.items() if key == report["cycle"]), None)
        if known is not None:
            assert self.oracle.cycles.pop() is cycle
            if report["status"] == "planned" and not cycle.chosen:
                self.oracle.cycles[known].status = "planned"
        else:
            self.keys[cycle.number] = report["cycle"]

    @rule()
    def run(self) -> None:
        """Planned and committed at once: nothing can be stale."""
        planned = foretold(lambda: self.engine.cycles.plan(self.world.pool), self.oracle.plan)
        self._remember(planned)
        if planned:
            number = next(number for number, key in self.keys.items() if key == planned[0]["cycle"])
            self._commit(self.oracle.cycles[number])

    @rule(n=which)
    @precondition(lambda self: bool(self.oracle.cycles))
    def commit(self, n: int) -> None:
        self._commit(self.oracle.cycles[n % len(self.oracle.cycles)])

    def _commit(self, cycle: Cycle) -> None:
        """Of a live cycle: the oracle's reprocess plans and commits in one."""
        key = self.keys.get(cycle.number)
        if key and not cycle.reprocess:
            foretold(lambda: self.engine.cycles.commit_planned(key, pool=self.world.pool), lambda: self.oracle.commit(cycle))

    @rule(n=which, hold_s=strategies.sampled_from([0, 20]))
    @precondition(lambda self: any(cycle.status == "published" for cycle in self.oracle.cycles))
    def rollback(self, n: int, hold_s: int) -> None:
        cycle = self.oracle.cycles[n % len(self.oracle.cycles)]
        key = self.keys.get(cycle.number)
        if key:
            cycles = self.engine.cycles
            foretold(lambda: cycles.rollback(key, pool=self.world.pool, hold_s=hold_s), lambda: self.oracle.rollback(cycle, hold_s))

    @rule()
    @precondition(lambda self: any(cycle.status == "published" for cycle in self.oracle.cycles))
    def reprocess(self) -> None:
        day = NOON.date()
        both = foretold(lambda: self.engine.cycles.reprocess(self.world.pool, day, day), self.oracle.reprocess)
        if both:
            self.keys[self.oracle.cycles[-1].number] = both[0][0]["cycle"]

    # -- executors and time

    @rule(executor=strategies.sampled_from(["e", "f"]), most=strategies.integers(1, 4))
    def claim(self, executor: str, most: int) -> None:
        claims = self.engine.execution.claim(self.world.pool, executor, most=most)
        assert [(claim["item"], claim["token"]) for claim in claims] == self.oracle.claim(executor, most)
        self.claims += [(claim["item"], claim["token"]) for claim in claims]

    @rule(n=which)
    @precondition(lambda self: bool(self.claims))
    def complete(self, n: int) -> None:
        """Any claim ever made: those that are over are refused, and those already completed are accepted again."""
        claim = self.claims[n % len(self.claims)]
        (answer,) = self.engine.execution.complete(self.world.pool, [claim])
        assert answer["accepted"] == self.oracle.complete(*claim)

    @rule(n=which)
    @precondition(lambda self: bool(self.claims))
    def fail(self, n: int) -> None:
        key, token = self.claims[n % len(self.claims)]
        item = self.oracle.items[key]
        (answer,) = self.engine.execution.fail(self.world.pool, [(key, token)], error="boom")
        if item.token == token and item.state == "claimed":
            self.oracle.fail(item)
            assert answer["accepted"]
        assert answer["state"] == item.state

    @rule(executor=strategies.sampled_from(["e", "f"]))
    def heartbeat(self, executor: str) -> None:
        assert self.engine.execution.heartbeat(self.world.pool, executor) == self.oracle.heartbeat(executor)

    @rule(seconds=strategies.sampled_from([1, 9, 14, 40]))
    def let_time_pass(self, seconds: int) -> None:
        self.oracle.now = self.world.advance(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        reaper(self.world).sweep()
        self.oracle.sweep()

    # -- and after each of them

    @invariant()
    def all_is_as_foretold(self) -> None:
        found = {row["key"]: (row["state"], row["version"], row["attempts"], row["rank"], row["not_before"]) for row in self._rows()}
        items = self.oracle.items.values()
        assert found == {item.key: (item.state, item.version, item.attempts, item.rank, item.not_before) for item in items}
        use = {row["key"]: (row["capacity"], row["in_use"] + row["spent"], row["spent"]) for row in self._resources()}
        assert use == {key: (capacity, self.oracle.taken(key), self.oracle.spent(key)) for key, capacity in self.oracle.capacity.items()}

    def _rows(self) -> list[dict[str, Any]]:
        return self.engine.inquiry.items(self.world.pool)

    def _resources(self) -> list[dict[str, Any]]:
        return self.engine.inquiry.resources(self.world.pool)

    def teardown(self) -> None:
        """What is left would be swept in the next example's time."""
        for key in self.oracle.items if hasattr(self, "oracle") else ():
            self.engine.intake.cancel(self.world.pool, [key])
        assert self.engine.upkeep.check() == []


@pytest.fixture
def simulated(clones: Callable[[], AbstractContextManager[Database]], tmp_path: Any) -> Iterator[Engine]:
    with clones() as database:
        with entered(database) as connection:
            run(connection, "insert into pipeline.clock (at) values (:at)", at=NOON.replace(hour=0))
            run(connection, "select pipeline.ensure_partitions(2)")
        yield Engine.over(database, Artifacts(str(tmp_path / "artifacts")), timezone="UTC")


def test_whatever_is_called_in_whatever_order_it_is_as_foretold(simulated: Engine, depth: Depth) -> None:
    class Machine(PoolMachine):
        engine = simulated

    examples = 10 if depth.soak_s is None else max(10, int(depth.soak_s))
    shrinking = (Phase.shrink,) if depth.soak_s else ()  # it takes minutes, longer than a test may; `--seed` brings the failure back
    deep = settings(
        max_examples=examples,
        stateful_step_count=30,
        phases=(Phase.generate, *shrinking),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    seeded(random.Random(depth.seed).randrange(2**32))(Machine)
    run_state_machine_as_test(Machine, settings=deep)
