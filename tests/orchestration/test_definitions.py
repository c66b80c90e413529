"""What Dagster loads, and when it is read."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from pipeline_project.orchestration.definitions import control_room, defs
from pipeline_project.orchestration.partitions import day_and_pool, day_and_pool_of, key_of
from pipeline_project.settings import Settings

PARTITIONED = ("date", "pool")
GRAPH = {
    "work_items": ((), ()),
    "pending_items": (("work_items",), ("backlog_is_fresh", "nothing_is_too_large", "snapshot_is_valid")),
    "conflict_graph": (("pending_items",), ("graph_is_sound",)),
    "proposed_selections": (("conflict_graph",), ("gap_within_policy", "no_constraint_violated")),
    "committed_decisions": (("proposed_selections",), ("ledger_invariants_hold", "nobody_starves")),
}


def dimensions(partitions: dg.PartitionsDefinition | None) -> tuple[str, ...]:
    return tuple(partitions.partition_dimension_names) if isinstance(partitions, dg.MultiPartitionsDefinition) else ()


def test_the_asset_graph_is_the_mission(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    checks = {name: sorted(key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(name)) for name in GRAPH}
    found = {
        key.to_user_string(): (tuple(parent.to_user_string() for parent in graph.get(key).parent_keys), tuple(checks[key.to_user_string()]))
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH


def test_every_asset_and_every_check_has_a_day_and_a_pool_but_the_source(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    assert {key.to_user_string(): dimensions(graph.get(key).partitions_def) for key in graph.get_all_asset_keys()} == {
        name: () if name == "work_items" else PARTITIONED for name in GRAPH
    }
    assert {dimensions(graph.get(key).partitions_def) for key in graph.asset_check_keys} == {PARTITIONED}
    assert {graph.get(key).backfill_policy for key in graph.get_all_asset_keys()} == {None}


def test_what_must_not_be_committed_is_blocked_before_it_is(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get_check_spec(key).blocking}
    assert blocking == {"snapshot_is_valid", "graph_is_sound", "no_constraint_violated"}


def test_jobs_schedules_and_sensors_have_the_names_that_others_know(loaded: dg.Definitions) -> None:
    repository = loaded.get_repository_def()
    assert {"live_cycle", "reprocess", "rollback_cycle", "sweep", "pull_sources"} <= set(repository.job_names)
    assert {schedule.name for schedule in repository.schedule_defs} == {"cycle_all_pools", "sweep", "pull_sources"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "pending_work",
        "failed_checks",
        "failed_runs",
        "recovered_runs",
        "alerts",
    }


def test_importing_the_definitions_opens_nothing_and_reads_no_setting(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "PIPELINE_HOME": str(home), "PIPELINE_FIRST_DAY": "not a day"}
    code = "import sys, pipeline_project.orchestration.definitions; print('great_expectations' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert not home.exists()


def test_loading_them_reads_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_FIRST_DAY", "not a day")
    with pytest.raises(ValidationError, match="first_day"):
        defs()


def test_today_has_a_key_before_it_is_over() -> None:
    days = day_and_pool(Settings(first_day=date(2026, 1, 14), timezone="America/New_York")).get_partitions_def_for_dimension("date")
    at = datetime(2026, 1, 16, 4, 30, tzinfo=UTC)  # still the 15th in New York
    assert days.get_partition_keys(current_time=at) == ["2026-01-14", "2026-01-15"]


def test_the_days_of_a_simulation_end() -> None:
    chosen = Settings(first_day=date(2013, 7, 11), last_day=date(2013, 7, 12))
    assert day_and_pool(chosen).get_partitions_def_for_dimension("date").get_partition_keys() == ["2013-07-11", "2013-07-12"]
    assert control_room(chosen).resolve_asset_graph()


def test_a_partition_key_says_its_day_and_pool() -> None:
    key = key_of(date(2026, 1, 15), "a-pool_1")
    assert key == "2026-01-15|a-pool_1"
    assert day_and_pool_of(key) == (date(2026, 1, 15), "a-pool_1")
