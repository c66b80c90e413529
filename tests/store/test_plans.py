"""The hot statements reach the few rows they need by index, in a database where nearly everything is history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.store import statements
from pipeline_project.store.database import Database
from tests.store.planting import furnish, run, unwatched
from tests.world import entered

ITEMS = 150_000
LIVE = 30_000
"""The newest items: selected, but for a hundred that are pending and a hundred that are claimed. All others are completed."""
LARGE = {"item_state", "item_key", "item", "item_demand", "decision", "transition_2026_01"}

FILL = [
    "insert into pipeline.resource (pool_id, key, capacity) select 1, 'r' || n, 1000000 from generate_series(1, 20000) n",
    """
    insert into pipeline.cycle (pool_id, policy_id, cycle_key, mode, day, status, engine_version, artifact,
                                items, value, upper_bound, proposed, certificate, planned_at, published_at)
    select 1, 1, 'k' || n, 'live', '2026-01-15', 'published', '1', '', 100, 1, 1, 100, '{}', pipeline.now(), pipeline.now()
      from generate_series(2, 1500) n
    """,
    "insert into pipeline.item_key (pool_id, key, submitted_at) select 1, 'i' || n, pipeline.now() from generate_series(1, :items) n",
    """
    insert into pipeline.item (item_id, revision, weight, digest, origin, created_at)
    select n, 1, n, '', 'producer', pipeline.now() from generate_series(1, :items) n
    """,
    "insert into pipeline.item_demand select n, 1, 1 + (n * 7 + d) % 20000, 1 from generate_series(1, :items) n, generate_series(1, 2) d",
    """
    insert into pipeline.item_state (item_id, pool_id, version, revision, token, bundle_id, expires_at, state, cycle_id, rank,
                                     hold_until, lease_until, executor_id, not_before)
    select n, 1, 4, 1, 1, case when n % 100 < 2 then n / 100 end, case when n % 2 = 0 then later end, state,
           case when state <> 'pending' then greatest(1, n / 100) end, case when state <> 'pending' then n end,
           case state when 'selected' then later end, case state when 'claimed' then later end, case state when 'claimed' then 1 end,
           case when state = 'pending' and n % 9 = 0 then later end
      from (select n, pipeline.now() + n * interval '1 second' as later,
                   (case when n <= :items - :live then 'completed'
                         when n % 300 = 0 then 'pending'
                         when n % 300 = 1 then 'claimed' else 'selected' end)::pipeline.state as state
              from generate_series(1, :items) n) made
    """,
    """
    insert into pipeline.transition (at, item_id, cycle_id, token, pool_id, version, revision, to_state, event, actor)
    select pipeline.now(), n, 1, 0, 1, 1, 1, 'pending', 'submit', 'x' from generate_series(1, :items) n
    """,
    """
    insert into pipeline.decision (cycle_id, item_id, verdict, version, weight)
    select n / 100, n, 'selected', 1, n from generate_series(1, :items) n
    """,
]

IDS = list(range(ITEMS - 50, ITEMS))
STATEMENTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("leases", "claim", {"pool_id": 1, "keys": None, "most": 10, "executor_id": 1, "ttl_s": 60, "reason": "r"}, "item_state_ready"),
    (
        "leases",
        "claim",
        {"pool_id": 1, "keys": ["i149999"], "most": 1, "executor_id": 1, "ttl_s": 60, "reason": "r"},
        "item_key_pool_id_key_key",
    ),
    ("leases", "lapsed", {"most": 2000}, "item_state_lease"),
    ("leases", "heartbeat", {"pool_id": 1, "name": "e", "ttl_s": 60}, "item_state_lease"),
    ("leases", "lock_claims", {"pool_id": 1, "keys": ["i149999"], "tokens": [1]}, "item_state_pkey"),
    ("items", "due_to_expire", {"most": 2000}, "item_state_expiry"),
    ("items", "holds_run_out", {"most": 2000}, "item_state_hold"),
    ("items", "of_cycle", {"cycle_id": 1400, "after": 0, "most": 5000}, "item_state_cycle"),
    ("items", "with_mates", {"ids": IDS}, "item_state_bundle"),
    ("items", "lock", {"ids": IDS}, "item_state_pkey"),
    ("snapshots", "eligible", {"pool_id": 1}, "item_state_pending"),
    ("snapshots", "demands", {"pool_id": 1}, "item_demand_pkey"),
    ("decisions", "lock_items", {"ids": IDS}, "item_state_pkey"),
    ("decisions", "read_items", {"ids": IDS}, "item_state_pkey"),
    ("decisions", "lock_resources", {"ids": IDS}, "resource_pkey"),
    ("audit", "timeline", {"item_id": 7}, "transition_2026_01_item_id_version_idx"),
    ("rollbacks", "fates", {"cycle_id": 1400}, "decision_pkey"),
    ("rollbacks", "demands", {"cycle_id": 1400}, "decision_pkey"),
    ("rollbacks", "completed", {"cycle_id": 1400, "after": 0, "most": 5000}, "decision_pkey"),
    ("feed", "woken", {"after": "99999999", "horizon": "99999999", "since": "2026-01-15 12:00+00"}, "item_state_waking"),
    ("items", "source_keys", {"pool_id": 1}, "item_state_pending"),
]


@pytest.fixture(scope="module")
def full(clones: Callable[[], AbstractContextManager[Database]]) -> Iterator[sa.Connection]:
    """A transaction in a large database."""
    with clones() as database:
        with entered(database) as connection:
            run(connection, "insert into pipeline.clock (at) values ('2026-01-15 12:00+00')")
            run(connection, "select pipeline.ensure_partitions(2)")
            furnish(connection)
            with unwatched(connection):
                for statement in FILL:
                    connection.execute(sa.text(statement), {"items": ITEMS, "live": LIVE} if ":items" in statement else {})
        with entered(database) as connection:
            run(connection, "analyze")
            yield connection


@pytest.mark.parametrize(("noun", "name", "parameters", "index"), STATEMENTS)
def test_a_hot_statement_reaches_its_rows_by_index(
    full: sa.Connection, noun: str, name: str, parameters: dict[str, Any], index: str
) -> None:
    query = sa.text("explain (format json) " + statements.load(noun)[name].text)
    nodes = list(_nodes(full.execute(query, parameters).scalar_one()[0]["Plan"]))
    assert index in {node.get("Index Name") for node in nodes}, nodes
    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned & LARGE


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for below in plan.get("Plans", []):
        yield from _nodes(below)
