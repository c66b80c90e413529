"""One furnished database for all tests that only try what the database lets them do: none of them commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import sqlalchemy as sa

from pipeline_project.store.database import Database
from tests.store.planting import furnish
from tests.world import entered


@pytest.fixture(scope="session")
def furnished(clones: Callable[[], AbstractContextManager[Database]]) -> Iterator[Database]:
    """With one pool, policy, cycle, executor and resource."""
    with clones() as database:
        with entered(database) as connection:
            furnish(connection)
        yield database


@pytest.fixture
def superuser(furnished: Database) -> Iterator[sa.Connection]:
    """A transaction of the server's superuser, which is rolled back."""
    engine = sa.create_engine(furnished.admin, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def owner(superuser: sa.Connection) -> sa.Connection:
    """A transaction of the owner of every table, which is rolled back."""
    superuser.execute(sa.text("set local role pipeline_owner"))
    return superuser
