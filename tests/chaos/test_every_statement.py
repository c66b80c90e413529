"""Break step 1 of a call, then 2, then 3, to its last; after each, the same call again finishes it, once, and every promise is kept.

A step is a statement or a COMMIT; how many there are is found by a call that is not broken. Where not every step is asked for
(`--every-statement`), the seed picks some.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import PipelineError
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.engine import Engine
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.chaos.acts import ACTS, CHUNK, Act, furnished
from tests.chaos.breaking import NEVER, Broken, at_step, fail, terminator
from tests.chaos.crashing import crash, database_of_its_own
from tests.chaos.depth import Depth
from tests.chaos.nursery import Nursery
from tests.chaos.wire import SOCKET, Proxy
from tests.store.planting import run
from tests.world import NOON, World, entered

POINTS_LIMIT = 400
"""No call below has so many steps."""

LOOK_EVERY = 10

NUMBERS = count(1)

Break = Callable[[World, Any, int], bool]
"""Makes the call in this pool, broken at its n-th point; whether it came so far."""


@dataclass
class Bench:
    """A new pool for each break, in one database."""

    engine: Engine
    act: Act
    name: str

    def world(self) -> tuple[World, Any]:
        world = furnished(self.engine, f"{self.name}-{next(NUMBERS)}")
        return world, self.act.prepare(world)

    def steps(self) -> int:
        world, prepared = self.world()
        with at_step(self.engine.database, NEVER, fail) as counting:
            self.act.call(world, prepared)
        self.act.check(world)
        assert 1 < counting.counted < POINTS_LIMIT
        return counting.counted

    def break_at(self, points: list[int], broken: Break) -> None:
        """What breaks a promise stays where it is, so not each point has to be followed by a look at all pools."""
        for done, n in enumerate(points, 1):
            world, prepared = self.world()
            # A few requests more or less: the driver prepares what it has sent five times on one connection.
            assert broken(world, prepared, n) or n > 0.8 * points[-1], f"no point {n}"
            try:
                self.act.call(world, prepared)
                self.act.check(world)
                if done % LOOK_EVERY == 0 or done == len(points):
                    assert self.engine.upkeep.check() == [], "in the pool of this point, or of one of those before it"
            except Exception as failure:
                failure.add_note(f"broken at point {n}")
                raise


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is broken between two chunks, too."""
    monkeypatch.setattr(Commit, "_chunk_size", lambda _: CHUNK)


