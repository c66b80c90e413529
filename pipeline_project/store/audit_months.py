"""Months of the audit trail: once all their items are archived they are written to a file, detached, dropped, and read from there."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import parquet

from pipeline_project.store import statements
from pipeline_project.store.artifacts import Artifacts

SQL = statements.load("history")

FOLDER: Final = ".audit"
"""Beside the pools' folders; no pool can have a name with a dot."""
ROWS_AT_A_TIME: Final = 50_000

SCHEMA: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("xid", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("item_id", pa.int64()),
        ("cycle_id", pa.int64()),
        ("token", pa.int64()),
        ("pool_id", pa.int32()),
        ("version", pa.int32()),
        ("revision", pa.int32()),
        ("from_state", pa.string()),
        ("to_state", pa.string()),
        ("event", pa.string()),
        ("session_name", pa.string()),
        ("actor", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""The columns of pipeline.transition; what Arrow has no type for is its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A partition of the audit trail, [from_at, until_at)."""

    partition: str
    from_at: datetime
    until_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The file of a month."""

    partition: str
    location: str
    sha256: str
    rows: int


def make_ahead(connection: sa.Connection) -> None:
    """Make the partitions of this month and of the next two, where they are missing. Locks the whole audit trail for a moment."""
    connection.execute(SQL["make_ahead"])


def over(connection: sa.Connection, age_s: int) -> list[Month]:
    """Attached months that have been over for so long, oldest first."""
    return [Month(**row) for row in connection.execute(SQL["audit_months"], {"age_s": age_s}).mappings()]


def may_detach(connection: sa.Connection, month: Month) -> bool:
    """The oldest one, sealed, and every item in it is archived."""
    return bool(connection.scalar(SQL["may_detach"], {"month": month.partition}))


def export(connection: sa.Connection, artifacts: Artifacts, month: Month) -> Export:
    """Write the month's rows, by item and version, to a file that is renamed into place when it is whole."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "rows.parquet"
        rows = 0
        with parquet.ParquetWriter(local, SCHEMA, compression="zstd") as writer:
            for table in _read(connection, month):
                writer.write_table(table)
                rows += len(table)
        location = f"{artifacts.root}/{FOLDER}/{month.partition}.parquet"
        scratch = f"{location}.{uuid4().hex}"
        artifacts.fs.makedirs(f"{artifacts.root}/{FOLDER}", exist_ok=True)
        artifacts.fs.put_file(str(local), scratch)
        artifacts.fs.mv(scratch, location)
        with local.open("rb") as file:
            return Export(partition=month.partition, location=location, sha256=hashlib.file_digest(file, "sha256").hexdigest(), rows=rows)


def record(connection: sa.Connection, month: Month, export: Export) -> None:
    """Remember the file; a later one of the same month replaces it until the month is detached."""
    parameters = {"from_at": month.from_at, "until_at": month.until_at, "rows": export.rows}
    connection.execute(SQL["record_export"], {"month": month.partition, "location": export.location, "sha256": export.sha256, **parameters})


def detach(connection: sa.Connection, month: Month) -> bool:
    """Take the month out of the audit trail, if it still may go. Raises a lock timeout, which may be tried again, when others use it."""
    connection.execute(SQL["hurry"])
    return bool(connection.scalar(SQL["detach"], {"month": month.partition}))


def detached(connection: sa.Connection) -> list[Export]:
    """Months that are detached and not dropped yet."""
    return [Export(**row) for row in connection.execute(SQL["detached"]).mappings()]


def exported(connection: sa.Connection) -> list[Export]:
    """The file of each month that left the audit trail, oldest first."""
    return [Export(**row) for row in connection.execute(SQL["exported"]).mappings()]


def read(artifacts: Artifacts, export: Export) -> Iterator[list[dict[str, Any]]]:
    """The rows of a month's file, so many at a time. Raises OSError or pyarrow.ArrowException for a file that is none, or not there."""
    with artifacts.fs.open(export.location, "rb") as file, parquet.ParquetFile(file) as stored:
        for batch in stored.iter_batches(ROWS_AT_A_TIME):
            yield batch.to_pylist()


def intact(artifacts: Artifacts, export: Export) -> bool:
    """Whether the file is there and is the one that was written."""
    if not artifacts.fs.exists(export.location):
        return False
    with artifacts.fs.open(export.location, "rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest() == export.sha256


def drop(connection: sa.Connection, export: Export) -> bool:
    """Drop a detached month whose file was just read again."""
    return bool(connection.scalar(SQL["drop_detached"], {"month": export.partition}))


def moves(connection: sa.Connection, artifacts: Artifacts, item_id: int) -> list[dict[str, Any]]:
    """An item's moves in the months that left the database, oldest first; the columns of audit.timeline."""
    found: list[dict[str, Any]] = []
    for export in exported(connection):
        table = parquet.read_table(export.location, filesystem=artifacts.fs, filters=[("item_id", "=", item_id)])
        found += table.to_pylist()
    keys = dict(connection.execute(SQL["cycle_keys"], {"ids": [row["cycle_id"] for row in found if row["cycle_id"]]}).tuples().all())
    named = ("at", "version", "event", "from_state", "to_state", "revision", "token", "actor", "session_name", "reason")
    return [
        {
            **{name: row[name] for name in named},
            "cycle": keys.get(row["cycle_id"]),
            "detail": json.loads(row["detail"]) if row["detail"] else None,
        }
        for row in sorted(found, key=lambda row: row["version"])
    ]


def _read(connection: sa.Connection, month: Month) -> Iterator[pa.Table]:
    casts = {"xid": "text", "from_state": "text", "to_state": "text", "detail": "text"}
    names = ", ".join(f"{name}::{casts[name]}" if name in casts else name for name in SCHEMA.names)
    query = sa.text(f"select {names} from pipeline.transition where at >= :from_at and at < :until_at order by item_id, version")  # noqa: S608  # our own names
    bounds = {"from_at": month.from_at, "until_at": month.until_at}
    result = connection.execute(query, bounds, execution_options={"stream_results": True, "yield_per": ROWS_AT_A_TIME})
    for rows in result.partitions():
        yield pa.table(
            {name: pa.array(column, SCHEMA.field(name).type) for name, column in zip(SCHEMA.names, zip(*rows, strict=True), strict=True)}
        )
