"""The hot statements reach the few rows they need by index, in a database where nearly everything is history.

At 60,000 items, which are made in seconds; `pipeline bench plans` asks the same at a million, and docs/benchmarks.md has its answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
import sqlalchemy as sa

from pipeline_project.bench import large
from pipeline_project.bench.plans import LARGE, TRAIL, Hot, archive_some, explain, hot_statements, nodes_of
from pipeline_project.store import feed, statements
from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import NOON, entered

ITEMS = 60_000


@pytest.fixture(scope="module")
def full(clones: Callable[[], AbstractContextManager[Database]]) -> Iterator[sa.Connection]:
    """A transaction in a large database."""
    with clones() as database:
        with entered(database) as connection:
            large.fill(connection, ITEMS)
            archive_some(connection)
        with entered(database) as connection:
            run(connection, "analyze")
            run(connection, "load 'auto_explain'")
            yield connection


def test_a_hot_statement_reaches_its_rows_by_index(full: sa.Connection) -> None:
    """One test for all of them: as many would be spread over processes, of which each would have to make its own database."""
    plans = {f"{hot.noun}.{hot.name} by {hot.index}": (hot, explain(full, hot)) for hot in hot_statements(ITEMS)}
    assert len(plans) > 30
    everything = explain(full, Hot(noun="items", name="counts", index="", parameters={"pool_id": 1}))
    assert everything.read_whole == {"item_state"}  # else nothing below would be noticed
    assert {name: plan for name, (hot, plan) in plans.items() if hot.index not in plan.indexes or plan.read_whole} == {}


@pytest.mark.parametrize("name", ["feed.read", "seals.unsealed"])
def test_a_page_of_the_trail_costs_what_is_on_it_however_much_follows(full: sa.Connection, name: str) -> None:
    """By the statistics nothing follows: one transaction wrote everything. So it is with all that was written since the last ANALYZE."""
    noun, verb = name.split(".")
    statement = str(statements.load(noun)[verb].text)
    (xid,) = full.execute(sa.text("select distinct xid::text from pipeline.transition")).scalars()
    with full.begin_nested() as attempt:
        feed.in_order(full)
        query = sa.text(
            "explain (analyze, format json) " + statement.replace("pg_snapshot_xmin(pg_current_snapshot())", "'999999999'::xid8")
        )
        found = full.execute(query, {"xid": xid, "seq": 100, "most": 1000}).scalar_one()[0]
        attempt.rollback()
    read = [node["Actual Rows"] for node in nodes_of(found["Plan"]) if node.get("Index Name") == TRAIL]
    assert read == [pytest.approx(1000, abs=2)]


def test_the_clock_is_asked_once_and_not_for_each_row(full: sa.Connection) -> None:
    """A call of pipeline.now() costs more than reading a row. Planning asks it too, and so more than once."""
    pending = list(run(full, "select item_id from pipeline.item_state where state = 'pending' order by item_id").scalars())
    assert len(pending) >= 40
    chosen = {"ids": pending, "ranks": pending, "cycle_id": 1, "hold_s": 60}
    reconsidered = {"pool_id": 1, "ids": pending, "day": NOON.date(), "policy_hash": ""}
    others = [
        Hot(noun="decisions", name="read_items", index="", parameters={"ids": pending}),
        Hot(noun="decisions", name="select_items", index="", parameters=chosen),
        Hot(noun="alerts", name="waiting", index="", parameters={"pools": ["bench"], "max_wait_s": [0], "max_age_s": [0]}),
        Hot(noun="snapshots", name="reconsidered", index="", parameters=reconsidered),
    ]
    run(full, "set local track_functions = 'all'")
    asked = {}
    for hot in [*hot_statements(ITEMS), *others]:
        before = full.execute(sa.text(ASKED)).scalar_one()
        explain(full, hot, execute=True)
        asked[f"{hot.noun}.{hot.name}"] = full.execute(sa.text(ASKED)).scalar_one() - before
    assert asked["decisions.read_items"] > 0  # else nothing was counted
    assert {name: calls for name, calls in asked.items() if calls > 20} == {}


ASKED = "select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where schemaname = 'pipeline' and funcname = 'now'"


CALLS: list[tuple[str, set[str]]] = [
    ("pipeline.claim('bench', 'e', 10)", {"item_state_ready", "cycle_pkey", "item_state_pkey", "item_key_pkey", "item_pkey"}),
    ("pipeline.claim('bench', 'e', 10, request => 'again')", {"item_state_executor", "item_state_ready"}),
    ("pipeline.claim('bench', 'e', 1, keys => '{i59999}')", {"item_key_pool_id_key_key", "item_state_pkey"}),
    (
        "pipeline.complete('bench', '{i59701,i59401}', '{1,1}')",
        {"item_key_pool_id_key_key", "item_state_pkey", "item_demand_pkey", "resource_pkey"},
    ),
    ("pipeline.complete('bench', '{i59702}', '{1}')", {"item_state_pkey", "transition_2026_01_item_id_version_idx"}),
    ("pipeline.fail('bench', '{i59101}', '{1}', 'boom')", {"item_key_pool_id_key_key", "item_state_pkey"}),
    ("pipeline.heartbeat('bench', 'e')", {"item_state_executor"}),
    ("pipeline.lapse(2000)", {"item_state_lease", "item_state_pkey"}),
]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(("call", "indexes"), CALLS)
def test_a_function_for_executors_reaches_its_rows_by_index(full: sa.Connection, call: str, indexes: set[str], mode: str) -> None:
    """The plans of the statements inside, whether PostgreSQL plans them for these values or once for all."""
    plans: list[str] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        plans.append(notice.message_primary or "")

    driver = full.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with full.begin_nested() as attempt:
        for setting, value in {**EXPLAINED, "plan_cache_mode": mode}.items():
            run(full, f"set local {setting} = {value}")
        driver.add_notice_handler(keep)
        run(full, f"select * from {call}")  # noqa: S608  # the calls above
        driver.remove_notice_handler(keep)
        attempt.rollback()
    nodes = [node for plan in plans if '"Plan"' in plan for node in nodes_of(json.loads(plan[plan.index("{") :])["Plan"])]
    assert indexes <= {node.get("Index Name") for node in nodes}
    assert not {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} & LARGE
    # A plan that is kept searches an array from end to end for each row: thousands by thousands in a commit.
    assert not [node["Filter"] for node in nodes if "item_id = ANY ($" in node.get("Filter", "")]


EXPLAINED = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}
