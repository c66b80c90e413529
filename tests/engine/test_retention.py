"""What has ended leaves the hot tables after its time, and is answered for as before: its key, its replays, its story, its revival."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import StalePlan
from pipeline_project.engine import retention
from pipeline_project.engine.retention import Retention
from pipeline_project.store import items
from tests.engine.ended import HOT, archive, completed, hot, months, told
from tests.store.planting import run
from tests.world import World, entered


def test_what_has_ended_moves_to_history_with_its_body_demands_and_decisions(shop: World) -> None:
    completed(shop, "a")
    shop.submit("waits", 1, {"node": 1})
    before, why, events = shop.item("a"), shop.engine.inquiry.why("p", "a"), shop.events("a")
    assert archive(shop, hours=23) == 0
    assert archive(shop, hours=1) == 1
    assert hot(shop) == {"item_state": 1, "item": 1, "item_demand": 1, "decision": 0}
    assert (shop.engine.inquiry.why("p", "a"), shop.events("a")) == (why, events)
    after = shop.item("a")
    assert after["archived_at"] == shop.now()
    assert told(after) == told(before)
    assert shop.use("fuel") == (0, 2)
    assert archive(shop) == 0


@pytest.mark.parametrize("state", ["failed", "expired", "cancelled"])
def test_every_end_is_an_end(shop: World, state: str) -> None:
    shop.submit("a", 1, {"node": 1}, **({"expires_at": (shop.now() + timedelta(hours=1)).isoformat()} if state == "expired" else {}))
    if state == "failed":
        shop.cycle()
        shop.fail(shop.claim())
    elif state == "cancelled":
        shop.engine.intake.cancel("p", ["a"])
    else:
        shop.advance(hours=1)
        shop.engine.upkeep.sweep()
    before = told(shop.item("a"))
    assert archive(shop) == 1
    assert told(shop.item("a")) == before
    assert before["state"] == state
    assert hot(shop)["item_state"] == 0


def test_an_archived_key_is_never_used_again(shop: World) -> None:
    completed(shop, "a")
    archive(shop)
    again = {"key": "a", "weight": 3, "demands": {"node": 1, "fuel": 2}}
    receipt = shop.submit_all(again)
    assert (receipt.unchanged, receipt.accepted) == (1, 0)
    receipt = shop.submit_all({**again, "weight": 4}, {"key": "new", "weight": 1, "demands": {}})
    assert [(refusal.item, refusal.found) for refusal in receipt.refused] == [("a", "an item that is completed")]
    assert receipt.accepted == 1


def test_an_answer_that_was_lost_is_answered_long_after(shop: World) -> None:
    claims = completed(shop, "a")
    archive(shop)
    assert [(answer["accepted"], answer["state"]) for answer in shop.complete(claims)] == [(True, "completed")]
    (stale,) = shop.engine.execution.complete("p", [("a", 7)])
    assert (stale["accepted"], stale["state"]) == (False, "completed")


def test_an_archived_item_is_revived_like_any_other(shop: World) -> None:
    shop.submit("a", 1, {"node": 1})
    shop.cycle()
    shop.fail(shop.claim())
    archive(shop)
    assert shop.engine.intake.revive("p", ["a"]) == ["a"]
    assert shop.events("a") == ["submit", "select", "claim", "fail", "revive"]
    shop.cycle()
    shop.complete(shop.claim())
    assert archive(shop) == 1
    assert shop.state("a") == "completed"


def test_an_archived_item_that_may_not_be_revived_goes_back_into_history(shop: World) -> None:
    """Else it would keep its month of the audit trail for ever."""
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    completed(shop, "a", "b")
    archive(shop, days=2)
    assert shop.engine.intake.revive("p", ["a"]) == []
    assert archive(shop) == 1
    archive(shop, days=40)
    assert months(shop) == {"transition_2026_01": "dropped"}


def test_a_sweep_at_work_does_not_forget_that_archiving_was_sent_back(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is past the place already, and remembers only afterwards how far it came."""
    completed(shop, "a")
    archive(shop)
    batch = Retention._archive_batch

    def overtaken(self: Retention, *arguments: Any) -> Any:
        done = batch(self, *arguments)
        shop.engine.intake.revive("p", ["a"])
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Retention, "_archive_batch", overtaken)
        assert archive(shop) == 0
    assert archive(shop) == 1


