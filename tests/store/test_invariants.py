"""Each invariant against the very defect it is there for, planted by a superuser with the triggers off."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pipeline_project.store import invariants
from tests.store.planting import move, run, submit, unwatched, write

TRANSITION = (
    "insert into pipeline.transition (at, item_id, cycle_id, token, pool_id, version, revision, from_state, to_state, event, actor)"
    " values (pipeline.now(), {item}, 1, {token}, 1, {version}, 1, {before}, '{after}', '{event}', 'nobody')"
)
"""A line in the audit trail that no move has written."""

NOBODY = 1_000_000
"""No item and no resource has this number."""
ARCHIVED = (
    "insert into pipeline.item_history"
    " (item_id, token, ended_at, archived_at, pool_id, version, revision, attempts, state, source_cancelled)"
    " values ({item}, 0, pipeline.now(), pipeline.now(), 1, 1, 1, 0, '{state}', false)"
)

PLANTED = {
    "over_allocated": ["update pipeline.resource set capacity = 0, in_use = 0"],
    "in_use_drifted": ["update pipeline.resource set in_use = in_use + 1"],
    "spent_drifted": ["update pipeline.resource set spent = spent + 1"],
    "part_of_a_bundle_selected": [
        "insert into pipeline.bundle (pool_id, key, size, members) values (1, 'b', 2, 2)",
        "update pipeline.item_state set bundle_id = currval('pipeline.bundle_bundle_id_seq')",
    ],
    "bundle_members_miscounted": [
        "insert into pipeline.bundle (pool_id, key, size, members) values (1, 'b', 2, 2)",
        "update pipeline.item_state set bundle_id = currval('pipeline.bundle_bundle_id_seq') where item_id = {pending}",
    ],
    "state_not_last_transition": ["update pipeline.item_state set state = 'cancelled' where item_id = {pending}"],
    "versions_with_gaps": [TRANSITION.format(item="{pending}", token=0, version=3, before="'pending'", after="cancelled", event="cancel")],
    "chain_broken": [TRANSITION.format(item="{pending}", token=0, version=2, before="'selected'", after="cancelled", event="cancel")],
    "illegal_move": [TRANSITION.format(item="{pending}", token=0, version=2, before="'pending'", after="completed", event="cancel")],
    "completed_twice": [
        TRANSITION.format(item="{pending}", token=0, version=2, before="'claimed'", after="completed", event="complete"),
        TRANSITION.format(item="{pending}", token=0, version=3, before="'claimed'", after="completed", event="complete"),
    ],
    "selected_without_decision": ["delete from pipeline.decision"],
    "decision_without_transition": [
        "insert into pipeline.decision (cycle_id, item_id, verdict, version, weight) values (1, {pending}, 'selected', 1, 5)"
    ],
    "stale_token_accepted": [TRANSITION.format(item="{held}", token=0, version=3, before="'selected'", after="claimed", event="claim")],
    "closed_cycle_still_holds": ["update pipeline.cycle set status = 'rolled_back'"],
    "selected_after_expiry": ["update pipeline.item set expires_at = '2000-01-01' where item_id = {held}"],
    "claimed_from_unpublished_cycle": [
        "update pipeline.cycle set published_at = null",
        TRANSITION.format(item="{held}", token=1, version=3, before="'selected'", after="claimed", event="claim"),
    ],
    "held_without_cycle": ["delete from pipeline.cycle"],
    "demand_without_resource": ["update pipeline.item_demand set resource_id = {nobody} where item_id = {pending}"],
    "state_without_body": ["delete from pipeline.item where item_id = {pending}"],
    "key_without_state": ["delete from pipeline.item_state where item_id = {pending}"],
    "rest_without_state": [
        "insert into pipeline.item (item_id, revision, weight, digest, origin, created_at)"
        " values ({nobody}, 1, 5, '', 'producer', pipeline.now())"
    ],
    "archived_twice": ["select pipeline.ensure_history(array[pipeline.now()])", ARCHIVED.format(state="cancelled", item="{pending}")],
    "archived_not_last_transition": [
        "select pipeline.ensure_history(array[pipeline.now()])",
        ARCHIVED.format(state="cancelled", item="{pending}"),
        "delete from pipeline.item_state where item_id = {pending}",
    ],
    "negative_number": ["alter table pipeline.item drop constraint item_weight_check", "update pipeline.item set weight = -1"],
    "audit_partition_missing": [
        "insert into pipeline.transition (at, item_id, token, pool_id, version, revision, to_state, event, actor)"
        " values ('1999-01-01', {pending}, 0, 1, 1, 1, 'pending', 'submit', 'nobody')"
    ],
    "state_not_replayed": ["update pipeline.item_state set revision = 2 where item_id = {pending}"],
    "resource_not_replayed": ["delete from pipeline.transition where item_id = {held} and version = 2"],
}


@pytest.fixture
def items(superuser: sa.Connection) -> dict[str, int]:
    """A pending item and one that a cycle selected, both in order."""
    found = {name: submit(superuser, name) for name in ("pending", "held")}
    move(superuser, found["held"], "selected")
    run(
        superuser,
        "insert into pipeline.decision (cycle_id, item_id, verdict, version, weight) values (1, :item, 'selected', 1, 5)",
        item=found["held"],
    )
    return found


def test_a_healthy_database_breaks_no_promise(superuser: sa.Connection, items: dict[str, int]) -> None:
    assert invariants.violated(superuser) == []


def test_each_promise_has_a_defect_that_breaks_it() -> None:
    """And each defect a promise: an invariant that nothing can break proves nothing."""
    assert set(PLANTED) == set(invariants.names())


@pytest.mark.parametrize("name", invariants.names())
def test_a_broken_promise_is_named(superuser: sa.Connection, items: dict[str, int], name: str) -> None:
    if name == "over_allocated":
        run(superuser, "alter table pipeline.resource drop constraint resource_not_overdrawn")
    with unwatched(superuser):
        for statement in PLANTED[name]:
            run(superuser, statement.format(**items, nobody=NOBODY))
    broken = {violation["name"]: violation for violation in invariants.violated(superuser)}
    assert name in broken
    assert broken[name]["rows"] >= 1
    assert broken[name]["examples"]


@pytest.mark.parametrize("name", sorted(set(invariants.names()) - invariants.FULL_ONLY))
def test_and_so_is_one_that_is_broken_by_an_item_that_moved(superuser: sa.Connection, items: dict[str, int], name: str) -> None:
    if name == "over_allocated":
        run(superuser, "alter table pipeline.resource drop constraint resource_not_overdrawn")
    with unwatched(superuser):
        for statement in PLANTED[name]:
            run(superuser, statement.format(**items, nobody=NOBODY))
    moved = [*items.values(), NOBODY]
    everywhere = {violation["name"]: violation for violation in invariants.violated(superuser)}
    broken = {violation["name"]: violation for violation in invariants.violated_by(superuser, moved)}
    assert name in broken
    assert broken[name] == everywhere[name]


def test_what_did_not_move_is_left_to_the_full_check(superuser: sa.Connection, items: dict[str, int]) -> None:
    with unwatched(superuser):
        run(superuser, "update pipeline.item_state set state = 'cancelled' where item_id = :item", item=items["pending"])
    broken = [violation["name"] for violation in invariants.violated(superuser)]
    assert broken == ["state_not_last_transition", "state_not_replayed"]
    assert invariants.violated_by(superuser, [items["held"]]) == []


def test_a_promise_is_about_the_present_as_well_as_the_past(superuser: sa.Connection, items: dict[str, int]) -> None:
    """A retry brings an item back to a cycle that was rolled back meanwhile: nobody could claim it, and nobody would release it."""
    move(superuser, items["held"], "claimed")
    with unwatched(superuser):
        run(superuser, "update pipeline.cycle set status = 'rolled_back'")
    assert invariants.violated(superuser) == []
    write(
        superuser, items["held"], {"state": "selected", "version": 4, "lease_until": None, "executor_id": None, "hold_until": "2099-01-01"}
    )
    assert [violation["name"] for violation in invariants.violated(superuser)] == ["closed_cycle_still_holds"]
