"""Dagster on PostgreSQL, as an installation has it: home, storage, runs and lineage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from pipeline_project.core.snapshot import Mode
from pipeline_project.orchestration import home
from pipeline_project.orchestration.inprocess import ControlRoom, control_room
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from tests.conftest import maintenance
from tests.orchestration.conftest import ALL, TODAY
from tests.world import World

PARTITION = "2026-01-15|p"


@pytest.fixture
def installation(settings: Settings, world: World) -> Iterator[Settings]:
    """A Dagster database beside this test's own."""
    yield settings
    dagster_database.drop(world.engine.database, settings)


@pytest.fixture
def stored(installation: Settings, contested: World) -> Iterator[ControlRoom]:
    with control_room(contested.engine, installation) as room:
        yield room


def materializations(room: ControlRoom, asset: str) -> list[dg.AssetMaterialization]:
    assert room.instance
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[PARTITION])
    records = room.instance.fetch_materializations(wanted, limit=10).records
    return [made for record in records if (made := record.asset_materialization)]


def test_a_cycle_is_kept_as_a_run_with_its_lineage_and_checks(stored: ControlRoom, contested: World) -> None:
    report = stored.run_cycle("p", TODAY)
    assert stored.instance
    assert [run.status for run in stored.instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
    assert {asset: len(materializations(stored, asset)) for asset in ALL} == dict.fromkeys(ALL, 1)
    assert report["checks"] == {"passed": 8, "warned": 0, "failed": 0}


def test_a_cycle_that_ran_without_dagster_can_be_put_into_the_lineage_and_built_upon(stored: ControlRoom, contested: World) -> None:
    report = contested.cycle()
    assert stored.report_runless(report)
    assert stored.report_runless(report)
    for asset in ALL:
        made = materializations(stored, asset)[0]
        assert (made.metadata["cycle_key"].value, made.metadata["value"].value) == (report["cycle"], 3)


def test_where_no_lineage_is_kept_a_cycle_runs_all_the_same(room: ControlRoom, contested: World) -> None:
    nowhere = replace(room, instance=None)
    report = nowhere.run_cycle("p", TODAY)
    assert report["status"] == "published"
    assert nowhere.report_runless(report) is False


def test_a_fresh_control_room_has_forgotten_everything(installation: Settings, contested: World) -> None:
    for fresh in (False, True):
        with control_room(contested.engine, installation, fresh=fresh) as room:
            assert room.instance
            assert room.instance.get_runs() == []
            room.run_cycle("p", TODAY, Mode.LIVE)


def test_dagster_has_a_database_of_its_own_and_no_right_in_ours(installation: Settings, world: World) -> None:
    database = world.engine.database
    variables = home.prepare(installation, database)
    url = sa.make_url(variables["DAGSTER_PG_URL"])
    assert (url.drivername, url.database) == ("postgresql+psycopg2", f"{database.name}_dagster")
    with maintenance(database) as connection:
        roles = sa.text("select rolsuper or rolcreatedb or rolcreaterole from pg_roles where rolname = :name")
        assert connection.scalar(roles, {"name": url.username}) is False
    ours = sa.create_engine(database.url.set(username=url.username), poolclass=sa.NullPool)
    with ours.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("select * from pipeline.pool")


def test_programs_are_led_to_one_home_with_our_configuration(installation: Settings, world: World) -> None:
    variables = home.prepare(installation, world.engine.database)
    kept = Path(variables["DAGSTER_HOME"]) / "dagster.yaml"
    assert Path(variables["DAGSTER_HOME"]).is_absolute()
    assert kept.read_text() == (home.PROJECT / "dagster.yaml").read_text()
    assert variables["PIPELINE_DATABASE_URL"] == world.engine.database.name
    kept.write_text("something else")
    home.prepare(installation, world.engine.database)
    assert kept.read_text() == (home.PROJECT / "dagster.yaml").read_text()


def test_the_name_of_the_storage_fits_into_an_identifier_or_is_what_the_settings_say(world: World, settings: Settings) -> None:
    database = world.engine.database
    long = replace(database, url=database.url.set(database="d" * 63))
    assert dagster_database.name(long, settings) == "d" * 55 + "_dagster"
    assert dagster_database.name(long, settings.model_copy(update={"dagster_database": "control"})) == "control"
