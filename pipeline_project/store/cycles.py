"""The life of a cycle: planned, committing, published; and back. Whoever holds the fence acts for it."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from pipeline_project import __version__
from pipeline_project.core.decisions import Proposal, Verdict
from pipeline_project.core.errors import CycleInFlight, Fenced, Refused, Unknown
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.store import pools, statements
from pipeline_project.store.pools import Pool

SQL = statements.load("cycles")

LEASE_S = 60
"""Seconds an owner may be silent before others finish its cycle; each chunk prolongs it."""

_BEGINNING: Final = re.compile(r"[0-9a-f]+")
"""Nothing at all, such as a variable that is not set, is the beginning of no key: a rollback would find the only cycle there is."""

Cycle = RowMapping
"""A row of pipeline.cycle."""


def find(connection: sa.Connection, name: str, *, pool: str | None = None) -> Cycle:
    """The newest attempt of the cycle whose key begins with `name`. Raises Unknown, or Refused when several do."""
    rows = connection.execute(SQL["latest"], {"prefix": name + "%", "pool": pool}).mappings().all() if _BEGINNING.fullmatch(name) else []
    if not rows:
        raise Unknown(f"cycle {name!r}: no cycle key begins so; see `pipeline cycle list`")
    if len(rows) > 1:
        raise Refused(
            f"cycle {name!r}: expected the beginning of one cycle key, found several ({rows[0]['cycle_key']}, {rows[1]['cycle_key']}, ...)"
        )
    return rows[0]


def lock_latest(connection: sa.Connection, pool: Pool, cycle_key: str) -> Cycle | None:
    """Lock the newest attempt at this key; None when there is none."""
    return connection.execute(SQL["lock_latest"], {"pool_id": pool.pool_id, "cycle_key": cycle_key}).mappings().first()


def plan(connection: sa.Connection, pool: Pool, proposal: Proposal, artifact: str) -> Cycle:
    """The attempt at this proposal that is there, or a new one where the newest left all as it was: its world may come again."""
    snapshot, certificate = proposal.graph.snapshot, proposal.selection.certificate
    key = proposal.cycle_key
    latest = lock_latest(connection, pool, key)
    attempt = 1 if latest is None else latest["attempt"]
    if latest is not None:
        if not _left_all_as_it_was(latest):
            return latest
        attempt += 1
    connection.execute(
        SQL["plan"],
        {
            "pool_id": pool.pool_id,
            "policy_id": pool.policy_id,
            "cycle_key": key,
            "attempt": attempt,
            "mode": snapshot.mode,
            "day": snapshot.day,
            "engine_version": __version__,
            "artifact": artifact,
            "items": snapshot.n,
            "value": certificate.value,
            "upper_bound": certificate.upper_bound,
            "proposed": int((proposal.ranks > 0).sum()),
            "certificate": json.dumps(
                {
                    "seed": certificate.seed,
                    "steps": certificate.steps,
                    "reproducible": certificate.reproducible,
                    "solvers": certificate.solvers,
                    "gap": certificate.gap,
                    "hash": proposal.selection.digest(),
                }
            ),
        },
    )
    planned = lock_latest(connection, pool, key)
    assert planned is not None
    return planned


def _left_all_as_it_was(cycle: Cycle) -> bool:
    """Abandoned, rolled back, or without room for anything: a capacity that comes back brings the world of such a cycle back."""
    if cycle["status"] == CycleStatus.PUBLISHED:
        return bool(cycle["nofit"]) and not cycle["changed"]
    return cycle["status"] in (CycleStatus.ABANDONED, CycleStatus.ROLLED_BACK)


def begin(connection: sa.Connection, pool: Pool, cycle: Cycle, owner: str) -> int:
    """Take the cycle for this owner; its new fence. Raises CycleInFlight when another owner is at work on it, or on another of the pool."""
    refuse_rivals(connection, pool, owner)
    fence: int = connection.execute(SQL["begin"], {"cycle_id": cycle["cycle_id"], "owner": owner, "lease_s": LEASE_S}).scalar_one()
    return fence


def refuse_rivals(connection: sa.Connection, pool: Pool, owner: str) -> None:
    """Raise CycleInFlight while another owner with a live lease is at work in the pool."""
    for row in in_flight(connection, pool):
        if not row["lapsed"] and row["owner"] != owner:
            raise CycleInFlight(
                f"pool {pool.name}: cycle {row['cycle_key']} is {row['status']} by {row['owner']} until {row['lease_until']}"
            )


def take_over(connection: sa.Connection, pool: Pool, cycle: Cycle, owner: str) -> int:
    """A new fence for a locked cycle in flight, unless another owner is alive; its status stays. Raises CycleInFlight."""
    refuse_rivals(connection, pool, owner)
    fence: int = connection.execute(SQL["take_over"], {"cycle_id": cycle["cycle_id"], "owner": owner, "lease_s": LEASE_S}).scalar_one()
    return fence


def begin_rollback(connection: sa.Connection, cycle: Cycle, owner: str, *, reason: str, hold_s: int, compensate: bool) -> int:
    """Take a published cycle back into work; its fence. All that whoever finishes it must know is kept with it."""
    parameters = {"cycle_id": cycle["cycle_id"], "owner": owner, "lease_s": LEASE_S}
    parameters |= {"reason": reason, "hold_s": hold_s, "compensate": compensate}
    fence: int = connection.execute(SQL["begin_rollback"], parameters).scalar_one()
    return fence


def hold_fence(connection: sa.Connection, cycle_id: int, fence: int, status: CycleStatus) -> None:
    """Lock the cycle and prolong the lease. Raises Fenced when it is no longer this owner's."""
    held = connection.scalar(SQL["hold_fence"], {"cycle_id": cycle_id, "fence": fence, "lease_s": LEASE_S, "status": status})
    if held is None:
        raise Fenced(f"cycle {cycle_id}: fence {fence} is no longer the owner's, or the cycle is not {status} any more")


