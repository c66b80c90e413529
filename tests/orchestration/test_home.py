"""dagster.yaml as the chosen launcher needs it, and nothing else changed by the choice."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._daemon.sensor import MIN_INTERVAL_LOOP_TIME

from pipeline_project.core.errors import UsageError
from pipeline_project.orchestration import definitions, home, sensors
from pipeline_project.settings import Settings

BROKER = "redis://127.0.0.1:1/0"


def written(chosen: Settings) -> str:
    home.make_folder(chosen)
    return (chosen.dagster_home / "dagster.yaml").read_text()


def test_by_default_it_is_the_file_of_the_project(tmp_path: Path) -> None:
    assert written(Settings(home=tmp_path)) == (home.PROJECT / "dagster.yaml").read_text()


def test_the_celery_launcher_is_laid_over_it_and_the_rest_stays(tmp_path: Path) -> None:
    plain = yaml.safe_load(written(Settings(home=tmp_path)))
    chosen = yaml.safe_load(written(Settings(home=tmp_path, run_launcher="celery", broker_url=BROKER)))
    assert chosen.pop("run_launcher")["module"] == "dagster_celery.launcher"
    assert chosen.pop("concurrency") == {"runs": {"max_concurrent_runs": 16}}
    assert plain.pop("concurrency") == {"runs": {"max_concurrent_runs": 4}}
    assert chosen == plain


def test_a_launcher_without_a_way_to_its_workers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PIPELINE_BROKER_URL"):
        written(Settings(home=tmp_path, run_launcher="celery"))
    assert not (tmp_path / "dagster" / "dagster.yaml").exists()


def test_dagster_knows_every_setting_of_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_BROKER_URL", BROKER)
    for chosen in (Settings(home=tmp_path / "a"), Settings(home=tmp_path / "b", run_launcher="celery", broker_url=BROKER)):
        without_storage = {name: value for name, value in yaml.safe_load(written(chosen)).items() if name != "storage"}
        (chosen.dagster_home / "dagster.yaml").write_text(yaml.safe_dump(without_storage))  # there is no server here to keep runs on
        with dg.DagsterInstance.from_config(str(chosen.dagster_home)) as instance:
            monitored = instance.run_monitoring_enabled, instance.run_monitoring_start_timeout_seconds
            assert monitored == (True, 180)
            assert (instance.run_monitoring_poll_interval_seconds, instance.run_monitoring_max_runtime_seconds) == (15, 3600)
            assert instance.run_retries_enabled
            assert isinstance(queue := instance.run_coordinator, QueuedRunCoordinator)
            assert queue.dequeue_interval_seconds == 1
            assert instance.get_settings("sensors") == {"use_threads": True, "num_workers": 4}
            assert instance.run_retries_max_retries == 2
            assert not instance.run_retries_retry_on_asset_or_op_failure
            launcher = "CeleryRunLauncher" if chosen.run_launcher == "celery" else "DefaultRunLauncher"
            assert type(instance.run_launcher).__name__ == launcher


def test_every_turn_of_the_daemon_looks_for_work() -> None:
    """An interval as long as the turn would miss every other one, by some milliseconds."""
    assert sensors.INTERVAL_S < MIN_INTERVAL_LOOP_TIME
    assert sensors.pending_work.minimum_interval_seconds == sensors.INTERVAL_S


def test_only_workers_are_watched(tmp_path: Path) -> None:
    plain, celery = (
        definitions.control_room(Settings(home=tmp_path, run_launcher=launcher, broker_url=BROKER)) for launcher in ("process", "celery")
    )
    names = [{sensor.name for sensor in one.sensors or ()} for one in (plain, celery)]
    assert names[1] - names[0] == {"lost_workers"}
    assert names[0] < names[1]
