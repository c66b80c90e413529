"""The main job: snapshot, conflict graph, selection, decisions."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from pipeline_project.core.conflict_graph import ConflictGraph
from pipeline_project.core.decisions import Proposal
from pipeline_project.core.errors import CheckFailed, Refused, StalePlan, UsageError
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.core.packing import Int64
from pipeline_project.core.selection import Selection
from pipeline_project.core.snapshot import Mode, Snapshot
from pipeline_project.core.verification import verify
from pipeline_project.engine.finishing import alone_in
from pipeline_project.engine.rollback import Rollback
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


class Cycles(Rollback):
    """A cycle's whole life: forward here, back in `Rollback`, to its end in `Finishing`."""

    def __init__(self, database: Database, artifacts: Artifacts, timezone: str, owner: str | None = None) -> None:
        super().__init__(database, artifacts, owner)
        self._timezone = timezone

    def acting_as(self, owner: str) -> Cycles:
        return Cycles(self._database, self._artifacts, self._timezone, owner)

    # -- the four steps, as the assets call them

    @repeatable
    def snapshot(self, pool: str, *, day: date | None = None, mode: Mode = Mode.LIVE) -> Snapshot:
        """Everything a cycle looks at, at one instant, kept as an artifact. Raises Refused for a paused pool.

        Items with which sums would not be exact are not in it: they are put aside, unless they changed meanwhile.
        """
        seen = self._seen(pool, day) if mode is Mode.REPROCESS and day else None
        with self._database.begin(repeatable=True) as connection:
            found = pools.find(connection, pool)
            _refuse_paused(found)
            day = day or cycles.today(connection, self._timezone)
            taken = snapshots.live(connection, found, day) if seen is None else snapshots.reprocess(connection, found, day, seen)
        snapshot, beyond = taken
        for excess in beyond:
            log.warning("pool %s: %d items %s", pool, len(excess.item_ids), excess.reason)
            with self._database.begin(actor=self.owner) as connection:
                items.put_aside(connection, excess)
        self._artifacts.save_snapshot(snapshot)
        return snapshot

    def graph(self, snapshot: Snapshot) -> ConflictGraph:
        """Who excludes whom, kept as an artifact that `pipeline solve` can read."""
        graph = ConflictGraph.of(snapshot)
        self._artifacts.save_graph(graph)
        return graph

    def propose(self, graph: ConflictGraph) -> Proposal:
        """The best selection the policy's budget allows, verified, kept as an artifact. Nothing is committed."""
        selection = _selected(graph)
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
            if not self._write(cycle, fence, proposal):
                raise StalePlan(
                    f"cycle {cycle['cycle_key']}: all {cycle['proposed']} proposed items changed since it was planned; plan again"
                )
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
        self.finish_lapsed(pool)  # before the look at the pool: finished after it, it would make much of it stale
        proposal = self.propose(self.graph(self.snapshot(pool, day=day, mode=mode)))
        return {**self.commit(proposal), "seconds": round(time.monotonic() - began, 3)}

    def reprocess(self, pool: str, first: date, last: date) -> list[Report]:
        """Decide days anew, each in one cycle: only what comes out strictly better, or what the policy now demands, is moved.

        Raises UsageError, before anything is decided, for a day that is not yet.
        """
        with self._database.begin() as connection:
            today = cycles.today(connection, self._timezone)
        if last > today:
            raise UsageError(f"reprocess: expected days up to today, {today}, found {last}")
        days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
        return [self.run(pool, day=day, mode=Mode.REPROCESS) for day in days]

    def replay(self, cycle_key: str, *, pool: str | None = None) -> Report:
        """Solve the stored problem again; `same` says whether the answer is, bit for bit."""
        cycle = self.find(cycle_key, pool=pool)
        stored = self._artifacts.load_proposal(cycle["pool"], cycle["cycle_key"])
        again = _selected(stored.graph)
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

    # -- one transaction each

    @repeatable
    def _plan(self, pool: str, proposal: Proposal) -> Cycle:
        with self._database.begin(actor=self.owner) as connection:
            return cycles.plan(connection, pools.find(connection, pool), proposal, self._artifacts.where(pool, proposal.cycle_key))

    @repeatable
    def _begin(self, pool: str, proposal: Proposal) -> tuple[Cycle, int | None]:
        """The cycle's row and our fence; None when it is published already."""
        with alone_in(pool), self._database.begin(actor=self.owner) as connection:
            found = pools.find(connection, pool)
            cycle = cycles.plan(connection, found, proposal, self._artifacts.where(pool, proposal.cycle_key))
            if cycle["status"] in (CycleStatus.PUBLISHED, CycleStatus.ROLLING_BACK):
                return cycle, None
            if cycle["status"] == CycleStatus.PLANNED:
                _refuse_paused(found)
            return cycle, cycles.begin(connection, found, cycle, self.owner)

    def _seen(self, pool: str, day: date) -> Int64:
        """Ids of the items that the day's cycles saw, from their snapshots."""
        with self._database.begin() as connection:
            keys = cycles.keys_of_day(connection, pools.find(connection, pool), day)
        seen = [self._artifacts.load_snapshot(pool, key).item_ids for key in keys]
        return np.unique(np.concatenate(seen)) if seen else np.zeros(0, np.int64)


def _refuse_paused(pool: Pool) -> None:
    if pool.paused:
        raise Refused(f"pool {pool.name} is paused: no cycle selects from it; `pipeline pools resume {pool.name}`")


def _selected(graph: ConflictGraph) -> Selection:
    """The solver's answer within the policy's budget; the present one where that is as good."""
    policy, start = graph.snapshot.policy.solver, _present(graph)
    budget = Budget(steps=policy.steps, seconds=None if policy.reproducible else policy.seconds)
    return _unless_no_better(graph, solve(graph.problem, budget, policy.seed, start), start)


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
    if (graph.problem.left_by(present) < 0).any():
        return selection
    return Selection(chosen=present, certificate=replace(selection.certificate, value=value))


def _refuse_unsound(graph: ConflictGraph, selection: Selection) -> None:
    violations = verify(graph.problem, selection)
    if violations:
        raise CheckFailed(
            f"pool {graph.snapshot.pool}: the selection is unsound and was not committed: " + "; ".join(map(str, violations[:5]))
        )
