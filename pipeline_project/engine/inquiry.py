"""Questions: what there is, why it is so, what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from pipeline_project.core.decisions import Proposal, Verdict
from pipeline_project.core.lifecycle import State
from pipeline_project.core.policy import Policy
from pipeline_project.engine import actors
from pipeline_project.store import (
    alerts,
    audit,
    audit_months,
    cycles,
    decisions,
    feed,
    history,
    items,
    own_queries,
    pools,
    resources,
    sources,
)
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from pipeline_project.store.pools import Pool

Row = dict[str, Any]

CYCLES_SEARCHED: Final = 20
"""How many of the newest cycles `why` looks into."""
HOLDERS_SHOWN: Final = 5
ENDED: Final = frozenset(State) - {State.PENDING, State.SELECTED, State.CLAIMED}

_DECIDED_BY: Final = (
    "day",
    "published_at",
    "artifact",
    "policy_version",
    "policy_hash",
    "engine_version",
    "selection_hash",
    "seed",
    "solvers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the feed says at one instant.

    horizon  position to ask from the next time
    at       the database's time
    day      the same in the installation's time zone
    awake    active pools where something happened that may change what a cycle selects, each with the position of the newest such change
    active   all active pools
    writing  pools whose cycle somebody writes or unwrites at this moment: another would be refused
    """

    horizon: str
    at: datetime
    day: date
    awake: Mapping[str, str]
    active: list[str]
    writing: list[str]


