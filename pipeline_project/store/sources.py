"""Sources: queries in this or another PostgreSQL whose rows become items and resources."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pipeline_project.core import items as item_rules
from pipeline_project.core import resources as resource_rules
from pipeline_project.core.columns import Field, check_header
from pipeline_project.core.errors import Refusal, Refused
from pipeline_project.core.items import ItemBatch
from pipeline_project.core.resources import ResourceBatch
from pipeline_project.store import statements
from pipeline_project.store.database import Database, postgresql_url
from pipeline_project.store.pools import Pool

SQL = statements.load("sources")

BATCH_ROWS: Final = 20_000

Batch = TypeVar("Batch")


@contextmanager
def reading(database: Database, where: str | None) -> Iterator[sa.Connection]:
    """A read-only transaction at one instant of the source, with its user's own rights and not with the engine's.

    where  a URL, `env:NAME` of a variable that holds one, or None for the pool's own database
    """
    engine = sa.create_engine(_url(database, where), poolclass=sa.NullPool)
    try:
        with _asking():
            connection = engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _asking() -> Iterator[None]:
    """A failure in here is the source's; what the caller does between two batches is not."""
    try:
        yield
    except DBAPIError as failure:
        raise Refused(f"source: {str(failure.orig).strip()}") from failure


def items(connection: sa.Connection, query: str) -> Iterator[tuple[ItemBatch, list[Refusal], set[str]]]:
    """The query's rows as items, batch by batch, with every key they show, refused or not; line = position in its answer, from 1.

    Raises UsageError when its columns are not the expected ones.
    """
    return _batches(connection, query, "source.items", item_rules.FIELDS, item_rules.check_item_rows)


def resources(connection: sa.Connection, query: str) -> Iterator[tuple[ResourceBatch, list[Refusal], set[str]]]:
    """The query's rows as resources, likewise."""
    return _batches(connection, query, "source.resources", resource_rules.FIELDS, resource_rules.check_resource_rows)


def record(connection: sa.Connection, pool: Pool, *, rows: int | None, report: dict[str, Any] | None, error: str | None) -> None:
    """Remember what the last pull came to."""
    text = json.dumps(report, default=_plain) if report else None
    connection.execute(SQL["record"], {"pool_id": pool.pool_id, "rows": rows, "report": text, "error": error})


def due(connection: sa.Connection) -> list[str]:
    """Active pools with a source that has waited its `every`."""
    return list(connection.scalars(SQL["due"]))


def state(connection: sa.Connection, pool: Pool) -> dict[str, Any] | None:
    """When the source was pulled last, and what it came to."""
    row = connection.execute(SQL["state"], {"pool_id": pool.pool_id}).mappings().first()
    return dict(row) if row else None


def _url(database: Database, where: str | None) -> sa.URL:
    if where and where.startswith("env:"):
        name = where.removeprefix("env:")
        where = os.environ.get(name)
        if not where:
            raise Refused(f"source: expected a database URL in the environment variable {name}, found none")
    return postgresql_url(where, "source") if where else database.url


def _batches(
    connection: sa.Connection,
    query: str,
    where: str,
    fields: Mapping[str, Field],
    check: Callable[[Iterator[tuple[int, Any]], dict[str, int]], tuple[Batch, list[Refusal]]],
) -> Iterator[tuple[Batch, list[Refusal], set[str]]]:
    seen: dict[str, int] = {}
    first = 1
    streaming = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS, no_parameters=True)
    with _asking():
        answer = streaming.exec_driver_sql(query.rstrip().rstrip(";"))
    with closing(answer):
        check_header(list(answer.keys()), fields, where=where)
        batches = answer.mappings().partitions(BATCH_ROWS)
        while rows := _next(batches):
            batch, refusals = check(((first + i, dict(row)) for i, row in enumerate(rows)), seen)
            yield batch, refusals, {key for row in rows if isinstance(key := row["key"], str)}
            first += len(rows)


def _next(batches: Iterator[Sequence[Any]]) -> Sequence[Any]:
    with _asking():
        return next(batches, ())


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
