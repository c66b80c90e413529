"""Where the database is and how we enter it: always as the writer role, never with a superuser's rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, OperationalError

from pipeline_project.core.errors import DatabaseUnavailable, SchemaMismatch, UsageError
from pipeline_project.settings import Settings
from pipeline_project.store.embedded import SUPERUSER, EmbeddedPostgres
from pipeline_project.store.times import BoundedTimes

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
WRITER: Final = "pipeline_writer"
READER: Final = "pipeline_reader"
LOGIN: Final = "pipeline"
"""The embedded server's ordinary user: a member of the writer and the reader role and nothing else."""

# A client that froze inside a transaction must not hold locks; a lock nobody gives must not be waited for without end.
SESSION: Final = {"idle_in_transaction_session_timeout": "5s", "lock_timeout": "30s", "timezone": "UTC", "application_name": "pipeline"}

psycopg.adapters.register_loader("timestamptz", BoundedTimes)

_untried: Final[ContextVar[bool]] = ContextVar("untried", default=False)
"""Whether the connection that is taken now is wanted as it is, dead or alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database of ours and how to enter it.

    name   as --database takes it: a URL without its password, or a bare name on the embedded server
    url    the engine's door
    admin  the door of whoever may create roles and migrate; the same as url on a server we do not run
    role   what every connection of the engine's becomes
    """

    name: str
    url: sa.URL
    admin: sa.URL
    server: EmbeddedPostgres | None = field(default=None, repr=False)
    role: str = WRITER
    _engines: list[sa.Engine] = field(default_factory=list, repr=False)

    @classmethod
    def find(cls, where: str | None, settings: Settings) -> Database:
        """Resolve a URL or bare name; a bare name starts the embedded server when it is not running.

        Raises DatabaseUnavailable when there is nothing to start a server with.
        """
        where = where or settings.database_url
        if not _NAME.fullmatch(settings.role):
            raise UsageError(f"PIPELINE_ROLE: expected a role such as {WRITER} or pipeline_auditor, found {settings.role!r}")
        if "://" in where:
            url = postgresql_url(where, "database")
            name = url.render_as_string(hide_password=True).replace("+psycopg", "")
            url = _with_password(url, settings.database_password_file)
            return cls(name=name, url=url, admin=url, role=settings.role)
        if not _NAME.fullmatch(where):
            raise UsageError(f"database: expected a postgresql:// URL or a name of a-z, 0-9 and _, found {where!r}")
        server = EmbeddedPostgres(settings.state_dir, pg_bin=settings.pg_bin).acquire()
        door = {user: sa.make_url(server.url(where, user)).set(drivername="postgresql+psycopg") for user in (LOGIN, SUPERUSER)}
        return cls(name=where, url=door[LOGIN], admin=door[SUPERUSER], server=server, role=settings.role)

    @property
    def engine(self) -> sa.Engine:
        """The pool of connections, each in the writer's role from its first breath."""
        if not self._engines:
            options = " ".join(f"-c {name}={value}" for name, value in {**SESSION, "role": self.role}.items())
            # PGCLIENTENCODING must not decide what the rows of the audit trail hash to.
            arguments = {"options": options, "client_encoding": "utf8"}
            engine = sa.create_engine(self.url, connect_args=arguments, pool_size=5, max_overflow=15)
            _replace_the_dead(engine)
            self._engines.append(engine)
        return self._engines[0]

    @contextmanager
    def begin(self, *, actor: str | None = None, repeatable: bool = False) -> Iterator[sa.Connection]:
        """One transaction; it commits at the end of the block. `actor` is who claims to act, for the audit trail.

        repeatable  READ ONLY at REPEATABLE READ: everything in it sees one instant
        """
        with self._connect() as connection:
            if repeatable:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                if actor:
                    connection.execute(sa.text("select set_config('pipeline.actor', :actor, true)"), {"actor": actor})
                yield connection

    @contextmanager
    def statement(self) -> Iterator[sa.Connection]:
        """One statement that is a transaction by itself, in one round trip: no BEGIN, no COMMIT, and no asking whether the server is there.

        For callers that repeat it when the connection is lost: that the server is gone they find out by the statement itself.
        """
        token = _untried.set(True)
        try:
            with self._connect() as connection, connection.execution_options(isolation_level="AUTOCOMMIT").begin():
                yield connection
        finally:
            _untried.reset(token)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        try:
            connection = self.engine.connect()
        except OperationalError as failure:
            reason = " ".join(str(failure.orig).split())
            if "does not exist" in reason:
                raise SchemaMismatch(
                    f"database {self.name} is not initialised ({reason}): run `pipeline db init --database {self.name}`"
                ) from None
            raise DatabaseUnavailable(f"database {self.name} cannot be reached: {reason}") from failure
        with connection:
            yield connection

    def close(self) -> None:
        """Give the connections and, on the embedded server, our share of it back."""
        for engine in self._engines:
            engine.dispose()
        self._engines.clear()
        if self.server:
            self.server.release()


def _replace_the_dead(engine: sa.Engine) -> None:
    """A connection that died in the pool is replaced before anybody sees it, and all of its age: pool_pre_ping, with an exception."""

    def tried(driver: Any, *_: Any) -> None:
        try:
            alive = not driver.closed and (_untried.get() or engine.dialect.do_ping(driver))
        except engine.dialect.loaded_dbapi.Error:
            alive = False
        if not alive:
            raise InvalidatePoolError

    sa.event.listen(engine, "checkout", tried)


def postgresql_url(text: str, what: str) -> sa.URL:
    """The URL with our driver. Raises UsageError, which shows no more of the text than its scheme: there may be a password in it."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.drivername.startswith("postgres"):
        scheme = text.partition("://")[0]
        raise UsageError(f"{what}: expected a URL such as postgresql://user@host:5432/name, found one that begins with {scheme!r:.40}")
    return url.set(drivername="postgresql+psycopg")


def _with_password(url: sa.URL, file: Path | None) -> sa.URL:
    """The password from its file, where the URL has none. Raises DatabaseUnavailable where it cannot be read or is empty."""
    if file is None or url.password:
        return url
    try:
        password = file.read_text(encoding="utf-8").strip("\r\n")
    except OSError as failure:
        raise DatabaseUnavailable(f"PIPELINE_DATABASE_PASSWORD_FILE: expected a readable file, found {file} ({failure.strerror})") from None
    if not password:
        raise DatabaseUnavailable(f"PIPELINE_DATABASE_PASSWORD_FILE: expected the password in {file}, found an empty file")
    return url.set(password=password)