def test_what_its_source_shows_again_comes_back_from_history(shop: World) -> None:
    with entered(shop.engine.database) as connection:
        run(connection, "create table public.todo (key text, weight int, demands jsonb)")
        run(connection, "insert into public.todo values ('a', 1, '{}'), ('b', 1, '{}')")
        run(connection, "grant select, delete, insert on public.todo to public")
    shop.policy(
        {
            "retention": {"items": "1d"},
            "source": {"items": "select key, weight, demands from public.todo", "on_vanish": "cancel", "max_vanish": 100},
        }
    )
    shop.engine.intake.pull("p")
    with entered(shop.engine.database) as connection:
        run(connection, "delete from public.todo where key = 'a'")
    shop.engine.intake.pull("p")
    assert shop.state("a") == "cancelled"
    archive(shop)
    with entered(shop.engine.database) as connection:
        run(connection, "insert into public.todo values ('a', 1, '{}')")
    shop.engine.intake.pull("p")
    assert shop.state("a") == "pending"


def test_what_its_source_shows_again_in_another_bundle_stays_in_history(shop: World) -> None:
    rows = "(values ('a', 1, '{}'::jsonb, cast(null as text), cast(null as int))) v (key, weight, demands, bundle_key, bundle_size)"
    source = {"items": f"select * from {rows}", "on_vanish": "cancel", "max_vanish": 100}  # noqa: S608  # our own rows
    shop.policy({"retention": {"items": "1d"}, "source": source})
    shop.engine.intake.pull("p")
    shop.policy({"retention": {"items": "1d"}, "source": {**source, "items": f"{source['items']} where false"}})
    shop.engine.intake.pull("p")
    archive(shop)
    other = str(source["items"]).replace("cast(null as text), cast(null as int)", "'crew', 1")
    shop.policy({"retention": {"items": "1d"}, "source": {**source, "items": other}})
    (refused,) = shop.engine.intake.pull("p")["refused"]
    assert (refused["item"], refused["field"], refused["found"]) == ("a", "bundle_key", "crew")
    assert hot(shop)["item_state"] == 0


def test_a_bundle_leaves_when_its_last_member_may(shop: World) -> None:
    shop.bundle("b", "x", "y", demands={"node": 1})
    shop.cycle()
    claims = shop.claim()
    shop.complete({"x": claims["x"]})
    assert archive(shop) == 0
    shop.engine.intake.cancel("p", ["y"])
    assert archive(shop, hours=23) == 0
    assert archive(shop, hours=1) == 2


def test_a_rollback_still_reports_what_was_completed(shop: World) -> None:
    completed(shop, "a")
    cycle = shop.engine.inquiry.cycles("p")[0]["cycle"]
    archive(shop)
    assert shop.engine.cycles.rollback(cycle, preview=True)["completed"] == 1
    assert [row["key"] for row in shop.engine.inquiry.decisions(cycle, pool="p")] == ["a"]