class Inquiry:
    """Reads only."""

    def __init__(self, database: Database, artifacts: Artifacts, timezone: str) -> None:
        self._database = database
        self._artifacts = artifacts
        self._timezone = timezone

    def pools(self) -> list[Row]:
        """Every pool: pool, status, policy_version, pending, selected, claimed, resources, last_published."""
        with self._database.begin() as connection:
            return pools.overview(connection)

    def pool(self, name: str) -> Row:
        """A pool with its policy, its counts, its source and its latest events."""
        with self._database.begin() as connection:
            found = pools.find(connection, name)
            return {
                "pool": found.name,
                "status": found.status,
                "policy_version": found.policy_version,
                "policy_hash": found.policy.hash,
                "items": items.counts(connection, found),
                "backlog": feed.backlog(connection, found),
                "source": sources.state(connection, found),
                "in_flight": [dict(cycle) for cycle in cycles.in_flight(connection, found)],
                "events": audit.pool_events(connection, found, most=10),
            }

    def policy(self, pool: str, version: int | None = None) -> tuple[int, Policy]:
        """(version, policy) in force, or an earlier one."""
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
            if version is None:
                return found.policy_version, found.policy
            return version, pools.policy_of_version(connection, found, version)

    def items(self, pool: str, *, state: str | None = None, most: int = 1000, archived: bool = False) -> list[Row]:
        """In the order they came in; archived ones, which are not among the others, by their end, newest first."""
        listing = history.listing if archived else items.listing
        with self._database.begin() as connection:
            return listing(connection, pools.find(connection, pool), state=state, most=most)

    def dead(self, pool: str, *, state: str | None = None, error: str | None = None, most: int = 1000, archived: bool = False) -> list[Row]:
        """Dead letters, newest first: key, state, reason, error, attempts, claims, since. Of one state, or whose error holds a text."""
        dead = history.dead if archived else items.dead
        with self._database.begin() as connection:
            return dead(connection, pools.find(connection, pool), state=state, error=error, most=most)

    def too_large(self, pool: str, *, most: int = 10) -> list[Row]:
        """key, weight, reason of items that were put aside because sums with them would not be exact, and lie there still."""
        with self._database.begin() as connection:
            return items.too_large(connection, pools.find(connection, pool), most=most)

    def archive(self, pool: str) -> dict[str, bool]:
        """items, dead: whether the pool has any of them that no list without `archived` shows."""
        with self._database.begin() as connection:
            return history.is_there(connection, pools.find(connection, pool))

    def counts(self, pool: str) -> dict[str, int]:
        """Items by state."""
        with self._database.begin() as connection:
            return items.counts(connection, pools.find(connection, pool))

    def item(self, pool: str, key: str) -> Row:
        """Everything about one item, archived or not, with its demands, its result or its error. Raises Unknown."""
        with self._database.begin() as connection:
            return items.find(connection, pools.find(connection, pool), key)

    def timeline(self, pool: str, key: str) -> list[Row]:
        """Every recorded move of an item, those in months that have left the database included."""
        with self._database.begin() as connection:
            return self._moves(connection, items.find(connection, pools.find(connection, pool), key))

    def _moves(self, connection: sa.Connection, item: Row) -> list[Row]:
        before = audit_months.moves(connection, self._artifacts, item["item_id"]) if item["archived_at"] else []
        return before + audit.timeline(connection, item["item_id"])

    def beside(self, pool: str, key: str) -> list[Row]:
        """Events of the pool that mattered to an item: policies, pauses, its cycles, capacities of what it demands."""
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
            item = items.find(connection, found, key)
            moves = self._moves(connection, item)
            until = moves[-1]["at"] if item["state"] in ENDED else None
            return audit.beside(connection, found, item["item_id"], since=moves[0]["at"], until=until)

    def resources(self, pool: str | None) -> list[Row]:
        """pool, key, capacity, in_use, spent, kind, by key; of every pool where none is named. Raises Unknown."""
        with self._database.begin() as connection:
            if pool:
                pools.find(connection, pool)
            return resources.listing(connection, pool)

    def utilisation(self, pool: str, *, most: int = 40) -> list[Row]:
        """key, capacity, in_use, spent, the fullest first."""
        with self._database.begin() as connection:
            return resources.utilisation(connection, pools.find(connection, pool), most=most)

    def backlog(self, pool: str) -> Row:
        """pending, oldest (time), oldest_age_s of the items that a cycle could have selected."""
        with self._database.begin() as connection:
            return feed.backlog(connection, pools.find(connection, pool))

    def today(self) -> date:
        """The day it is now, by the database's clock, in the installation's time zone."""
        with self._database.begin() as connection:
            return cycles.today(connection, self._timezone)

    def changes(self, after: str, since: datetime) -> Changes:
        """What happened from a position of the feed and a time on; "0" = from the beginning.

        A position above the horizon is another server's (a restored backup): then, too, from the beginning.
        """
        with self._database.begin(repeatable=True) as connection:
            horizon = feed.horizon(connection)
            after = after if int(after) <= int(horizon) else "0"
            at = cycles.now(connection)
            return Changes(
                horizon=horizon,
                at=at,
                day=cycles.today(connection, self._timezone),
                awake=feed.woken(connection, after=after, horizon=horizon, since=since, at=at),
                active=feed.active_pools(connection),
                writing=feed.writing_pools(connection),
            )

    def starving(self, pool: str, *, most: int = 10) -> list[Row]:
        """Items that have waited longer than the policy's max_wait and were never selected, longest first."""
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
            return feed.starving(connection, found, longer_than_s=found.policy.checks.max_wait, most=most)

    def overlooked(self, pool: str) -> Row:
        """items, oldest_age_s of what became ready after the pool's newest cycle was planned; max_age as its policy has it."""
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
            return {**feed.overlooked(connection, found), "max_age_s": found.policy.checks.max_age}

    def alerts(self, *, pool: str | None = None, state: str | None = None, most: int = 50) -> list[Row]:
        """Newest first, each with what its routes were told."""
        with self._database.begin() as connection:
            return alerts.listing(connection, pool=pool, state=state, most=most)

    def alert_routes(self) -> list[Row]:
        """How delivery to each route goes."""
        with self._database.begin() as connection:
            return alerts.route_states(connection)

    def rows(self, query: str, *, pool: str, cycle: str, day: date | None, most: int = 1000) -> list[Row]:
        """What a stranger's query returns, read as pipeline_reader and for a limited time. Raises Refused, with PostgreSQL's words."""
        with self._database.begin(repeatable=True) as connection:
            return own_queries.rows(connection, query, pool=pool, cycle=cycle, day=day, most=most)

    def cycles(self, pool: str | None, *, most: int = 50) -> list[Row]:
        """Newest first; of every pool where none is named."""
        with self._database.begin() as connection:
            if pool:
                pools.find(connection, pool)
            return cycles.listing(connection, pool, most=most)

    def decisions(self, cycle_key: str, *, pool: str | None = None, most: int = 20) -> list[Row]:
        """A cycle's recorded verdicts, best rank first."""
        with self._database.begin() as connection:
            return decisions.top(connection, cycles.find(connection, cycle_key, pool=pool)["cycle_id"], most=most)

    def lineage(self, cycle_key: str, *, pool: str | None = None) -> Row:
        """Back to what a cycle was decided from and by whom, forward to what became of it, and what it changed.

        before, after  worth of what the decided items held, before it and since; newly_selected, freed: items
        """
        with self._database.begin() as connection:
            row = cycles.find(connection, cycle_key, pool=pool)
            made = cycles.difference(connection, row["cycle_id"])
            owner = cycles.published_by(connection, row) or row["owner"]
            after = row["committed_value"] or 0
            return {
                "snapshot": row["artifact"],
                "policy_version": row["policy_version"],
                "policy_hash": row["policy_hash"],
                "engine_version": row["engine_version"],
                **{name: row["certificate"].get(name) for name in ("solvers", "seed", "steps")},
                "selection_hash": row["certificate"].get("hash"),
                "decided_by": owner,
                "run": actors.run_of(owner),
                "before": after - made["gained"] + made["lost"],
                "after": after,
                "newly_selected": made["newly_selected"],
                "freed": made["freed"],
                "superseded": [{**old, "run": actors.run_of(old["owner"])} for old in cycles.superseded(connection, row["cycle_id"])],
                "outcomes": cycles.outcomes(connection, row["cycle_id"]),
            }

    def moved(self, cycle_key: str, verdict: Verdict, *, pool: str | None = None, most: int = 10) -> list[Row]:
        """item, weight of what a cycle selected anew, or of what it took back."""
        with self._database.begin() as connection:
            return cycles.moved(connection, cycles.find(connection, cycle_key, pool=pool)["cycle_id"], verdict, most=most)

    def position(self) -> str:
        """Of the newest change in the feed that may alter what a cycle selects: it stands still while nothing happens."""
        with self._database.begin() as connection:
            return feed.newest(connection, feed.horizon(connection))

    def why(self, pool: str, key: str) -> Row:
        """Why an item is where it is: its state, and what the newest cycles decided about it, with those who stood in its way."""
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
            item = items.find(connection, found, key)
            recorded = {row["cycle_key"]: row for row in decisions.of_item(connection, item["item_id"])}
            mates = items.members(connection, item["bundle_id"]) if item["bundle_id"] else []
            seen_by = decisions.cycles_since(connection, found, item["submitted_at"], most=CYCLES_SEARCHED)
            last = self._moves(connection, item)[-1]
        verdicts = []
        for cycle in seen_by:
            verdict = recorded.get(cycle["cycle_key"]) or self._deferred(found, cycle["cycle_key"], item["item_id"])
            if verdict:
                about = {name: cycle[name] for name in _DECIDED_BY}
                run = actors.run_of(cycle["owner"])
                verdicts.append(
                    {"cycle": cycle["cycle_key"], "cycle_status": cycle["cycle_status"], **_shown(verdict), **about, "run": run}
                )
        return {
            "item": key,
            "pool": pool,
            "state": item["state"],
            "reason": item["reason"],
            "sentence": _sentence(item, verdicts, waits := _waits_for(item, mates)),
            "waits_for": waits,
            "last_move": {name: last[name] for name in ("at", "event", "actor", "token", "cycle", "reason", "detail")},
            "verdicts": verdicts,
        }

    def _deferred(self, pool: Pool, cycle_key: str, item_id: int) -> Row | None:
        """A loser's verdict, from the cycle's artifact: which resources had no room, and who holds them."""
        row = self._artifacts.verdict(pool.name, cycle_key, item_id)
        if row is None or row["rank"]:
            return None
        if not row["blockers"]:
            return {
                "verdict": Verdict.DEFERRED,
                "reason": "it fits beside the selection in no way the search found worth its place",
                "blockers": [],
            }
        proposal = self._artifacts.load_proposal(pool.name, cycle_key)
        snapshot = proposal.graph.snapshot
        position = int(snapshot.item_ids.searchsorted(item_id))
        chosen = {int(i): int(proposal.ranks[i]) for i in proposal.selected()}
        blockers: list[Row] = []
        beyond: list[str] = []
        for resource, name in zip(row["blockers"], proposal.why_deferred(position), strict=True):
            holders = [i for i in chosen if resource in snapshot.resources[snapshot.indptr[i] : snapshot.indptr[i + 1]]]
            shown = [
                {"item": snapshot.keys[i].as_py(), "weight": int(snapshot.weights[i]), "rank": chosen[i]} for i in holders[:HOLDERS_SHOWN]
            ]
            blockers.append({"resource": name, "holders": shown, "holders_in_all": len(holders)})
            wants = _wants(proposal, position, resource)  # nothing of `limits.max_selected`, which is no resource of the snapshot's
            if wants and wants > (capacity := int(snapshot.capacities[resource])):
                beyond.append(f"{wants:,} of {name}, which has {capacity:,} in all")
        reason = f"no room on {', '.join(b['resource'] for b in blockers)}" + (f": it wants {', '.join(beyond)}" if beyond else "")
        return {"verdict": Verdict.DEFERRED, "weight": int(snapshot.weights[position]), "reason": reason, "blockers": blockers}


