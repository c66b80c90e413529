"""Claim and complete: how many items a second, beside raw SQL and two queues, and how long a claim takes under an old snapshot."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
from pyarrow import parquet

from pipeline_project.bench import claim_raw, claim_workers
from pipeline_project.bench.claim_workers import POOL, Share
from pipeline_project.bench.scratch import scratch
from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from pipeline_project.settings import Settings
from pipeline_project.store.database import Database

OURS: Final = ("pipeline", "sql")
PEERS: Final = ("pipeline", "sql", "raw", "procrastinate", "pgqueuer")
EXTRA: Final = {"procrastinate": "procrastinate", "pgqueuer": "pgqueuer"}
"""Peers that the extra `bench` brings, and the module that must be there."""
NAME: Final = "bench_claim"
LATENCY_PER_S_MAX: Final = 1500
"""Items set aside for each second of a measurement of latencies."""
REFILL: Final = 5_000
"""Jobs put into a queue at once."""
SERVER: Final = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_sync_method")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """peers, workers and batches: every combination is one run, the peers of each side by side.

    items       in a run of batch 1; a larger batch has sqrt(batch) times as many, so that each run lasts about as long
    snapshot_s  then, how long a claim of one item takes while another session holds a snapshot for so long; 0 = not asked
    """

    peers: Sequence[str]
    workers: Sequence[int]
    batches: Sequence[int]
    items: int
    snapshot_s: float

    def items_of(self, batch: int, workers: int) -> int:
        return math.ceil(self.items * math.sqrt(batch) / (batch * workers)) * batch * workers

    def items_in_all(self) -> int:
        return sum(self.items_of(batch, workers) for batch in self.batches for workers in self.workers)


def compare(protocol: Protocol, settings: Settings, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Results, and the settings of the server that were the same for all of them. Everything in one database, which is dropped."""
    with scratch(NAME, settings) as ours:
        database = ours.database
        _set_up(database, settings, protocol)
        rows = []
        for batch in protocol.batches:
            for workers in protocol.workers:
                for peer in protocol.peers:
                    row = _throughput(database, settings, peer, batch, workers, protocol.items_of(batch, workers))
                    rows.append(row)
                    tell(row)
        if protocol.snapshot_s:
            for peer in [peer for peer in protocol.peers if peer not in EXTRA]:
                for held in (False, True):
                    row = _latency(database, settings, peer, protocol.snapshot_s, held=held)
                    rows.append(row)
                    tell(row)
        with Engine.open(NAME, settings) as engine:
            violated = engine.upkeep.check()
        return {"results": rows, "server": _server(database), "invariants_violated": len(violated)}


