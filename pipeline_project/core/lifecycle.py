"""The legal moves of an item and of a cycle, once; PostgreSQL holds the same tables in its triggers and a test holds the two equal."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pipeline_project.core.errors import Refused


class State(StrEnum):
    PENDING = "pending"
    SELECTED = "selected"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


class Event(StrEnum):
    SUBMIT = "submit"
    REVISE = "revise"
    SELECT = "select"
    RELEASE = "release"
    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    REQUEUE = "requeue"
    FAIL = "fail"
    EXPIRE = "expire"
    CANCEL = "cancel"
    QUARANTINE = "quarantine"
    REVIVE = "revive"


MOVES: Final[dict[tuple[State, State], Event]] = {
    (State.PENDING, State.PENDING): Event.REVISE,
    (State.PENDING, State.SELECTED): Event.SELECT,
    (State.PENDING, State.EXPIRED): Event.EXPIRE,
    (State.PENDING, State.CANCELLED): Event.CANCEL,
    (State.PENDING, State.QUARANTINED): Event.QUARANTINE,
    (State.SELECTED, State.PENDING): Event.RELEASE,
    (State.SELECTED, State.CLAIMED): Event.CLAIM,
    (State.SELECTED, State.EXPIRED): Event.EXPIRE,
    (State.SELECTED, State.CANCELLED): Event.CANCEL,
    (State.CLAIMED, State.COMPLETED): Event.COMPLETE,
    (State.CLAIMED, State.SELECTED): Event.RETRY,
    (State.CLAIMED, State.PENDING): Event.REQUEUE,
    (State.CLAIMED, State.FAILED): Event.FAIL,
    (State.CLAIMED, State.CANCELLED): Event.CANCEL,
    (State.CLAIMED, State.QUARANTINED): Event.QUARANTINE,
    (State.EXPIRED, State.PENDING): Event.REVIVE,
    (State.FAILED, State.PENDING): Event.REVIVE,
    (State.QUARANTINED, State.PENDING): Event.REVIVE,
    (State.CANCELLED, State.PENDING): Event.REVIVE,  # only when its source cancelled it: the trigger looks
}
"""From and to name the event: no pair of states is joined by two."""

HOLDING: Final = frozenset({State.SELECTED, State.CLAIMED})
"""States in which an item's demands are counted in `resource.in_use`."""


class CycleStatus(StrEnum):
    PLANNED = "planned"
    COMMITTING = "committing"
    PUBLISHED = "published"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


CYCLE_MOVES: Final[frozenset[tuple[CycleStatus, CycleStatus]]] = frozenset(
    {
        (CycleStatus.PLANNED, CycleStatus.COMMITTING),
        (CycleStatus.COMMITTING, CycleStatus.PUBLISHED),
        (CycleStatus.PUBLISHED, CycleStatus.ROLLING_BACK),
        (CycleStatus.ROLLING_BACK, CycleStatus.ROLLED_BACK),
        (CycleStatus.PLANNED, CycleStatus.ABANDONED),
        (CycleStatus.COMMITTING, CycleStatus.ABANDONED),
    }
)


def event_of(before: State, after: State) -> Event:
    """The event that leads from one state to the other. Raises Refused when there is none."""
    try:
        return MOVES[before, after]
    except KeyError:
        legal = ", ".join(sorted(to for at, to in MOVES if at is before)) or "nothing: it is final"
        raise Refused(f"item state {before}: expected a move to {legal}; found {after}") from None
