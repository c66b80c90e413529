"""Ways to break a database session at its n-th step: a step is a statement or a COMMIT."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import entered

Deed = Callable[[sa.Connection], None]

NEVER = 10**9


class Broken(Exception):
    """Our own code failed between two statements."""


class Countdown:
    """Does its deed once, at the n-th call."""

    def __init__(self, n: int, deed: Callable[[Any], None]) -> None:
        self.counted = 0
        self._n = n
        self._deed = deed

    def __call__(self, subject: Any) -> None:
        self.counted += 1
        if self.counted == self._n:
            self._deed(subject)

    @property
    def done(self) -> bool:
        return self.counted >= self._n


@contextmanager
def at_step(database: Database, n: int, deed: Deed) -> Iterator[Countdown]:
    """Before the n-th statement or COMMIT of this database's engine something happens to its connection."""
    countdown = Countdown(n, deed)

    def before_statement(connection: sa.Connection, *_: Any) -> None:
        countdown(connection)

    def before_commit(connection: sa.Connection) -> None:
        countdown(connection)

    sa.event.listen(database.engine, "before_cursor_execute", before_statement)
    sa.event.listen(database.engine, "commit", before_commit)
    try:
        yield countdown
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", before_statement)
        sa.event.remove(database.engine, "commit", before_commit)


def fail(connection: sa.Connection) -> None:
    raise Broken(f"before a statement of backend {backend_of(connection)}")


def die(_: sa.Connection) -> None:
    """kill -9: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminator(database: Database) -> Deed:
    """The server ends the session, as an administrator or a failover would."""

    def terminate(connection: sa.Connection) -> None:
        with entered(database) as administrator:
            run(administrator, "select pg_terminate_backend(:pid, 5000)", pid=backend_of(connection))

    return terminate


def backend_of(connection: sa.Connection) -> int:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.info.backend_pid
