"""The executor's side: claim what a published cycle selected, then complete or fail it with the token of the claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.core.lifecycle import State
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import history, items, leases, pools
from pipeline_project.store.database import Database
from pipeline_project.store.pools import Pool

Claim = tuple[str, int]
"""Item key and token."""

FAILED: Final = "failed"
"""Why an item is where it is when its executor said so; a lost lease has a reason of its own."""


class Execution:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, pool: str, executor: str, *, most: int = 1, ttl_s: int | None = None, keys: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Take up to `most` selected items, best rank first: rows of item, token, payload, lease_until, attempt.

        Not repeated by itself: a claim whose answer was lost comes back when its lease lapses.
        """
        with self._database.begin(actor=executor) as connection:
            found = pools.find(connection, pool)
            ttl = found.policy.ttl.lease if ttl_s is None else ttl_s
            return leases.claim(connection, found, executor, most=most, ttl_s=ttl, keys=keys)

    @repeatable
    def complete(
        self, pool: str, claims: Sequence[Claim], *, results: Sequence[Any] | None = None, executor: str | None = None
    ) -> list[dict[str, Any]]:
        """Done. One row a claim: item, token, accepted, state and, where it was refused, why. The same claim again is accepted again."""
        with self._database.begin(actor=executor) as connection:
            found = pools.find(connection, pool)
            locked = _known(connection, found, claims)
            outcome = {(row.item_id, row.token): results[i] if results else None for i, c in enumerate(claims) if (row := locked.get(c))}
            current = [(row.item_id, row.given) for row in locked.values()]
            moved = leases.complete(connection, current, [outcome.get(pair) for pair in current])
            became = dict.fromkeys(moved, str(State.COMPLETED))
            return [_answer(claim, locked.get(claim), became, lambda row: row.state == State.COMPLETED) for claim in claims]

    @repeatable
    def fail(self, pool: str, claims: Sequence[Claim], *, error: str, executor: str | None = None) -> list[dict[str, Any]]:
        """Not done. The policy decides: try again with the hold, compete again without, fail for good, quarantine. Rows as `complete`."""
        with self._database.begin(actor=executor) as connection:
            found = pools.find(connection, pool)
            locked = _known(connection, found, claims)
            current = [(row.item_id, row.given) for row in locked.values()]
            became = fail_claims(connection, found, current, reason=FAILED, error=error)
            return [_answer(claim, locked.get(claim), became, lambda row: row.reason == FAILED) for claim in claims]

    @repeatable
    def heartbeat(self, pool: str, executor: str, *, ttl_s: int | None = None) -> int:
        """Prolong every live lease of this executor; how many."""
        with self._database.begin(actor=executor) as connection:
            found = pools.find(connection, pool)
            return leases.heartbeat(connection, found, executor, ttl_s=found.policy.ttl.lease if ttl_s is None else ttl_s)


def _known(connection: sa.Connection, pool: Pool, claims: Sequence[Claim]) -> dict[Claim, Any]:
    """The item of each claim, locked; or as it is archived: an answer that was lost may be sent again long after."""
    hot = {(row.item, row.given): row for row in leases.lock_claims(connection, pool, claims)}
    rest = [claim for claim in claims if claim not in hot]
    return hot | {(row.item, row.given): row for row in history.claims(connection, pool, rest)}


def fail_claims(connection: sa.Connection, pool: Pool, claims: Sequence[tuple[int, int]], *, reason: str, error: str) -> dict[int, str]:
    """Fail (item id, token) pairs, and the rest of a bundle where the policy says so; state by item id."""
    became = leases.fail(connection, pool.policy, claims, reason=reason, detail={"error": error})
    if pool.policy.retries.bundle_on_failure == "cancel_rest":
        rest = leases.rest_of_bundles(connection, list(became))
        items.cancel(connection, rest, reason="a member of its bundle failed for good")
    return became


def _answer(claim: Claim, row: Any, became: Mapping[int, str], before: Callable[[Any], bool]) -> dict[str, Any]:
    """Accepted when it moved now, or had moved so before and this very token is still its last."""
    key, token = claim
    answer = {"item": key, "token": token}
    if row is None:
        return {**answer, "accepted": False, "state": None, "reason": "the pool has no item of that key"}
    if row.item_id in became and row.token == token:
        return {**answer, "accepted": True, "state": became[row.item_id]}
    if row.token == token and before(row):
        return {**answer, "accepted": True, "state": row.state}
    why = f"stale token: expected {row.token}" if row.token != token else "the claim is over"
    return {**answer, "accepted": False, "state": row.state, "reason": f"{why}; the item is {row.state}"}
