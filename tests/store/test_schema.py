"""Creating and migrating: once, twice, two at a time, and never backwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from pipeline_project.core.errors import Refused, SchemaMismatch
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import EmbeddedPostgres
from tests.store.planting import run
from tests.world import NOON, entered

YESTERDAY = NOON.replace(day=14)


def test_a_fresh_database_has_the_schema_of_this_code(database: Database) -> None:
    schema.check(database)
    assert schema.version(database) == schema.head()


def test_the_names_of_the_files_say_what_alembic_reads_in_them() -> None:
    assert schema.revisions() == tuple(reversed([script.revision for script in ScriptDirectory(str(schema.MIGRATIONS)).walk_revisions()]))


def test_creating_twice_changes_nothing(database: Database) -> None:
    assert schema.create(database) == schema.head()
    schema.check(database)


def test_two_initialisations_at_once_make_one_database(settings: Settings, server: EmbeddedPostgres) -> None:
    name = f"t{uuid4().hex}"
    databases = [Database.find(name, settings) for _ in range(2)]
    try:
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(schema.create, databases)) == [schema.head()] * 2
        schema.check(databases[0])
    finally:
        databases[1].close()
        schema.drop(databases[0])


def test_a_database_that_is_not_there_says_how_to_make_it(settings: Settings, server: EmbeddedPostgres) -> None:
    database = Database.find("nowhere", settings)
    with pytest.raises(SchemaMismatch, match="run `pipeline db init --database nowhere`"):
        schema.check(database)
    database.close()


def test_a_schema_newer_than_the_code_is_refused(database: Database) -> None:
    with entered(database) as connection:
        run(connection, "update pipeline.alembic_version set version_num = '9999'")
    for call in (schema.check, schema.create):
        with pytest.raises(SchemaMismatch, match=r"schema 9999 is newer than this code's"):
            call(database)


def test_only_a_new_database_becomes_a_simulation(database: Database) -> None:
    with pytest.raises(Refused, match="only a new database can become a simulation"):
        schema.create(database, simulation_start=NOON)


def test_real_time_cannot_be_told(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="lives in real time"), database.begin() as connection:
        run(connection, "select pipeline.advance_clock(now())")


def test_simulated_time_stands_still_until_it_is_told_and_only_moves_forward(simulation: Database) -> None:
    with simulation.begin() as connection:
        assert run(connection, "select pipeline.now()").scalar_one() == NOON
        run(connection, "select pipeline.advance_clock(:at)", at=NOON.replace(hour=13))
        assert run(connection, "select pipeline.now()").scalar_one() == NOON.replace(hour=13)
        run(connection, "select pipeline.advance_clock(:at)", at=NOON.replace(hour=13))
    with pytest.raises(sa.exc.DBAPIError, match="only moves forward"), simulation.begin() as connection:
        run(connection, "select pipeline.advance_clock(:at)", at=YESTERDAY)


def test_real_time_passes_within_a_transaction(database: Database) -> None:
    """A statement that waited for a lock must not judge by the time it was when the transaction began."""
    with database.begin() as connection:
        first = run(connection, "select pipeline.now()").scalar_one()
        assert run(connection, "select pipeline.now()").scalar_one() > first
        assert abs(first - datetime.now(UTC)).total_seconds() < 60


def test_partitions_are_made_ahead_of_simulated_time(simulation: Database) -> None:
    with simulation.begin() as connection:
        run(connection, "select pipeline.advance_clock(:at)", at=NOON.replace(year=2027, month=11))
        for month in ("2027_11", "2027_12", "2028_01"):
            assert run(connection, "select to_regclass(:name)", name=f"pipeline.transition_{month}").scalar_one()
        assert run(connection, "select pipeline.ensure_partitions(2)").scalar_one() == 0


def test_a_session_that_froze_is_ended_and_a_lock_is_not_waited_for_without_end(database: Database) -> None:
    with database.begin() as connection:
        for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
            assert run(connection, f"show {name}").scalar_one() not in ("0", None)


def test_two_processes_that_migrate_at_once_wait_for_each_other(settings: Settings, database: Database) -> None:
    """The second waits for the lock, and then finds nothing to do."""
    _as_before(database)
    environment = {**os.environ, "PIPELINE_HOME": str(settings.home)}
    command = [
        sys.executable,
        "-c",
        "from pipeline_project.cli.main import main; main()",
        "db",
        "migrate",
        "--database",
        database.name,
        "--json",
    ]
    with entered(database) as connection:
        run(connection, "select pg_advisory_xact_lock(:lock)", lock=schema.LOCK)
        processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        _until_two_wait(database)
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert {json.loads(answer)["schema"] for answer in answers} == {schema.head()}
    schema.check(database)


def test_a_migration_that_is_interrupted_leaves_the_version_before_it_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of it is in one transaction, so that it is all there or not at all."""
    _as_before(database)
    before = _tables(database)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schema, "_version", lambda connection: broken() if _has_head(connection) else schema.before("head"))
        with pytest.raises(KeyboardInterrupt):
            schema.migrate(database)
    assert schema.version(database) == schema.before("head")
    assert _tables(database) == before
    assert schema.migrate(database) == schema.head()


def _has_head(connection: sa.Connection) -> bool:
    return bool(run(connection, "select version_num = :head from pipeline.alembic_version", head=schema.head()).scalar_one())


def _as_before(database: Database) -> None:
    """This database made anew, one migration short of this code."""
    schema.drop(database)
    schema.create(database, revision=schema.before("head"))


def _tables(database: Database) -> list[str]:
    query = "select c.oid::regclass || ' ' || c.relnatts from pg_class c where c.relnamespace = 'pipeline'::regnamespace order by 1"
    with entered(database) as connection:
        return list(run(connection, query).scalars())


def _until_two_wait(database: Database) -> None:
    for _ in range(600):
        with entered(database) as connection:
            query = (
                "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
                " where l.locktype = 'advisory' and not l.granted and l.objid = :lock and d.datname = current_database()"
            )
            if run(connection, query, lock=schema.LOCK).scalar_one() == 2:
                return
        time.sleep(0.1)
    raise AssertionError("two processes do not wait for the lock")
