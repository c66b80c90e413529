"""Cycles in flight and how they end: published, abandoned or rolled back, by their owner or by whoever meets them lapsed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pipeline_project.core import items as item_rules
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import CheckFailed, CycleInFlight, Refusal, Unknown
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.core.rollbacks import undo_key
from pipeline_project.engine import actors
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import cycles, intake, items, pools, rollbacks
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.cycles import Cycle
from pipeline_project.store.database import Database
from pipeline_project.store.intake import Receipt

log = logging.getLogger(__name__)

ROLLBACK_BATCH: Final = 5_000
"""Items a transaction of a rollback releases: well under a second on a busy machine too."""

COMPENSATION_BATCH: Final = 5_000


class Finishing:
    """One owner: its name is in the cycle's row while it is in flight, and in the audit trail. A process, unless told otherwise."""

    def __init__(self, database: Database, artifacts: Artifacts, owner: str | None = None) -> None:
        self._database = database
        self._artifacts = artifacts
        self.owner = owner or actors.process()

    @repeatable
    def find(self, cycle_key: str, *, pool: str | None = None) -> Cycle:
        """The newest attempt of the cycle whose key begins so."""
        with self._database.begin() as connection:
            return cycles.find(connection, cycle_key, pool=pool)

    def finish_lapsed(self, pool: str | None = None) -> list[str]:
        """Finish cycles whose owner fell silent: commit from the stored selection, or release everything; finish rollbacks."""
        lapsed = self._lapsed(pool)
        for cycle in lapsed:
            log.warning(
                "cycle %s of pool %s: its owner %s fell silent while %s; finishing it",
                cycle["cycle_key"],
                cycle["pool"],
                cycle["owner"],
                cycle["status"],
            )
            self._finish(cycle)
        return [cycle["cycle_key"] for cycle in lapsed]

    @contextmanager
    def _letting_go(self, cycle: Cycle, fence: int) -> Iterator[None]:
        """Whoever dies has a lease that lapses; whoever only fails ends it, so that the next may finish the cycle at once."""
        try:
            yield
        except Exception:
            with suppress(SQLAlchemyError), self._database.begin() as connection:  # the lease lapses by itself
                cycles.let_go(connection, cycle["cycle_id"], fence)
            raise

    def _finish(self, cycle: Cycle) -> None:
        fence = self._take_over(cycle)
        if fence is None:
            return
        with self._letting_go(cycle, fence):
            if cycle["status"] == CycleStatus.ROLLING_BACK:
                self._unwind(cycle, fence, cycle["reason"], hold_s=cycle["hold_s"], compensate=cycle["compensate"])
            elif (proposal := self._stored(cycle)) is not None:
                self._write(cycle, fence, proposal)
            else:
                self._abandon(cycle, fence, "its owner fell silent, and its stored selection is gone or damaged")

    def _write(self, cycle: Cycle, fence: int, proposal: Proposal) -> bool:
        """Commit every chunk and publish. False when nothing of the plan holds any more: then the cycle is abandoned."""
        commit = Commit(self._database, proposal, cycle["cycle_id"], fence)
        commit.run()
        if commit.is_stale():
            self._abandon(cycle, fence, "nothing of the plan holds any more")
            return False
        self._publish(cycle["pool"], cycle, fence)
        return True

    def _unwind(self, cycle: Cycle, fence: int, reason: str, *, hold_s: int, compensate: bool) -> tuple[list[int], Receipt]:
        """Release, compensate where asked for, close: each part finds done what an earlier try did. Released ids, what was submitted."""
        released = self._release_all(cycle, fence, CycleStatus.ROLLING_BACK, reason, hold_s)
        receipt = self._compensate(cycle) if compensate else Receipt()
        self._close(cycle, fence, CycleStatus.ROLLED_BACK, reason)
        return released, receipt

    def _abandon(self, cycle: Cycle, fence: int, reason: str) -> None:
        self._release_all(cycle, fence, CycleStatus.COMMITTING, reason)
        self._close(cycle, fence, CycleStatus.ABANDONED, reason)

    def _release_all(self, cycle: Cycle, fence: int, status: CycleStatus, reason: str, hold_s: int = 0) -> list[int]:
        """Release every unclaimed item of the cycle, batch by batch; their ids."""
        released: list[int] = []
        after = 0
        while batch := self._release_batch(cycle, fence, status, reason, hold_s, after):
            moved, after = batch
            released += moved
        return released

    def _compensate(self, cycle: Cycle) -> Receipt:
        """One new item for each completed one, batch by batch; the same keys again are the same items."""
        receipt, after = Receipt(), 0
        while batch := self._compensate_batch(cycle, after):
            submitted, after = batch
            receipt.add(submitted)
        return receipt

    # -- one transaction each

    @repeatable
    def _lapsed(self, pool: str | None) -> list[Cycle]:
        with self._database.begin() as connection:
            found = pools.find(connection, pool) if pool else None
            return [cycle for cycle in cycles.in_flight(connection, found) if cycle["lapsed"]]

    @repeatable
    def _take_over(self, cycle: Cycle) -> int | None:
        """A new fence for a cycle in flight, which shuts its former owner out; None when somebody finished it meanwhile."""
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] != cycle["status"]:
                return None
            pool = pools.find(connection, cycle["pool"])
            return cycles.take_over(connection, pool, row, self.owner)

    @repeatable
    def _publish(self, pool: str, cycle: Cycle, fence: int) -> None:
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] == CycleStatus.PUBLISHED and row["fence"] == fence:
                return  # an earlier try's COMMIT got through
            cycles.publish(connection, pools.find(connection, pool), cycle["cycle_id"], fence)

    @repeatable
    def _release_batch(
        self, cycle: Cycle, fence: int, status: CycleStatus, reason: str, hold_s: int, after: int
    ) -> tuple[list[int], int] | None:
        """Ids it released, and the last item it looked at; None when there are no more."""
        with self._database.begin(actor=self.owner) as connection:
            cycles.hold_fence(connection, cycle["cycle_id"], fence, status)
            batch = items.held_by(connection, cycle["cycle_id"], after=after, most=ROLLBACK_BATCH)
            hold = cycles.now(connection) + timedelta(seconds=hold_s) if hold_s else None
            released = items.release(connection, batch, reason=reason, not_before=hold)
            return (released, batch[-1]) if batch else None

    @repeatable
    def _compensate_batch(self, cycle: Cycle, after: int) -> tuple[Receipt, int] | None:
        """No fence: the keys make it happen once, whoever does it. Demands that nothing has room for any more are refused and reported."""
        with self._database.begin(actor=self.owner) as connection:
            completed = rollbacks.completed(connection, cycle["cycle_id"], after=after, most=COMPENSATION_BATCH)
            if not completed:
                return None
            rows = [_compensation(row, cycle["cycle_key"]) for row in completed]
            batch, unfit = item_rules.check_item_rows(enumerate(rows, 1))
            reason = f"makes up for what cycle {cycle['cycle_key'][:8]} completed"
            receipt = intake.submit(connection, pools.find(connection, cycle["pool"]), batch, reason=reason)
            receipt.refused += unfit
            receipt.refused = [_of_item(refusal, rows) for refusal in receipt.refused]
            return receipt, completed[-1]["item_id"]

    @repeatable
    def _close(self, cycle: Cycle, fence: int, status: CycleStatus, reason: str) -> None:
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] != status:  # else an earlier try's COMMIT got through, or who took it over was as far
                cycles.refuse_outrun(row, fence)
                cycles.close(connection, row["pool_id"], row["cycle_id"], status, reason)

    def _stored(self, cycle: Cycle) -> Proposal | None:
        """The selection of a cycle as it was stored; None when it can never be read again. A storage that is away is another matter."""
        try:
            return self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"])
        except (Unknown, CheckFailed, FileNotFoundError) as damage:
            log.error("cycle %s of pool %s: %s", cycle["cycle_key"], cycle["pool"], damage)
            return None


@contextmanager
def alone_in(pool: str) -> Iterator[None]:
    """The partial unique index admits one cycle in flight a pool: another's may begin between our look and our write."""
    try:
        yield
    except IntegrityError as failure:
        raise CycleInFlight(f"pool {pool}: another cycle began to be written at the same moment; try again") from failure


def _compensation(row: dict[str, Any], cycle_key: str) -> dict[str, Any]:
    undoes = {"item": row["key"], "cycle": cycle_key, "token": row["token"]}
    return {
        "key": undo_key(row["key"], cycle_key),
        "weight": row["weight"],
        "demands": row["demands"],
        "payload": {**(row["payload"] or {}), "undoes": undoes},
    }


def _of_item(refusal: Refusal, rows: list[dict[str, Any]]) -> Refusal:
    """There is no file: the item is what tells one row from another."""
    return Refusal(line=0, field=refusal.field, expected=refusal.expected, found=refusal.found, item=rows[refusal.line - 1]["key"])
