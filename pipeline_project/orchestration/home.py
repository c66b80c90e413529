"""Dagster's home: its folder, its database, and the variables that lead every program of Dagster's there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pipeline_project
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from pipeline_project.store.database import Database

PROJECT: Final = Path(pipeline_project.__file__).parents[1]


def prepare(chosen: Settings, database: Database) -> dict[str, str]:
    """Make home and storage where they are missing; the variables for `dagster dev`, webserver, daemon and code server.

    Raises Refused when the server is not ours and its user may not create Dagster's database.
    """
    make_folder(chosen.dagster_home)
    dagster_database.create(database, chosen)
    return variables(chosen, database)


def variables(chosen: Settings, database: Database) -> dict[str, str]:
    """The same without touching anything."""
    return {
        "DAGSTER_HOME": str(chosen.dagster_home),
        "DAGSTER_PG_URL": dagster_database.url(database, chosen),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "GX_ANALYTICS_ENABLED": "False",
        "PIPELINE_HOME": str(chosen.state_dir),
        "PIPELINE_DATABASE_URL": chosen.database_url if database.server is None else database.name,
    }


def make_folder(home: Path) -> None:
    """Dagster's home, with our dagster.yaml in it; renamed into place, as another program may be reading it."""
    home.mkdir(parents=True, exist_ok=True)
    kept, ours = home / "dagster.yaml", (PROJECT / "dagster.yaml").read_bytes()
    if not kept.exists() or kept.read_bytes() != ours:
        scratch = home / f".dagster.yaml.{os.getpid()}"
        scratch.write_bytes(ours)
        scratch.replace(kept)
