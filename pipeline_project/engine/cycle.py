"""The main job: snapshot, conflict graph, selection, decisions; and its way back."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import CheckFailed, CycleInFlight, Refused, StalePlan, Unknown
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import Selection
from pipeline_project.core.snapshot import Mode, Snapshot
from pipeline_project.core.verification import verify
from pipeline_project.engine.commit import Commit
from pipeline_project.engine.transactions import repeatable
from pipeline_project.solvers.portfolio import solve
from pipeline_project.solvers.solver import Budget
from pipeline_project.store import cycles, items, pools, snapshots
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.cycles import Cycle
from pipeline_project.store.database import Database
from pipeline_project.store.pools import Pool

log = logging.getLogger(__name__)

Report = dict[str, Any]

ROLLBACK_BATCH: Final = 5_000
"""Items a transaction of a rollback releases: well under a second."""


class Cycles:
    """One owner a process: its name is in the cycle's row while it commits, and in the audit trail."""

    def __init__(self, database: Database, artifacts: Artifacts, timezone: str) -> None:
        self._database = database
        self._artifacts = artifacts
        self._timezone = timezone
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    # -- the four steps, as the assets call them

    @repeatable
    def snapshot(self, pool: str, *, day: date | None = None, mode: Mode = Mode.LIVE) -> Snapshot:
        """Everything a cycle looks at, at one instant, kept as an artifact. Raises Refused for a paused pool."""
        seen = self._seen(pool, day) if mode is Mode.REPROCESS and day else None
        with self._database.begin(repeatable=True) as connection:
            found = pools.find(connection, pool)
            _refuse_paused(found)
            day = day or cycles.today(connection, self._timezone)
            snapshot = snapshots.live(connection, found, day) if seen is None else snapshots.reprocess(connection, found, day, seen)
        self._artifacts.save_snapshot(snapshot)
        return snapshot

    def graph(self, snapshot: Snapshot) -> ConflictGraph:
        """Who excludes whom, kept as an artifact that `pipeline solve` can read."""
        graph = ConflictGraph.of(snapshot)
        self._artifacts.save_graph(graph)
        return graph

    def propose(self, graph: ConflictGraph) -> Proposal:
        """The best selection the policy's budget allows, verified, kept as an artifact. Nothing is committed."""
        policy, start = graph.snapshot.policy.solver, _present(graph)
        budget = Budget(steps=policy.steps, seconds=None if policy.reproducible else policy.seconds)
        selection = _unless_no_better(graph, solve(graph.problem, budget, policy.seed, start), start)
        _refuse_unsound(graph, selection)
        proposal = Proposal.of(graph, selection)
        self._artifacts.save_proposal(proposal)
        return proposal

    def commit(self, proposal: Proposal) -> Report:
        """Write the decisions, in chunks, and publish them. Published already: a no-op. Left half done: resumed.

        Raises CycleInFlight when another owner is at work in the pool, StalePlan when nothing of the plan holds any more,
        CheckFailed when the verifier finds the selection unsound: then nothing was written.
        """
        _refuse_unsound(proposal.graph, proposal.selection)
        pool_name = proposal.graph.snapshot.pool
        self.finish_lapsed(pool_name)
        cycle, fence = self._begin(pool_name, proposal)
        if fence is None:
            return self.report(pool_name, cycle["cycle_key"])
        with self._letting_go(cycle, fence):
            commit = Commit(self._database, proposal, cycle["cycle_id"], fence)
            commit.run()
            if commit.is_stale():
                self._abandon(cycle, fence, "nothing of the plan holds any more")
                raise StalePlan(f"cycle {cycle['cycle_key']}: all {commit.stale} proposed items changed since it was planned; plan again")
            self._publish(pool_name, cycle, fence)
        return self.report(pool_name, cycle["cycle_key"])

    # -- use cases made of them

    def plan(self, pool: str, *, day: date | None = None, mode: Mode = Mode.LIVE) -> Report:
        """Snapshot, graph and selection, registered for a later commit."""
        began = time.monotonic()
        proposal = self.propose(self.graph(self.snapshot(pool, day=day, mode=mode)))
        self._plan(pool, proposal)
        return {**self.report(pool, proposal.cycle_key), "seconds": round(time.monotonic() - began, 3)}

    def commit_planned(self, cycle_key: str, *, pool: str | None = None) -> Report:
        """Commit a cycle that was planned before; its stored selection, whatever has changed since."""
        began = time.monotonic()
        cycle = self.find(cycle_key, pool=pool)
        report = self.commit(self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"]))
        return {**report, "seconds": round(time.monotonic() - began, 3)}

    def run(self, pool: str, *, day: date | None = None, mode: Mode = Mode.LIVE) -> Report:
        """Plan and commit. An unchanged world makes no new cycle: then this reports the one that is there."""
        began = time.monotonic()
        proposal = self.propose(self.graph(self.snapshot(pool, day=day, mode=mode)))
        return {**self.commit(proposal), "seconds": round(time.monotonic() - began, 3)}

    def reprocess(self, pool: str, first: date, last: date) -> list[Report]:
        """Decide past days anew, each in one cycle: only what comes out strictly better, or what the policy now demands, is moved."""
        days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
        return [self.run(pool, day=day, mode=Mode.REPROCESS) for day in days]

    def replay(self, cycle_key: str, *, pool: str | None = None) -> Report:
        """Solve the stored problem again; `same` says whether the answer is, bit for bit."""
        cycle = self.find(cycle_key, pool=pool)
        stored = self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"])
        policy, start = stored.graph.snapshot.policy.solver, _present(stored.graph)
        budget = Budget(steps=policy.steps, seconds=None if policy.reproducible else policy.seconds)
        again = _unless_no_better(stored.graph, solve(stored.graph.problem, budget, policy.seed, start), start)
        return {
            "cycle": cycle["cycle_key"],
            "pool": cycle["pool"],
            "same": again.digest() == stored.selection.digest(),
            "hash": stored.selection.digest(),
            "replayed_hash": again.digest(),
            "value": again.certificate.value,
            "reproducible": stored.selection.certificate.reproducible,
        }

    def verify(self, cycle_key: str, *, pool: str | None = None) -> Report:
        """Check the stored selection against its stored problem, with the verifier that no solver shares code with."""
        cycle = self.find(cycle_key, pool=pool)
        proposal = self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"])
        violations = [str(violation) for violation in verify(proposal.graph.problem, proposal.selection)]
        identity = proposal.cycle_key == cycle["cycle_key"]
        if not identity:
            violations.append(f"identity: snapshot: expected cycle key {cycle['cycle_key']}, found {proposal.cycle_key}")
        return {"cycle": cycle["cycle_key"], "pool": cycle["pool"], "verified": not violations, "violations": violations}

    def rollback(
        self, cycle_key: str, *, pool: str | None = None, hold_s: int = 0, preview: bool = False, reason: str = "rolled back"
    ) -> Report:
        """Give back what a published cycle holds and nobody has claimed; completed and claimed items are reported, not undone.

        hold_s   keep the released items from being selected again for so long
        preview  only say what it would do
        """
        if not preview:
            self.finish_lapsed(self.find(cycle_key, pool=pool)["pool"])
        cycle = self.find(cycle_key, pool=pool)
        effects = self._effects(cycle)
        report: Report = {
            "cycle": cycle["cycle_key"],
            "pool": cycle["pool"],
            "status": cycle["status"],
            "released": effects.get("selected", 0),
            "claimed": effects.get("claimed", 0),
            "completed": effects.get("completed", 0),
        }
        if preview or cycle["status"] == CycleStatus.ROLLED_BACK:
            return report
        fence = self._begin_rollback(cycle, reason, hold_s)
        released = self._unwind(cycle, fence, reason, hold_s)
        return {**report, "status": str(CycleStatus.ROLLED_BACK), "released": released}

    @repeatable
    def find(self, cycle_key: str, *, pool: str | None = None) -> Cycle:
        """The newest attempt of the cycle whose key begins so."""
        with self._database.begin() as connection:
            return cycles.find(connection, cycle_key, pool=pool)

    def report(self, pool: str, cycle_key: str) -> Report:
        """What a cycle came to, as its row says."""
        row = self.find(cycle_key, pool=pool)
        value = row["value"] if row["committed_value"] is None else row["committed_value"]
        return {
            "cycle": row["cycle_key"],
            "attempt": row["attempt"],
            "pool": row["pool"],
            "day": row["day"],
            "mode": row["mode"],
            "status": row["status"],
            "items": row["items"],
            "value": value,
            "upper_bound": row["upper_bound"],
            "gap": (row["upper_bound"] - value) / row["upper_bound"] if row["upper_bound"] else 0.0,
            "selected": row["proposed"] if row["selected"] is None else row["selected"],
            "deferred": row["items"] - row["proposed"],
            "stale": row["stale"] or 0,
            "nofit": row["nofit"] or 0,
            "changed": row["changed"] or 0,
        }

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

    # -- one transaction each

    @repeatable
    def _lapsed(self, pool: str | None) -> list[Cycle]:
        with self._database.begin() as connection:
            found = pools.find(connection, pool) if pool else None
            return [cycle for cycle in cycles.in_flight(connection, found) if cycle["lapsed"]]

    @repeatable
    def _effects(self, cycle: Cycle) -> dict[str, int]:
        with self._database.begin() as connection:
            return cycles.effects(connection, cycle["cycle_id"])

    @repeatable
    def _plan(self, pool: str, proposal: Proposal) -> Cycle:
        with self._database.begin(actor=self.owner) as connection:
            return cycles.plan(connection, pools.find(connection, pool), proposal, self._artifacts.where(pool, proposal.cycle_key))

    @repeatable
    def _begin(self, pool: str, proposal: Proposal) -> tuple[Cycle, int | None]:
        """The cycle's row and our fence; None when it is published already."""
        with _alone_in(pool), self._database.begin(actor=self.owner) as connection:
            found = pools.find(connection, pool)
            cycle = cycles.plan(connection, found, proposal, self._artifacts.where(pool, proposal.cycle_key))
            if cycle["status"] in (CycleStatus.PUBLISHED, CycleStatus.ROLLING_BACK):
                return cycle, None
            if cycle["status"] == CycleStatus.PLANNED:
                _refuse_paused(found)
            return cycle, cycles.begin(connection, found, cycle, self.owner)

    @repeatable
    def _publish(self, pool: str, cycle: Cycle, fence: int) -> None:
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] == CycleStatus.PUBLISHED and row["fence"] == fence:
                return  # an earlier try's COMMIT got through
            cycles.publish(connection, pools.find(connection, pool), cycle["cycle_id"], fence)

    @repeatable
    def _begin_rollback(self, cycle: Cycle, reason: str, hold_s: int) -> int:
        with _alone_in(cycle["pool"]), self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] == CycleStatus.ROLLING_BACK and row["owner"] == self.owner:
                return int(row["fence"])
            if row["status"] != CycleStatus.PUBLISHED:
                raise Refused(f"cycle {row['cycle_key']}: expected a published one to roll back, found {row['status']}")
            return cycles.begin_rollback(connection, row, self.owner, reason=reason, hold_s=hold_s)

    def _release_all(self, cycle: Cycle, fence: int, status: CycleStatus, reason: str, hold_s: int = 0) -> int:
        """Release every unclaimed item of the cycle, batch by batch; how many."""
        released, after = 0, 0
        while batch := self._release_batch(cycle, fence, status, reason, hold_s, after):
            moved, after = batch
            released += moved
        return released

    @repeatable
    def _release_batch(self, cycle: Cycle, fence: int, status: CycleStatus, reason: str, hold_s: int, after: int) -> tuple[int, int] | None:
        """How many it released, and the last item it looked at; None when there are no more."""
        with self._database.begin(actor=self.owner) as connection:
            cycles.hold_fence(connection, cycle["cycle_id"], fence, status)
            batch = items.held_by(connection, cycle["cycle_id"], after=after, most=ROLLBACK_BATCH)
            hold = cycles.now(connection) + timedelta(seconds=hold_s) if hold_s else None
            released = items.release(connection, batch, reason=reason, not_before=hold)
            return (len(released), batch[-1]) if batch else None

    @repeatable
    def _close(self, cycle: Cycle, fence: int, status: CycleStatus, reason: str) -> None:
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] != status and row["fence"] == fence:
                cycles.close(connection, row["pool_id"], row["cycle_id"], status, reason)

    def _unwind(self, cycle: Cycle, fence: int, reason: str, hold_s: int) -> int:
        released = self._release_all(cycle, fence, CycleStatus.ROLLING_BACK, reason, hold_s)
        self._close(cycle, fence, CycleStatus.ROLLED_BACK, reason)
        return released

    def _abandon(self, cycle: Cycle, fence: int, reason: str) -> None:
        self._release_all(cycle, fence, CycleStatus.COMMITTING, reason)
        self._close(cycle, fence, CycleStatus.ABANDONED, reason)

    @repeatable
    def _take_over(self, cycle: Cycle) -> int | None:
        """A new fence for a cycle in flight, which shuts its former owner out; None when somebody finished it meanwhile."""
        with self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] != cycle["status"]:
                return None
            pool = pools.find(connection, cycle["pool"])
            return cycles.take_over(connection, pool, row, self.owner)

    def _finish(self, cycle: Cycle) -> None:
        fence = self._take_over(cycle)
        if fence is None:
            return
        with self._letting_go(cycle, fence):
            self._finish_as(cycle, fence)

    def _finish_as(self, cycle: Cycle, fence: int) -> None:
        if cycle["status"] == CycleStatus.ROLLING_BACK:
            self._unwind(cycle, fence, cycle["reason"], cycle["hold_s"])
        elif (proposal := self._stored(cycle)) is not None:
            Commit(self._database, proposal, cycle["cycle_id"], fence).run()
            self._publish(cycle["pool"], cycle, fence)
        else:
            self._abandon(cycle, fence, "its owner fell silent, and its stored selection is gone or damaged")

    def _stored(self, cycle: Cycle) -> Proposal | None:
        """The selection of a cycle as it was stored; None when it can never be read again. A storage that is away is another matter."""
        try:
            return self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"])
        except (Unknown, CheckFailed, FileNotFoundError) as damage:
            log.error("cycle %s of pool %s: %s", cycle["cycle_key"], cycle["pool"], damage)
            return None

    def _seen(self, pool: str, day: date) -> Int64:
        """Ids of the items that the day's cycles saw, from their snapshots."""
        with self._database.begin() as connection:
            keys = cycles.keys_of_day(connection, pools.find(connection, pool), day)
        seen = [self._artifacts.load_snapshot(pool, key).item_ids for key in keys]
        return np.unique(np.concatenate(seen)) if seen else np.zeros(0, np.int64)


