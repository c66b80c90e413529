"""A database of its own for one benchmark, on the embedded server or wherever the settings point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pipeline_project.engine.engine import Engine
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.database import Database


@contextmanager
def fresh(name: str, chosen: Settings) -> Iterator[Database]:
    """A database of this name that does not exist yet; dropped afterwards."""
    schema.drop(Database.find(name, chosen))
    database = Database.find(name, chosen)  # holds the embedded server from here on: dropping let go of it
    try:
        yield database
    finally:
        schema.drop(database)


@contextmanager
def scratch(name: str, chosen: Settings, *, simulation_start: datetime | None = None) -> Iterator[Engine]:
    """The engine on a fresh database, which is a simulation where it is told a time."""
    with fresh(name, chosen) as database:
        schema.create(database, simulation_start=simulation_start)
        with Engine.open(name, chosen) as engine:
            yield engine
