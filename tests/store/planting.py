"""Rows put where no rule is watching, so that a test can see the database refuse, or an invariant fire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.core.lifecycle import State

POOL: Final = 1
CYCLE: Final = 1
RESOURCE: Final = 1
EXECUTOR: Final = 1


def run(connection: sa.Connection, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(statement), parameters)


def furnish(connection: sa.Connection, *, capacity: int = 10) -> None:
    """A pool, a policy, a published cycle, an executor and a resource, each with number 1."""
    run(connection, "insert into pipeline.pool (name, created_at) values ('p', pipeline.now())")
    run(
        connection,
        "insert into pipeline.policy (pool_id, version, hash, document, actor, created_at)"
        " values (1, 1, 'h', '{}', 'test', pipeline.now())",
    )
    run(
        connection,
        "insert into pipeline.cycle (pool_id, policy_id, cycle_key, mode, day, status, engine_version, artifact, items, value, upper_bound,"
        " proposed, certificate, planned_at, published_at)"
        " values (1, 1, 'k', 'live', '2026-01-15', 'published', '1', '', 1, 1, 1, 1, '{}', pipeline.now(), pipeline.now())",
    )
    run(connection, "insert into pipeline.executor (pool_id, name, seen_at) values (1, 'e', pipeline.now())")
    run(connection, "insert into pipeline.resource (pool_id, key, capacity) values (1, 'node', :capacity)", capacity=capacity)


def submit(connection: sa.Connection, key: str, *, quantity: int | None = 1) -> int:
    """A pending item that demands so much of the resource: its id."""
    item: int = run(
        connection, "insert into pipeline.item_key (pool_id, key, submitted_at) values (1, :key, pipeline.now()) returning item_id", key=key
    ).scalar_one()
    run(
        connection,
        "insert into pipeline.item (item_id, revision, weight, digest, origin, created_at)"
        " values (:item, 1, 5, '', 'producer', pipeline.now())",
        item=item,
    )
    if quantity is not None:
        run(connection, "insert into pipeline.item_demand values (:item, 1, 1, :quantity)", item=item, quantity=quantity)
    run(
        connection,
        "insert into pipeline.item_state (item_id, pool_id, version, revision, state) values (:item, 1, 1, 1, 'pending')",
        item=item,
    )
    return item


def columns_of(state: str) -> dict[str, Any]:
    """What the table's own constraints ask of a row in this state."""
    return {
        "state": state,
        "cycle_id": CYCLE if state in (State.SELECTED, State.CLAIMED) else None,
        "hold_until": "2099-01-01" if state == State.SELECTED else None,
        "lease_until": "2099-01-01" if state == State.CLAIMED else None,
        "executor_id": EXECUTOR if state == State.CLAIMED else None,
    }


def write(connection: sa.Connection, item: int, values: Mapping[str, Any]) -> int:
    """Update an item's row; how many rows that were."""
    table = sa.table("item_state", sa.column("item_id"), *map(sa.column, values), schema="pipeline")
    typed = {name: sa.cast(value, _TYPES[name]) if name in _TYPES else value for name, value in values.items()}
    return connection.execute(sa.update(table).where(table.c.item_id == item).values(typed)).rowcount


def move(connection: sa.Connection, item: int, state: str, **others: Any) -> int:
    """The next version in this state, with the columns that such a row has; `others` win."""
    row = run(connection, "select version, token from pipeline.item_state where item_id = :item", item=item).one()
    token = row.token + (state == State.CLAIMED)
    return write(connection, item, {**columns_of(state), "version": row.version + 1, "token": token, **others})


@contextmanager
def acting(connection: sa.Connection, role: str) -> Iterator[None]:
    """A part of a superuser's transaction in this role."""
    run(connection, f'set local role "{role}"')
    yield
    run(connection, "reset role")


@contextmanager
def unwatched(connection: sa.Connection) -> Iterator[None]:
    """A part of a superuser's transaction in which no trigger fires."""
    run(connection, "set local session_replication_role = replica")
    yield
    run(connection, "set local session_replication_role = origin")


_TYPES: Final = {
    "state": sa.Enum(*State, name="state", schema="pipeline"),
    "hold_until": sa.TIMESTAMP(timezone=True),
    "lease_until": sa.TIMESTAMP(timezone=True),
    "expires_at": sa.TIMESTAMP(timezone=True),
}
