"""Who may do what: each role is refused what is not its business, the engine's own included."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pipeline_project.store.database import Database
from tests.store.planting import move, run, submit

WRITER, EXECUTOR, OPERATOR, READER, AUDITOR = (
    "pipeline_writer",
    "pipeline_executor",
    "pipeline_operator",
    "pipeline_reader",
    "pipeline_auditor",
)
INSUFFICIENT_PRIVILEGE = "42501"
MOVE = "update pipeline.item_state set state = 'cancelled', version = version + 1, hold_until = null"
DENIED = [
    (WRITER, "insert into pipeline.transition (at, item_id, token, pool_id, version, revision, to_state, event, actor)"
             " values (now(), 1, 0, 1, 1, 1, 'pending', 'submit', 'x')"),
    (WRITER, "update pipeline.transition set reason = 'x'"),
    (WRITER, "delete from pipeline.transition"),
    (WRITER, "truncate pipeline.transition"),
    (WRITER, "select nextval('pipeline.transition_seq')"),
    (WRITER, "update pipeline.resource set in_use = 0"),
    (WRITER, "update pipeline.resource set spent = 0"),
    (WRITER, "update pipeline.resource set kind = 'consumable'"),
    (WRITER, "insert into pipeline.clock (at) values (now())"),
    (WRITER, "update pipeline.decision set verdict = 'stale'"),
    (WRITER, "delete from pipeline.decision"),
    (WRITER, "delete from pipeline.item_state"),
    (WRITER, "update pipeline.item set weight = 0"),
    (WRITER, "update pipeline.policy set document = '{}'"),
    (WRITER, "alter table pipeline.item_state disable trigger all"),
    (WRITER, "set session_replication_role = replica"),
    (WRITER, "set role pipeline_owner"),
    (WRITER, "create table pipeline.mine (x int)"),
    (WRITER, "update pipeline.pool set name = 'q'"),
    (EXECUTOR, MOVE),
    (EXECUTOR, "select * from pipeline.transition"),
    (EXECUTOR, "select * from pipeline.item"),
    (EXECUTOR, "select detail from pipeline.item_state"),
    (EXECUTOR, "update pipeline.executor set seen_at = now()"),
    (EXECUTOR, "select * from pipeline.policy"),
    (EXECUTOR, "select pipeline.advance_clock(now())"),
    (EXECUTOR, "select * from pipeline.lapse(1)"),
    (EXECUTOR, "select * from pipeline.fail_claims(1, '{1}', '{1}', 'failed', null, false)"),
    (EXECUTOR, "select pipeline.executor_seen(1, 'e')"),
    (EXECUTOR, "select * from pipeline.answers(1, '{a}', '{1}', '{complete}', 'completed', null, null)"),
    (WRITER, "select * from pipeline.fail_claims(1, '{1}', '{1}', 'failed', null, false)"),
    *((role, call) for role in (OPERATOR, READER, AUDITOR) for call in (
        "select * from pipeline.claim('p', 'e')",
        "select * from pipeline.complete('p', '{a}', '{1}')",
        "select * from pipeline.fail('p', '{a}', '{1}', 'boom')",
        "select pipeline.heartbeat('p', 'e')",
    )),
    (OPERATOR, MOVE),
    (OPERATOR, "update pipeline.resource set capacity = 1"),
    (READER, MOVE),
    (READER, "insert into pipeline.alert (raised_at, dedupe_key, severity, kind, message) values (now(), 'k', 'info', 'k', 'm')"),
    (READER, "select pipeline.advance_clock(now())"),
    (AUDITOR, MOVE),
    (AUDITOR, "select * from pipeline.item"),
    (AUDITOR, "delete from pipeline.audit_seal"),
    (AUDITOR, "update pipeline.audit_seal set root = ''"),
    (AUDITOR, "insert into pipeline.audit_seal select * from pipeline.audit_seal"),
    (AUDITOR, "delete from pipeline.transition"),
    (AUDITOR, "update pipeline.pool_event set actor = 'x'"),
    (AUDITOR, "insert into pipeline.feed_cursor values ('c', '1', now(), 0)"),
    (AUDITOR, "update pipeline.resource set capacity = 1"),
    (READER, "insert into pipeline.feed_cursor values ('c', '1', now(), 0)"),
    (EXECUTOR, "select * from pipeline.trail"),
    (EXECUTOR, "select * from pipeline.audit_seal"),
    (WRITER, "update pipeline.audit_seal set root = ''"),
    (WRITER, "delete from pipeline.pool_event"),
    (WRITER, "truncate pipeline.audit_seal"),
]  # fmt: skip
ALLOWED = [
    (WRITER, "update pipeline.resource set capacity = 12"),
    (WRITER, MOVE),
    (EXECUTOR, "select item_id, state, token from pipeline.item_state"),
    (EXECUTOR, "select * from pipeline.claim('p', 'e')"),
    (OPERATOR, "select * from pipeline.transition"),
    (READER, "select * from pipeline.item"),
    (AUDITOR, "select * from pipeline.transition"),
    (AUDITOR, "select * from pipeline.trail"),
    (AUDITOR, "select * from pipeline.sealed_up_to()"),
    (AUDITOR, "select pipeline.unsealed_rows('pipeline.transition')"),
    (AUDITOR, "select * from pipeline.item_demand"),
]


@pytest.mark.parametrize("role", [WRITER, EXECUTOR, OPERATOR, READER, AUDITOR])
def test_every_role_is_refused_what_is_not_its_business(superuser: sa.Connection, role: str) -> None:
    _record_something(superuser)
    if role == WRITER:  # what counts for some of these is who logged in
        run(superuser, "set local session authorization pipeline")
    for statement in [statement for who, statement in DENIED if who == role]:
        run(superuser, f"set local role {role}")
        with pytest.raises(DBAPIError) as refusal, superuser.begin_nested():
            run(superuser, statement)
        assert getattr(refusal.value.orig, "sqlstate", None) == INSUFFICIENT_PRIVILEGE, statement


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_every_role_may_do_what_is(superuser: sa.Connection, role: str, statement: str) -> None:
    _record_something(superuser)
    run(superuser, f"set local role {role}")
    assert run(superuser, statement).rowcount >= 1


def test_the_engine_is_an_ordinary_user_in_the_writers_role(furnished: Database) -> None:
    with furnished.begin() as connection:
        assert run(connection, "select current_user").scalar_one() == WRITER
        powers = "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = session_user"
        assert not run(connection, powers).scalar_one()


def _record_something(connection: sa.Connection) -> None:
    item = submit(connection, "a")
    move(connection, item, "selected")
    run(
        connection,
        "insert into pipeline.decision (cycle_id, item_id, verdict, version, weight) values (1, :item, 'selected', 1, 5)",
        item=item,
    )
