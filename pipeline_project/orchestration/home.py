"""Dagster's home: its folder, its database, and the variables that lead every program of Dagster's there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg
import yaml

import pipeline_project
from pipeline_project.core.errors import UsageError
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from pipeline_project.store.database import Database

PROJECT: Final = Path(pipeline_project.__file__).parents[1]


def prepare(chosen: Settings, database: Database) -> dict[str, str]:
    """Make home and storage where they are missing; the variables for `dagster dev`, webserver, daemon and code server.

    Raises Refused when the server is not ours and its user may not create Dagster's database.
    """
    make_folder(chosen)
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
        "PIPELINE_RUN_LAUNCHER": chosen.run_launcher,
        **({"PIPELINE_BROKER_URL": chosen.broker_url} if chosen.broker_url else {}),
    }


def pool_connections(instance: dg.DagsterInstance) -> None:
    """Without it Dagster's storage connects anew for each call: three quarters of a cycle's time."""
    instance.optimize_for_webserver(statement_timeout=30_000, pool_recycle=600, max_overflow=5)


def make_folder(chosen: Settings) -> None:
    """Dagster's home, with our dagster.yaml in it; renamed into place, as another program may be reading it."""
    home = chosen.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    kept, ours = home / "dagster.yaml", _instance_settings(chosen)
    if not kept.exists() or kept.read_bytes() != ours:
        scratch = home / f".dagster.yaml.{os.getpid()}"
        scratch.write_bytes(ours)
        scratch.replace(kept)


def _instance_settings(chosen: Settings) -> bytes:
    """dagster.yaml as it is; for another launcher with what that changes.

    Raises UsageError where the launcher has no way to its workers.
    """
    plain = (PROJECT / "dagster.yaml").read_bytes()
    if chosen.run_launcher == "process":
        return plain
    if not chosen.broker_url:
        raise UsageError(
            "PIPELINE_RUN_LAUNCHER=celery: expected the Redis that reaches the workers in PIPELINE_BROKER_URL, found nothing; "
            "set it, or let `pipeline up --workers 2` bring both on this machine"
        )
    changes = yaml.safe_load((PROJECT / "dagster.celery.yaml").read_bytes())
    return yaml.safe_dump(_laid_over(yaml.safe_load(plain), changes), sort_keys=False).encode()


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Section by section: what the upper one does not name stays."""
    both = {name: _laid_over(below[name], above[name]) for name in above if isinstance(below.get(name), dict)}
    return {**below, **above, **both}
