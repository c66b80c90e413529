"""Housekeeping, in small batches: what has passed its time goes back, what fell silent is finished, what is old is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from pipeline_project.core.errors import CheckFailed, PipelineError, Refused
from pipeline_project.engine.audit import Audit
from pipeline_project.engine.cycle import Cycles
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import alerts, cycles, invariants, items, leases, pools
from pipeline_project.store.alerts import Alert
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database

log = logging.getLogger(__name__)

BATCH: Final = 2_000
"""Items one transaction of a sweep moves: executors wait for it no longer than a blink."""

SWEEPER: Final = "sweep"


class Upkeep:
    def __init__(self, database: Database, artifacts: Artifacts, cycles: Cycles, audit: Audit) -> None:
        self._database = database
        self._artifacts = artifacts
        self._cycles = cycles
        self._audit = audit

    def sweep(self) -> dict[str, int]:
        """Expire items, release lapsed holds, fail lapsed leases, finish cycles that fell silent, drop old plans and artifacts, seal.

        Correctness never waits for it: select and claim judge every time limit themselves. How many of each.
        """
        self._make_partitions()
        return {
            "expired": self._until_none(self._expire),
            "holds_released": self._until_none(self._release_holds),
            **self._fail_lapsed(),
            "cycles_finished": self._finish_lapsed(),
            "plans_forgotten": self._forget_plans(),
            "artifacts_dropped": self._drop_artifacts(),
            "sealed": self._seal(),
        }

    def advance_clock(self, until: datetime) -> None:
        """Tell a simulation the time. Raises Refused on a database that lives in real time, or backwards."""
        try:
            with self._database.begin() as connection:
                cycles.advance_clock(connection, until)
        except ProgrammingError as refusal:
            raise Refused(str(refusal.orig).splitlines()[0]) from refusal

    @repeatable
    def raise_alert(self, alert: Alert) -> bool:
        """Keep it for whoever is on duty; False when it was raised before."""
        with self._database.begin() as connection:
            return alerts.add(connection, alert)

    def check(self) -> list[dict[str, Any]]:
        """Broken invariants, with their rows; empty on a healthy database."""
        with self._database.begin(repeatable=True) as connection:
            return invariants.violated(connection)

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
            return int(self._audit.seal()["rows"])
        except (CheckFailed, OSError) as failure:  # a full disk or another chain: somebody must look, and the sweep must go on
            log.error("the audit trail was not sealed: %s", failure)
            self.raise_alert(
                Alert(kind="audit_not_sealed", severity="error", message=str(failure), dedupe_key=f"audit_not_sealed:{failure}")
            )
            return 0

    @repeatable
    def _make_partitions(self) -> None:
        """By itself: it locks the whole audit trail for a moment, and must hold nothing that a commit waits for."""
        with self._database.begin(actor=SWEEPER) as connection:
            connection.execute(sa.text("select pipeline.ensure_partitions(2)"))

    @repeatable
    def _forget_plans(self) -> int:
        with self._database.begin(actor=SWEEPER) as connection:
            return cycles.forget_plans(connection)

    def _drop_artifacts(self) -> int:
        """Artifacts older than each pool's retention."""
        dropped = 0
        with self._database.begin() as connection:
            known = [pools.find(connection, name) for name in pools.names(connection)]
        for pool in known:
            with self._database.begin() as connection:
                old = cycles.keys_before(connection, pool, pool.policy.retention.artifacts)
            dropped += sum(self._artifacts.forget(pool.name, key) for key in old)
        return dropped