def _wants(proposal: Proposal, position: int, resource: int) -> int:
    """How much of a resource an item needs, together with the mates of its bundle."""
    candidates, snapshot = proposal.graph.candidates, proposal.graph.snapshot
    mates = np.flatnonzero(candidates.of_item == candidates.of_item[position])
    rows = np.concatenate([np.arange(snapshot.indptr[i], snapshot.indptr[i + 1]) for i in mates])
    return int(snapshot.quantities[rows][snapshot.resources[rows] == resource].sum())


def _shown(verdict: Row) -> Row:
    return {name: verdict[name] for name in ("verdict", "rank", "weight", "reason", "blockers") if verdict.get(name) is not None}


def _waits_for(item: Row, mates: list[Row]) -> list[str]:
    """What keeps a pending member of a bundle from being looked at: members that have not come, and those that are gone."""
    if item["state"] != "pending" or not mates:
        return []
    missing = item["bundle_size"] - len(mates)
    gone = [mate for mate in mates if mate["state"] not in ("pending", "selected") and not mate["token"] and not item["token"]]
    told = [f"{missing} of {item['bundle_size']} members of its bundle {item['bundle_key']} that have not come"] if missing else []
    return told + [f"{mate['key']}, which is {mate['state']}" + (f" ({mate['reason']})" if mate["reason"] else "") for mate in gone]


def _sentence(item: Row, verdicts: list[Row], waits_for: list[str]) -> str:
    reason = ": ".join(part for part in (item["reason"], item["error"]) if part)
    state = f"{item['key']} is {item['state']}" + (f" ({reason})" if reason else "")
    if item["state"] != "pending":
        return state
    if waits_for:
        return f"{state}; a bundle is selected whole, and it waits for {'; '.join(waits_for)}"
    if not verdicts:
        return f"{state}; no cycle has looked at it yet"
    newest = verdicts[0]
    return f"{state}; cycle {newest['cycle'][:8]} judged it {newest['verdict']}" + (f": {newest['reason']}" if newest.get("reason") else "")
