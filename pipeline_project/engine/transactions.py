"""Runs a transaction again when PostgreSQL says that the same call may succeed; only whole, idempotent units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline_project.core.errors import Overtaken

P = ParamSpec("P")
R = TypeVar("R")

TRANSIENT: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock timeout: nothing was written."""


def is_transient(failure: BaseException) -> bool:
    return isinstance(failure, DBAPIError) and getattr(failure.orig, "sqlstate", None) in TRANSIENT


def is_lost(failure: BaseException) -> bool:
    """The connection broke: whether a COMMIT got through is not known, and only repeating an idempotent unit settles it."""
    return isinstance(failure, DBAPIError) and bool(failure.connection_invalidated)


def is_overtaken(failure: BaseException) -> bool:
    """The unit itself found that what it had judged is no longer so, and undid all of it."""
    return isinstance(failure, Overtaken)


def repeatable(unit: Callable[P, R]) -> Callable[P, R]:
    """Repeat a unit that is one transaction and may be run twice: up to 5 times, with jitter."""
    decorated: Callable[P, R] = retry(
        retry=retry_if_exception(lambda failure: is_transient(failure) or is_lost(failure) or is_overtaken(failure)),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )(unit)
    return decorated
