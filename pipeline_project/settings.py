"""What an installation may set from outside: environment variables PIPELINE_*, read when asked, never at import."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One field per environment variable; the prefix is PIPELINE_."""

    model_config = SettingsConfigDict(env_prefix="PIPELINE_", extra="ignore", frozen=True)

    database_url: str = Field("pipeline", description="URL of a PostgreSQL database, or the bare name of one on the embedded server")
    home: Path = Field(
        Path(".pipeline"), description="Folder of everything the installation writes: embedded server, artifacts, Dagster's home"
    )
    artifacts: str | None = Field(None, description="Root of the artifacts, a folder or an fsspec URL; default <home>/artifacts")
    audit_roots: Path | None = Field(None, description="Folder of the files of roots of the sealed audit trail; default <home>/audit")
    role: str = Field(
        "pipeline_writer", description="Role that every connection takes; pipeline_auditor or pipeline_reader for whoever only looks"
    )
    pg_bin: Path | None = Field(None, description="bin folder of a PostgreSQL 15 or newer to run the embedded server with")
    dagster_database: str | None = Field(
        None, description="Database of Dagster's runs and events, on the same server; default <database>_dagster"
    )
    ui_url: str = Field("http://127.0.0.1:3000", description="Where people reach Dagster's UI; links in reports and alerts lead there")
    timezone: str = Field("UTC", description="The installation's time zone: it decides which day a cycle belongs to")
    first_day: date = Field(date(2026, 1, 1), description="First daily partition")
    last_day: date | None = Field(None, description="Last daily partition of a simulation; without it today is the last")

    alert_routes: Path | None = Field(None, description="Who is told of which alerts, a YAML file; default <home>/alert-routes.yaml")
    alert_targets: str = Field(
        "", description="Loopback and private networks that webhooks may reach, such as 10.1.0.0/16,127.0.0.1/32; none by default"
    )
    checks: Path | None = Field(None, description="Folder of your own checks, *.sql and *.py; default <home>/checks")
    snapshot_suite: Path | None = Field(None, description="Great Expectations suite of the snapshot, a JSON file; default the built-in one")

    run_launcher: Literal["process", "celery"] = Field(
        "process", description="Who runs what Dagster starts: a process each, beside the daemon, or Celery workers on any machine"
    )
    broker_url: str | None = Field(
        None, description="Redis that hands runs to Celery workers, such as redis://redis:6379/0; wanted by the celery launcher"
    )

    database_password_file: Path | None = Field(
        None, description="File with the password for the database's URL, as container platforms mount secrets; the URL then has none"
    )
    keep_runs_days: int = Field(
        30, ge=1, description="Days that Dagster keeps a run; then its lineage is in the artifacts, and the newest of each partition stays"
    )

    @property
    def state_dir(self) -> Path:
        return self.home.absolute()

    @property
    def artifacts_root(self) -> str:
        return self.artifacts or str(self.state_dir / "artifacts")

    @property
    def alert_routes_file(self) -> Path:
        return self.alert_routes or self.state_dir / "alert-routes.yaml"

    @property
    def checks_folder(self) -> Path:
        return self.checks or self.state_dir / "checks"

    @property
    def roots_folder(self) -> Path:
        return (self.audit_roots or self.state_dir / "audit").absolute()

    @property
    def dagster_home(self) -> Path:
        return self.state_dir / "dagster"


def load() -> Settings:
    """Read the environment now."""
    return Settings()  # type: ignore[call-arg]  # every field has a default; the pydantic plugin is not in use