def _throughput(database: Database, settings: Settings, peer: str, batch: int, workers: int, items: int) -> dict[str, Any]:
    """One run: all workers begin at once; the last one's end counts."""
    if peer in EXTRA:
        asyncio.run(_REFILL[peer](_url(database), items))
    shares = [Share(name=f"{peer}-{n}", batch=batch, items=items // workers) for n in range(workers)]
    with _workers(peer, database, settings, shares) as channels:
        began = time.monotonic()
        for channel in channels:
            channel.send("go")
        seconds = max(channel.recv() for channel in channels) - began
        ended = [channel.recv() for channel in channels]
    done = sum(share for share, _ in ended)
    assert done == items, f"{peer}: {done} of {items} items were done"
    row = {
        "peer": peer,
        "batch": batch,
        "workers": workers,
        "per_second": round(done / seconds),
        "items": done,
        "seconds": round(seconds, 3),
    }
    return {**row, **_percentiles([latency for _, latencies in ended for latency in latencies])}


def _latency(database: Database, settings: Settings, peer: str, seconds: float, *, held: bool) -> dict[str, Any]:
    """One worker claims and completes item by item for so long, with a snapshot that is as old as the run, or without."""
    with (
        _snapshot(database, held=held),
        _workers(peer, database, settings, [Share(name=peer, batch=1, items=10**9, seconds=seconds)]) as (channel,),
    ):
        began = time.monotonic()
        channel.send("go")
        lasted = channel.recv() - began
        done, latencies = channel.recv()
    row = {"peer": peer, "batch": 1, "workers": 1, "per_second": round(done / lasted), "items": done, "seconds": round(lasted, 3)}
    return {
        **row,
        "snapshot_s": seconds if held else 0,
        **_percentiles(latencies),
        "last_tenth": _percentiles(latencies[-len(latencies) // 10 :]),
    }


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    p50, p99 = np.percentile(np.array(latencies) * 1000, [50, 99])
    return {"claim_p50_ms": round(float(p50), 3), "claim_p99_ms": round(float(p99), 3)}


@contextmanager
def _workers(peer: str, database: Database, settings: Settings, shares: Sequence[Share]) -> Iterator[list[Connection]]:
    """A process for each share, connected and warm; they end by themselves."""
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in shares]
    processes = [
        spawn.Process(target=claim_workers.run, args=(peer, theirs, settings, NAME, _url(database), share), daemon=True)
        for (_, theirs), share in zip(pipes, shares, strict=True)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that a worker that died is noticed as the end of its line
    channels = [ours for ours, _ in pipes]
    assert [channel.recv() for channel in channels] == ["ready"] * len(channels)
    yield channels
    for process in processes:
        process.join(10)


@contextmanager
def _snapshot(database: Database, *, held: bool) -> Iterator[None]:
    with psycopg.connect(_url(database)) as session:
        if held:
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            session.execute("select count(*) from pipeline.pool")
        yield
        session.rollback()


def _set_up(database: Database, settings: Settings, protocol: Protocol) -> None:
    """As many items as all runs take, each wanting one unit of one of a thousand resources, and all of them selected."""
    share = protocol.items_in_all() + round(2 * protocol.snapshot_s * LATENCY_PER_S_MAX)
    ours = [peer for peer in protocol.peers if peer in OURS]
    with Engine.open(NAME, settings) as engine:
        _select(engine, share * len(ours))
    if "raw" in protocol.peers:
        claim_raw.set_up(_url(database), share)
    for peer in EXTRA:
        if peer in protocol.peers:
            asyncio.run(_INSTALL[peer](_url(database)))


def _select(engine: Engine, items: int) -> None:
    if not items:
        return
    engine.intake.create_pool(POOL, Policy.from_document({"ttl": {"hold": "1d"}, "limits": {"chunk": 10_000}}, "bench"))
    with tempfile.TemporaryDirectory() as folder:
        table = pa.table(
            {
                "key": [f"item-{n}" for n in range(items)],
                "weight": pa.array(np.arange(items, 0, -1), pa.int64()),
                "demands": [json.dumps({f"r{n % claim_raw.RESOURCES}": 1}) for n in range(items)],
                "payload": ['{"n": 1}'] * items,
            }
        )
        parquet.write_table(table, Path(folder) / "items.parquet")
        enough = -(-items // claim_raw.RESOURCES)
        engine.intake.put_resources(POOL, [{"key": f"r{n}", "capacity": enough} for n in range(claim_raw.RESOURCES)])
        engine.intake.import_items(POOL, Path(folder) / "items.parquet")
    selected = engine.cycles.run(POOL)["selected"]
    assert selected == items, f"{selected} of {items} items were selected"


async def _install_pgqueuer(url: str) -> None:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def _refill_pgqueuer(url: str, items: int) -> None:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(url)
    for n in range(0, items, REFILL):
        part = min(REFILL, items - n)
        await Queries(AsyncpgDriver(connection)).enqueue(["work"] * part, [b'{"n": 1}'] * part, [0] * part)
    await connection.close()


async def _install_procrastinate(url: str) -> None:
    from procrastinate import App, PsycopgConnector

    async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
        await app.schema_manager.apply_schema_async()


async def _refill_procrastinate(url: str, items: int) -> None:
    from procrastinate import App, PsycopgConnector
    from procrastinate.types import JSONValue

    app = App(connector=PsycopgConnector(conninfo=url))
    task = app.configure_task("work", queue="bench")
    async with app.open_async():
        for n in range(0, items, REFILL):
            jobs: list[dict[str, JSONValue]] = [{"n": 1} for _ in range(min(REFILL, items - n))]
            await task.batch_defer_async(*jobs)


_INSTALL: Final = {"pgqueuer": _install_pgqueuer, "procrastinate": _install_procrastinate}
_REFILL: Final = {"pgqueuer": _refill_pgqueuer, "procrastinate": _refill_procrastinate}


def _server(database: Database) -> dict[str, str]:
    with psycopg.connect(_url(database)) as connection:
        query = "select name, setting from pg_settings where name = any (%s) order by name"
        return dict(connection.execute(query, (list(SERVER),)).fetchall())


def _url(database: Database) -> str:
    """The administrator's door, as every driver reads it: the peers make their own tables."""
    return database.admin.set(drivername="postgresql").render_as_string(hide_password=False)
