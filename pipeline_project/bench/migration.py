"""One migration on a large store, with others at work in it: how long it takes, what it locks, how long they waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pipeline_project.bench import large
from pipeline_project.store import schema
from pipeline_project.store.database import Database

STRONG: Final = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
"""Modes that make those wait who write; the last makes those wait who read."""

HELD: Final = """
select coalesce(parent.relname, c.relname) as relation, l.mode
  from pg_locks l join pg_class c on c.oid = l.relation
  left join pg_inherits h on h.inhrelid = c.oid left join pg_class parent on parent.oid = h.inhparent and parent.relkind = 'p'
 where l.locktype = 'relation' and l.granted and l.mode = any (:modes) and c.relkind in ('r', 'p')
   and l.pid in (select a.pid from pg_locks a where a.locktype = 'advisory' and a.objid = :lock and a.granted)
"""

READ: Final = (
    "select k.key, s.state from pipeline.item_key k join pipeline.item_state s using (item_id) where k.pool_id = 1 and k.key = 'i7'"
)
AWAY: Final = """
update pipeline.item_state set state = 'pending', version = version + 1, cycle_id = null, rank = null, hold_until = null
 where item_id = :item and state = 'selected'
"""
BACK: Final = """
update pipeline.item_state set state = 'selected', version = version + 1, cycle_id = 1, rank = 1, hold_until = pipeline.now()
 where item_id = :item and state = 'pending'
"""


@dataclass(slots=True)
class Seen:
    """What the watchers saw: longest wait in ms by kind of statement, how many there were, when each lock was first and last held.

    refused  why a watcher's statement failed, which ends its watch: a deadlock with the migration
    """

    longest: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    statements: int = 0
    locks: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)


def measure(database: Database, items: int, revision: str) -> dict[str, Any]:
    """The store in a fresh database as it was before this revision, migrated while one session moves items and one looks at locks."""
    before = schema.before(revision)
    large.make(database, items, revision=before)
    with watched(database, items) as seen:
        time.sleep(0.3)
        began = time.monotonic()
        after = schema.migrate(database, revision=revision)
        seconds = time.monotonic() - began
        time.sleep(0.3)
    locks = [
        {"relation": relation, "mode": mode.removesuffix("Lock"), "ms": round(1000 * (last - first))}
        for (relation, mode), (first, last) in sorted(seen.locks.items(), key=lambda lock: lock[1][0] - lock[1][1])
    ]
    return {
        "before": before,
        "revision": after,
        "items": items,
        "seconds": round(seconds, 3),
        "longest_read_ms": round(seen.longest.get("read", 0), 1),
        "longest_move_ms": round(seen.longest.get("move", 0), 1),
        "statements": seen.statements,
        "refused": seen.refused,
        "locks": locks,
    }


@contextmanager
def watched(database: Database, items: int) -> Iterator[Seen]:
    """Both watchers at work during the block."""
    seen, stop = Seen(), threading.Event()
    tasks = (lambda: _use(database, items, seen, stop), lambda: _look(database, seen, stop))
    threads = [threading.Thread(target=_until_refused, args=(task, seen), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)


def _until_refused(task: Callable[[], None], seen: Seen) -> None:
    try:
        task()
    except SQLAlchemyError as failure:
        seen.refused.append(str(failure).splitlines()[0])


def _use(database: Database, items: int, seen: Seen, stop: threading.Event) -> None:
    """Read and move in turn, in transactions of their own, as executors and commits do."""
    selected = next(n for n in range(items, 0, -1) if n % 300 not in (0, 1))
    turn = 0
    while not stop.is_set():
        for kind, statement in (("read", READ), ("move", (AWAY, BACK)[turn % 2])):
            began = time.monotonic()
            with database.begin() as connection:
                connection.execute(sa.text(statement), {"item": selected} if ":item" in statement else {})
            seen.longest[kind] = max(seen.longest.get(kind, 0.0), 1000 * (time.monotonic() - began))
            seen.statements += 1
        turn += 1
        time.sleep(0.005)


def _look(database: Database, seen: Seen, stop: threading.Event) -> None:
    with schema.administer(database.admin, autocommit=True) as connection:
        while not stop.is_set():
            for row in connection.execute(sa.text(HELD), {"modes": list(STRONG), "lock": schema.LOCK}):
                now = time.monotonic()
                first, _ = seen.locks.get((row.relation, row.mode), (now, now))
                seen.locks[row.relation, row.mode] = (first, now)
            time.sleep(0.01)
