"""Old runs are forgotten after their lineage is in files; what is looked at later stays whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from pipeline_project.orchestration.inprocess import ControlRoom, control_room
from pipeline_project.orchestration.retention import Retention, forget_old_runs
from pipeline_project.settings import Settings
from pipeline_project.store.dagster_database import drop
from tests.orchestration.conftest import TODAY
from tests.world import World

LATER = datetime.now(UTC) + timedelta(days=40)
RETENTION = Retention(keep=timedelta(days=30), batch=2, batches_max=1)


@pytest.fixture
def kept(world: World, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlRoom]:
    """The control room on Dagster's storage in PostgreSQL."""
    monkeypatch.setattr(Settings, "dagster_home", property(lambda _: tmp_path / "dagster"))
    with control_room(world.engine, settings) as room:
        yield room
    drop(world.engine.database, settings)


def test_a_run_goes_after_its_lineage_is_written_and_the_newest_of_its_partition_stays(kept: ControlRoom, contested: World) -> None:
    cycles = [kept.run_cycle("p", TODAY)["cycle"]]
    contested.submit("later", 50, {"gate": 1})
    cycles.append(kept.run_cycle("p", TODAY)["cycle"])
    instance = whole(kept.instance)
    old, newest = [run.run_id for run in reversed(instance.get_runs())]

    assert forget_old_runs(instance, contested.engine.artifacts, RETENTION) == {"runs_forgotten": 0, "runs_kept": 0}
    assert forget_old_runs(instance, contested.engine.artifacts, RETENTION, LATER) == {"runs_forgotten": 1, "runs_kept": 1}

    assert [run.run_id for run in instance.get_runs()] == [newest]
    assert rows_of(instance, old) == {"event_logs": 0, "asset_check_executions": 0, "run_tags": 0}
    assert rows_of(instance, newest)["asset_check_executions"] > 0
    [line] = lineage(contested)
    assert (line["run_id"], line["job"], line["status"]) == (old, "live_cycle", "SUCCESS")
    made = [row for row in line["materializations"] if row["kind"] == "materialization"]
    assert {row["metadata"]["cycle_key"] for row in made} == {cycles[0]}
    assert [row["asset"] for row in made] == [
        "pending_items", "conflict_graph", "proposed_selections", "committed_decisions"
    ]  # fmt: skip
    assert {row["check"] for row in line["checks"]} >= {"snapshot_is_valid", "no_constraint_violated", "ledger_invariants_hold"}
    latest = instance.get_latest_materialization_event(dg.AssetKey("committed_decisions"))
    assert latest
    assert latest.run_id == newest


def test_runs_that_stay_do_not_stand_in_the_way_of_those_behind_them(kept: ControlRoom, contested: World) -> None:
    """Three days that stay, two runs of the sweep that go, in steps of two and one step a time."""
    instance = whole(kept.instance)
    for days in range(3):
        kept.run_cycle("p", TODAY - timedelta(days=days))
    for _ in range(2):
        instance.add_run(dg.DagsterRun(job_name="sweep", status=dg.DagsterRunStatus.SUCCESS))
    told = [forget_old_runs(instance, contested.engine.artifacts, RETENTION, LATER) for _ in range(3)]
    assert [one["runs_forgotten"] for one in told] == [0, 1, 1]
    assert {run.job_name for run in instance.get_runs()} == {"live_cycle"}
    assert forget_old_runs(instance, contested.engine.artifacts, RETENTION, LATER)["runs_kept"] == 2


def test_broken_off_before_the_deletion_it_is_only_written_again(
    kept: ControlRoom, contested: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = whole(kept.instance)
    run = instance.add_run(dg.DagsterRun(job_name="sweep", status=dg.DagsterRunStatus.FAILURE))
    with monkeypatch.context() as broken:
        broken.setattr(type(instance), "delete_run", cut_off)
        with pytest.raises(ConnectionError):
            forget_old_runs(instance, contested.engine.artifacts, RETENTION, LATER)
    assert instance.has_run(run.run_id)
    assert forget_old_runs(instance, contested.engine.artifacts, RETENTION, LATER)["runs_forgotten"] == 1
    assert [line["run_id"] for line in lineage(contested)] == [run.run_id]


def test_storage_grows_with_the_partitions_and_not_with_the_cycles(kept: ControlRoom, contested: World) -> None:
    instance = whole(kept.instance)
    sizes = []
    for number in range(3):
        contested.submit(f"more-{number}", 10 + number, {"gate": 1})
        kept.run_cycle("p", TODAY)
        forget_old_runs(instance, contested.engine.artifacts, Retention(keep=RETENTION.keep), LATER)
        sizes.append(sum(everything(instance).values()))
    assert sizes[2] == sizes[1], sizes


def whole(instance: dg.DagsterInstance | None) -> dg.DagsterInstance:
    assert instance
    return instance


def cut_off(*_: object) -> None:
    raise ConnectionError("the database is gone")


def lineage(world: World) -> list[dict[str, Any]]:
    files = sorted(Path(world.engine.artifacts.root).glob("lineage/*/*.jsonl.gz"))
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]


def rows_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, int]:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        return {
            table: connection.scalar(sa.text(f"select count(*) from {table} where run_id = :run"), {"run": run_id})  # noqa: S608  # names of ours
            for table in ("event_logs", "asset_check_executions", "run_tags")
        }


def everything(instance: dg.DagsterInstance) -> dict[str, int]:
    """Rows of whatever a run may leave behind."""
    storage: Any = instance.event_log_storage
    tables = ("runs", "run_tags", "event_logs", "asset_event_tags", "asset_check_executions", "asset_keys", "dynamic_partitions")
    with storage.index_connection() as connection:
        return {
            table: connection.scalar(sa.text(f"select count(*) from {table}"))  # noqa: S608  # names of ours
            for table in tables
        }
