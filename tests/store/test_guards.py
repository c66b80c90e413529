"""What the database refuses by itself, whoever asks: here the owner of the tables does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pipeline_project.core.lifecycle import CYCLE_MOVES, MOVES, CycleStatus, State, event_of
from tests.store.planting import acting, columns_of, move, run, submit, unwatched, write

OWNER = "pipeline_owner"
AUDIT = ("transition", "decision", "pool_event", "audit_seal", "policy", "item", "item_demand")


@contextmanager
def refused(connection: sa.Connection, match: str) -> Iterator[None]:
    """The database says no; the transaction goes on."""
    with pytest.raises(DBAPIError, match=match), connection.begin_nested():
        yield


def accepts(connection: sa.Connection, item: int, values: dict[str, Any]) -> bool:
    """Whether the update would go through; it is undone."""
    attempt = connection.begin_nested()
    try:
        return write(connection, item, values) == 1
    except DBAPIError as refusal:
        if "illegal move" in str(refusal.orig):
            return False
        raise
    finally:
        attempt.rollback()


def placed(superuser: sa.Connection, state: str, **others: Any) -> int:
    """An item that is simply there in this state, at version 5 with token 7."""
    with unwatched(superuser):
        item = submit(superuser, f"in {state}", quantity=None)
        write(superuser, item, {**columns_of(state), "version": 5, "token": 7, **others})
    return item


def after(state: str, **others: Any) -> dict[str, Any]:
    return {**columns_of(state), "version": 6, "token": 8 if state == State.CLAIMED else 7, **others}


def test_postgresql_and_the_code_know_the_same_moves_of_an_item(superuser: sa.Connection) -> None:
    items = {before: placed(superuser, before, source_cancelled=before == State.CANCELLED) for before in State}
    with acting(superuser, OWNER):
        accepted = {
            (before, to)
            for before, to in product(State, State)
            if accepts(superuser, items[before], after(to, revision=2 if before == to == State.PENDING else 1))
        }
    assert accepted == set(MOVES)


def test_postgresql_names_every_move_as_the_code_does(owner: sa.Connection) -> None:
    question = "select pipeline.event_of(cast(:a as pipeline.state), cast(:b as pipeline.state))"
    named = {(before, to): run(owner, question, a=before, b=to).scalar() for before, to in MOVES}
    assert named == {pair: event_of(*pair) for pair in MOVES}


def test_postgresql_and_the_code_know_the_same_moves_of_a_cycle(superuser: sa.Connection) -> None:
    change = "update pipeline.cycle set status = cast(:status as pipeline.cycle_status)"
    accepted = set()
    for before, to in product(CycleStatus, CycleStatus):
        with unwatched(superuser):
            run(superuser, change, status=before)
        attempt = superuser.begin_nested()
        try:
            run(superuser, change, status=to)
            accepted.add((before, to))
        except DBAPIError as refusal:
            if "illegal move" not in str(refusal.orig):
                raise
        finally:
            attempt.rollback()
    assert accepted == CYCLE_MOVES | {(status, status) for status in CycleStatus}


def test_an_item_cancelled_by_an_operator_stays_cancelled(superuser: sa.Connection) -> None:
    item = placed(superuser, State.CANCELLED)
    with acting(superuser, OWNER):
        assert not accepts(superuser, item, after(State.PENDING))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 5},  # a move without a new version
        {"version": 7},
        {"version": 4},
        {"token": 8},  # only a claim makes a new token
        {"revision": 2},  # only a revision of a pending item makes a new body
        {"pool_id": 2},
        {"bundle_id": 1},
    ],
)
def test_a_move_is_one_version_and_nothing_else(superuser: sa.Connection, change: dict[str, int]) -> None:
    item = placed(superuser, State.PENDING)
    with acting(superuser, OWNER):
        assert accepts(superuser, item, after(State.SELECTED))
        assert not accepts(superuser, item, after(State.SELECTED, **change))


@pytest.mark.parametrize("token", [6, 7, 9])
def test_a_claim_takes_the_next_token_and_no_other(superuser: sa.Connection, token: int) -> None:
    item = placed(superuser, State.SELECTED)
    with acting(superuser, OWNER):
        assert accepts(superuser, item, after(State.CLAIMED))
        assert not accepts(superuser, item, after(State.CLAIMED, token=token))


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": 1},
        {"cycle_id": 2},
        {"token": 8},
        {"expires_at": "2099-01-01"},
        {"source_cancelled": True},
        {"state": "completed", "lease_until": None, "executor_id": None},
        {"item_id": 10**9},
    ],
)
def test_without_a_new_version_only_housekeeping_may_change(superuser: sa.Connection, change: dict[str, Any]) -> None:
    item = placed(superuser, State.CLAIMED)
    with acting(superuser, OWNER):
        assert accepts(superuser, item, {"lease_until": "2098-01-01"})
        assert not accepts(superuser, item, change)


@pytest.mark.parametrize("column", ["state", "version", "revision", "token"])
def test_an_item_begins_as_pending_version_1(owner: sa.Connection, column: str) -> None:
    values = {"state": "'pending'", "version": "1", "revision": "1", "token": "0", column: "'expired'" if column == "state" else "2"}
    with refused(owner, "expected to begin as pending"):
        run(owner, f"insert into pipeline.item_state (item_id, pool_id, {', '.join(values)}) values (9, 1, {', '.join(values.values())})")  # noqa: S608  # our own names


def test_nobody_takes_more_than_there_is(owner: sa.Connection) -> None:
    items = [submit(owner, key, quantity=4) for key in "abc"]
    for item in items[:2]:
        assert move(owner, item, State.SELECTED) == 1
    with refused(owner, "resource_not_overdrawn"):
        move(owner, items[2], State.SELECTED)
    assert run(owner, "select in_use from pipeline.resource").scalar_one() == 8
    move(owner, items[0], State.PENDING)
    assert move(owner, items[2], State.SELECTED) == 1


@pytest.mark.parametrize(("kind", "left"), [("renewable", (0, 0)), ("consumable", (0, 3))])
def test_what_is_completed_is_given_back_or_spent_by_its_kind(owner: sa.Connection, kind: str, left: tuple[int, int]) -> None:
    run(owner, "update pipeline.resource set kind = :kind", kind=kind)
    item = submit(owner, "a", quantity=3)
    for state in (State.SELECTED, State.CLAIMED):
        move(owner, item, state)
        assert tuple(run(owner, "select in_use, spent from pipeline.resource").one()) == (3, 0)
    move(owner, item, State.COMPLETED, cycle_id=None)
    assert tuple(run(owner, "select in_use, spent from pipeline.resource").one()) == left


def test_a_move_of_many_items_is_settled_in_one_statement(owner: sa.Connection) -> None:
    items = [submit(owner, f"i{n}", quantity=1) for n in range(8)]
    run(
        owner,
        "update pipeline.item_state set state = 'selected', version = 2, cycle_id = 1, hold_until = '2099-01-01' where item_id = any(:ids)",
        ids=items,
    )
    assert run(owner, "select in_use from pipeline.resource").scalar_one() == 8
    assert run(owner, "select count(*) from pipeline.transition where event = 'select'").scalar_one() == 8


def test_every_move_leaves_one_transition_with_who_why_and_when(owner: sa.Connection) -> None:
    run(owner, "select set_config('pipeline.actor', 'ada', true)")
    item = submit(owner, "a")
    move(owner, item, State.SELECTED, reason="chosen")
    move(owner, item, State.CLAIMED, reason="taken", detail=sa.text("'{\"n\": 1}'"))
    write(owner, item, {"lease_until": "2098-01-01"})
    rows = run(
        owner,
        "select version, from_state, to_state, event, actor, session_name, reason, detail, cycle_id, token, at <= clock_timestamp() as past"
        " from pipeline.transition order by version",
    ).all()
    assert [tuple(row) for row in rows] == [
        (1, None, "pending", "submit", "ada", "postgres", None, None, None, 0, True),
        (2, "pending", "selected", "select", "ada", "postgres", "chosen", None, 1, 0, True),
        (3, "selected", "claimed", "claim", "ada", "postgres", "taken", {"n": 1}, 1, 1, True),
    ]


@pytest.mark.parametrize("table", [*AUDIT, "item_state"])
@pytest.mark.parametrize("operation", ["delete", "truncate"])
def test_nothing_recorded_is_taken_away(owner: sa.Connection, table: str, operation: str) -> None:
    recorded(owner)
    with refused(owner, f"is append-only: {operation} refused"):
        run(owner, f"delete from pipeline.{table}" if operation == "delete" else f"truncate pipeline.{table} cascade")  # noqa: S608  # our own names


@pytest.mark.parametrize("table", AUDIT)
def test_nothing_recorded_is_changed(owner: sa.Connection, table: str) -> None:
    recorded(owner)
    column = run(
        owner,
        "select column_name from information_schema.columns where table_schema = 'pipeline' and table_name = :table"
        " and is_identity = 'NO' order by ordinal_position desc limit 1",
        table=table,
    ).scalar_one()
    with refused(owner, "is append-only: update refused"):
        run(owner, f"update pipeline.{table} set {column} = {column}")  # noqa: S608  # names from the catalogue


@pytest.mark.parametrize("operation", ["delete from", "truncate", "update"])
def test_the_partitions_of_the_audit_trail_are_no_back_door(owner: sa.Connection, operation: str) -> None:
    recorded(owner)
    partitions = run(owner, "select relid::regclass::text from pg_partition_tree('pipeline.transition') where isleaf").scalars().all()
    full = [name for name in partitions if run(owner, f"select count(*) from {name}").scalar_one()]  # noqa: S608  # from the catalogue
    assert len(partitions) > 3
    assert full
    for partition in partitions if operation == "truncate" else full:
        with refused(owner, "is append-only"):
            run(owner, f"{operation} {partition}" + (" set reason = 'nothing happened'" if operation == "update" else ""))


def recorded(connection: sa.Connection) -> None:
    """One row in each table that only grows."""
    item = submit(connection, "a")
    move(connection, item, State.SELECTED)
    run(
        connection,
        "insert into pipeline.decision (cycle_id, item_id, verdict, version, weight) values (1, :item, 'selected', 1, 5)",
        item=item,
    )
    run(connection, "insert into pipeline.pool_event (at, pool_id, kind, actor) values (pipeline.now(), 1, 'k', 'a')")
    run(
        connection,
        "insert into pipeline.audit_seal (seal_id, sealed_at, after_xid, after_seq, until_xid, until_seq, rows, root, names_digest,"
        " previous, chain, leaves, names) values (1, pipeline.now(), '1', 1, '2', 1, 1, '', '', '', '', '', '')",
    )


@pytest.mark.parametrize(("column", "value"), [("capacity", -1), ("in_use", -1), ("spent", -1), ("in_use", 11), ("spent", 11)])
def test_a_resource_is_never_overdrawn(owner: sa.Connection, column: str, value: int) -> None:
    with refused(owner, "resource_not_overdrawn"):
        run(owner, f"update pipeline.resource set {column} = {value}")  # noqa: S608  # our own names


def test_the_greatest_capacity_is_a_number_like_others(owner: sa.Connection) -> None:
    greatest = 2**63 - 1
    run(owner, "update pipeline.resource set capacity = :greatest", greatest=greatest)
    items = [submit(owner, key, quantity=greatest - 1) for key in "ab"]
    move(owner, items[0], State.SELECTED)
    with refused(owner, "resource_not_overdrawn|out of range"):
        move(owner, items[1], State.SELECTED)
