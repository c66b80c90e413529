"""Where Dagster keeps its runs and events: a database of its own on the same server, so that a writer there never holds our feed back."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from pipeline_project.core.errors import Refused
from pipeline_project.settings import Settings
from pipeline_project.store.database import Database
from pipeline_project.store.schema import LOCK, administer

LOGIN: Final = "dagster"
"""On the embedded server: owns its database, and has no right in ours."""
_NAME_BYTES_MAX: Final = 63


def name(database: Database, settings: Settings) -> str:
    """PIPELINE_DAGSTER_DATABASE, or the pipeline's name with `_dagster` after it, within what PostgreSQL allows."""
    suffix = "_dagster"
    return settings.dagster_database or f"{(database.url.database or 'pipeline')[: _NAME_BYTES_MAX - len(suffix)]}{suffix}"


def url(database: Database, settings: Settings) -> str:
    """With its password, and with the driver that Dagster's storage speaks: a bare postgresql:// breaks it on its first event."""
    ours = database.admin.set(username=LOGIN) if database.server else database.url
    return ours.set(drivername="postgresql+psycopg2", database=name(database, settings)).render_as_string(hide_password=False)


def create(database: Database, settings: Settings) -> None:
    """Make it where it is missing; Dagster makes its tables itself. Raises Refused when the user may not."""
    wanted = name(database, settings)
    with administer(_entrance(database), autocommit=True) as connection:
        connection.execute(sa.text("select pg_advisory_lock(:lock)"), {"lock": LOCK})  # freed with the connection
        if connection.scalar(sa.text("select count(*) from pg_database where datname = :name"), {"name": wanted}):
            return
        owner = ""
        if database.server:
            if not connection.scalar(sa.text("select count(*) from pg_roles where rolname = :name"), {"name": LOGIN}):
                connection.execute(sa.text(f"create role {LOGIN} login"))
            owner = f"owner {LOGIN}"
        elif not connection.scalar(sa.text("select rolcreatedb or rolsuper from pg_roles where rolname = current_user")):
            raise Refused(
                f"{database.url.username or 'the current user'} may not create Dagster's database: ask an administrator to create "
                f'database "{wanted}" owned by it, or set PIPELINE_DAGSTER_DATABASE to one on the same server'
            )
        connection.execute(sa.text(f"create database \"{wanted}\" {owner} encoding 'UTF8' template template0"))
        if database.server:
            # Eighty events a run, 2 ms each for the disk to confirm. A power cut may cost the last half second of what Dagster
            # saw; what was decided is in our database, which waits for the disk.
            connection.execute(sa.text(f'alter database "{wanted}" set synchronous_commit = off'))


def drop(database: Database, settings: Settings) -> None:
    """Forget all runs and lineage; for simulations and tests."""
    with administer(_entrance(database), autocommit=True) as connection:
        connection.execute(sa.text(f'drop database if exists "{name(database, settings)}" with (force)'))


def size(database: Database, settings: Settings) -> int:
    """Bytes of both: ours, and Dagster's where it is there."""
    with database.begin() as connection:
        sizes = sa.text("select coalesce(sum(pg_database_size(oid)), 0)::bigint from pg_database where datname = any (:names)")
        return int(connection.scalar(sizes, {"names": [str(database.url.database), name(database, settings)]}) or 0)


def _entrance(database: Database) -> sa.URL:
    """A database to stand in while making another: on a server that is not ours, the one that we know is there."""
    return database.admin.set(database="postgres") if database.server else database.admin
