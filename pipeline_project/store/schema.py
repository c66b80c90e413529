"""Creates and migrates the schema; Alembic does the work, under a lock, as the owner role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline_project.core.errors import DatabaseUnavailable, Refused, SchemaMismatch, Unknown
from pipeline_project.store.database import LOGIN, READER, WRITER, Database

OWNER: Final = "pipeline_owner"
ROLES: Final = (OWNER, WRITER, "pipeline_executor", "pipeline_operator", READER, "pipeline_auditor")
DEADLOCK: Final = "40P01"
MIGRATIONS: Final = Path(__file__).with_name("migrations")
LOCK: Final = 0x70697065  # "pipe": one initialisation or migration at a time


def create(database: Database, *, simulation_start: datetime | None = None, revision: str = "head") -> str:
    """Create what is missing of roles, database and schema, and migrate to this code's version; returns that version.

    simulation_start makes a *new* database a simulation that is told the time; revision is for those who measure migrations.
    Raises Refused when an existing database should become a simulation, SchemaMismatch when it is newer than this code.
    """
    _create_roles_and_database(database)
    return migrate(database, simulation_start=simulation_start, revision=revision)


@retry(
    retry=retry_if_exception(lambda failure: getattr(getattr(failure, "orig", failure), "sqlstate", None) == DEADLOCK),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=0.5, max=5),
    reraise=True,
)
def migrate(database: Database, *, simulation_start: datetime | None = None, revision: str = "head") -> str:
    """Bring the schema to this code's version, in one transaction under an advisory lock.

    Others may be at work: where PostgreSQL ends it for a deadlock with one of them, nothing has happened, and it begins anew.
    """
    with administer(database.admin) as connection, connection.begin():
        connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        connection.execute(sa.text(f"create schema if not exists pipeline authorization {OWNER}"))
        connection.execute(sa.text(f'grant temporary on database "{connection.engine.url.database}" to {WRITER}'))
        _let_read(connection, LOGIN if database.server else "current_user")
        if database.server:  # a place for the tables that sources read; on other servers their owner has one already
            connection.execute(sa.text(f"grant create on schema public to {LOGIN}"))
        connection.execute(sa.text(f"set local role {OWNER}"))
        before = _version(connection)
        if simulation_start and before:
            raise Refused(f"database {database.name}: only a new database can become a simulation; this one has schema {before}")
        _refuse_newer(database, before)
        _upgrade(connection, revision)
        if simulation_start:
            connection.execute(sa.text("insert into pipeline.clock (at) values (:at)"), {"at": simulation_start})
        connection.execute(sa.text("select pipeline.ensure_partitions(2)"))
        return _version(connection) or ""


def drop(database: Database) -> None:
    """Drop the whole database; for simulations and tests."""
    try:  # the embedded server stops two seconds after its last user let go; on a busy machine dropping takes longer
        with administer(database.admin.set(database="postgres"), autocommit=True) as connection:
            connection.execute(sa.text(f'drop database if exists "{database.url.database}" with (force)'))
    finally:
        database.close()


def version(database: Database) -> str | None:
    """The schema's version; None where there is none."""
    with database.begin() as connection:
        return _version(connection)


def check(database: Database) -> None:
    """Raise SchemaMismatch unless the schema is exactly this code's."""
    found = version(database)
    if found is None:
        raise SchemaMismatch(f"database {database.name} is not initialised: run `pipeline db init --database {database.name}`")
    _refuse_newer(database, found)
    if found != head():
        raise SchemaMismatch(f"database {database.name}: expected schema {head()}, found {found}: run `pipeline db migrate`")


def head() -> str:
    """The newest migration this code knows."""
    return revisions()[-1]


def before(revision: str) -> str:
    """The revision that this one follows. Raises Unknown."""
    earlier = {later: before for before, later in pairwise(revisions())}
    found = earlier.get(head() if revision == "head" else revision)
    if found is None:
        raise Unknown(f"migration {revision!r}: expected one that follows another ({', '.join(earlier)})")
    return found


@cache
def revisions() -> tuple[str, ...]:
    """The migrations this code knows, oldest first, by the names of their files: every command asks, and to load Alembic takes a while."""
    return tuple(sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")))


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found not in revisions():
        raise SchemaMismatch(f"database {database.name}: schema {found} is newer than this code's {head()}: upgrade the code")


def _version(connection: sa.Connection) -> str | None:
    if connection.scalar(sa.text("select to_regclass('pipeline.alembic_version')")) is None:
        return None
    found: str | None = connection.scalar(sa.text("select version_num from pipeline.alembic_version"))
    return found


def _upgrade(connection: sa.Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _create_roles_and_database(database: Database) -> None:
    """Roles belong to the whole server, so the lock is taken in its maintenance database."""
    with administer(database.admin.set(database="postgres"), autocommit=True) as connection:
        connection.execute(sa.text("select pg_advisory_lock(:lock)"), {"lock": LOCK})
        present = set(connection.scalars(sa.text("select rolname from pg_roles")))
        for role in set(ROLES) - present:
            connection.execute(sa.text(f"create role {role} nologin"))
        if database.server:
            if LOGIN not in present:
                connection.execute(sa.text(f"create role {LOGIN} login"))
                connection.execute(sa.text(f"grant {WRITER} to {LOGIN}"))
            # Whoever holds up the feed is named with what it does; and PIPELINE_ROLE may be one that only looks.
            connection.execute(sa.text(f"grant pg_read_all_stats to {WRITER}"))
            connection.execute(sa.text(f"grant pipeline_auditor, pipeline_reader to {LOGIN}"))
        elif not all(connection.scalar(sa.text("select pg_has_role(:role, 'usage')"), {"role": role}) for role in (OWNER, WRITER)):
            connection.execute(sa.text(f"grant {OWNER}, {WRITER} to current_user"))
        name = database.admin.database
        if not connection.scalar(sa.text("select count(*) from pg_database where datname = :name"), {"name": name}):
            connection.execute(sa.text(f"create database \"{name}\" encoding 'UTF8' template template0"))


def _let_read(connection: sa.Connection, user: str) -> None:
    """The engine reads strangers' queries as the reader, who may do nothing else. Where we may not grant it, an administrator must."""
    who = connection.execute(sa.text("select session_user")).scalar_one() if user == "current_user" else user
    if connection.scalar(sa.text("select pg_has_role(:who, :reader, 'usage')"), {"who": who, "reader": READER}):
        return
    with suppress(ProgrammingError), connection.begin_nested():
        connection.execute(sa.text(f'grant {READER} to "{who}"'))


@contextmanager
def administer(url: sa.URL, *, autocommit: bool = False) -> Iterator[sa.Connection]:
    """One connection of whoever may create roles and databases. Raises DatabaseUnavailable, or Refused for want of rights."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            if autocommit:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection
    except OperationalError as failure:
        raise DatabaseUnavailable(f"cannot connect to {url.render_as_string()}: {failure.orig}") from failure
    except ProgrammingError as failure:
        if "permission denied" in str(failure.orig):
            raise Refused(
                f"{url.username or 'the current user'} may not create the roles or the schema ({str(failure.orig).splitlines()[0]}): "
                f"ask an administrator to create the roles {', '.join(ROLES)} and grant {OWNER} and {WRITER} to it"
            ) from failure
        raise
    finally:
        engine.dispose()
