"""Claims by plain SQL: what a program in any language may do with the role of an executor, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from pipeline_project.core.items import PAYLOAD_BYTES_LIMIT
from pipeline_project.core.policy import Policy
from pipeline_project.store.times import LATEST
from tests.store.planting import run
from tests.world import World, entered

Session = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def executor(world: World) -> Iterator[Session]:
    """The session of a user who can log in, is a member of pipeline_executor, and knows nothing of our code."""
    world.resources(node=3)
    for weight, key in enumerate("abc", 1):
        world.submit(key, weight, {"node": 1}, payload={"do": key})
    world.cycle()
    database = world.engine.database
    login = f"e{uuid4().hex[:12]}"
    with entered(database) as superuser:
        run(superuser, f"create role {login} login in role pipeline_executor")
    url = database.admin.set(drivername="postgresql", username=login).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as session:
        yield session
    with entered(database) as superuser:
        run(superuser, f"drop owned by {login} cascade")
        run(superuser, f"drop role {login}")


def test_a_lease_without_end_is_shown_like_any_other(world: World, executor: Session) -> None:
    """PostgreSQL's infinity is beyond what Python can say: the item, and all that is read with it, could not be shown.

    No executor is given one any more; a database that is older may hold some.
    """
    rows(executor, "select item from pipeline.claim('p', 'e', 1)")
    with entered(world.engine.database) as connection:
        run(connection, "update pipeline.item_state set lease_until = 'infinity' where state = 'claimed'")
    assert (world.state("c"), world.item("c")["lease_until"]) == ("claimed", LATEST)
    assert world.events("c") == ["submit", "select", "claim"]
    assert world.engine.upkeep.sweep()["leases_lapsed"] == 0


def rows(session: Session, call: str) -> list[tuple[object, ...]]:
    return session.execute(call.encode()).fetchall()


def test_a_program_that_knows_nothing_but_sql_is_an_executor(world: World, executor: Session) -> None:
    assert rows(executor, "select item, token, payload, attempt from pipeline.claim('p', 'ruby-1', 2)") == [
        ("c", 1, {"do": "c"}, 1),
        ("b", 1, {"do": "b"}, 1),
    ]
    assert rows(executor, "select pipeline.heartbeat('p', 'ruby-1', '2 hours')") == [(2,)]
    done = "select * from pipeline.complete('p', '{c,x,a}', '{1,1,1}', '[{\"rows\": 7}, null, null]', 'ruby-1')"
    assert rows(executor, done) == [
        ("c", 1, True, "completed", None),
        ("x", 1, False, None, "the pool has no item of that key"),
        ("a", 1, False, "selected", "stale token: expected 0; the item is selected"),
    ]
    assert rows(executor, "select * from pipeline.fail('p', '{b}', '{1}', 'no such file', 'ruby-1')") == [("b", 1, True, "selected", None)]
    assert world.events("c") == ["submit", "select", "claim", "complete"]
    move = world.engine.inquiry.timeline("p", "c")[-1]
    assert (move["actor"], move["detail"]) == ("ruby-1", {"rows": 7})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("pipeline.claim('nowhere', 'e')", "pool 'nowhere': expected one that exists (p)"),
        ("pipeline.claim('p', 'e', 0)", "most: expected a whole number from 1 to 100000, found 0"),
        ("pipeline.claim('p', 'e', null)", "most: expected a whole number from 1 to 100000, found null"),
        ("pipeline.claim('p', '')", "executor: expected a name of 1 to 200 characters, found ''"),
        ("pipeline.claim('p', null)", "executor: expected a name of 1 to 200 characters, found null"),
        ("pipeline.claim('p', 'e', ttl => '-1 s')", "ttl: expected more than no time"),
        ("pipeline.claim('p', 'e', ttl => '8 days')", "ttl: expected at most 7 days, the policy's ttl.lease_max, and a heartbeat"),
        ("pipeline.claim('p', 'e', ttl => 'infinity')", "ttl: expected at most 7 days, the policy's ttl.lease_max, and a heartbeat"),
        ("pipeline.claim('p', 'e', ttl => '300000 years')", "ttl: expected at most 7 days, the policy's ttl.lease_max, and a heartbeat"),
        ("pipeline.heartbeat('p', 'e', '8 days')", "ttl: expected at most 7 days, the policy's ttl.lease_max, and a heartbeat"),
        ("pipeline.heartbeat('p', 'e', '0')", "ttl: expected more than no time, found 00:00:00"),
        ("pipeline.claim('p', 'e', request => repeat('x', 201))", "request: expected a name of at most 200 characters, found 'xxxx"),
        ("pipeline.complete('p', null, null)", "tokens: expected one for each item, found null items and null tokens"),
        ("pipeline.complete('p', '{a,b}', '{1}')", "tokens: expected one for each item, found 2 items and 1 tokens"),
        ("pipeline.complete('p', '{a}', null)", "tokens: expected one for each item"),
        ("pipeline.complete('p', '{a}', '{1}', '{}')", "results: expected a JSON array of one value for each item, found {}"),
        ("pipeline.complete('p', '{a}', '{1}', '[1, 2]')", "results: expected a JSON array of one value for each item"),
        ("pipeline.fail('nowhere', '{a}', '{1}', 'boom')", "pool 'nowhere': expected one that exists (p)"),
        ("pipeline.heartbeat('nowhere', 'e')", "pool 'nowhere': expected one that exists (p)"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_stored(world: World, executor: Session, call: str, sentence: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        rows(executor, f"select * from {call}")  # noqa: S608  # the calls above
    assert sentence in str(refusal.value)
    assert world.states() == {"a": "selected", "b": "selected", "c": "selected"}


def test_the_policy_says_how_long_a_lease_may_be(world: World, executor: Session) -> None:
    world.policy({"ttl": {"lease_max": "1h", "lease": "2h"}})
    (lease,) = rows(executor, "select lease_until - pipeline.now() from pipeline.claim('p', 'e', ttl => '2 hours')")
    assert lease == (timedelta(hours=2),)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="at most 02:00:00"):
        rows(executor, "select pipeline.heartbeat('p', 'e', '3 hours')")


def test_a_result_has_the_limit_of_a_payload(world: World, executor: Session) -> None:
    """Each of its own, in bytes, though a letter may have several; with one that is too large none is stored."""
    rows(executor, "select item from pipeline.claim('p', 'e', 3)")
    quotes, largest = 2, PAYLOAD_BYTES_LIMIT
    fits = f"jsonb_build_array(repeat('ü', {(largest - quotes) // 2}), repeat('x', {largest - quotes}), 0)"
    more = f"jsonb_build_array(0, 0, repeat('ü', {largest // 2}))"
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refusal:
        rows(executor, f"select accepted from pipeline.complete('p', '{{a,b,c}}', '{{1,1,1}}', {more})")  # noqa: S608
    expected = f"results: expected at most {largest} bytes of JSON for each item, found {largest + quotes} for item 'c'"
    assert str(refusal.value).splitlines()[0] == expected
    assert set(world.states().values()) == {"claimed"}
    rows(executor, f"select accepted from pipeline.complete('p', '{{a,b,c}}', '{{1,1,1}}', {fits})")  # noqa: S608
    assert set(world.states().values()) == {"completed"}


@pytest.mark.parametrize("letter", ["x", "\U0001f4a5"])
def test_of_an_endless_error_beginning_and_end_are_kept(world: World, executor: Session, letter: str) -> None:
    """Refused, its item would look as if its executor hung."""
    rows(executor, "select item from pipeline.claim('p', 'e', 2)")
    longest = "repeat($1, 16384)".replace("$1", f"'{letter}'")
    assert rows(executor, f"select accepted from pipeline.fail('p', '{{b}}', '{{1}}', {longest})") == [(True,)]  # noqa: S608
    assert world.item("b")["error"] == letter * 16384
    more = f"'first ' || {longest} || ' last'"
    assert rows(executor, f"select accepted from pipeline.fail('p', '{{c}}', '{{1}}', {more})") == [(True,)]  # noqa: S608
    kept = world.item("c")["error"]
    assert kept == f"first {letter * 8186}\n[11 of 16395 characters are left out here]\n{letter * 8187} last"
    assert len(kept.encode()) < PAYLOAD_BYTES_LIMIT + 100


@pytest.mark.parametrize(
    "call", ["claim('p', 'e')", "complete('p', '{a}', '{1}')", "fail('p', '{a}', '{1}', 'boom')", "heartbeat('p', 'e')"]
)
@pytest.mark.parametrize(("own", "limit"), [("0", "5s"), ("1min", "1min")])
def test_an_executor_that_is_silent_in_its_transaction_keeps_nobody_waiting(executor: Session, call: str, own: str, limit: str) -> None:
    """It holds locks. Whoever wants longer says so; and with the transaction the limit ends."""
    executor.execute(f"set idle_in_transaction_session_timeout = '{own}'".encode())
    with executor.transaction():
        rows(executor, f"select * from pipeline.{call}")  # noqa: S608
        assert rows(executor, "show idle_in_transaction_session_timeout") == [(limit,)]
    assert rows(executor, "show idle_in_transaction_session_timeout") == [(own,)]


@pytest.mark.parametrize("call", ["complete('p', '{a}', '{null}')", "fail('p', '{a}', '{null}', 'boom')"])
def test_no_token_is_a_stale_one(executor: Session, call: str) -> None:
    rows(executor, "select item from pipeline.claim('p', 'e', keys => '{a}')")
    assert rows(executor, f"select accepted, reason from pipeline.{call}") == [(False, "stale token: expected 1; the item is claimed")]  # noqa: S608


@pytest.mark.parametrize(
    "attempt",
    [
        "set role pipeline_writer",
        "set role pipeline_owner",
        "select payload from pipeline.item",
        "select detail from pipeline.item_state",
        "update pipeline.item_state set token = 1",
        "insert into pipeline.executor (pool_id, name, seen_at) values (1, 'x', now())",
        "select pipeline.lapse(1)",
        "select pipeline.fail_claims(1, '{1}', '{1}', 'failed', null, false)",
        "create table pipeline.mine (x int)",
        "create or replace function pipeline.now() returns timestamptz language sql as 'select now()'",
    ],
)
def test_and_may_do_nothing_else(executor: Session, attempt: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        executor.execute(attempt.encode())


IMPOSTORS = """
create schema evil;
create table evil.pool as select 99 as pool_id, 'p' as name;
create table evil.item_state as select * from pipeline.item_state where false;
create table evil.cycle as select cycle_id, 'published'::text as status from pipeline.cycle;
create function evil.now() returns timestamptz language sql as $$ select '2099-01-01'::timestamptz $$;
create function evil.policy_of(int) returns jsonb language sql as $$ select '{"lease": 1}'::jsonb $$;
create function evil.executor_seen(int, text) returns int language sql as $$ select 77 $$;
create function evil.claims_of(text, text[], bigint[], text) returns int language sql as $$ select 99 $$;
create function evil.set_config(text, text, boolean) returns text language sql as $$ select 'hijacked' $$;
create function evil.coalesced(a bigint, b bigint) returns boolean language sql as $$ select true $$;
create operator evil.= (leftarg = bigint, rightarg = bigint, procedure = evil.coalesced);
grant usage on schema evil to public;
grant select on all tables in schema evil to public;
"""


def test_names_of_the_callers_own_change_nothing(world: World, executor: Session) -> None:
    with entered(world.engine.database) as superuser:
        for statement in IMPOSTORS.split(";\n"):
            if statement.strip():
                superuser.exec_driver_sql(statement)
    executor.execute("create temporary table pool as select 98 as pool_id, 'p' as name")
    executor.execute("create temporary table item_key as select 1 as item_id, 98 as pool_id, 'a' as key")
    executor.execute("set search_path = pg_temp, evil, pg_catalog")
    (claim,) = rows(executor, "select item, token, lease_until - pipeline.now() from pipeline.claim('p', 'e', 1)")
    assert (claim[0], claim[1], str(claim[2])) == ("c", 1, "0:05:00")
    assert rows(executor, "select accepted, state from pipeline.complete('p', '{c,b}', '{1,1}')") == [
        (True, "completed"),
        (False, "selected"),
    ]
    assert world.use("node") == (2, 0)


def test_what_a_policy_does_not_name_has_the_same_default_in_sql(world: World) -> None:
    default = Policy.from_document({}, "test")
    with entered(world.engine.database) as superuser:
        superuser.execute(sa.text("insert into pipeline.pool (name, created_at) values ('old', pipeline.now())"))
        run(
            superuser,
            "insert into pipeline.policy (pool_id, version, hash, document, actor, created_at)"
            " select pool_id, 1, 'h', '{}', 'test', pipeline.now() from pipeline.pool where name = 'old'",
        )
        policy = run(superuser, "select pipeline.policy_of(pool_id) from pipeline.pool where name = 'old'").scalar_one()
    retries, ttl = default.retries, default.ttl
    assert policy == {
        "lease": ttl.lease,
        "hold": ttl.hold,
        "max_attempts": retries.max_attempts,
        "backoff": retries.backoff,
        "on_failure": retries.on_failure,
        "bundle_on_failure": retries.bundle_on_failure,
        "quarantine_after": retries.quarantine_after,
    }


@pytest.mark.parametrize(("duration", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("6h", 21_600), ("36500d", 3_153_600_000)])
def test_sql_reads_durations_as_policies_write_them(world: World, duration: str, seconds: int) -> None:
    with entered(world.engine.database) as superuser:
        assert run(superuser, "select pipeline.seconds(:duration)", duration=duration).scalar_one() == seconds
