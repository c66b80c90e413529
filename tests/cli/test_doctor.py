"""`pipeline doctor`: each thing it looks at can be found wrong, and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline_project.cli import examination
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in document["checks"]}


def test_a_healthy_installation_is_all_ok(pipeline: CommandLine) -> None:
    document = pipeline("doctor")
    assert document["healthy"] is True
    assert set(statuses(document)) >= {
        "Python",
        "packages",
        "disk",
        "Dagster home",
        "PostgreSQL programs",
        "schema",
        "invariants",
        "account",
    }
    assert "fail" not in statuses(document).values()
    assert "invariants" in pipeline.shown("doctor")[0]


def test_a_database_without_schema_fails_with_the_command_that_makes_one(anywhere: CommandLine, database: Database) -> None:
    document = anywhere("doctor", "--database", f"{database.name}_not", exits=1)
    (failed,) = [check for check in document["checks"] if check["status"] == "fail"]
    assert (failed["name"], failed["advice"]) == ("schema", f"pipeline db init --database {database.name}_not")


def test_a_server_that_cannot_be_reached_fails(anywhere: CommandLine) -> None:
    document = anywhere("doctor", "--database", "postgresql://me@127.0.0.1:1/x", exits=1)
    assert statuses(document)["PostgreSQL server"] == "fail"


def test_programs_that_are_not_there_fail(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIPELINE_PG_BIN", str(tmp_path))
    document = anywhere("doctor", exits=1)
    assert statuses(document)["PostgreSQL"] == "fail"


def test_a_superuser_of_ones_own_server_is_a_warning(anywhere: CommandLine, database: Database) -> None:
    as_superuser = database.admin.set(drivername="postgresql").render_as_string(hide_password=False)
    document = anywhere("doctor", "--database", as_superuser)
    (account,) = [check for check in document["checks"] if check["name"] == "account"]
    assert account["status"] == "warn"
    assert "pipeline_writer" in account["advice"]


@pytest.mark.parametrize(("version", "status"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "fail")])
def test_python_is_one_that_we_support(version: tuple[int, int], status: str) -> None:
    assert examination.python(version).status == status


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    assert examination.packages(lock).status == "warn"
    lock.write_text("typer==0.0.1 \\\n    --hash=sha256:0\nno-such-package==1.0\n")
    strayed = examination.packages(lock)
    assert strayed.status == "warn"
    assert "typer" in (strayed.advice or "")
    assert "no-such-package" not in (strayed.advice or "")


def test_a_package_that_is_missing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    monkeypatch.setattr(examination, "SHOWN", ("no-such-package",))
    missing = examination.packages(lock)
    assert (missing.status, "no-such-package is missing" in (missing.advice or "")) == ("fail", True)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "status"), [(10**8, "fail"), (10**9, "warn"), (10**10, "ok")])
def test_a_full_disk_is_noticed_in_time(free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination.shutil, "disk_usage", lambda _: Usage(0, 0, free))
    assert examination.disk(tmp_path / "not" / "there").status == status


def test_a_time_zone_has_a_name() -> None:
    assert [examination.time_zone(name).status for name in ("Europe/Berlin", "Mars/Olympus")] == ["ok", "fail"]


def test_files_that_dagster_or_the_alerts_cannot_do_without_are_read(
    pipeline: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.sql").write_text("-- asset: nothing\nselect 1")
    (tmp_path / "suite.json").write_text("{")
    (tmp_path / "routes.yaml").write_text("rules: []")
    monkeypatch.setenv("PIPELINE_CHECKS", str(tmp_path))
    monkeypatch.setenv("PIPELINE_SNAPSHOT_SUITE", str(tmp_path / "suite.json"))
    monkeypatch.setenv("PIPELINE_ALERT_ROUTES", str(tmp_path / "routes.yaml"))
    failed = {check["name"]: check["found"] for check in pipeline("doctor", exits=1)["checks"] if check["status"] == "fail"}
    assert {name: found.partition(": ")[0] for name, found in failed.items()} == {
        "own checks": str(tmp_path / "a.sql"),
        "snapshot suite": str(tmp_path / "suite.json"),
        "alert routes": str(tmp_path / "routes.yaml"),
    }


def test_a_home_that_nobody_may_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examination.dagster_home(tmp_path / "dagster").status == "ok"
    monkeypatch.setattr(examination.os, "access", lambda *_: False)
    assert examination.dagster_home(tmp_path / "dagster").status == "fail"


def test_broken_promises_are_named() -> None:
    assert examination.promises([], checked=22).status == "ok"
    assert "in_use_drifted" in examination.promises(["in_use_drifted"], checked=22).found
