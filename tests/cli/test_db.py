"""`pipeline db` makes, shows and checks a database."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa

from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine, Submit
from tests.world import entered


@pytest.fixture
def name(settings: Settings) -> Iterator[str]:
    """Of a database that does not exist yet."""
    chosen = f"t{uuid4().hex}"
    yield chosen
    database = Database.find(chosen, settings)
    schema.drop(database)


def test_init_makes_a_database_and_may_be_repeated(anywhere: CommandLine, name: str) -> None:
    expected = {"database": name, "schema": schema.head(), "simulation_start": None}
    assert anywhere("db", "init", "--database", name) == expected
    assert anywhere("db", "init", "--database", name) == expected
    assert anywhere("db", "migrate", "--database", name) == {"database": name, "before": schema.head(), "schema": schema.head()}


def test_init_can_make_a_simulation_but_no_existing_database_one(anywhere: CommandLine, name: str) -> None:
    start = "2026-01-31T06:00:00+00:00"
    assert anywhere("db", "init", "--database", name, "--simulation-start", start)["simulation_start"] == start
    assert anywhere("db", "status", "--database", name)["simulated_time"] == start
    refused = anywhere("db", "init", "--database", name, "--simulation-start", start, exits=5)
    assert "only a new database can become a simulation" in refused["error"]["message"]


def test_a_simulation_needs_a_time_with_a_zone(anywhere: CommandLine) -> None:
    misused = anywhere("db", "init", "--simulation-start", "2026-01-31T06:00:00", exits=2)
    assert "expected an ISO 8601 time with time zone" in misused["error"]["message"]


def test_every_other_command_says_how_to_initialise(anywhere: CommandLine, name: str) -> None:
    failed = anywhere("pools", "list", "--database", name, exits=1)
    assert failed["error"]["kind"] == "SchemaMismatch"
    assert f"pipeline db init --database {name}" in failed["error"]["message"]


def test_a_server_that_is_not_there_is_one_sentence(anywhere: CommandLine) -> None:
    out, err = anywhere.shown("pools", "list", "--database", "postgresql://me:secret@127.0.0.1:1/x", exits=1)
    assert out == ""
    assert err.startswith("DatabaseUnavailable: ")
    assert "Connection refused" in err
    assert "secret" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("url", ["postgresql://me:secret@h:port/x", "mysql://me:secret@h/x", "://me:secret@h/x"])
def test_what_is_no_url_of_ours_is_a_usage_error_that_keeps_its_password(anywhere: CommandLine, url: str) -> None:
    error = anywhere("pools", "list", "--database", url, exits=2)["error"]
    assert (error["kind"], error["message"].startswith("database: expected a URL such as")) == ("UsageError", True)
    assert "secret" not in error["message"]


def test_status_tells_versions_url_sizes_and_rows(pipeline: CommandLine, submit: Submit, database: Database) -> None:
    submit(a=1, b=2)
    status = pipeline("db", "status")
    assert status["database"] == database.name
    assert status["url"].startswith("postgresql://pipeline@/")
    assert status["schema"] == status["expected_schema"] == schema.head()
    assert int(status["server_version"].split(".")[0]) >= 15
    assert status["superuser"] is False
    rows = {row["table"]: row["rows"] for row in status["tables"]}
    assert (rows["item"], rows["item_demand"], rows["transition"], rows["pool"]) == (2, 2, 2, 1)
    assert all(row["bytes"] > 0 for row in status["tables"] if row["rows"])
    assert "item_state" in pipeline.shown("db", "status")[0]


def test_check_is_content_with_a_healthy_database(pipeline: CommandLine, submit: Submit) -> None:
    submit(a=1)
    assert pipeline("db", "check")["violated"] == []
    assert "invariants hold" in pipeline.shown("db", "check")[0]


def test_check_names_a_broken_promise_and_exits_4(pipeline: CommandLine, submit: Submit, database: Database) -> None:
    submit(a=1)
    with entered(database) as connection:
        connection.execute(sa.text("alter table pipeline.resource disable trigger user"))
        connection.execute(sa.text("update pipeline.resource set in_use = 2"))
    violated = pipeline("db", "check", exits=4)["violated"]
    assert [(broken["name"], broken["rows"]) for broken in violated] == [("in_use_drifted", 1), ("resource_not_replayed", 1)]
    assert "in_use_drifted" in pipeline.shown("db", "check", exits=4)[0]


def test_status_tells_growth_and_the_state_of_vacuum(pipeline: CommandLine, submit: Submit, database: Database) -> None:
    submit(a=1)
    pipeline("upkeep", "sweep")
    with entered(database) as connection:
        connection.execute(sa.text("update pipeline.table_size set day = day - 2, bytes = bytes - 2000"))
    pipeline("upkeep", "sweep")
    status = pipeline("db", "status", "--estimate")
    assert status["partitions_ahead"] == 2
    assert status["horizon_age"] >= 0
    (state,) = [row for row in status["tables"] if row["table"] == "item_state"]
    assert state["index_bytes"] > 0
    assert state["bytes_a_day"] >= 1000
    assert status["hints"] == []


def test_status_says_what_is_off(pipeline: CommandLine, database: Database) -> None:
    with entered(database) as connection:
        connection.execute(sa.text("drop table pipeline.transition_default"))
        for name in connection.scalars(
            sa.text("select relid::regclass::text from pg_partition_tree('pipeline.transition') where isleaf")
        ).all():
            connection.execute(sa.text(f"drop table {name}"))
    assert pipeline("db", "status")["hints"] == ["the audit trail has no partition for next month: run `pipeline upkeep sweep`"]
