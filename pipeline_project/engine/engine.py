"""The engine: eight groups of use cases over one database and one root of artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline_project.engine.alerts import Alerts
from pipeline_project.engine.audit import Audit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.execution import Execution
from pipeline_project.engine.feed import Feed
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
    audit: Audit
    feed: Feed

    @classmethod
    def over(cls, database: Database, artifacts: Artifacts, *, timezone: str, roots: Path | None = None) -> Engine:
        """Put the engine together. The artifacts of two databases never share a folder; `roots` may be one folder for all.

        Without `roots` the audit trail is sealed and nothing of it exported: for databases that nobody keeps.
        """
        audit = Audit(database, roots)
        cycles = Cycles(database, artifacts, timezone)
        return cls(
            database=database,
            artifacts=artifacts,
            intake=Intake(database),
            cycles=cycles,
            execution=Execution(database),
            upkeep=Upkeep(database, artifacts, cycles, audit),
            inquiry=Inquiry(database, artifacts, timezone),
            alerts=Alerts(database),
            audit=audit,
            feed=Feed(database),
        )

    def acting_as(self, owner: str) -> Engine:
        """The same engine, under this name in the audit trail."""
        cycles = self.cycles.acting_as(owner)
        return replace(self, cycles=cycles, upkeep=Upkeep(self.database, self.artifacts, cycles, self.audit))

    @classmethod
    @contextmanager
    def open(cls, where: str | None, settings: Settings) -> Iterator[Engine]:
        """The engine on a database that is initialised with exactly this code's schema.

        Raises DatabaseUnavailable, or SchemaMismatch with the command that mends it.
        """
        database = Database.find(where, settings)
        try:
            schema.check(database)
            artifacts = Artifacts(f"{settings.artifacts_root}/{database.url.database}")
            yield cls.over(database, artifacts, timezone=settings.timezone, roots=settings.roots_folder)
        finally:
            database.close()
