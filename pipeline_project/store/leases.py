"""Claims: an executor takes a selected item for a limited time, with a token that only grows. Functions of the database do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError

from pipeline_project.core import json_text
from pipeline_project.core.errors import PipelineError, Unknown, UsageError
from pipeline_project.store import statements

SQL = statements.load("leases")

Claim = tuple[str, int]
"""Item key and token."""

ANSWER: Final = ("item", "token", "accepted", "state", "reason")
CLAIM: Final = ("item", "token", "payload", "lease_until", "attempt")
"""Columns of the functions' answers, in the order of leases.sql."""

REFUSALS: Final[dict[str | None, type[PipelineError]]] = {"P0002": Unknown, "22023": UsageError}
"""How the functions refuse an unknown pool, and an argument that cannot be. A value that PostgreSQL cannot hold is one of those, too."""


def claim(
    connection: sa.Connection,
    pool: str,
    executor: str,
    *,
    most: int,
    ttl_s: int | None,
    keys: Sequence[str] | None = None,
    request: str | None = None,
) -> list[dict[str, Any]]:
    """Take up to `most` items of published cycles, best rank first: item, token, payload, lease_until, attempt.

    ttl_s    None = as the policy says
    keys     take only these items
    request  a name of this very call: with it the same claims are given again to whoever lost the answer
    """
    ttl = _ttl(ttl_s)
    named = None if keys is None else list(keys)
    return _rows(connection, "claim", {"pool": pool, "executor": executor, "most": most, "ttl": ttl, "request": request, "keys": named})


def complete(
    connection: sa.Connection, pool: str, claims: Sequence[Claim], *, results: Sequence[Any] | None, executor: str | None
) -> list[dict[str, Any]]:
    """claimed -> completed: one row a claim, in the order given: item, token, accepted, state, reason."""
    document = None if results is None else _document(results)
    return _rows(connection, "complete", {"pool": pool, **_columns(claims), "results": document, "executor": executor})


def turn(
    connection: sa.Connection,
    pool: str,
    executor: str,
    claims: Sequence[Claim],
    *,
    results: Sequence[Any] | None,
    most: int,
    ttl_s: int | None,
    request: str | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`complete`, then `claim`, in one statement: rows as of each."""
    ttl = _ttl(ttl_s)
    document = None if results is None else _document(results)
    parameters = {"pool": pool, "executor": executor, **_columns(claims), "results": document, "most": most, "ttl": ttl, "request": request}
    with _refusing():
        rows = connection.execute(SQL["turn"], parameters).all()
    answers = [dict(zip(ANSWER, row[:5], strict=True)) for row in rows if row[2] is not None]
    following = [dict(zip(CLAIM, (*row[:2], *row[5:]), strict=True)) for row in rows if row[2] is None]
    return answers, following


def fail(connection: sa.Connection, pool: str, claims: Sequence[Claim], *, error: str, executor: str | None) -> list[dict[str, Any]]:
    """What the policy makes of these claims: rows as of `complete`."""
    return _rows(connection, "fail", {"pool": pool, **_columns(claims), "error": error, "executor": executor})


def heartbeat(connection: sa.Connection, pool: str, executor: str, *, ttl_s: int | None) -> int:
    """Prolong all live leases of an executor; how many."""
    ttl = _ttl(ttl_s)
    with _refusing():
        prolonged: int = connection.execute(SQL["heartbeat"], {"pool": pool, "executor": executor, "ttl": ttl}).scalar_one()
    return prolonged


def lapse(connection: sa.Connection, *, most: int) -> tuple[int, int]:
    """Fail claims of one pool whose lease is over, `most` of them at most: how many, and executors that have lost their last claim."""
    row = connection.execute(SQL["lapse"], {"most": most}).one()
    return row.claims, row.executors


def _ttl(seconds: float | None) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise UsageError(f"ttl: expected seconds that a lease may last, found {seconds}") from None


def _document(results: Sequence[Any]) -> str:
    """Results as jsonb can hold them. Raises UsageError."""
    try:
        return json_text.canonical(list(results))
    except ValueError as error:
        raise UsageError(f"results: expected values that JSON can say, found {error}; nothing was completed") from None


def _columns(claims: Sequence[Claim]) -> dict[str, Any]:
    return {"items": [key for key, _ in claims], "tokens": [token for _, token in claims]}


def _rows(connection: sa.Connection, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    with _refusing():
        result = connection.execute(SQL[statement], parameters)
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]  # five times as fast as mappings


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except DBAPIError as failure:
        state = getattr(failure.orig, "sqlstate", None)
        refusal = REFUSALS.get(state, UsageError if isinstance(failure, DataError) else None)
        if refusal is None:
            raise
        raise refusal(str(failure.orig).splitlines()[0]) from None
