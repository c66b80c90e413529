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

from pipeline_project.orchestration.requests import PARTITION_TAG
from pipeline_project.settings import Settings
from pipeline_project.store.artifacts import Artifacts

FOLDER: Final = "lineage"
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


def forget_old_runs(
    instance: dg.DagsterInstance, artifacts: Artifacts, retention: Retention, now: datetime | None = None
) -> dict[str, int]:
    """Write the lineage of old runs, then delete them: `runs_forgotten`, `runs_kept` of those looked at.

    Broken off anywhere it is only begun again: a run may then be in two files, and is in one before it is deleted.
    """
    before = (now or datetime.now(UTC)) - retention.keep
    forgotten = kept = 0
    seen = _resumed(instance)
    for _ in range(retention.batches_max):
        filters = dg.RunsFilter(statuses=ENDED, updated_before=before)
        records = instance.get_run_records(filters, limit=retention.batch, cursor=seen, ascending=True)
        staying = [record for record in records if _is_newest_of_its_partition(instance, record.dagster_run)]
        old = [record for record in records if record not in staying]
        if old:
            _export(instance, artifacts, old)
            _delete(instance, [record.dagster_run.run_id for record in old])
        forgotten, kept = forgotten + len(old), kept + len(staying)
        seen = staying[-1].dagster_run.run_id if staying else seen
        if len(records) < retention.batch:
            seen = None
            break
    instance.daemon_cursor_storage.set_cursor_values({CURSOR: seen or ""})
    return {"runs_forgotten": forgotten, "runs_kept": kept}


def _resumed(instance: dg.DagsterInstance) -> str | None:
    """The last run that was looked at and stays: the next look goes on behind it, and after the end begins anew."""
    seen = instance.daemon_cursor_storage.get_cursor_values({CURSOR}).get(CURSOR)
    return seen if seen and instance.has_run(seen) else None


def _is_newest_of_its_partition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether its partition's latest state is this run: the UI, data versions and later steps look there."""
    partition = run.tags.get(PARTITION_TAG)
    if partition is None or run.status is not dg.DagsterRunStatus.SUCCESS:
        return False
    same = dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS], tags={PARTITION_TAG: partition})
    return instance.get_runs(same, limit=1)[0].run_id == run.run_id


def _export(instance: dg.DagsterInstance, artifacts: Artifacts, records: Sequence[dg.RunRecord]) -> None:
    """One file, under another name until it is whole; written again, it says the same."""
    first = records[0]
    folder = f"{artifacts.root}/{FOLDER}/{first.create_timestamp:%Y-%m}"
    path = f"{folder}/{first.dagster_run.run_id}.jsonl.gz"
    artifacts.fs.makedirs(folder, exist_ok=True)
    lines = (json.dumps(_described(instance, record), default=str) for record in records)
    with artifacts.fs.open(f"{path}.part", "wb") as raw, gzip.open(raw, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    artifacts.fs.mv(f"{path}.part", path)


def _described(instance: dg.DagsterInstance, record: dg.RunRecord) -> dict[str, Any]:
    run = record.dagster_run
    events = [entry for entry in instance.all_logs(run.run_id, of_type=LINEAGE) if entry.dagster_event]
    return {
        "run_id": run.run_id,
        "job": run.job_name,
        "status": run.status.value,
        "partition": run.tags.get(PARTITION_TAG),
        "parent_run_id": run.parent_run_id,
        "created": record.create_timestamp.isoformat(),
        "started": _at(record.start_time),
        "ended": _at(record.end_time),
        "tags": dict(run.tags),
        "materializations": list(_of_assets(events)),
        "checks": list(_of_checks(events)),
    }


def _of_assets(events: Iterable[dg.EventLogEntry]) -> Iterator[dict[str, Any]]:
    for entry in events:
        seen = entry.asset_materialization or entry.asset_observation
        if seen:
            yield {
                "kind": "materialization" if entry.asset_materialization else "observation",
                "asset": seen.asset_key.to_user_string(),
                "partition": seen.partition,
                "at": _at(entry.timestamp),
                "tags": dict(seen.tags or {}),
                "metadata": _plain(seen.metadata),
            }


def _of_checks(events: Iterable[dg.EventLogEntry]) -> Iterator[dict[str, Any]]:
    for entry in events:
        check = entry.asset_check_evaluation
        if check:
            yield {
                "asset": check.asset_key.to_user_string(),
                "check": check.check_name,
                "partition": check.partition,
                "at": _at(entry.timestamp),
                "passed": check.passed,
                "severity": check.severity.value,
                "description": check.description,
                "metadata": _plain(check.metadata),
            }


def _plain(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, Any]:
    """Values as JSON has them; of a picture only how long it was."""
    values = {name: _rows(value) if isinstance(value, dg.TableMetadataValue) else value.value for name, value in metadata.items()}
    long = {name: len(str(value)) for name, value in values.items() if len(str(value)) > VALUE_BYTES_MAX}
    return {name: {"omitted": long[name]} if name in long else value for name, value in values.items()}


def _rows(table: dg.TableMetadataValue) -> list[dict[str, Any]]:
    return [dict(record.data) for record in table.records]


def _at(timestamp: float | None) -> str | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat()


def _delete(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    # Dagster leaves these behind, seven a run.
    storage: Any = instance.event_log_storage
    statement = sa.text("delete from asset_check_executions where run_id in :ids").bindparams(sa.bindparam("ids", expanding=True))
    with storage.index_connection() as connection:
        connection.execute(statement, {"ids": list(run_ids)})