@pytest.fixture(scope="module")
def shared(clones: Callable[[], AbstractContextManager[Database]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One simulated database for all of a worker's breaks, each in a pool of its own."""
    with clones() as database:
        tell_the_time(database)
        yield Engine.over(database, Artifacts(str(tmp_path_factory.mktemp("breaks") / "artifacts")), timezone="UTC")


def tell_the_time(database: Database) -> None:
    with entered(database) as connection:
        run(connection, "insert into pipeline.clock (at) values (:at)", at=NOON)
        run(connection, "select pipeline.ensure_partitions(2)")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture
def bench(shared: Engine, request: pytest.FixtureRequest) -> Bench:
    return Bench(shared, ACTS[request.param], request.param)


def attempted(act: Act, world: World, prepared: Any) -> None:
    """What a broken call raises is what its caller sees; that it says the right thing is other tests' business."""
    with suppress(Broken, PipelineError, sa.exc.DBAPIError):
        act.call(world, prepared)


every_act = pytest.mark.parametrize("bench", list(ACTS), indirect=True)


@every_act
@pytest.mark.parametrize("way", ["exception", "terminated"])
def test_broken_in_this_process_and_made_again_it_happened_once(bench: Bench, depth: Depth, way: str) -> None:
    deed = fail if way == "exception" else terminator(bench.engine.database)

    def broken(world: World, prepared: Any, n: int) -> bool:
        with at_step(bench.engine.database, n, deed) as countdown:
            attempted(bench.act, world, prepared)
        return countdown.done

    bench.break_at(depth.some(range(1, bench.steps() + 1)), broken)


@every_act
def test_killed_and_made_again_by_another_it_happened_once(bench: Bench, depth: Depth, nursery: Nursery) -> None:
    def broken(world: World, prepared: Any, n: int) -> bool:
        ended = nursery.kill(bench.engine, bench.name, world.pool, prepared, n)
        assert ended in (0, -signal.SIGKILL)
        let_leases_lapse(bench.engine)
        return ended != 0

    bench.break_at(depth.some(range(1, bench.steps() + 1)), broken)


@every_act
@pytest.mark.parametrize("side", ["request", "answer"])
def test_cut_off_on_the_wire_and_made_again_it_happened_once(bench: Bench, depth: Depth, side: Literal["request", "answer"]) -> None:
    """The connection is lost before a request reaches the server, or after the server has done it: COMMIT is one of them."""
    with through_a_proxy(bench.engine) as (proxy, behind):

        def call(world: World, prepared: Any, n: int) -> bool:
            proxy.arm(n, side)
            if bench.act.repeats:
                bench.act.call(World(behind, world.pool), prepared)
            else:
                attempted(bench.act, World(behind, world.pool), prepared)
            done = proxy.done
            proxy.arm(0, side)
            let_leases_lapse(bench.engine)
            return done

        requests, commits = counted(proxy, behind, bench)
        chosen = sorted({*depth.some(range(1, requests + 1)), *depth.some(commits, one_in=3)})
        bench.break_at(chosen, call)


def test_a_turn_is_one_request_on_the_wire(shared: Engine) -> None:
    """Completing what is done and claiming what is next: no BEGIN, no COMMIT, and nobody asks first whether the server is there."""
    with through_a_proxy(shared) as (proxy, behind):
        requests, commits = counted(proxy, behind, Bench(shared, ACTS["turn"], "one-request"))
    assert (requests, commits) == (1, [])


def counted(proxy: Proxy, behind: Engine, bench: Bench) -> tuple[int, list[int]]:
    """How many requests the call makes, and which of them are COMMITs."""
    world, prepared = bench.world()
    bench.act.call(World(behind, world.pool), prepared)  # warms up: the first connection asks the server who it is
    world, prepared = bench.world()
    proxy.arm(0, "request")
    bench.act.call(World(behind, world.pool), prepared)
    return proxy.counted, list(proxy.commits)


@contextmanager
def through_a_proxy(engine: Engine) -> Iterator[tuple[Proxy, Engine]]:
    url = engine.database.url
    proxy = Proxy(f"{url.query['host']}/{SOCKET}")
    database = replace(engine.database, url=url.update_query_dict({"host": str(proxy.folder)}), _engines=[], server=None)
    try:
        yield proxy, Engine.over(database, engine.artifacts, timezone="UTC")
    finally:
        database.close()
        proxy.close()


def let_leases_lapse(engine: Engine) -> None:
    """As a minute of silence would."""
    with entered(engine.database) as connection:
        run(
            connection,
            "update pipeline.cycle set lease_until = pipeline.now() - interval '1 second' where status in ('committing', 'rolling_back')",
        )


@pytest.mark.parametrize("name", ["commit", "claim", "complete", "rollback", "reprocess", "sweep", "import"])
def test_the_server_crashes_and_what_is_made_again_happened_once(crashing: Engine, depth: Depth, name: str) -> None:
    bench = Bench(crashing, ACTS[name], name)
    server = crashing.database.server
    assert server is not None

    def broken(world: World, prepared: Any, n: int) -> bool:
        with at_step(crashing.database, n, lambda _: crash(server)) as countdown:
            attempted(bench.act, world, prepared)
        let_leases_lapse(crashing)
        return countdown.done

    bench.break_at(depth.some(range(1, bench.steps() + 1), one_in=12)[:: 3 if depth.whole else 1], broken)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with database_of_its_own() as database:
        yield Engine.over(database, Artifacts(str(tmp_path_factory.mktemp("crash") / "artifacts")), timezone="UTC")