def test_small_batches_move_everything_once(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them ended at one instant, half of them in a bundle that stays: a batch of two has to get past them."""
    monkeypatch.setattr(retention, "ARCHIVED_AT_ONCE", 2)
    shop.bundle("b", "b1", "b2", "b3", weight=9)
    shop.submit_all(*({"key": f"i{n}", "weight": 1, "demands": {}} for n in range(7)))
    shop.cycle()
    claims = shop.claim()
    shop.complete({key: token for key, token in claims.items() if key != "b3"})
    shop.engine.execution.heartbeat("p", "e", ttl_s=7 * 86_400)
    assert archive(shop) == 7
    assert hot(shop)["item_state"] == 3


def test_an_item_that_is_revived_while_archiving_waits_for_it_stays(shop: World) -> None:
    shop.submit("a", 1, {"node": 1})
    shop.cycle()
    shop.fail(shop.claim())
    shop.advance(days=2)
    with ThreadPoolExecutor(1) as threads:
        with shop.engine.database.begin() as connection:
            assert items.revive(connection, [1], reason="just in time")
            sweep = threads.submit(shop.engine.upkeep.sweep)
            shop.until_somebody_waits()
        assert sweep.result(30)["items_archived"] == 0
    assert shop.state("a") == "pending"


TABLES = {"item_state": "version = version - 1", "item": "digest = 'x'", "item_demand": "quantities = '{4,4}'", "decision": "rank = 77"}


@pytest.mark.parametrize("table", TABLES)
def test_a_row_leaves_only_when_history_has_the_same(shop: World, table: str) -> None:
    """History is filled as archiving does it; then the copy of one table's row is spoilt, and the row stays."""
    completed(shop, "a")
    kept = {"item_state": "item_history", "decision": "decision_history"}.get(table, "body_history")
    with entered(shop.engine.database, "pipeline_owner") as connection:
        run(connection, "select pipeline.ensure_history(array[pipeline.now()])")
        for fill in FILLS:
            run(connection, fill)
        with connection.begin_nested() as attempt:
            assert run(connection, f"delete from pipeline.{table}").rowcount >= 1  # noqa: S608  # our own names
            attempt.rollback()
        run(connection, f"alter table pipeline.{kept} disable trigger append_only")
        run(connection, f"update pipeline.{kept} set {TABLES[table]}")  # noqa: S608  # our own names
        with (
            pytest.raises(sa.exc.DBAPIError, match=f"{table} is append-only: delete refused; item 1 is not in history"),
            connection.begin_nested(),
        ):
            run(connection, f"delete from pipeline.{table}")  # noqa: S608  # our own names
        connection.rollback()


FILLS = [
    "insert into pipeline.item_history select item_id, cycle_id, bundle_id, token, not_before, expires_at, pipeline.now(),"
    " pipeline.now(), pool_id, version, revision, rank, attempts, state, source_cancelled, reason, detail from pipeline.item_state",
    "insert into pipeline.body_history select item_id, revision, weight, payload, not_before, expires_at, digest, origin, created_at,"
    " array(select resource_id from pipeline.item_demand order by 1), array[1, 2], pipeline.now() from pipeline.item",
    "insert into pipeline.decision_history select cycle_id, item_id, verdict, rank, version, weight, reason, pipeline.now()"
    " from pipeline.decision",
]


@pytest.mark.parametrize("table", ["item_history", "body_history", "decision_history"])
@pytest.mark.parametrize("operation", ["delete from", "truncate", "update"])
def test_history_is_neither_changed_nor_taken_away(shop: World, table: str, operation: str) -> None:
    completed(shop, "a")
    archive(shop)
    for name in (table, f"{table}_2026_01"):
        with pytest.raises(sa.exc.DBAPIError, match="is append-only"), entered(shop.engine.database, "pipeline_owner") as connection:
            run(connection, f"{operation} pipeline.{name}" + (" set item_id = 7" if operation == "update" else ""))


def test_autovacuum_comes_before_a_table_has_grown_by_much(shop: World) -> None:
    """Rows leave these tables; the default waits for a fifth of them."""
    option = "(select option_value::float from pg_options_to_table(reloptions) where option_name = 'autovacuum_vacuum_scale_factor')"
    query = f"select coalesce({option}, 0.2) from pg_class where oid = cast(:table as regclass)"  # noqa: S608  # our own names
    with entered(shop.engine.database) as connection:
        assert {table: share for table in HOT if (share := run(connection, query, table=f"pipeline.{table}").scalar_one()) > 0.05} == {}


def test_history_keeps_every_column_that_an_ended_item_has(shop: World) -> None:
    """Whoever adds a column to a hot table decides here what becomes of it."""
    emptied = {"hold_until", "lease_until", "executor_id"}
    pairs = {"item_state": "item_history", "item": "body_history", "decision": "decision_history"}
    query = "select column_name from information_schema.columns where table_schema = 'pipeline' and table_name = :table"
    with entered(shop.engine.database) as connection:
        for table, kept in pairs.items():
            columns = {name: set(run(connection, query, table=name).scalars()) for name in (table, kept)}
            assert columns[table] - emptied <= columns[kept], table


def test_a_plan_whose_items_are_archived_by_now_is_stale(shop: World) -> None:
    shop.submit("a", 1, {"node": 1})
    plan = shop.engine.cycles.plan("p")
    shop.engine.intake.cancel("p", ["a"])
    assert archive(shop, days=2) == 1
    with pytest.raises(StalePlan):
        shop.engine.cycles.commit_planned(plan["cycle"])
