"""What operations tells an administrator to do is enough for a user who may create neither roles nor databases."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database, schema
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import SUPERUSER, EmbeddedPostgres
from tests.docs.pages import DOCS, blocks, read

PREPARATION = blocks(read(DOCS / "operations.md"), "sql")[0]


@pytest.fixture
def empty_server(settings: Settings) -> Iterator[EmbeddedPostgres]:
    """Roles belong to a whole server, so this one is not shared."""
    with EmbeddedPostgres(settings.home / "operations") as server:
        yield server
    with (server.server.home / "reaper.lock").open() as reaper:
        fcntl.flock(reaper, fcntl.LOCK_EX)  # ours when the reaper has stopped the server, and touches its folder no more


def test_what_an_administrator_prepares_lets_an_ordinary_user_begin(empty_server: EmbeddedPostgres) -> None:
    engine = sa.create_engine(
        empty_server.url("postgres", SUPERUSER).replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with engine.connect() as administrator:
        administrator.execute(sa.text("create role me login"))
        for statement in PREPARATION.split(";\n"):
            if statement.strip():
                administrator.execute(sa.text(statement))
    chosen = Settings(database_url=empty_server.url("work", "me"))
    database = Database.find(None, chosen)
    try:
        assert schema.create(database) == schema.head()
        assert schema.create(database) == schema.head()
        dagster_database.create(database, chosen)
        with database.begin() as connection:
            assert connection.scalar(sa.text("select current_user")) == "pipeline_writer"
    finally:
        database.close()
