"""The processes of `pipeline bench claim`: each claims and completes its share as its peer is meant to be used, and says how long."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, Final

from pipeline_project.bench import claim_raw
from pipeline_project.settings import Settings

POOL: Final = "bench"
CONCURRENCY_MAX: Final = 100
"""Tasks of one procrastinate worker at a time: it has no batches, and more of them do not make it faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One worker's part of a run: up to so many items, in batches, for so many seconds at most."""

    name: str
    batch: int
    items: int
    seconds: float = math.inf


def run(peer: str, channel: Connection, settings: Settings, database: str, url: str, share: Share) -> None:
    """Say ready, wait for the word, work, say when that ended, then how many items were done and how long each claim took."""
    logging.disable(logging.WARNING)
    turn = Turn(channel, settings, database, url, share)
    done = WORKERS[peer](turn)
    channel.send((done, turn.latencies))
    channel.close()


class Turn:
    """What a worker needs to know, and its line to whoever measures."""

    def __init__(self, channel: Connection, settings: Settings, database: str, url: str, share: Share) -> None:
        self.settings, self.database, self.url = settings, database, url
        self.share, self.name, self.batch = share, share.name, share.batch
        self.latencies: list[float] = []
        self._channel = channel

    def begin(self) -> None:
        """Everything is connected and warm; wait for the others."""
        self._channel.send("ready")
        self._channel.recv()

    def end(self) -> None:
        """The last item is done: what comes now is not measured."""
        self._channel.send(time.monotonic())

    def loop(self, turn: Callable[[list[Any], int], list[Any]]) -> int:
        """Complete what was claimed and claim the next, until the share or the time is over or nothing is left."""
        done, claims = 0, list[Any]()
        self.begin()
        until = time.perf_counter() + self.share.seconds
        while (began := time.perf_counter()) < until:
            done, wanted = done + len(claims), min(self.batch, self.share.items - done - len(claims))
            claims = turn(claims, wanted)
            self.latencies.append(time.perf_counter() - began)
            if not claims:
                break
        self.end()
        return done


def pipeline(turn: Turn) -> int:
    """Our engine, as an executor in Python calls it."""
    from pipeline_project.engine.engine import Engine

    with Engine.open(turn.database, turn.settings) as engine:
        execution = engine.execution

        def exchange(claims: list[Any], wanted: int) -> list[Any]:
            done = [(claim["item"], claim["token"]) for claim in claims]
            if not wanted:
                answers, following = execution.complete(POOL, done, executor=turn.name), list[Any]()
            else:
                answers, following = execution.turn(POOL, turn.name, done, most=wanted)
            assert all(answer["accepted"] for answer in answers)
            return following

        for _ in range(10):  # statements are prepared after a few
            execution.complete(POOL, [("none", 1)])
            execution.claim(POOL, turn.name, keys=["none"])
        return turn.loop(exchange)


def sql(turn: Turn) -> int:
    """The same functions, called by a program that knows nothing but SQL, in the role of an executor; one round trip a turn."""
    import psycopg

    with psycopg.connect(turn.url, prepare_threshold=0, options="-c role=pipeline_executor") as connection:

        def exchange(claims: list[Any], wanted: int) -> list[Any]:
            following: list[Any] = []
            with connection.pipeline():
                if claims:
                    columns = ([claim[0] for claim in claims], [claim[1] for claim in claims])
                    answers = connection.execute("select accepted from pipeline.complete(%s, %s, %s::bigint[])", (POOL, *columns))
                if wanted:
                    claimed = connection.execute("select * from pipeline.claim(%s, %s, %s)", (POOL, turn.name, wanted))
                connection.commit()
                if wanted:
                    following = claimed.fetchall()
                assert not claims or all(accepted for (accepted,) in answers.fetchall())
            return following

        return turn.loop(exchange)


def raw(turn: Turn) -> int:
    """Two statements by hand, in one transaction and one round trip."""
    with claim_raw.connect(turn.url) as connection:
        return turn.loop(lambda claims, wanted: claim_raw.turn(connection, turn.name, claims, wanted))


def pgqueuer(turn: Turn) -> int:
    """Its queue manager on asyncpg, draining; the jobs do nothing."""

    async def work() -> int:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.qm import QueueManager
        from pgqueuer.queries import Queries
        from pgqueuer.types import QueueExecutionMode

        manager = QueueManager(Queries(AsyncpgDriver(await asyncpg.connect(turn.url))))
        done = 0

        @manager.entrypoint("work")
        async def job(_: Any) -> None:
            nonlocal done
            done += 1

        turn.begin()
        await manager.run(batch_size=turn.batch, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(milliseconds=10))
        turn.end()
        return done

    return asyncio.run(work())


def procrastinate(turn: Turn) -> int:
    """Its asynchronous worker until the queue is empty; a batch is that many tasks at a time."""

    async def work() -> int:
        from procrastinate import App, PsycopgConnector

        concurrency = min(turn.batch, CONCURRENCY_MAX)
        app = App(connector=PsycopgConnector(conninfo=turn.url, min_size=min(4, concurrency), max_size=min(10, concurrency + 1)))
        done = 0

        @app.task(name="work", queue="bench")
        async def job(**_: Any) -> None:
            nonlocal done
            done += 1

        async with app.open_async():
            turn.begin()
            await app.run_worker_async(wait=False, concurrency=concurrency, listen_notify=False, install_signal_handlers=False)
            turn.end()
        return done

    return asyncio.run(work())


WORKERS: Final[dict[str, Callable[[Turn], int]]] = {
    "pipeline": pipeline,
    "sql": sql,
    "raw": raw,
    "pgqueuer": pgqueuer,
    "procrastinate": procrastinate,
}
