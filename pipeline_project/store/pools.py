"""Pools and their policies: versions are added, never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from pipeline_project.core.errors import Refused, Unknown
from pipeline_project.core.policy import Policy
from pipeline_project.store import statements

SQL = statements.load("pools")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool and the policy in force."""

    pool_id: int
    name: str
    status: str
    policy: Policy
    policy_id: int
    policy_version: int

    @property
    def paused(self) -> bool:
        return self.status == "paused"


def create(connection: sa.Connection, name: str, policy: Policy) -> bool:
    """Add a pool with its first policy; False when it is there already (its policy stays as it is)."""
    pool_id = connection.scalar(SQL["create"], {"name": name})
    if pool_id is None:
        return False
    _add_policy(connection, pool_id, policy)
    record_event(connection, pool_id, "pool_created", {})
    return True


def find(connection: sa.Connection, name: str) -> Pool:
    """The pool of this name. Raises Unknown, naming those that exist."""
    row = connection.execute(SQL["find"], {"name": name}).mappings().first()
    if row is None:
        known = ", ".join(names(connection)[:10]) or "none yet: `pipeline pools create NAME`"
        raise Unknown(f"pool {name!r}: expected one that exists ({known})")
    return _pool(row)


def everyone(connection: sa.Connection) -> list[Pool]:
    """Every pool with its policy, in one statement."""
    return [_pool(row) for row in connection.execute(SQL["everyone"]).mappings()]


def names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(SQL["names"]))


def overview(connection: sa.Connection) -> list[dict[str, Any]]:
    """One row a pool, with its counts."""
    return [dict(row) for row in connection.execute(SQL["overview"]).mappings()]


def set_status(connection: sa.Connection, pool: Pool, status: str) -> bool:
    """Pause or resume; False when it was so already."""
    changed = connection.scalar(SQL["set_status"], {"pool_id": pool.pool_id, "status": status}) is not None
    if changed:
        record_event(connection, pool.pool_id, "pool_paused" if status == "paused" else "pool_resumed", {})
    return changed


def apply_policy(connection: sa.Connection, pool: Pool, policy: Policy) -> int:
    """Make this the policy in force; the version it got. The same policy again is no new version."""
    if policy.hash == pool.policy.hash:
        return pool.policy_version
    version = _add_policy(connection, pool.pool_id, policy)
    record_event(connection, pool.pool_id, "policy_applied", {"version": version, "hash": policy.hash})
    return version


def policy_of_version(connection: sa.Connection, pool: Pool, version: int) -> Policy:
    """The policy as it was then. Raises Refused for a version that the pool never had."""
    row = connection.execute(SQL["policy_of_version"], {"pool_id": pool.pool_id, "version": version}).mappings().first()
    if row is None:
        raise Refused(f"pool {pool.name}: expected a policy version from 1 to {pool.policy_version}, found {version}")
    return Policy.model_validate(row["document"])


def record_event(connection: sa.Connection, pool_id: int, kind: str, detail: dict[str, Any]) -> None:
    """Add to the pool's history; the feed carries it."""
    connection.execute(SQL["record_event"], {"pool_id": pool_id, "kind": kind, "detail": json.dumps(detail)})


def _add_policy(connection: sa.Connection, pool_id: int, policy: Policy) -> int:
    connection.execute(SQL["lock"], {"pool_id": pool_id})
    document = policy.canonical().decode()
    row = connection.execute(SQL["add_policy"], {"pool_id": pool_id, "hash": policy.hash, "document": document}).one()
    return int(row.version)


def _pool(row: RowMapping) -> Pool:
    return Pool(
        pool_id=row["pool_id"],
        name=row["name"],
        status=row["status"],
        policy=Policy.model_validate(row["document"]),
        policy_id=row["policy_id"],
        policy_version=row["policy_version"],
    )
