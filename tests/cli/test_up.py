"""`pipeline up` and the lineage of cycles that the command line runs, with the real programs of Dagster."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline_project import settings as configuration
from pipeline_project.cli import up
from pipeline_project.core.errors import UsageError
from pipeline_project.store.dagster_database import drop
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine, Submit

PIPELINE = Path(sys.executable).with_name("pipeline")


@pytest.fixture
def home(pipeline: CommandLine, database: Database) -> Iterator[Path]:
    """Dagster's home; its database goes when the test ends."""
    chosen = configuration.load()
    yield chosen.dagster_home
    drop(database, chosen)


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running `pipeline up`, and the document it prints once the UI answers."""
    command = [PIPELINE, "up", "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            yield process, json.loads(line or process.stderr.read())
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_it_serves_on_loopback_until_it_is_told_to_stop(home: Path) -> None:
    with started() as (process, shown):
        assert shown["programs"] == ["dagster-webserver", "dagster-daemon"]
        host, port = shown["url"].removeprefix("http://").split(":")
        assert host == "127.0.0.1"
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", "/server_info")
        assert connection.getresponse().status == 200
        connection.close()
        children = programs_of(process.pid)
        assert len(children) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []


def test_whoever_is_killed_leaves_no_program_behind(home: Path) -> None:
    with started() as (process, _):
        children = programs_of(process.pid)
        assert len(children) >= 2
        process.kill()
        give_up = time.monotonic() + 60
        while left := [child for child in children if Path(f"/proc/{child}").exists()]:
            assert time.monotonic() < give_up, f"still there: {left}"
            time.sleep(0.1)


def test_workers_without_a_redis_are_a_usage_error(pipeline: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    said = pipeline("up", "--port", "0", "--workers", "2", exits=2)["error"]["message"]
    assert "redis-server" in said
    assert "PIPELINE_BROKER_URL" in said


def test_a_program_that_ends_is_an_error_with_its_last_words(
    pipeline: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "workspace.yaml"
    broken.write_text("load_from: nothing\n")
    monkeypatch.setattr(up, "PROJECT", tmp_path)
    failed = pipeline("up", "--port", "0", exits=1)["error"]
    assert "dagster-" in failed["message"]
    assert "ended with exit code" in failed["message"]
    assert ".log" in failed["message"]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed: it is a package of Debian's")
def test_a_redis_of_our_own_that_ends_is_an_error_as_well(home: Path) -> None:
    """Else the doors stay open, and nothing runs behind them."""
    with started("--workers", "1") as (process, shown):
        assert shown["programs"][-2:] == ["worker-1", "redis-server"]
        (redis,) = [child for child in programs_of(process.pid) if b"redis-server" in Path(f"/proc/{child}/cmdline").read_bytes()[:40]]
        os.kill(redis, signal.SIGKILL)
        assert process.stderr
        assert "redis-server ended with exit code -9" in process.stderr.read()
        assert process.wait(timeout=60) == 1


def test_a_port_that_is_taken_is_a_usage_error(pipeline: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"expected a free port, found {port}" in pipeline("up", "--port", str(port), exits=2)["error"]["message"]


def test_a_database_without_schema_is_refused_before_anything_starts(anywhere: CommandLine, database: Database) -> None:
    assert "db init" in anywhere("up", "--port", "0", "--database", f"{database.name}_not", exits=1)["error"]["message"]


@pytest.mark.usefixtures("pipeline", "home")
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PIPELINE_TIMEZONE", "Mars/Olympus", "time zone: Mars/Olympus; set PIPELINE_TIMEZONE"),
        ("PIPELINE_SNAPSHOT_SUITE", "/not/there.json", "snapshot suite: /not/there.json: expected a JSON file"),
    ],
)
def test_what_dagster_could_not_load_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as refused, up.environment(configuration.load(), None):
        pass  # not the command: where it did not refuse, it would run for ever
    assert str(refused.value).startswith(said)


def test_a_cycle_appears_in_dagsters_lineage_where_there_is_one(pipeline: CommandLine, submit: Submit, pool: str, home: Path) -> None:
    """The home is made by the first `up` or `exec`; without it nothing of Dagster is imported."""
    import dagster as dg

    from pipeline_project.engine.engine import Engine
    from pipeline_project.orchestration.inprocess import control_room
    from pipeline_project.orchestration.metadata import CYCLE_KEY

    chosen = configuration.load()
    submit(a=9)
    with Engine.open(None, chosen) as engine, control_room(engine, chosen):
        pass
    report = pipeline("cycle", "run", "--pool", pool)
    with Engine.open(None, chosen) as engine, control_room(engine, chosen) as room:
        assert room.instance
        event = room.instance.get_latest_materialization_event(dg.AssetKey("committed_decisions"))
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.metadata[CYCLE_KEY].value == report["cycle"]


def test_a_dagster_that_is_broken_does_not_fail_a_committed_cycle(
    pipeline: CommandLine, submit: Submit, pool: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").touch()
    monkeypatch.setattr("pipeline_project.orchestration.inprocess.control_room", broken)
    submit(a=9)
    assert pipeline("cycle", "run", "--pool", pool)["status"] == "published"
    submit(b=9)
    _, err = pipeline.shown("cycle", "run", "--pool", pool)
    assert "the cycle is committed, but Dagster's lineage does not show it: out of order" in err


def broken(*_: object) -> None:
    raise RuntimeError("out of order")


def programs_of(pid: int) -> list[int]:
    """Processes that this one started, and theirs."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [grandchild for child in children for grandchild in programs_of(child)]
