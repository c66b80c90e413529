"""The hot statements on a large store: which index each must go by, whether it does, and how long it takes there.

Executors call functions of the database; tests/store/test_plans.py looks into those. Not here either: items.counts, which counts whole
tables for a person who waits half a second, and resources.lowest_holders, which an operator who lowers a capacity waits for as long: an
index from resources to demands would cost each import more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.store import statements

LARGE: Final = frozenset({"item_state", "item_key", "item", "item_demand", "decision", "transition_2026_01"})
"""Tables that no hot statement reads from end to end."""

TRAIL: Final = "transition_2026_01_xid_seq_idx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """A statement with parameters for a store of so many items (`bench/large.sql`), and the index that must be in its plan.

    least  items from which on the index is the better way; in a smaller store the planner is right to do without
    """

    noun: str
    name: str
    index: str
    least: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


def hot_statements(items: int) -> list[Hot]:
    """Every statement that runs at each submission, cycle, claim, completion or sweep, and those a person waits for."""
    ids = list(range(items - 50, items))
    everything = {"after_xid": "1", "after_seq": 0, "until_xid": "2", "until_seq": 0}
    hot = [
        Hot(noun="snapshots", name="eligible", index="item_state_pending", parameters={"pool_id": 1}),
        Hot(noun="snapshots", name="demands", index="item_demand_pkey", parameters={"pool_id": 1}),
        Hot(noun="decisions", name="lock_items", index="item_state_pkey", parameters={"ids": ids}),
        Hot(noun="decisions", name="read_items", index="item_state_pkey", parameters={"ids": ids}),
        Hot(noun="decisions", name="lock_resources", index="resource_pkey", parameters={"ids": ids}),
        Hot(noun="decisions", name="of_item", index="decision_item", parameters={"item_id": 7}),
        Hot(noun="decisions", name="top", index="decision_pkey", parameters={"cycle_id": 1400, "most": 20}),
        Hot(noun="items", name="due_to_expire", index="item_state_expiry", parameters={"most": 2000}),
        Hot(noun="items", name="holds_run_out", index="item_state_hold", parameters={"most": 2000}),
        Hot(noun="items", name="of_cycle", index="decision_pkey", parameters={"cycle_id": items // 100 - 5, "after": 0, "most": 5000}),
        Hot(noun="items", name="lock", index="item_state_pkey", parameters={"ids": ids}),
        Hot(noun="items", name="lock", index="item_state_bundle", parameters={"ids": ids}),
        Hot(noun="items", name="broken_bundles", index="item_state_bundle", parameters={"ids": ids}),
        Hot(noun="items", name="source_keys", index="item_state_pending", parameters={"pool_id": 1}),
        Hot(noun="items", name="find", index="item_key_pool_id_key_key", parameters={"pool_id": 1, "key": "i7"}),
        Hot(noun="items", name="listing", index="item_state_pkey", least=500_000, parameters={"pool_id": 1, "state": None, "most": 1000}),
        Hot(noun="items", name="listing", index="item_state_pending", parameters={"pool_id": 1, "state": "pending", "most": 1000}),
        Hot(noun="history", name="find", index="item_history_2026_01_pkey", parameters={"pool_id": 1, "key": "i7"}),
        Hot(noun="audit", name="timeline", index="transition_2026_01_item_id_version_idx", parameters={"item_id": 7}),
        Hot(noun="rollbacks", name="fates", index="decision_pkey", parameters={"cycle_id": 400}),
        Hot(noun="rollbacks", name="about", index="decision_pkey", parameters={"cycle_id": 400}),
        Hot(noun="rollbacks", name="demands", index="decision_pkey", parameters={"cycle_id": 400}),
        Hot(noun="rollbacks", name="completed", index="decision_pkey", parameters={"cycle_id": 400, "after": 0, "most": 5000}),
        Hot(noun="feed", name="read", index=TRAIL, parameters={"xid": "1", "seq": 0, "most": 100}),
        Hot(noun="feed", name="read", index="pool_event_feed", parameters={"xid": "1", "seq": 0, "most": 100}),
        Hot(noun="feed", name="read_pool", index=TRAIL, parameters={"xid": "1", "seq": 0, "most": 100, "pool_id": 1}),
        Hot(noun="feed", name="behind", index=TRAIL, parameters={"xid": "99999999", "seq": 0, "most": 100}),
        Hot(noun="feed", name="waiting", index=TRAIL, parameters={"most": 100}),
        Hot(noun="seals", name="unsealed", index=TRAIL, parameters={"xid": "1", "seq": 0, "most": 1000}),
        Hot(
            noun="seals",
            name="present_leaves",
            index=TRAIL,
            parameters=everything,
        ),
        Hot(noun="cycles", name="keys_before", index="cycle_with_artifact", least=500_000, parameters={"pool_id": 1, "age_s": 86_400}),
        Hot(noun="cycles", name="in_flight", index="cycle_in_flight", parameters={"pool_id": 1}),
        Hot(
            noun="feed",
            name="woken",
            index="item_state_waking",
            parameters={"after": "99999999", "horizon": "99999999", "since": "2026-01-15 12:00+00", "at": "2026-01-15 12:01+00"},
        ),
        Hot(noun="feed", name="backlog", index="item_state_pending", parameters={"pool_id": 1}),
        Hot(noun="feed", name="starving", index="item_state_pending", parameters={"pool_id": 1, "longer_than_s": 60, "most": 10}),
        Hot(noun="feed", name="overlooked", index="item_state_pending", parameters={"pool_id": 1}),
        Hot(noun="pools", name="overview", index="item_state_pending"),
        Hot(noun="check_marks", name="touched", index=TRAIL, parameters={"position": "99999999"}),
    ]
    return [statement for statement in hot if statement.least <= items]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """indexes: those it goes by; read_whole: large tables that it reads from end to end; ms: as executed, None = planned only."""

    indexes: frozenset[str]
    read_whole: frozenset[str]
    ms: float | None


def archive_some(connection: sa.Connection) -> None:
    """The oldest items go to history, so that there is one to look things up in."""
    connection.execute(sa.text("select pipeline.archive(1, '1970-01-01', -1, pipeline.now(), 2000)"))
    connection.execute(sa.text("analyze pipeline.item_history, pipeline.body_history, pipeline.decision_history"))


def explain(connection: sa.Connection, hot: Hot, *, execute: bool = False) -> Plan:
    """PostgreSQL's plan of a statement; executed, it is rolled back."""
    query = sa.text(f"explain ({'analyze, ' if execute else ''}format json) {statements.load(hot.noun)[hot.name].text}")
    with connection.begin_nested() as attempt:
        found = connection.execute(query, dict(hot.parameters)).scalar_one()[0]
        attempt.rollback()
    nodes = list(nodes_of(found["Plan"]))
    scanned = frozenset(str(node["Relation Name"]) for node in nodes if node["Node Type"] == "Seq Scan")
    return Plan(
        indexes=frozenset(str(node["Index Name"]) for node in nodes if "Index Name" in node),
        read_whole=scanned & LARGE,
        ms=found.get("Execution Time"),
    )


def nodes_of(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's node and all below."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes_of(below)
