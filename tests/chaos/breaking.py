"""Ways to break a database session at its n-th statement or n-th COMMIT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import entered


class Broken(Exception):
    """Our own code failed between two statements."""


class Countdown:
    """Does its deed once, at the n-th call."""

    def __init__(self, n: int, deed: Callable[[Any], None]) -> None:
        self.left = n
        self._deed = deed

    def __call__(self, subject: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self._deed(subject)

    @property
    def done(self) -> bool:
        return self.left <= 0


@contextmanager
def at_statement(database: Database, n: int, deed: Callable[[sa.Connection], None]) -> Iterator[Countdown]:
    """Before the n-th statement of this database's engine something happens to its connection."""
    countdown = Countdown(n, deed)

    def before(connection: sa.Connection, *_: Any) -> None:
        countdown(connection)

    sa.event.listen(database.engine, "before_cursor_execute", before)
    try:
        yield countdown
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", before)


@contextmanager
def at_commit(database: Database, n: int) -> Iterator[Countdown]:
    """The n-th COMMIT gets through, but its answer does not: the connection is lost, and nobody here knows."""
    dialect: Any = database.engine.dialect
    commit = dialect.do_commit

    def lose(connection: Any) -> None:
        connection.driver_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    countdown = Countdown(n, lose)

    def committed(connection: Any) -> None:
        commit(connection)
        countdown(connection)

    dialect.do_commit = committed
    try:
        yield countdown
    finally:
        dialect.do_commit = commit


def fail(connection: sa.Connection) -> None:
    raise Broken(f"before a statement of backend {_backend(connection)}")


def terminator(database: Database) -> Callable[[sa.Connection], None]:
    """The server ends the session, as an administrator or a failover would."""

    def terminate(connection: sa.Connection) -> None:
        with entered(database) as administrator:
            run(administrator, "select pg_terminate_backend(:pid, 5000)", pid=_backend(connection))

    return terminate


def _backend(connection: sa.Connection) -> int:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.info.backend_pid