@contextmanager
def _alone_in(pool: str) -> Iterator[None]:
    """The partial unique index admits one cycle in flight a pool: another's may begin between our look and our write."""
    try:
        yield
    except IntegrityError as failure:
        raise CycleInFlight(f"pool {pool}: another cycle began to be written at the same moment; try again") from failure


def _refuse_paused(pool: Pool) -> None:
    if pool.paused:
        raise Refused(f"pool {pool.name} is paused: no cycle selects from it; `pipeline pools resume {pool.name}`")


def _present(graph: ConflictGraph) -> Int64 | None:
    """Candidates that are selected now, where the snapshot decides them anew."""
    held = graph.snapshot.held
    if not held.any():
        return None
    return np.unique(graph.candidates.of_item[held])


def _unless_no_better(graph: ConflictGraph, selection: Selection, present: Int64 | None) -> Selection:
    """The present selection, when it is still allowed and the new one is worth no more: what is decided stays decided."""
    value = 0 if present is None else int(graph.problem.weights[present].sum())
    if present is None or value < selection.certificate.value:
        return selection
    kept = Selection(chosen=present, certificate=replace(selection.certificate, value=value))
    overdrawn = np.zeros(graph.problem.m, np.int64)
    taken = np.isin(graph.problem.candidates(), present)
    np.add.at(overdrawn, graph.problem.resources[taken], graph.problem.quantities[taken])
    return selection if (overdrawn > graph.problem.capacities).any() else kept


def _refuse_unsound(graph: ConflictGraph, selection: Selection) -> None:
    violations = verify(graph.problem, selection)
    if violations:
        raise CheckFailed(
            f"pool {graph.snapshot.pool}: the selection is unsound and was not committed: " + "; ".join(map(str, violations[:5]))
        )
