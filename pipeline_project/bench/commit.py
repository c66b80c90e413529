"""The writing side: a cycle's commit beside bare SQL with the same guarantees, and what a rollback and a sweep of as much take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from pipeline_project.core.decisions import Proposal
from pipeline_project.core.packing import Int64
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from pipeline_project.store import pools, statements
from pipeline_project.store.columns import Bigints
from pipeline_project.store.database import Database
from pipeline_project.store.schema import administer

SQL = statements.load("commit", Path(__file__).parent)
POOL: Final = "bench"
PEERS: Final = ("pipeline", "raw")
BEGIN: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""When it is, in the database that it is measured in."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """peers in turn, `runs` times, at each chunk size, over the same items: each run finds all of them pending."""

    items: int
    demands: int
    resources: int
    chunks: Sequence[int]
    peers: Sequence[str]
    runs: int


def compare(engine: Engine, protocol: Protocol, tell: Callable[[Row], None]) -> list[Row]:
    """Rows of peer, what, chunk, workers, run, seconds, per_second, longest_transaction_s. The database must be a fresh simulation."""
    rows: list[Row] = []
    _fill(engine, protocol)
    for run in range(1, protocol.runs + 1):
        for chunk in protocol.chunks:
            engine.intake.apply_policy(POOL, Policy.from_document({"limits": {"chunk": chunk}}, "bench"))
            proposal = engine.cycles.propose(engine.cycles.graph(engine.cycles.snapshot(POOL)))
            for peer in protocol.peers:
                measured = _PEERS[peer](engine, proposal, chunk)
                for row in measured:
                    rows.append({"peer": peer, "chunk": chunk, "workers": 1, "run": run, "items": protocol.items, **row})
                    tell(rows[-1])
    engine.upkeep.advance_clock(BEGIN + timedelta(days=2))
    expired = _timed(engine.database, protocol.items, "expire", lambda: engine.upkeep.sweep()["expired"])
    rows.append({"peer": "pipeline", "chunk": None, "workers": 1, "run": 1, "items": protocol.items, **expired})
    tell(rows[-1])
    return rows


def _fill(engine: Engine, protocol: Protocol) -> None:
    engine.intake.create_pool(POOL)
    with engine.database.begin() as connection:
        parameters = {"pool_id": pools.find(connection, POOL).pool_id, "items": protocol.items}
        parameters |= {"demands": protocol.demands, "resources": protocol.resources}
        for name in ("furnish", "keys", "bodies", "demands", "states"):
            connection.execute(SQL[name], parameters)
    _tidy(engine.database)


def _tidy(database: Database) -> None:
    """What autovacuum would come round to: so that no run pays for the one before."""
    with administer(database.admin, autocommit=True) as connection:
        connection.execute(sa.text("vacuum (analyze)"))


def _pipeline(engine: Engine, proposal: Proposal, _: int) -> list[Row]:
    """The commit, and then its rollback, which brings the items back for the next."""
    n = int((proposal.ranks > 0).sum())
    commit = _timed(engine.database, n, "commit", lambda: engine.cycles.commit(proposal)["selected"])
    _tidy(engine.database)
    rollback = _timed(engine.database, n, "rollback", lambda: engine.cycles.rollback(proposal.cycle_key)["released"])
    _tidy(engine.database)
    return [commit, rollback]


def _raw(engine: Engine, proposal: Proposal, chunk: int) -> list[Row]:
    """As a database engineer would write it: three statements and a ledger row a chunk, no triggers, no Python over the rows."""
    snapshot, selected = proposal.graph.snapshot, proposal.selected()
    with administer(engine.database.admin) as connection, connection.begin():
        for name in ("raw_tables", "raw_fill"):
            connection.exec_driver_sql(SQL[name].text.replace(r"\:", ":"))
    versions = _versions(engine.database, snapshot.item_ids)
    _tidy(engine.database)

    def commit() -> int:
        for number, start in enumerate(range(0, len(selected), chunk)):
            at = np.sort(selected[start : start + chunk])  # in the order in which the rows lie, as ours
            with engine.database.begin() as connection:
                arrays = {"ids": snapshot.item_ids, "versions": versions, "ranks": proposal.ranks.astype(np.int64)}
                rows = {name: Bigints(values[at]) for name, values in arrays.items()}
                connection.execute(SQL["raw_fence"], {"chunk": number}).scalar_one()
                fresh = connection.scalar(SQL["raw_lock_items"], {"ids": rows["ids"], "versions": rows["versions"]}) or []
                connection.execute(SQL["raw_lock_resources"], {"fresh": fresh})
                weights = Bigints(snapshot.weights[at])
                connection.execute(SQL["raw_decide"], {**rows, "chunk": number, "fresh": fresh, "weights": weights})
        with engine.database.begin() as connection:
            return int(connection.scalar(sa.text("select sum(selected) from raw.cycle_chunk")) or 0)

    done = _timed(engine.database, len(selected), "commit", commit)
    return [done]


def _versions(database: Database, ids: Int64) -> Int64:
    """As they are now: the proposal's are those of before our own run and its rollback."""
    with database.begin() as connection:
        rows = connection.execute(SQL["raw_versions"], {"ids": ids.tolist()}).all()
    return np.array([row.version for row in rows], np.int64)


_PEERS: Final[dict[str, Callable[[Engine, Proposal, int], list[Row]]]] = {"pipeline": _pipeline, "raw": _raw}


def _timed(database: Database, expected: int, what: str, work: Callable[[], int]) -> Row:
    with _longest_transaction(database) as longest:
        began = time.monotonic()
        done = work()
        seconds = time.monotonic() - began
    assert done == expected, f"{what}: expected {expected} items to move, found {done}"
    rate, longest_s = round(expected / seconds), round(max(longest), 3)
    return {"what": what, "seconds": round(seconds, 3), "per_second": rate, "longest_transaction_s": longest_s}


@contextmanager
def _longest_transaction(database: Database) -> Iterator[list[float]]:
    """Seconds of each transaction of the engine in this block, from BEGIN to after its COMMIT."""
    seconds = [0.0]
    engine = database.engine
    dialect: Any = engine.dialect  # its do_commit is the only place that knows when a COMMIT has been answered
    began: dict[int, float] = {}
    commit: Callable[[Any], None] = dialect.do_commit

    def begin(connection: sa.Connection) -> None:
        began[id(connection.connection.dbapi_connection)] = time.monotonic()

    def committed(connection: Any) -> None:
        commit(connection)
        seconds.append(time.monotonic() - began[id(connection.dbapi_connection)])

    sa.event.listen(engine, "begin", begin)
    dialect.do_commit = committed
    try:
        yield seconds
    finally:
        del dialect.do_commit  # the class's own again
        sa.event.remove(engine, "begin", begin)
