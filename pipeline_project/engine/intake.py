"""What comes in: pools, policies, resources, items; from files, from callers, from a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.core import items as item_rules
from pipeline_project.core import resources as resource_rules
from pipeline_project.core.errors import Overtaken, Refused, UsageError
from pipeline_project.core.items import ItemBatch
from pipeline_project.core.policy import Policy
from pipeline_project.core.pools import check_name
from pipeline_project.core.resources import ResourceBatch
from pipeline_project.engine.imports import read_items, read_resources
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import cycles, intake, items, pools, resources, sources
from pipeline_project.store.database import Database
from pipeline_project.store.intake import Origin, Receipt

Progress = Callable[[int], None]
"""Called with the number of rows read so far."""

BATCH: Final = 2_000
"""Items that one transaction of a bulk change moves."""


def _silent(_: int) -> None:
    """No progress."""


class Intake:
    """Every method is idempotent: the same input twice changes nothing more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- pools and policies

    def create_pool(self, name: str, policy: Policy | None = None) -> bool:
        """True when it is new. Raises Refused for a name that would not be safe in paths and partition keys."""
        with self._database.begin() as connection:
            return pools.create(connection, check_name(name), policy or Policy())

    def pause(self, pool: str, *, actor: str | None = None) -> bool:
        """No cycle will select from the pool; executors go on. False when it was paused already."""
        with self._database.begin(actor=actor) as connection:
            return pools.set_status(connection, pools.find(connection, pool), "paused")

    def resume(self, pool: str, *, actor: str | None = None) -> bool:
        with self._database.begin(actor=actor) as connection:
            return pools.set_status(connection, pools.find(connection, pool), "active")

    def apply_policy(self, pool: str, policy: Policy, *, actor: str | None = None) -> int:
        """The version in force from now on; the same policy again is no new version."""
        with self._database.begin(actor=actor) as connection:
            return pools.apply_policy(connection, pools.find(connection, pool), policy)

    # -- items

    def import_items(self, pool: str, path: Path, *, progress: Progress = _silent, actor: str | None = None) -> Receipt:
        """Submit the rows of a CSV, JSON lines or Parquet file; each bad row is refused with its line and field, the good ones go in.

        One transaction a batch: after a crash the same file again goes on where it stopped.
        """
        receipt = Receipt()
        for batch, refusals in read_items(path):
            receipt.refused += refusals
            receipt.add(self._submit(pool, batch, "producer", f"import of {path.name}", actor))
            progress(receipt.accepted + receipt.unchanged + receipt.revised + len(receipt.refused))
        return receipt

    def submit(self, pool: str, rows: Iterable[Mapping[str, Any]], *, actor: str | None = None) -> Receipt:
        """The same for rows in memory, with the columns of an item import; line = position, from 1."""
        batch, refusals = item_rules.check_item_rows(enumerate(rows, 1))
        receipt = self._submit(pool, batch, "producer", "submitted", actor)
        receipt.refused = refusals + receipt.refused
        return receipt

    @repeatable
    def revise(self, pool: str, key: str, changes: Mapping[str, Any], *, actor: str | None = None) -> Receipt:
        """Change some columns of one item; a selected one is released first, a claimed one refused.

        What somebody else changes meanwhile is kept: then this begins again with what they left.
        """
        if changes.get("key", key) != key:
            raise Refused(f"key: expected {key!r}, found {changes['key']!r}: an item keeps its key")
        with self._database.begin(actor=actor) as connection:
            found = pools.find(connection, pool)
            now = items.find(connection, found, key)
            batch, refused = item_rules.check_item_rows([(1, {**_body(now), **changes})])
            receipt = intake.submit(connection, found, batch, reason="revised")
            if refused := refused + receipt.refused:
                raise Refused(str(refused[0]))
            if items.find(connection, found, key)["revision"] != now["revision"] + receipt.revised:
                raise Overtaken(f"item {key!r}: others revised it again and again; nothing was written, try again")
            return receipt

    @repeatable
    def cancel(self, pool: str, keys: Sequence[str], *, reason: str = "cancelled by operator", actor: str | None = None) -> list[str]:
        """pending, selected, claimed -> cancelled, with the unclaimed rest of a bundle; the keys that moved. Raises Unknown."""
        with self._database.begin(actor=actor) as connection:
            found = items.ids_of(connection, pools.find(connection, pool), keys)
            moved = set(items.cancel(connection, list(found.values()), reason=reason))
            return [key for key, item in found.items() if item in moved]

    @repeatable
    def revive(
        self,
        pool: str,
        keys: Sequence[str],
        *,
        expires_at: datetime | None = None,
        reason: str = "revived by operator",
        actor: str | None = None,
    ) -> list[str]:
        """expired, failed, quarantined, cancelled by its source -> pending, if the expiry lies ahead; the keys that moved.

        expires_at  a new expiry, for those whose own has passed. Raises Refused when it has passed too.
        """
        with self._database.begin(actor=actor) as connection:
            if expires_at and expires_at <= (now := cycles.now(connection)):
                raise Refused(f"expires_at: expected a time after {now.isoformat()}, found {expires_at.isoformat()}; nothing was revived")
            found = items.ids_of(connection, pools.find(connection, pool), keys)
            moved = set(items.revive(connection, list(found.values()), reason=reason, expires_at=expires_at))
            return [key for key, item in found.items() if item in moved]

    def revive_dead(
        self,
        pool: str,
        *,
        state: str | None = None,
        error: str | None = None,
        most: int = 1_000_000,
        expires_at: datetime | None = None,
        reason: str = "revived by operator",
        actor: str | None = None,
    ) -> list[str]:
        """Revive failed and quarantined items: of one state, or whose last error holds this text; batch by batch. The keys that moved."""
        with self._database.begin() as connection:
            dead = [row["key"] for row in items.dead(connection, pools.find(connection, pool), state=state, error=error, most=most)]
        batches = (dead[start : start + BATCH] for start in range(0, len(dead), BATCH))
        return [key for keys in batches for key in self.revive(pool, keys, expires_at=expires_at, reason=reason, actor=actor)]

    @repeatable
    def quarantine(self, pool: str, keys: Sequence[str], *, reason: str, actor: str | None = None) -> list[str]:
        """pending, selected -> quarantined until somebody revives them, whole bundles; the keys that moved. Raises Unknown."""
        if not reason.strip():
            raise UsageError("reason: expected why these items are put aside, found nothing")
        with self._database.begin(actor=actor) as connection:
            found = items.ids_of(connection, pools.find(connection, pool), keys)
            moved = set(items.quarantine(connection, list(found.values()), reason=reason))
            return [key for key, item in found.items() if item in moved]

    # -- resources

    def import_resources(self, pool: str, path: Path, *, actor: str | None = None) -> Receipt:
        """Add the resources of a file and change the capacity of known ones; lowering below what is in use is refused."""
        receipt = Receipt()
        for batch, refusals in read_resources(path):
            receipt.refused += refusals
            receipt.add(self._put(pool, batch, actor))
        return receipt

    def put_resources(self, pool: str, rows: Iterable[Mapping[str, Any]], *, actor: str | None = None) -> Receipt:
        """The same for rows in memory."""
        batch, refusals = resource_rules.check_resource_rows(enumerate(rows, 1))
        receipt = self._put(pool, batch, actor)
        receipt.refused = refusals + receipt.refused
        return receipt

    @repeatable
    def set_capacity(self, pool: str, key: str, capacity: int, *, release: bool = False, actor: str | None = None) -> list[int]:
        """Change a capacity; with `release`, the lowest-ranked unclaimed holders make room. Ids of the released items.

        Raises Refused when what is claimed or spent alone is more than the new capacity. Items are locked before resources, here as
        everywhere, so a commit may take the room that was just made: then the holders are chosen anew.
        """
        resource_rules.check_capacity(capacity)
        with self._database.begin(actor=actor) as connection:
            found = pools.find(connection, pool)
            giving, _ = self._room(connection, found, key, capacity) if release else ([], 0)
            released = items.release(connection, giving, reason=f"capacity of {key} lowered to {capacity}")
            try:
                resources.set_capacity(connection, found, key, capacity, released=release)
            except Refused:
                # Items are locked before resources, so the holders were chosen before the resource stood still: it may have others now.
                if release and self._room(connection, found, key, capacity)[1] <= 0:
                    raise Overtaken(
                        f"resource {key!r}: it was taken by others while room was made; nothing was written, try again"
                    ) from None
                raise
            return released

    # -- sources

    def pull(self, pool: str, *, actor: str | None = None) -> dict[str, Any]:
        """Pull the pool's source once: new rows submitted, changed ones revised, vanished ones kept or cancelled as its policy says.

        Raises Refused when the policy names no source, or when more rows vanished than `max_vanish` allows: then nothing is cancelled.
        """
        with self._database.begin() as connection:
            found = pools.find(connection, pool)
        source = found.policy.source
        if source is None:
            raise Refused(f"pool {pool}: its policy names no source; add one and `pipeline policy apply`")
        receipt, seen = Receipt(), set[str]()
        with sources.reading(self._database, source.database) as origin:
            if source.resources:
                for resource_batch, refusals, _ in sources.resources(origin, source.resources):
                    receipt.refused += refusals
                    self._put(pool, resource_batch, actor)
            for batch, refusals, keys in sources.items(origin, source.items):
                receipt.refused += refusals
                receipt.add(self._submit(pool, batch, "source", "pulled from source", actor))
                seen |= keys
        cancelled, withheld = self._cancel_vanished(found, seen, actor) if source.on_vanish == "cancel" else ([], None)
        report = {**asdict(receipt), "cancelled": len(cancelled), "withheld": withheld}
        with self._database.begin(actor=actor) as connection:
            sources.record(connection, found, rows=len(seen), report=report, error=withheld)
        return report

    def pull_failed(self, pool: str, failure: Exception) -> None:
        """Remember why a pull did not succeed; the items it would have brought stay as they are."""
        with self._database.begin() as connection:
            sources.record(connection, pools.find(connection, pool), rows=None, report=None, error=str(failure))

    def due_pulls(self) -> list[str]:
        """Active pools whose source has waited its `every`."""
        with self._database.begin() as connection:
            return sources.due(connection)

    # -- one transaction each

    @repeatable
    def _submit(self, pool: str, batch: ItemBatch, origin: Origin, reason: str, actor: str | None) -> Receipt:
        with self._database.begin(actor=actor) as connection:
            return intake.submit(connection, pools.find(connection, pool), batch, origin=origin, reason=reason)

    @repeatable
    def _put(self, pool: str, batch: ResourceBatch, actor: str | None) -> Receipt:
        with self._database.begin(actor=actor) as connection:
            added, changed, refused = resources.put(connection, pools.find(connection, pool), batch)
        return Receipt(accepted=added, revised=changed, unchanged=len(batch) - added - changed - len(refused), refused=refused)

    def _room(self, connection: sa.Connection, pool: pools.Pool, key: str, capacity: int) -> tuple[list[int], int]:
        """Unclaimed holders to release so that the capacity is enough, and by how much it is not even then."""
        row = resources.find(connection, pool, key)
        excess = row["in_use"] + row["spent"] - capacity
        giving: list[int] = []
        for item, quantity in resources.lowest_holders(connection, pool, row["resource_id"]):
            if excess <= 0:
                break
            giving.append(item)
            excess -= quantity
        return giving, excess

    def _cancel_vanished(self, pool: pools.Pool, seen: set[str], actor: str | None) -> tuple[list[int], str | None]:
        """Cancel pending items that the source no longer shows, unless they are suspiciously many: then none, and why."""
        source = pool.policy.source
        assert source is not None
        with self._database.begin(actor=actor) as connection:
            known = items.source_keys(connection, pool)
            vanished = sorted(known - seen)
            if not vanished:
                return [], None
            percent = 100 * len(vanished) / len(known)
            if percent > source.max_vanish:
                told = (
                    f"{len(vanished)} of {len(known)} pending items vanished from the source ({percent:.0f} %), "
                    f"more than max_vanish {source.max_vanish} %: none was cancelled"
                )
                pools.record_event(connection, pool.pool_id, "vanish_withheld", {"vanished": len(vanished), "known": len(known)})
                return [], told
            ids = list(items.ids_of(connection, pool, vanished).values())
            return items.cancel_pending(connection, ids, reason="vanished from its source"), None


def _body(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as a row that would submit it."""
    return {
        "key": item["key"],
        "weight": item["weight"],
        "payload": item["payload"],
        "not_before": _text(item["not_before"]),
        "expires_at": _text(item["expires_at"]),
        "bundle_key": item["bundle_key"],
        "bundle_size": item["bundle_size"],
        "demands": {demand["key"]: demand["quantity"] for demand in item["demands"]},
    }


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
