"""The audit trail: sealed in the background, verified against its seals and their file, replayed against the present."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipeline_project.core.auditing import Fault, Finding
from pipeline_project.core.errors import CheckFailed, UsageError
from pipeline_project.core.seals import Seal
from pipeline_project.engine.archived_trail import ArchivedTrail
from pipeline_project.engine.trail import Progress, Walk, seals_after
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import feed, invariants, seals
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from pipeline_project.store.roots import Roots

BATCH: Final = 65_536
"""Rows of a seal at most: a transaction of half a second, and 4 MB of hashes and names."""

REPLAYED: Final = ("state_not_last_transition", "state_not_replayed", "resource_not_replayed")
"""The invariants that together say: replaying the trail gives the present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was looked at, and the first fault.

    seals      how many were recomputed, from the one after `since` on
    rows       how many rows they cover
    archived   of these, how many are in partitions that were taken away, and were excused by `gone`
    read_back  rows of files of such partitions that were compared, too; None = not asked for
    unsealed   rows that no seal covers yet, and nothing can be said of
    roots      the file they were compared with; None where there is none
    compared   how many seals stood in it, too
    """

    seals: int
    rows: int
    archived: int
    read_back: int | None
    gone: list[str]
    unsealed: int
    since: int
    roots: str | None
    compared: int
    first: Finding | None

    def as_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in self.__slots__ if name != "first"}
        return {"verified": self.first is None, **counts, "first": self.first.as_dict() if self.first else None}


class Audit:
    """roots  the folder of the files of roots; None = seals are not exported"""

    def __init__(self, database: Database, roots: Path | None) -> None:
        self._database = database
        self._folder = roots

    def seal(self, progress: Progress = lambda _: None) -> dict[str, Any]:
        """Seal every row below the feed's horizon, and export the roots. seals, rows, exported, roots (the file).

        Raises CheckFailed, and seals nothing, where the file knows another chain: sealing on would bury the fault.
        """
        file = self._file()
        self._refuse_another_chain(file)
        self._refuse_another_server()
        made = rows = 0
        while sealed := self._seal_batch():
            made, rows = made + 1, rows + sealed.rows
            progress(rows)
        return {"seals": made, "rows": rows, "exported": self._export(file), "roots": str(file.path) if file else None}

    def export(self, path: Path) -> int:
        """Append to another file of roots what it does not have yet; how many seals. Raises CheckFailed where it knows another chain."""
        file = Roots(path)
        self._refuse_another_chain(file)
        return self._export(file)

    def verify(
        self, *, since: int = 0, roots: Path | None = None, archive: Artifacts | None = None, progress: Progress = lambda _: None
    ) -> Verification:
        """Recompute every seal after `since` from the rows, and compare with the file of roots. Stops at the first fault. Reads only.

        roots    another file than the installation's own: the copy that was kept elsewhere
        archive  where the files of months are that left the database: their rows are compared too, instead of excused
        """
        if archive and since:
            raise UsageError("--archive: expected no --since, as a month in a file is compared with all seals")
        if roots and not roots.is_file():
            raise UsageError(f"--from-file: expected a file of roots, found nothing at {roots}")
        file = Roots(roots) if roots else self._file()
        file = file if file and file.path.exists() else None
        with self._database.begin(repeatable=True) as connection:
            gone = seals.gone(connection)
        walk = Walk(self._database, gone, since, progress)
        try:
            first = walk.through(file.seals() if file else iter(()))
        except CheckFailed as broken:
            first = Finding(fault=Fault.FILE_EDITED, seal=walk.expected, message=str(broken))
        archived = ArchivedTrail(self._database, archive, gone, progress) if archive else None
        if archived and not first:
            first = archived.first_fault()
        with self._database.begin(repeatable=True) as connection:
            unsealed = seals.unsealed(connection)
        return Verification(
            seals=walk.seals,
            rows=walk.rows,
            archived=walk.archived,
            read_back=archived.rows if archived else None,
            gone=[part.partition for part in gone],
            unsealed=unsealed,
            since=since,
            roots=str(file.path) if file else None,
            compared=walk.compared,
            first=first,
        )

    def replay(self) -> list[dict[str, Any]]:
        """Replay the trail from its beginning: where that is not the present, as `Upkeep.check` reports it. Reads only."""
        with self._database.begin(repeatable=True) as connection:
            return invariants.violated(connection, REPLAYED)

    def status(self) -> dict[str, Any]:
        """seal, sealed_at, rows not sealed yet."""
        with self._database.begin(repeatable=True) as connection:
            last = seals.last(connection)
            return {
                "seal": last.seal_id if last else None,
                "sealed_at": last.sealed_at if last else None,
                "sealed_up_to": str(last.until) if last else None,
                "unsealed": seals.unsealed(connection),
            }

    def _refuse_another_server(self) -> None:
        """Where the server has not counted as far as the trail, new rows would come before sealed ones, and never be sealed."""
        with self._database.begin(repeatable=True) as connection:
            last, following = seals.last(connection), feed.next_transaction(connection)
        if last and last.until.xid > following:
            raise CheckFailed(
                f"seal {last.seal_id}: expected it to end at or before transaction {following}, found {last.until}: this database was"
                " restored from a server that had counted further, and nothing was sealed. See docs/operations.md, `After a restore`"
            )

    @repeatable
    def _seal_batch(self) -> Seal | None:
        with self._database.begin() as connection:
            return seals.seal(connection, most=BATCH)

    def _export(self, file: Roots | None) -> int:
        return file.append(partial(seals_after, self._database)) if file else 0

    def _file(self) -> Roots | None:
        if self._folder is None:
            return None
        with self._database.begin(repeatable=True) as connection:
            return Roots(self._folder / f"{seals.trail_name(connection)}.jsonl")

    def _refuse_another_chain(self, file: Roots | None) -> None:
        known = file.last() if file else None
        if file is None or known is None:
            return
        with self._database.begin(repeatable=True) as connection:
            found = seals.after(connection, known.seal_id - 1, most=1)
        if not found or found[0].chain != known.chain:
            raise CheckFailed(
                f"seal {known.seal_id}: {file.path} ends with {known.chain.hex()[:16]}, the database has"
                f" {found[0].chain.hex()[:16] if found else 'no such seal'}: nothing was written."
                " Run `pipeline audit verify`; after a restore that explains it, move the file away"
            )
