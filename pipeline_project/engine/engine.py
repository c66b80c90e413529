"""The engine: six groups of use cases over one database and one root of artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline_project.engine.alerts import Alerts
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.execution import Execution
from pipeline_project.engine.inquiry import Inquiry
from pipeline_project.engine.intake import Intake
from pipeline_project.engine.upkeep import Upkeep
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One door a use case; each method's transactions begin and end inside it. Safe to share between threads."""

    database: Database
    artifacts: Artifacts
    intake: Intake
    cycles: Cycles
    execution: Execution
    upkeep: Upkeep
    inquiry: Inquiry
    alerts: Alerts

    @classmethod
    def over(cls, database: Database, artifacts: Artifacts, *, timezone: str) -> Engine:
        """Put the engine together. The artifacts of two databases never share a folder."""
        cycles = Cycles(database, artifacts, timezone)
        return cls(
            database=database,
            artifacts=artifacts,
            intake=Intake(database),
            cycles=cycles,
            execution=Execution(database),
            upkeep=Upkeep(database, artifacts, cycles),
            inquiry=Inquiry(database, artifacts, timezone),
            alerts=Alerts(database),
        )

    @classmethod
    @contextmanager
    def open(cls, where: str | None, settings: Settings) -> Iterator[Engine]:
        """The engine on a database that is initialised with exactly this code's schema.

        Raises DatabaseUnavailable, or SchemaMismatch with the command that mends it.
        """
        database = Database.find(where, settings)
        try:
            schema.check(database)
            yield cls.over(database, Artifacts(f"{settings.artifacts_root}/{database.url.database}"), timezone=settings.timezone)
        finally:
            database.close()