def refuse_outrun(cycle: Cycle, fence: int) -> None:
    """Raise Fenced when a locked cycle is no longer this owner's."""
    if cycle["fence"] != fence:
        raise Fenced(f"cycle {cycle['cycle_key']}: fence {fence} is no longer the owner's, which is {cycle['fence']}")


def let_go(connection: sa.Connection, cycle_id: int, fence: int) -> None:
    """End this owner's lease now; a no-op when the cycle is no longer its own, or no longer in flight."""
    connection.execute(SQL["let_go"], {"cycle_id": cycle_id, "fence": fence})


def chunk(connection: sa.Connection, cycle_id: int, number: int) -> RowMapping | None:
    """What this chunk did, if it was done."""
    return connection.execute(SQL["chunk"], {"cycle_id": cycle_id, "chunk": number}).mappings().first()


def add_chunk(connection: sa.Connection, cycle_id: int, number: int, **did: int) -> None:
    connection.execute(SQL["add_chunk"], {"cycle_id": cycle_id, "chunk": number, **did})


def publish(connection: sa.Connection, pool: Pool, cycle_id: int, fence: int) -> None:
    """Show the cycle to executors. Raises Fenced."""
    if connection.scalar(SQL["publish"], {"cycle_id": cycle_id, "fence": fence}) is None:
        raise Fenced(f"cycle {cycle_id}: fence {fence} is no longer the owner's; it was not published by this call")
    pools.record_event(connection, pool.pool_id, "cycle_published", {"cycle_id": cycle_id})


def close(connection: sa.Connection, pool_id: int, cycle_id: int, status: CycleStatus, reason: str) -> None:
    """Abandon, or finish a rollback."""
    connection.execute(SQL["close"], {"cycle_id": cycle_id, "status": status, "reason": reason})
    pools.record_event(connection, pool_id, f"cycle_{status}", {"cycle_id": cycle_id, "reason": reason})


