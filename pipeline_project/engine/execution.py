"""The executor's side: claim what a published cycle selected, then complete or fail it with the token of the claim.

The database's own functions do it (`pipeline.claim` and so on), the same for every language; each method is one statement
and so one transaction, and may be repeated: by the token of a claim, by the name of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import leases
from pipeline_project.store.database import Database
from pipeline_project.store.leases import Claim


class Execution:
    """What an executor calls. Raises Unknown for a pool that there is not, UsageError for arguments that cannot be."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self,
        pool: str,
        executor: str,
        *,
        most: int = 1,
        ttl_s: int | None = None,
        keys: Sequence[str] | None = None,
        request: str | None = None,
    ) -> list[dict[str, Any]]:
        """Take up to `most` selected items, best rank first: rows of item, token, payload, lease_until, attempt.

        request  a name of this very call, a new one each time. Asked again with it, in this process or another, an executor that lost
                 the answer gets the same claims, as far as their leases live. Without it, one is made for the retries of this call.
        """
        return self._claim(pool, executor, most, ttl_s, keys, request or str(uuid4()))

    @repeatable
    def _claim(
        self, pool: str, executor: str, most: int, ttl_s: int | None, keys: Sequence[str] | None, request: str
    ) -> list[dict[str, Any]]:
        with self._database.statement() as connection:
            return leases.claim(connection, pool, executor, most=most, ttl_s=ttl_s, keys=keys, request=request)

    @repeatable
    def complete(
        self, pool: str, claims: Sequence[Claim], *, results: Sequence[Any] | None = None, executor: str | None = None
    ) -> list[dict[str, Any]]:
        """Done. One row a claim: item, token, accepted, state and, where it was refused, why. The same claim again is accepted again."""
        with self._database.statement() as connection:
            return _told(leases.complete(connection, pool, claims, results=results, executor=executor))

    @repeatable
    def fail(self, pool: str, claims: Sequence[Claim], *, error: str, executor: str | None = None) -> list[dict[str, Any]]:
        """Not done. The policy decides: try again with the hold, compete again without, fail for good, quarantine. Rows as `complete`."""
        with self._database.statement() as connection:
            return _told(leases.fail(connection, pool, claims, error=error, executor=executor))

    def turn(
        self,
        pool: str,
        executor: str,
        done: Sequence[Claim],
        *,
        results: Sequence[Any] | None = None,
        most: int = 1,
        ttl_s: int | None = None,
        request: str | None = None,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Complete what is done and claim what is next, in one statement: (rows as of `complete`, rows as of `claim`).

        Half the commits and a quarter of the round trips of an executor that does one thing after the other.
        """
        return self._turn(pool, executor, done, results, most, ttl_s, request or str(uuid4()))

    @repeatable
    def _turn(
        self, pool: str, executor: str, done: Sequence[Claim], results: Sequence[Any] | None, most: int, ttl_s: int | None, request: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        with self._database.statement() as connection:
            answers, claims = leases.turn(connection, pool, executor, done, results=results, most=most, ttl_s=ttl_s, request=request)
            return _told(answers), claims

    @repeatable
    def heartbeat(self, pool: str, executor: str, *, ttl_s: int | None = None) -> int:
        """Prolong every live lease of this executor; how many."""
        with self._database.statement() as connection:
            return leases.heartbeat(connection, pool, executor, ttl_s=ttl_s)


def _told(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A reason only where there is one."""
    return [{name: value for name, value in answer.items() if name != "reason" or value is not None} for answer in answers]
