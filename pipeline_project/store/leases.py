"""Claims: an executor takes a selected item for a limited time, with a token that only grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pipeline_project.core.policy import Policy
from pipeline_project.store import statements
from pipeline_project.store.pools import Pool

SQL = statements.load("leases")


def executor(connection: sa.Connection, pool: Pool, name: str) -> int:
    """The executor's number; it is seen now."""
    number: int = connection.execute(SQL["executor"], {"pool_id": pool.pool_id, "name": name}).scalar_one()
    return number


def claim(
    connection: sa.Connection, pool: Pool, name: str, *, most: int, ttl_s: int, keys: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Take up to `most` items of published cycles, best rank first: item, token, payload, lease_until, attempt.

    keys  take only these items
    """
    parameters = {
        "pool_id": pool.pool_id,
        "executor_id": executor(connection, pool, name),
        "most": most,
        "ttl_s": ttl_s,
        "keys": list(keys) if keys is not None else None,
        "reason": f"claimed by {name}",
    }
    return [dict(row) for row in connection.execute(SQL["claim"], parameters).mappings()]


def lock_claims(connection: sa.Connection, pool: Pool, claims: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """Lock these items in id order: rows of item, given (token), item_id, token, state, reason. Unknown keys are missing."""
    keys, tokens = [key for key, _ in claims], [token for _, token in claims]
    return connection.execute(SQL["lock_claims"], {"pool_id": pool.pool_id, "keys": keys, "tokens": tokens}).all()


def complete(connection: sa.Connection, claims: Sequence[tuple[int, int]], results: Sequence[Any]) -> set[int]:
    """claimed -> completed for (item id, token) pairs that are current; ids that moved."""
    ids, tokens = [item for item, _ in claims], [token for _, token in claims]
    texts = [None if result is None else json.dumps(result) for result in results]
    return set(connection.scalars(SQL["complete"], {"ids": ids, "tokens": tokens, "results": texts}))


def fail(
    connection: sa.Connection, policy: Policy, claims: Sequence[tuple[int, int]], *, reason: str, detail: dict[str, Any]
) -> dict[int, str]:
    """What became of (item id, token) pairs by the policy's retries: state by item id, for those whose token is current."""
    retries = policy.retries
    parameters = {
        "ids": [item for item, _ in claims],
        "tokens": [token for _, token in claims],
        "quarantine_after": retries.quarantine_after,
        "max_attempts": retries.max_attempts,
        "on_failure": retries.on_failure,
        "backoff_s": retries.backoff,
        "hold_s": policy.ttl.hold,
        "reason": reason,
        "detail": json.dumps(detail),
    }
    return {row.item_id: row.state for row in connection.execute(SQL["fail"], parameters)}


def rest_of_bundles(connection: sa.Connection, failed: Sequence[int]) -> list[int]:
    """Waiting members of bundles that lost a member for good."""
    return list(connection.scalars(SQL["rest_of_bundles"], {"ids": list(failed)}))


def lapsed(connection: sa.Connection, *, most: int) -> list[tuple[int, int, int]]:
    """Lock claims whose lease is over: (item id, token, pool id)."""
    return [(row.item_id, row.token, row.pool_id) for row in connection.execute(SQL["lapsed"], {"most": most})]


def heartbeat(connection: sa.Connection, pool: Pool, name: str, *, ttl_s: int) -> int:
    """Prolong all live leases of an executor; how many."""
    executor(connection, pool, name)
    return connection.execute(SQL["heartbeat"], {"pool_id": pool.pool_id, "name": name, "ttl_s": ttl_s}).rowcount
