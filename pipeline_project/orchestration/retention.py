"""Forgets old runs of Dagster's, after what they say about the lineage is written to files: it never deletes an event by itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa

from pipeline_project.settings import Settings
from pipeline_project.store.artifacts import Artifacts

FOLDER: Final = "lineage"
PARTITION_TAG: Final = "dagster/partition"
VALUE_BYTES_MAX: Final = 4096
"""Longer metadata are the pictures: they can be drawn again from the cycle's artifacts."""
CURSOR: Final = "pipeline/retention"

ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
LINEAGE: Final = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long runs stay, and how much one sweep does about it.

    keep         runs that ended longer ago go; the newest successful one of each partition stays, however old
    batch        runs whose lineage is one file, and that are deleted after it
    batches_max  so that a first sweep after a year does not keep the others waiting; the next one goes on
    """

    keep: timedelta
    batch: int = 100
    batches_max: int = 10

    @classmethod
    def of(cls, chosen: Settings) -> Retention:
        return cls(keep=timedelta(days=chosen.keep_runs_days))


def forget_old_runs(instance: dg.DagsterInstance, artifacts: Artifacts, retention: Retention, now: datetime | None = None) -> dict[str, int]:
    """Write the lineage of old runs, then delete them: `runs_forgotten`, `runs_kept` of those looked at.

    Broken off anywhere it is only begun again: a run may then be in two files, and is in one before it is deleted.
    """
    before = (now or datetime.now(UTC)) - retention.keep
    forgotten = kept = 0
    for _ in range(retention.batches_max):
        records = _next(instance, before, retention.batch)
        old = [record for record in records if not _is_newest_of_its_partition(instance, record.dagster_run)]
        if old:
            _export(instance, artifacts, old)
            _delete(instance, [record.dagster_run.run_id for record in old])
        forgotten, kept = forgotten + len(old), kept + len(records) - len(old)
        if len(records) < retention.batch:
            break
    return {"runs_forgotten": forgotten, "runs_kept": kept}


def _next(instance: dg.DagsterInstance, before: datetime, most: int) -> Sequence[dg.RunRecord]:
    """The next old runs, oldest first, after those that were looked at and kept; from the beginning again after the last."""
    storage = instance.daemon_cursor_storage
    cursor = storage.get_cursor_values({CURSOR}).get(CURSOR) or None
    if cursor and not instance.has_run(cursor):
        cursor = None
    filters = dg.RunsFilter(statuses=ENDED, updated_before=before)
    records = instance.get_run_records(filters, limit=most, cursor=cursor, ascending=True)
    # The last one that stays: whoever is deleted cannot be gone on from.
    staying = [record for record in records if _is_newest_of_its_partition(instance, record.dagster_run)]
    storage.set_cursor_values({CURSOR: staying[-1].dagster_run.run_id if staying and len(records) == most else cursor if len(records) == most else ""} if True else {})
    return records


def _is_newest_of_its_partition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether its partition's latest state is this run: the UI, data versions and later steps look there."""
    partition = run.tags.get(PARTITION_TAG)
    if partition is None or run.status is not dg.DagsterRunStatus.SUCCESS:
        return False
    same = dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS], tags={PARTITION_TAG: partition})
    return instance.get_runs(same, limit=1)[0].run_id == run.run_id
