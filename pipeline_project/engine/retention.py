"""What is kept for how long: ended items go to history, months of the audit trail to files, artifacts to nowhere."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy.exc import DBAPIError

from pipeline_project.engine.transactions import is_transient, repeatable
from pipeline_project.store import audit_months, cycles, history, pools
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.audit_months import Export, Month
from pipeline_project.store.database import Database
from pipeline_project.store.history import Batch, Window
from pipeline_project.store.pools import Pool

log = logging.getLogger(__name__)

ARCHIVED_AT_ONCE: Final = 2_000
"""Ends that one transaction looks at: some tenths of a second, and it locks nobody's items but those that have ended."""


class Retention:
    """Each step is a transaction that may be repeated: a crash between two of them loses nothing, and the next sweep goes on."""

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        self._database = database
        self._artifacts = artifacts

    def archive_items(self) -> int:
        """Move items that ended longer ago than their pool's `retention.items`, with bodies and decisions; how many."""
        return sum(self._archive(pool) for pool in self._pools())

    def detach_audit(self) -> int:
        """Write months of the audit trail that are older than every pool's `retention.transitions` to files, and detach them; how many.

        A month goes when it is the oldest, sealed, and without a row of any item that is not archived. What was detached before is
        dropped after its file was read once more.
        """
        kept = [pool.policy.retention.transitions for pool in self._pools()]
        gone = 0
        for month in self._months(max(kept)) if kept else []:
            if not self._leaves(month):
                break  # they go in order, so that the trail has one beginning
            gone += 1
        for export in self._detached():
            if audit_months.intact(self._artifacts, export):
                self._drop(export)
            else:
                log.error("audit month %s: its file %s is not as it was written; its table is kept", export.partition, export.location)
        return gone

    def drop_artifacts(self) -> int:
        """Remove the files of cycles that ended longer ago than their pool's `retention.artifacts`; how many."""
        dropped = 0
        for pool in self._pools():
            for key in self._forgettable(pool):
                dropped += self._artifacts.forget(pool.name, key)
                self._forgotten(pool, key)
        return dropped

    def _archive(self, pool: Pool) -> int:
        window, moved = self._window(pool), 0
        rest = window
        while True:
            batch = self._archive_batch(pool, rest)
            moved += batch.moved
            rest = batch.rest
            if batch.seen < ARCHIVED_AT_ONCE:
                break
        self._remember(pool, window)
        return moved

    def _leaves(self, month: Month) -> bool:
        """Export and detach; False when it stays for now."""
        try:
            return self._export(month) and self._detach(month)
        except DBAPIError as failure:
            if not is_transient(failure):
                raise
            log.info("audit month %s is in use; it is detached another time", month.partition)
            return False

    # -- one transaction each

    @repeatable
    def _pools(self) -> list[Pool]:
        with self._database.begin() as connection:
            return pools.everyone(connection)

    @repeatable
    def _window(self, pool: Pool) -> Window:
        with self._database.begin() as connection:
            return history.window(connection, pool, pool.policy.retention.items)

    @repeatable
    def _archive_batch(self, pool: Pool, window: Window) -> Batch:
        with self._database.begin() as connection:
            return history.archive(connection, pool, window, most=ARCHIVED_AT_ONCE)

    @repeatable
    def _remember(self, pool: Pool, window: Window) -> None:
        with self._database.begin() as connection:
            history.remember(connection, pool, window)

    @repeatable
    def _months(self, age_s: int) -> list[Month]:
        with self._database.begin() as connection:
            return audit_months.over(connection, age_s)

    @repeatable
    def _export(self, month: Month) -> bool:
        with self._database.begin() as connection:
            if not audit_months.may_detach(connection, month):
                return False
            audit_months.record(connection, month, audit_months.export(connection, self._artifacts, month))
            return True

    def _detach(self, month: Month) -> bool:
        with self._database.begin() as connection:
            return audit_months.detach(connection, month)

    @repeatable
    def _detached(self) -> list[Export]:
        with self._database.begin() as connection:
            return audit_months.detached(connection)

    @repeatable
    def _drop(self, export: Export) -> None:
        with self._database.begin() as connection:
            audit_months.drop(connection, export)

    @repeatable
    def _forgettable(self, pool: Pool) -> list[str]:
        with self._database.begin() as connection:
            return cycles.keys_before(connection, pool, pool.policy.retention.artifacts)

    @repeatable
    def _forgotten(self, pool: Pool, cycle_key: str) -> None:
        with self._database.begin() as connection:
            cycles.artifact_dropped(connection, pool, cycle_key)
