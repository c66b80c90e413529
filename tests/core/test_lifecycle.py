"""The table of legal moves, read aloud. That PostgreSQL knows the same is in tests/store/test_guards.py."""

from __future__ import annotations

import pytest

from pipeline_project.core.errors import Refused
from pipeline_project.core.lifecycle import CYCLE_MOVES, HOLDING, MOVES, CycleStatus, Event, State, event_of


def test_every_event_but_the_first_is_a_move() -> None:
    assert set(MOVES.values()) == set(Event) - {Event.SUBMIT}


def test_a_completed_item_is_never_reopened() -> None:
    assert not [to for before, to in MOVES if before is State.COMPLETED]


def test_every_other_end_can_be_revived() -> None:
    revived = {before for (before, to), event in MOVES.items() if event is Event.REVIVE and to is State.PENDING}
    assert revived == {State.EXPIRED, State.FAILED, State.QUARANTINED, State.CANCELLED}


def test_capacity_is_taken_by_a_selection_and_by_nothing_else() -> None:
    taking = {event for (before, to), event in MOVES.items() if before not in HOLDING and to in HOLDING}
    assert taking == {Event.SELECT}


def test_only_what_was_selected_is_claimed_and_only_what_is_claimed_is_completed() -> None:
    for event, before in ((Event.CLAIM, State.SELECTED), (Event.COMPLETE, State.CLAIMED), (Event.FAIL, State.CLAIMED)):
        assert [at for (at, _), named in MOVES.items() if named is event] == [before]


def test_an_illegal_move_is_refused_with_what_would_be_legal() -> None:
    assert event_of(State.PENDING, State.SELECTED) is Event.SELECT
    with pytest.raises(Refused, match="item state selected: expected a move to cancelled, claimed, expired, pending; found completed"):
        event_of(State.SELECTED, State.COMPLETED)
    with pytest.raises(Refused, match="expected a move to nothing: it is final; found pending"):
        event_of(State.COMPLETED, State.PENDING)


def test_a_cycle_ends_published_rolled_back_or_abandoned() -> None:
    ends = set(CycleStatus) - {before for before, _ in CYCLE_MOVES}
    assert ends == {CycleStatus.ROLLED_BACK, CycleStatus.ABANDONED}
    assert (CycleStatus.PUBLISHED, CycleStatus.ABANDONED) not in CYCLE_MOVES
