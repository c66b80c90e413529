"""Whoever follows the feed misses nothing, sees nothing twice that is acknowledged, and knows who keeps it waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import psycopg
import pytest

from pipeline_project.core.errors import CheckFailed, Refused, UsageError
from pipeline_project.core.items import check_item_rows
from pipeline_project.core.positions import START, Position
from pipeline_project.engine.engine import Engine
from pipeline_project.store import feed, intake, pools
from pipeline_project.store.database import Database
from tests.store.planting import run, unwatched
from tests.world import World, entered, settle, until

WRITERS, EACH = 6, 25


def drain(engine: Engine, consumer: str, *, most: int = 7, pool: str | None = None) -> list[dict[str, Any]]:
    """Read and acknowledge until there is nothing new."""
    rows: list[dict[str, Any]] = []
    while (page := engine.feed.read(consumer, most=most, pool=pool)).rows:
        rows += page.rows
        engine.feed.acknowledge(consumer, page.until)
    return rows


def test_with_six_writers_nothing_is_missed_and_nothing_doubled(engine: Engine) -> None:
    """Each transaction takes its numbers first and commits after a pause: a cursor on a sequence would pass over the slow ones."""
    engine.intake.create_pool("p")
    done = Event()

    def write(writer: int) -> None:
        dice = random.Random(writer)
        for n in range(EACH):
            batch, _ = check_item_rows([(1, {"key": f"{writer}-{n}", "weight": 1, "demands": {}})])
            with engine.database.begin() as connection:
                intake.submit(connection, pools.find(connection, "p"), batch)
                time.sleep(dice.random() * 0.03)

    def consume() -> list[str]:
        seen: list[dict[str, Any]] = []
        while not done.is_set():
            seen += drain(engine, "c")
        settle(engine)
        return [row["item"] for row in seen + drain(engine, "c") if row["event"] == "submit"]

    with ThreadPoolExecutor(WRITERS + 1) as threads:
        reading = threads.submit(consume)
        try:
            list(threads.map(write, range(WRITERS)))
        finally:
            done.set()
        seen = reading.result()
    expected = {f"{writer}-{n}" for writer in range(WRITERS) for n in range(EACH)}
    assert (len(expected - set(seen)), len(seen) - len(set(seen))) == (0, 0), "missed, doubled"
    for writer in range(WRITERS):
        own = [int(item.partition("-")[2]) for item in seen if item.startswith(f"{writer}-")]
        assert own == sorted(own), "what one writer committed after the other is read in that order"


def test_a_page_comes_again_until_it_is_acknowledged(world: World) -> None:
    world.submit_all(*({"key": f"k{n}", "weight": 1, "demands": {}} for n in range(5)))
    settle(world.engine)
    first = world.engine.feed.read("a", most=3)
    again = world.engine.feed.read("a", most=3)
    assert (again.rows, again.until) == (first.rows, first.until)
    assert world.engine.feed.acknowledge("a", first.until)
    assert not world.engine.feed.acknowledge("a", first.until)
    rest = world.engine.feed.read("a", most=100)
    positions = [Position.of(row["position"]) for row in first.rows + rest.rows]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)
    assert [row["event"] for row in first.rows + rest.rows] == ["pool_created", *["submit"] * 5], "a transaction is read in pages, too"
    assert len(world.engine.feed.read("b").rows) == 6, "each consumer has its own cursor"


def test_a_cursor_goes_back_only_on_purpose(world: World) -> None:
    world.submit("k")
    settle(world.engine)
    page = world.engine.feed.read("a")
    world.engine.feed.acknowledge("a", page.until)
    assert not world.engine.feed.acknowledge("a", START)
    assert world.engine.feed.read("a").rows == []
    assert world.engine.feed.acknowledge("a", Position(0, 0), backwards=True)
    assert world.engine.feed.read("a").rows == page.rows


def test_what_cannot_be_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="expected a position below the horizon"):
        world.engine.feed.acknowledge("a", Position(2**62, 0))
    for name in ("", "a b", "x" * 65):
        with pytest.raises(UsageError, match="consumer: expected"):
            world.engine.feed.read(name)
    with entered(world.engine.database) as connection:
        run(connection, "insert into pipeline.feed_cursor values ('old', '4611686018427387904', now(), 0)")
    with pytest.raises(Refused, match="restored from a server that had counted further"):
        world.engine.feed.read("old")


def test_nothing_is_sealed_behind_what_another_server_has_sealed(world: World) -> None:
    world.submit("a")
    until(lambda: not world.engine.audit.status()["unsealed"] or bool(world.engine.audit.seal()["seals"]))
    with entered(world.engine.database) as connection, unwatched(connection):
        run(connection, "update pipeline.audit_seal set until_xid = '4611686018427387904'")
    with pytest.raises(CheckFailed, match="restored from a server that had counted further, and nothing was sealed"):
        world.engine.audit.seal()


def test_of_one_pool_only_its_rows_are_read(world: World) -> None:
    world.engine.intake.create_pool("q")
    world.submit("mine")
    world.engine.intake.submit("q", [{"key": "theirs", "weight": 1, "demands": {}}])
    settle(world.engine)
    assert [row["item"] for row in drain(world.engine, "a", pool="p", most=1)] == [None, "mine"]
    assert [row["item"] for row in drain(world.engine, "b", pool="q", most=1)] == [None, "theirs"]


@contextmanager
def writing(database: Database, application: str, url: str | None = None) -> Iterator[int]:
    """Somebody who has begun to write, and does not end: its transaction."""
    plain = url or database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, application_name=application) as connection:
        row = connection.execute("select pg_current_xact_id()::text").fetchone()
        assert row is not None
        yield int(row[0])
        connection.rollback()


def test_lag_and_who_holds_the_horizon_are_told(world: World) -> None:
    settle(world.engine)
    drain(world.engine, "a")
    with writing(world.engine.database, "the slow one") as held:
        world.submit("waits")
        until(lambda: int(world.engine.feed.status()["horizon"]) == held)  # others on this server end
        status = world.engine.feed.status()
        assert world.engine.feed.read("a").rows == []
        holder = next(row for row in status["held_by"])
        assert (holder["what"], holder["application"], holder["user"], holder["state"]) == (
            "session", "the slow one", "pipeline", "idle in transaction",
        )  # fmt: skip
        assert holder["pid"]
        assert holder["seconds"] >= 0
        assert status["waiting_rows"] == 1
    settle(world.engine)
    consumer = next(row for row in world.engine.feed.status()["consumers"] if row["consumer"] == "a")
    assert consumer["lag_rows"] == 1
    assert drain(world.engine, "a")[0]["item"] == "waits"
    assert next(row for row in world.engine.feed.status()["consumers"])["lag_rows"] == 0


def test_a_writer_in_another_database_is_told_apart(world: World) -> None:
    elsewhere = world.engine.database.url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    with writing(world.engine.database, "elsewhere", elsewhere) as held:
        until(lambda: int(world.engine.feed.status()["horizon"]) == held)
        holder = world.engine.feed.status()["held_by"][0]
        assert (holder["what"], holder["database"]) == ("session in another database", "postgres")


class Ear:
    """Counts every hint, with who gave it."""

    def __init__(self, database: Database) -> None:
        self._listener = feed.Listener(database.url)
        self._connection = self._listener._connection

    def heard(self, seconds: float = 0.3) -> list[int]:
        return [hint.pid for hint in self._connection.notifies(timeout=seconds)]

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def ear(world: World) -> Iterator[Ear]:
    listening = Ear(world.engine.database)
    yield listening
    listening.close()


def test_claims_and_completions_hint_nothing(world: World, ear: Ear) -> None:
    world.submit_all(*({"key": f"k{n}", "weight": 1, "demands": {}} for n in range(100)))
    world.cycle()
    assert ear.heard()
    claims = {key: token for n in range(100) for key, token in world.claim(f"k{n}").items()}
    world.complete(claims)
    assert len(claims) == 100
    assert ear.heard() == []


def test_a_transaction_hints_once_however_much_it_does(world: World, ear: Ear) -> None:
    with world.engine.database.begin() as connection:
        pool = pools.find(connection, world.pool)
        for n in range(3):
            batch, _ = check_item_rows([(1, {"key": f"k{n}", "weight": 1, "demands": {}})])
            intake.submit(connection, pool, batch)
            pools.record_event(connection, pool.pool_id, "note", {})
    assert len(ear.heard()) == 1


def test_a_commit_in_three_chunks_hints_at_most_once_a_transaction(world: World, ear: Ear) -> None:
    world.policy({"limits": {"chunk": 1000}})
    world.submit_all(*({"key": f"k{n}", "weight": 1, "demands": {}} for n in range(2500)))
    ear.heard()
    cycle = world.cycle()
    with world.engine.database.begin() as connection:
        chunks = run(connection, "select count(*) from pipeline.cycle_chunk").scalar_one()
        events = run(connection, "select count(distinct xid) from pipeline.pool_event where kind like 'cycle%'").scalar_one()
    assert (cycle["selected"], chunks, events) == (2500, 3, 1)
    assert len(ear.heard()) == events


def test_a_follower_is_woken_and_acknowledges_what_is_done(world: World) -> None:
    settle(world.engine)
    drain(world.engine, "f")

    def follow() -> list[str]:
        seen = []
        for page in world.engine.feed.follow("f", seconds=60, poll_s=0.05):
            seen += [row["item"] for row in page.rows]
            if len(seen) == 2:
                break
        return seen

    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(follow)
        world.submit("one")
        world.submit("two")
        assert following.result() == ["one", "two"]
    last = world.engine.feed.read("f").rows
    assert "two" in [row["item"] for row in last], "a page that was not done comes again"
    assert list(world.engine.feed.follow("f", seconds=0)), "and again"


def test_waiting_ends_without_a_hint(world: World) -> None:
    assert world.engine.feed.wait(0.05) is False
