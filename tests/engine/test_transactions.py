"""What is repeated, and what never is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from psycopg import errors

from pipeline_project.engine import transactions
from pipeline_project.engine.transactions import repeatable


def failure(cause: Exception, *, lost: bool = False) -> sa.exc.DBAPIError:
    return sa.exc.DBAPIError("select 1", {}, cause, connection_invalidated=lost)


REPEATED = [
    failure(errors.SerializationFailure()),
    failure(errors.DeadlockDetected()),
    failure(errors.LockNotAvailable()),
    failure(errors.AdminShutdown(), lost=True),
]
FINAL = [failure(errors.CheckViolation()), failure(errors.InsufficientPrivilege()), failure(errors.UniqueViolation()), ValueError("a bug")]


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jitter between two attempts is tenacity's; here nobody waits for it."""
    monkeypatch.setattr(transactions, "wait_random_exponential", lambda **_: lambda _state: 0)


def failing(cause: Exception, times: int) -> tuple[list[int], Callable[[], str]]:
    """How often it was called, and a unit that fails so many times before it succeeds."""
    calls: list[int] = []

    def unit() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise cause
        return "done"

    return calls, repeatable(unit)


@pytest.mark.parametrize("cause", REPEATED, ids=lambda cause: type(cause.orig).__name__)
def test_what_may_succeed_the_second_time_is_repeated(cause: Exception) -> None:
    calls, unit = failing(cause, times=2)
    assert unit() == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("cause", FINAL, ids=lambda cause: type(getattr(cause, "orig", cause)).__name__)
def test_nothing_else_is(cause: Exception) -> None:
    calls, unit = failing(cause, times=1)
    with pytest.raises(type(cause)) as raised:
        unit()
    assert raised.value is cause
    assert len(calls) == 1


def test_after_five_attempts_the_failure_itself_is_told() -> None:
    calls, unit = failing(REPEATED[0], times=100)
    with pytest.raises(sa.exc.DBAPIError) as raised:
        unit()
    assert raised.value is REPEATED[0]
    assert len(calls) == 5
