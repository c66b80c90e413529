"""What stands between a command and its work: settings read, logs configured, the database found, and all of it closed again."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported inside the functions: `pipeline --help` must not wait for SQLAlchemy
    from pipeline_project.engine.engine import Engine
    from pipeline_project.settings import Settings
    from pipeline_project.store.database import Database


@contextmanager
def logged(**known: str | None) -> Iterator[Settings]:
    """The settings, with logging configured and what is known (pool, cycle) in every line."""
    from pipeline_project import settings
    from pipeline_project.cli import logs

    logs.configure(os.environ.get("PIPELINE_LOG", "text"))
    logs.bind(**known)
    try:
        yield settings.load()
    finally:
        logs.unbind()


@contextmanager
def engine(where: str | None, **known: str | None) -> Iterator[Engine]:
    """The engine on an initialised database. Raises DatabaseUnavailable or SchemaMismatch."""
    from pipeline_project.engine.engine import Engine

    with logged(**known) as settings, Engine.open(where, settings) as opened:
        yield opened


@contextmanager
def database(where: str | None) -> Iterator[Database]:
    """The database as it is, initialised or not."""
    from pipeline_project.store.database import Database

    with logged() as settings:
        found = Database.find(where, settings)
        try:
            yield found
        finally:
            found.close()


def actor() -> str:
    """Who claims to act, for the audit trail: the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run with user ids that have no name
        return f"uid {os.getuid()}"
