"""Writes the decisions of one cycle: chunk by chunk in rank order, each chunk one transaction that may be repeated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.decisions import Proposal, Verdict, fitting
from pipeline_project.core.errors import Overtaken
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.core.packing import Bools, Int64
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import cycles, decisions, history, items
from pipeline_project.store.columns import integers
from pipeline_project.store.database import Database


class Commit:
    """A proposal being written. What a crash leaves undone, a second Commit of the same cycle finishes.

    A reprocess takes back before it selects: in one transaction where one chunk holds both; else chunk by chunk, first all that it
    takes back, since nothing is given twice. Nobody else selects meanwhile, for one cycle of a pool is in flight.
    """

    def __init__(self, database: Database, proposal: Proposal, cycle_id: int, fence: int) -> None:
        self._database = database
        self._proposal = proposal
        self._snapshot = proposal.graph.snapshot
        self._cycle_id = cycle_id
        self._fence = fence
        self._actor = f"cycle {proposal.cycle_key[:8]}"
        self._moved = 0
        self._stale = 0

    def run(self) -> None:
        """Commit every chunk. Raises Fenced when another owner has taken the cycle over."""
        for number, (leaving, entering) in enumerate(self._chunks()):
            did = self._chunk(number, leaving, entering)
            self._moved += did["selected"] + did["released"] + did["nofit"]
            self._stale += did["stale"]

    def is_stale(self) -> bool:
        """True when it proposed something, and the world has moved on from all of it."""
        proposed = self._stale > 0 or self._kept().any()
        return bool(proposed) and self._moved == 0 and not self._is_any_kept()

    def _kept(self) -> Bools:
        return self._snapshot.held & (self._proposal.ranks > 0)

    @repeatable
    def _is_any_kept(self) -> bool:
        with self._database.begin() as connection:
            return len(self._still_kept(connection)) > 0

    def _still_kept(self, connection: sa.Connection) -> Int64:
        """Those that a reprocess leaves where they are, and that are still there."""
        kept = np.flatnonzero(self._kept())
        if not len(kept):
            return kept
        now = decisions.read_items(connection, np.sort(self._snapshot.item_ids[kept]))
        return kept[self._is_unchanged(now, kept)]

    def _chunks(self) -> Iterator[tuple[Int64, Int64]]:
        """Item positions to take back, in id order, and to select, in rank order."""
        held, ranks = self._snapshot.held, self._proposal.ranks
        leaving, entering = np.flatnonzero(held & (ranks == 0)), self._proposal.selected()
        entering = entering[~held[entering]]
        if len(leaving) + len(entering) <= self._chunk_size():
            yield leaving, entering
            return
        nothing = np.zeros(0, np.int64)
        group = self._proposal.graph.candidates.of_item
        for part in self._cut(leaving[np.argsort(group[leaving], kind="stable")]):
            yield np.sort(part), nothing
        for part in self._cut(entering):
            yield nothing, part

    def _cut(self, positions: Int64) -> Iterator[Int64]:
        """Into chunks; a bundle, whose members are side by side, is never cut."""
        size = self._chunk_size()
        group = self._proposal.graph.candidates.of_item[positions]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        while len(positions):
            end = int(starts[starts <= size][-1]) if len(positions) > size else len(positions)
            yield positions[:end]
            positions, starts = positions[end:], starts[starts >= end] - end

    def _chunk_size(self) -> int:
        """Tests of what happens between two chunks ask for a few items instead of the thousand that a policy may go down to."""
        return self._snapshot.policy.limits.chunk

    @repeatable
    def _chunk(self, number: int, leaving: Int64, entering: Int64) -> dict[str, int]:
        with self._database.begin(actor=self._actor) as connection:
            cycles.hold_fence(connection, self._cycle_id, self._fence, CycleStatus.COMMITTING)
            done = cycles.chunk(connection, self._cycle_id, number)
            if done is None:
                did = self._decide(connection, leaving, entering)
                if number == 0:
                    did["value"] += int(self._snapshot.weights[self._still_kept(connection)].sum())
                cycles.add_chunk(connection, self._cycle_id, number, **did)
            else:
                did = {name: done[name] for name in ("selected", "stale", "nofit", "value", "released")}
            return did

    def _decide(self, connection: sa.Connection, leaving: Int64, positions: Int64) -> dict[str, int]:
        """Judge these items anew under their locks, take back and select what still holds, and record every verdict."""
        both, ids = np.concatenate((positions, leaving)), self._snapshot.item_ids
        recalled = self._recall(connection, ids[positions])
        if self._snapshot.mode == "reprocess":  # it moves whole bundles: a mate's lock, too, comes in id order and before any resource's
            items.lock(connection, ids[both].tolist())
        now = decisions.lock_items(connection, np.sort(ids[both]))
        fresh = self._is_unchanged(now, both)
        released = self._release(connection, leaving[fresh[len(positions) :]])
        standing = self._whole(positions, fresh[: len(positions)])
        self._revive(connection, positions[standing])
        fits = np.zeros(len(positions), np.bool_)
        fits[standing] = self._fitting(connection, positions[standing])
        chosen = positions[fits]
        ranks = self._proposal.ranks.astype(np.int64)
        decisions.select(connection, self._cycle_id, ids[chosen], ranks[chosen], self._snapshot.policy.ttl.hold)
        self._refuse_late(connection, ids[chosen])
        self._record(connection, Verdict.SELECTED, chosen)
        self._record(connection, Verdict.NOFIT, positions[standing & ~fits])
        stale = positions[~standing]
        hot = np.isin(ids[stale], integers(now, "item_id"))  # who is archived by now gets no more verdicts
        self._record(connection, Verdict.STALE, stale[hot])
        self._record(connection, Verdict.RELEASED, released)
        history.look_again(connection, recalled)
        return {
            "selected": len(chosen),
            "stale": int((~standing).sum()),
            "nofit": int((standing & ~fits).sum()),
            "value": int(self._snapshot.weights[chosen].sum()),
            "released": len(released),
        }

    def _is_unchanged(self, now: pa.Table, positions: Int64) -> Bools:
        """Still of the snapshot's version, and not expired. An equal version is an equal state; who is archived by now has changed."""
        ids, versions, expired = (integers(now, name) for name in ("item_id", "version", "expired"))
        wanted = self._snapshot.item_ids[positions]
        unchanged = np.isin(wanted, ids)
        at = np.searchsorted(ids, wanted[unchanged])
        unchanged[unchanged] = (versions[at] == self._snapshot.versions[positions][unchanged]) & (expired[at] == 0)
        return unchanged

    def _whole(self, positions: Int64, fresh: Bools) -> Bools:
        """A bundle with one stale member is stale."""
        group = self._proposal.graph.candidates.of_item[positions]
        return ~np.isin(group, group[~fresh])

    def _release(self, connection: sa.Connection, positions: Int64) -> Int64:
        released = items.release(connection, self._snapshot.item_ids[positions].tolist(), reason="a reprocess chose otherwise")
        return positions[np.isin(self._snapshot.item_ids[positions], released)]

    def _recall(self, connection: sa.Connection, ids: Int64) -> list[int]:
        """What a reprocess selects may be archived. Before the locks: only what is in the hot tables can be locked and judged."""
        return history.recall(connection, ids.tolist()) if self._snapshot.mode == "reprocess" else []

    def _revive(self, connection: sa.Connection, positions: Int64) -> None:
        """A reprocess may select what had failed or expired: it becomes pending first, once under a policy."""
        if self._snapshot.mode == "reprocess":
            ids = self._snapshot.item_ids[positions].tolist()
            items.revive(connection, ids, reason="reprocess", detail={"policy_hash": self._snapshot.policy.hash})

    def _fitting(self, connection: sa.Connection, positions: Int64) -> Bools:
        """Lock the resources; which items still fit into what is free now, best rank first."""
        snapshot = self._snapshot
        lengths = np.diff(snapshot.indptr)[positions]
        rows = np.repeat(snapshot.indptr[positions] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        touched, resource = np.unique(snapshot.resources[rows], return_inverse=True)
        free = decisions.lock_free(connection, snapshot.resource_ids[touched])
        item = np.repeat(np.arange(len(positions)), lengths)
        group = self._proposal.graph.candidates.of_item[positions]
        return fitting(group, item, resource.astype(np.int64), snapshot.quantities[rows], free)

    def _refuse_late(self, connection: sa.Connection, ids: Int64) -> None:
        """What ran out between being judged and being written was never to be selected: the chunk is undone, and judged again."""
        late = decisions.expired_among(connection, ids)
        if late:
            raise Overtaken(
                f"cycle {self._proposal.cycle_key}: {late} items expired while they were selected; nothing was written, try again"
            )

    def _record(self, connection: sa.Connection, verdict: Verdict, positions: Int64) -> None:
        decisions.record(
            connection,
            self._cycle_id,
            verdict,
            _REASONS[verdict],
            ids=self._snapshot.item_ids[positions],
            ranks=self._proposal.ranks[positions].astype(np.int64),
            versions=self._snapshot.versions[positions],
            weights=self._snapshot.weights[positions],
        )


_REASONS = {
    Verdict.SELECTED: None,
    Verdict.STALE: "changed after the snapshot",
    Verdict.NOFIT: "capacity went to others after the snapshot",
    Verdict.RELEASED: "a reprocess chose otherwise",
}
