"""Who holds up the feed and VACUUM and is no session: prepared transactions, replication slots, standbys that tell what they look at."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import pq

from pipeline_project.core.policy import Policy
from pipeline_project.store import catalog, feed, pools
from pipeline_project.store.database import Database
from tests.chaos.crashing import database_of_its_own
from tests.store.planting import run
from tests.world import entered, until

SETTINGS: Final = {"max_prepared_transactions": "2", "wal_level": "logical", "max_replication_slots": "2", "max_wal_senders": "2"}


@pytest.fixture(scope="module")
def replicated() -> Iterator[Database]:
    """A server of our own that allows prepared transactions and slots: the embedded one has no use for either."""
    with database_of_its_own() as database:
        with superuser(database) as connection:
            for name, value in SETTINGS.items():
                connection.exec_driver_sql(f"alter system set {name} = {value}")
        restart(database)
        yield database


def restart(database: Database) -> None:
    assert database.server is not None
    server = database.server.server
    stop = [str(server.binaries.folder / "pg_ctl"), "-D", str(server.data), "-m", "fast", "-s", "-w", "stop"]
    subprocess.run(server.account.becoming(*stop), check=True, cwd="/")
    database.server._ensure_running()


@contextmanager
def superuser(database: Database) -> Iterator[sa.Connection]:
    """Outside of transactions."""
    engine = sa.create_engine(database.admin, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def standing(database: Database) -> dict[str, Any]:
    with database.begin() as connection:
        return feed.horizon_state(connection)


def test_a_prepared_transaction_holds_feed_and_vacuum_and_is_named_with_what_to_do(
    replicated: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is connected any more, and still its number is the oldest."""
    with superuser(replicated) as connection:
        connection.exec_driver_sql("create table public.elsewhere (n int)")
        connection.exec_driver_sql("begin; insert into public.elsewhere values (1); prepare transaction 'left behind'")
    try:
        found = standing(replicated)
        (holder,) = found["held_by"]
        assert (holder["what"], holder["name"], holder["database"], holder["pid"]) == ("prepared transaction", "left behind", "own", None)
        assert int(found["horizon"]) == int(holder["xid"])
        assert [row["name"] for row in found["vacuum_held_by"] if row["what"] == "prepared transaction"] == ["left behind"]
        with replicated.begin() as connection:
            pools.create(connection, "waits", Policy.from_document({}, "test"))
            pools.record_event(connection, pools.find(connection, "waits").pool_id, "resumed", {})
        assert standing(replicated)["waiting_rows"] > 0
        monkeypatch.setattr(catalog, "LONG_S", -1)
        (hint,) = catalog.hints([], None, 1, [*found["held_by"], *found["vacuum_held_by"]])
        assert "`rollback prepared 'left behind'`" in hint
    finally:
        with superuser(replicated) as connection:
            connection.exec_driver_sql("rollback prepared 'left behind'")
    until(lambda: standing(replicated)["waiting_rows"] == 0)
    assert [row for row in standing(replicated)["vacuum_held_by"] if row["what"] == "prepared transaction"] == []


def test_a_logical_slot_holds_vacuum_and_not_the_feed(replicated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with superuser(replicated) as connection:
        connection.exec_driver_sql("select pg_create_logical_replication_slot('left', 'pgoutput')")
    try:
        before = int(standing(replicated)["horizon"])
        with entered(replicated) as connection:
            run(connection, "select pg_current_xact_id()")
        until(lambda: int(standing(replicated)["horizon"]) > before)
        (holder,) = [row for row in standing(replicated)["vacuum_held_by"] if row["what"] == "replication slot"]
        assert (holder["name"], holder["state"], holder["database"]) == ("left", "inactive", "own")
        assert holder["transactions"] >= 1
        monkeypatch.setattr(catalog, "SLOT_BEHIND", 0)
        (hint,) = catalog.hints([], None, 1, [holder])
        assert "`select pg_drop_replication_slot('left')`" in hint
    finally:
        with superuser(replicated) as connection:
            connection.exec_driver_sql("select pg_drop_replication_slot('left')")


@pytest.mark.parametrize("slot", ["", "mirror"])
def test_a_standby_that_tells_what_its_readers_look_at_is_named(replicated: Database, slot: str) -> None:
    """With a physical slot it is the slot that keeps it, also when the standby is away; a slot nobody has used holds nothing."""
    with superuser(replicated) as connection:
        oldest = int(connection.exec_driver_sql("select pg_snapshot_xmin(pg_current_snapshot())::text").scalar_one())
        if slot:
            connection.exec_driver_sql("select pg_create_physical_replication_slot('mirror', true)")
    what = "replication slot" if slot else "standby"
    assert what not in {row["what"] for row in standing(replicated)["vacuum_held_by"]}
    try:
        with standby(replicated, slot, oldest):
            until(lambda: what in {row["what"] for row in standing(replicated)["vacuum_held_by"]})
            (holder,) = [row for row in standing(replicated)["vacuum_held_by"] if row["what"] == what]
            assert (holder["name"], holder["application"]) == (("mirror", None) if slot else (None, "replica"))
            assert int(holder.get("xmin") or 0) == oldest
            assert standing(replicated)["held_by"] == []
    finally:
        if slot:
            until(lambda: not any(row["state"] == "active" for row in standing(replicated)["vacuum_held_by"]))
            assert any(row["name"] == "mirror" for row in standing(replicated)["vacuum_held_by"])
            with superuser(replicated) as connection:
                connection.exec_driver_sql("select pg_drop_replication_slot('mirror')")


@contextmanager
def standby(database: Database, slot: str, xmin: int) -> Iterator[None]:
    """What hot_standby_feedback makes a standby say, without the standby: its walreceiver's message."""
    url = database.admin.set(drivername="postgresql").render_as_string(hide_password=False)
    conninfo = psycopg.conninfo.make_conninfo(url, replication="true", application_name="replica")
    connection = pq.PGconn.connect(conninfo.encode())
    assert connection.status == pq.ConnStatus.OK, connection.error_message
    where = connection.exec_(b"IDENTIFY_SYSTEM").get_value(0, 2)
    assert where is not None
    begun = connection.exec_(b"START_REPLICATION " + (f'SLOT "{slot}" '.encode() if slot else b"") + b"PHYSICAL " + where)
    assert begun.status == pq.ExecStatus.COPY_BOTH, begun.error_message
    connection.put_copy_data(b"h" + struct.pack("!qIIII", 0, xmin, 0, 0, 0))
    connection.flush()
    try:
        yield
    finally:
        connection.finish()