def in_flight(connection: sa.Connection, pool: Pool | None = None) -> list[Cycle]:
    """Cycles that are committing or rolling back, and whether their owner's lease has lapsed."""
    return list(connection.execute(SQL["in_flight"], {"pool_id": pool.pool_id if pool else None}).mappings())


def lock(connection: sa.Connection, cycle_id: int) -> Cycle:
    return connection.execute(SQL["lock"], {"cycle_id": cycle_id}).mappings().one()


def forget_plans(connection: sa.Connection) -> int:
    """Abandon plans that nobody committed within a day; how many."""
    return len(connection.execute(SQL["forget_plans"]).all())


def listing(connection: sa.Connection, pool: str | None, *, most: int = 50) -> list[dict[str, Any]]:
    """Newest first."""
    return [dict(row) for row in connection.execute(SQL["listing"], {"pool": pool, "most": most}).mappings()]


def keys_of_day(connection: sa.Connection, pool: Pool, day: date) -> list[str]:
    """Keys of the cycles that were published on that day, oldest first."""
    return list(connection.scalars(SQL["of_day"], {"pool_id": pool.pool_id, "day": day}))


def keys_before(connection: sa.Connection, pool: Pool, age_s: int) -> list[str]:
    """Keys of cycles that ended longer ago than this and hold nothing any more."""
    return list(connection.scalars(SQL["keys_before"], {"pool_id": pool.pool_id, "age_s": age_s}))


def difference(connection: sa.Connection, cycle_id: int) -> dict[str, int]:
    """newly_selected, freed (items), gained, lost (their worth)."""
    return dict(connection.execute(SQL["difference"], {"cycle_id": cycle_id}).mappings().one())


def superseded(connection: sa.Connection, cycle_id: int) -> list[dict[str, Any]]:
    """cycle, day, mode, owner of the cycles whose selections this one took back, and how many items of each."""
    return [dict(row) for row in connection.execute(SQL["superseded"], {"cycle_id": cycle_id}).mappings()]


def moved(connection: sa.Connection, cycle_id: int, verdict: Verdict, *, most: int) -> list[dict[str, Any]]:
    """item, weight of those with this recorded verdict, the worthiest first."""
    rows = connection.execute(SQL["moved"], {"cycle_id": cycle_id, "verdict": verdict, "most": most})
    return [dict(row) for row in rows.mappings()]


def outcomes(connection: sa.Connection, cycle_id: int) -> dict[str, int]:
    """What the cycle selected, by what became of it."""
    return {row.state: row.items for row in connection.execute(SQL["outcomes"], {"cycle_id": cycle_id})}


def published_by(connection: sa.Connection, cycle: Cycle) -> str | None:
    """Who published it, whoever owned it later; None while nobody has."""
    actor: str | None = connection.scalar(SQL["published_by"], {"pool_id": cycle["pool_id"], "cycle_id": cycle["cycle_id"]})
    return actor


def artifact_dropped(connection: sa.Connection, pool: Pool, cycle_key: str) -> None:
    """Its files are gone: no later sweep has to look for them."""
    connection.execute(SQL["artifact_dropped"], {"pool_id": pool.pool_id, "cycle_key": cycle_key})


def today(connection: sa.Connection, timezone: str) -> date:
    """The day it is now, by the database's clock, in the installation's time zone."""
    day: date = connection.execute(SQL["database_today"], {"timezone": timezone}).scalar_one()
    return day


def now(connection: sa.Connection) -> datetime:
    """The database's time; simulated where the database is a simulation."""
    at: datetime = connection.execute(SQL["now"]).scalar_one()
    return at


def advance_clock(connection: sa.Connection, until: datetime) -> None:
    """Tell a simulation the time."""
    connection.execute(SQL["advance_clock"], {"until": until})
