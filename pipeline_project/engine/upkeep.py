"""Housekeeping, in small batches: what has passed its time goes back, what fell silent is finished, what is old is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, ProgrammingError

from pipeline_project.core.errors import CheckFailed, PipelineError, Refused, Retryable
from pipeline_project.engine.alerts import Alerts
from pipeline_project.engine.audit import Audit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.retention import Retention
from pipeline_project.engine.transactions import is_transient, repeatable
from pipeline_project.store import audit_months, catalog, check_marks, cycles, feed, invariants, items, leases
from pipeline_project.store.alerts import Alert
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database

log = logging.getLogger(__name__)

BATCH: Final = 2_000
"""Items one transaction of a sweep moves: executors wait for it no longer than a blink."""

SWEEPER: Final = "sweep"
NOT_SEALED: Final = "audit_not_sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """violated: broken invariants with their rows; items: how many were looked at, None = every one."""

    violated: list[dict[str, Any]]
    items: int | None


class Upkeep:
    """What nobody waits for: sweeping, and looking whether every promise of the store is kept."""

    def __init__(self, database: Database, artifacts: Artifacts, cycles: Cycles, audit: Audit) -> None:
        self._database = database
        self._artifacts = artifacts
        self._cycles = cycles
        self._audit = audit
        self._retention = Retention(database, artifacts)
        self._alerts = Alerts(database)

    def sweep(self) -> dict[str, int]:
        """Expire items, release lapsed holds, fail lapsed leases, finish silent cycles, seal the trail, drop what is old, archive.

        Correctness never waits for it: select and claim judge every time limit themselves. How many of each. What somebody holds locked
        for too long is left for the next time and the rest is done: then Retryable says what was left, and why.
        """
        duties: dict[str, Callable[[], dict[str, int]]] = {
            "partitions": self._make_partitions,
            "expired": lambda: {"expired": self._until_none(self._expire)},
            "holds": lambda: {"holds_released": self._until_none(self._release_holds)},
            "leases": self._fail_lapsed,
            "cycles": lambda: {"cycles_finished": self._finish_lapsed()},
            "plans": lambda: {"plans_forgotten": self._forget_plans()},
            "artifacts": lambda: {"artifacts_dropped": self._retention.drop_artifacts()},
            "seals": lambda: {"sealed": self._seal()},
            "archive": lambda: {"items_archived": self._retention.archive_items()},
            "audit months": lambda: {"audit_months_detached": self._retention.detach_audit()},
            "sizes": self._note_sizes,
        }
        swept: dict[str, int] = {}
        left: list[str] = []
        for name, duty in duties.items():
            try:
                swept |= duty()
            except DBAPIError as failure:
                if not is_transient(failure):
                    raise
                left.append(f"{name} ({str(failure.orig).splitlines()[0]})")
        if left:
            raise Retryable(
                f"sweep: somebody holds for too long what it needs for {', '.join(left)}; the rest is done: "
                f"{', '.join(f'{name} {n}' for name, n in swept.items())}. `pipeline feed status` may name who"
            )
        return swept

    def advance_clock(self, until: datetime) -> None:
        """Tell a simulation the time. Raises Refused on a database that lives in real time, or backwards."""
        try:
            with self._database.begin() as connection:
                cycles.advance_clock(connection, until)
        except ProgrammingError as refusal:
            raise Refused(str(refusal.orig).splitlines()[0]) from refusal

    def check(self) -> list[dict[str, Any]]:
        """Broken invariants of everything there is, with their rows; empty on a healthy database."""
        return self.check_all().violated

    def check_all(self) -> Checked:
        return self._examine(None)

    def check_new(self) -> Checked:
        """The same of the items that moved since the last check that found nothing; of everything, when that was never or a week ago.

        It misses what no move was recorded for: a row that somebody changed with the guards off, of an item that has not moved since.
        """
        with self._database.begin() as connection:
            mark = check_marks.last(connection)
        return self._examine(mark.position if mark and mark.recent else None)

    def check_cycle(self, cycle_key: str, *, pool: str) -> list[dict[str, Any]]:
        """The same of the items that a cycle decided on, and of all that is held."""
        with self._database.begin(repeatable=True) as connection:
            cycle = cycles.find(connection, cycle_key, pool=pool)
            return invariants.violated_by(connection, check_marks.of_cycle(connection, cycle["cycle_id"]))

    def _examine(self, since: str | None) -> Checked:
        with self._database.begin(repeatable=True) as connection:
            horizon = feed.horizon(connection)
            touched = None if since is None else check_marks.touched(connection, since)
            violated = invariants.violated(connection) if touched is None else invariants.violated_by(connection, touched)
        if not violated:  # what is broken is found again until it is mended
            self._remember_check(horizon, full=touched is None)
        return Checked(violated=violated, items=None if touched is None else len(touched))

    # -- one transaction each

    def _until_none(self, step: Callable[[], int]) -> int:
        total = 0
        while moved := step():
            total += moved
        return total

    @repeatable
    def _expire(self) -> int:
        with self._database.begin(actor=SWEEPER) as connection:
            return len(items.expire_due(connection, most=BATCH))

    @repeatable
    def _release_holds(self) -> int:
        with self._database.begin(actor=SWEEPER) as connection:
            return len(items.release_lapsed_holds(connection, most=BATCH))

    def _fail_lapsed(self) -> dict[str, int]:
        """A pool at a time; one of whose claims another sweep was quicker with counts nothing, and ends this one's turn."""
        total = {"leases_lapsed": 0, "executors_lost": 0}
        while (step := self._lapse())[0]:
            total["leases_lapsed"] += step[0]
            total["executors_lost"] += step[1]
        return total

    @repeatable
    def _lapse(self) -> tuple[int, int]:
        with self._database.begin(actor=SWEEPER) as connection:
            return leases.lapse(connection, most=BATCH)

    def _finish_lapsed(self) -> int:
        try:
            return len(self._cycles.finish_lapsed())
        except PipelineError as failure:  # the sweep's other duties must not wait for one cycle; it is met again next time
            log.error("a lapsed cycle could not be finished: %s", failure)
            return 0

    def _seal(self) -> int:
        try:
            sealed = int(self._audit.seal()["rows"])
        except (CheckFailed, OSError) as failure:  # a full disk or another chain: somebody must look, and the sweep must go on
            log.error("the audit trail was not sealed: %s", failure)
            self._alerts.begin(Alert(kind=NOT_SEALED, severity="error", message=str(failure), dedupe_key=NOT_SEALED))
            return 0
        self._alerts.end(NOT_SEALED)
        return sealed

    @repeatable
    def _remember_check(self, horizon: str, *, full: bool) -> None:
        with self._database.begin() as connection:
            check_marks.remember(connection, horizon, full=full)

    @repeatable
    def _make_partitions(self) -> dict[str, int]:
        """By itself: it locks the whole audit trail for a moment, and must hold nothing that a commit waits for."""
        with self._database.begin(actor=SWEEPER) as connection:
            audit_months.make_ahead(connection)
        return {}

    @repeatable
    def _note_sizes(self) -> dict[str, int]:
        with self._database.begin() as connection:
            catalog.note_sizes(connection)
        return {}

    @repeatable
    def _forget_plans(self) -> int:
        with self._database.begin(actor=SWEEPER) as connection:
            return cycles.forget_plans(connection)
