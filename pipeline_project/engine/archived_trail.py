"""Verification of the months that left the database: each row of their files beside what was sealed of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.auditing import Fault, Finding
from pipeline_project.core.packing import Int64
from pipeline_project.core.seals import SIZE, Names
from pipeline_project.engine.trail import Progress, seals_after
from pipeline_project.store import audit_months, seals
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.audit_months import Export
from pipeline_project.store.database import Database
from pipeline_project.store.seals import Gone

Hashes = np.ndarray[Any, np.dtype[np.void]]


class ArchivedTrail:
    """One pass over the seals for each month. They must have been verified: what they recorded is what the files are compared with."""

    def __init__(self, database: Database, artifacts: Artifacts, gone: Sequence[Gone], progress: Progress) -> None:
        self._database = database
        self._artifacts = artifacts
        self._gone = gone
        self._progress = progress
        self.rows = 0

    def first_fault(self) -> Finding | None:
        with self._database.begin(repeatable=True) as connection:
            exports = {export.partition: export for export in audit_months.exported(connection)}
        for month in self._gone:
            fault = self._month(month, exports[month.partition])
            if fault:
                return fault
        return None

    def _month(self, month: Gone, export: Export) -> Finding | None:
        try:
            seqs, leaves = self._hashed(export)
        except (OSError, pa.ArrowException, sa.exc.DataError) as broken:
            said = f"expected {export.rows:,} rows of {month.partition}, found a file that is not there or not whole"
            why = str(broken).splitlines()[0]
            return Finding(fault=Fault.ARCHIVE_UNREADABLE, message=f"{export.location}: {said}: {why}. Bring it back from its backup")
        sealed_too = np.zeros(len(seqs), np.bool_)
        for seal_id, names, recorded in self._sealed(month):
            there = np.isin(names.seqs, seqs)
            at = np.searchsorted(seqs, names.seqs[there])
            same = there.copy()
            same[there] = leaves[at] == recorded[there]
            if not same.all():
                worst = int(np.argmin(same))
                return self._name(Fault.ROW_EDITED if there[worst] else Fault.ROW_REMOVED, export, seal_id, names, worst)
            sealed_too[at] = True
        if not sealed_too.all():
            sealed, seq = int(sealed_too.sum()), int(seqs[np.argmin(sealed_too)])
            said = f"expected {sealed:,} rows, as were sealed of {month.partition}, found {len(seqs):,}: row {seq} was inserted"
            return Finding(fault=Fault.ROW_INSERTED, message=f"{export.location}: {said}")
        return None

    def _hashed(self, export: Export) -> tuple[Int64, Hashes]:
        """Numbers and leaves of the rows in a file, by number."""
        numbers, leaves = [np.empty(0, np.int64)], [b""]
        for rows in audit_months.read(self._artifacts, export):
            with self._database.begin(repeatable=True) as connection:
                seqs, hashed = seals.leaves_of(connection, rows)
            numbers.append(seqs)
            leaves.append(hashed)
            self.rows += len(seqs)
            self._progress(self.rows)
        seqs = np.concatenate(numbers)
        order = np.argsort(seqs, kind="stable")
        return seqs[order], np.frombuffer(b"".join(leaves), f"V{SIZE}")[order]

    def _sealed(self, month: Gone) -> Iterator[tuple[int, Names, Hashes]]:
        """For each seal with rows of a month: its number, their names and leaves."""
        for sealed in seals_after(self._database, 0):
            with self._database.begin(repeatable=True) as connection:
                leaves, packed = seals.recorded(connection, sealed.seal_id)
            names = Names.unpack(packed, sealed.rows)
            inside = month.covers(names)
            if inside.any():
                yield sealed.seal_id, names.where(inside), np.frombuffer(leaves, f"V{SIZE}")[inside]

    def _name(self, fault: Fault, export: Export, seal_id: int, names: Names, row: int) -> Finding:
        """Say what a person needs to find the row again."""
        item_id, version = int(names.items[row]), int(names.versions[row])
        with self._database.begin(repeatable=True) as connection:
            key = seals.key_of(connection, item_id)
        said = "its hash is not the sealed one: it was edited" if fault is Fault.ROW_EDITED else "found no such row: it was removed"
        where = f"seal {seal_id}, row {names.position(row)}, item {key or item_id}, version {version}, in {export.location}"
        return Finding(
            fault=fault,
            seal=seal_id,
            position=str(names.position(row)),
            item=key,
            item_id=item_id,
            version=version,
            message=f"{where}: expected it as it was sealed (recorded {names.time(row).isoformat()}), {said}",
        )
