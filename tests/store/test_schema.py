"""Creating and migrating: once, twice, two at a time, and never backwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa

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
