"""What a person sees and does in Dagster's UI: the mission, a backfill by clicking, a promise that broke."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline_project.core.policy import Policy
from pipeline_project.engine.engine import Engine
from tests.browser.conftest import Installation, Site, photograph
from tests.store.planting import run
from tests.world import entered

if TYPE_CHECKING:
    from playwright.sync_api import Page

POOL: Final = "farm"
GROUP: Final = "/locations/pipeline_project.orchestration.definitions/asset-groups/selection"
ASSETS: Final = ("pending_items", "conflict_graph", "proposed_selections", "committed_decisions")
WAIT_S: Final = 600.0  # idle it takes a minute; on a machine ten times overloaded it took six


@pytest.mark.timeout(1800)
def test_a_person_sees_the_mission_decides_days_anew_and_is_told_of_a_broken_promise(page: Page, site: Site) -> None:
    """One test for the three: starting Dagster costs more than all of them."""
    yesterday = furnish(site.engine)
    with site.opened() as room:
        see_the_mission(page, room)
        decide_anew(page, room, yesterday)
        decide_again(room, yesterday)
        break_a_promise(page, room)


def see_the_mission(page: Page, room: Installation) -> None:
    page.goto(room.url + GROUP)
    for name in ("work_items", *ASSETS):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text(re.compile(r"2 / 2 Passed")).nth(2).wait_for()  # the first cycle is through all three with two checks
    photograph(page, "dagster-assets")


def decide_anew(page: Page, room: Installation, yesterday: date) -> None:
    """A backfill of two days, as a person launches it."""
    engine = room.engine
    page.get_by_role("button", name="Materialize all").click()
    days = page.get_by_placeholder("ex: ")
    days.fill(f"[{yesterday - timedelta(days=1)}...{yesterday}]")
    days.press("Enter")
    page.get_by_role("button", name="All", exact=True).last.click()
    photograph(page, "dagster-backfill")
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    wait_until(lambda: len(reprocessed(engine)) == 2, "two reprocessed days")
    (found,) = [cycle for cycle in reprocessed(engine) if cycle["day"] == yesterday]
    traced = engine.inquiry.lineage(found["cycle"])
    assert (traced["freed"], traced["newly_selected"]) == (2, 2)
    run_of_it = ask(room, RUN, id=traced["run"])["runOrError"]
    assert run_of_it["__typename"] == "Run", "expected the run's name in the audit trail"
    wait_until(lambda: ask(room, RUN, id=traced["run"])["runOrError"]["status"] == "SUCCESS", "the end of the run")  # it records last
    page.goto(f"{room.url}/assets/committed_decisions?view=partitions&partition={yesterday}%7C{POOL}")
    page.get_by_text("supersedes", exact=True).first.wait_for()
    page.get_by_text(f"cycle {traced['superseded'][0]['cycle'][:8]}").first.wait_for()
    page.get_by_text("difference", exact=True).first.scroll_into_view_if_needed()
    photograph(page, "dagster-reprocess")
    page.goto(f"{room.url}/runs/{traced['run']}")
    page.get_by_text(str(traced["run"])[:8]).first.wait_for()


def decide_again(room: Installation, yesterday: date) -> None:
    """The same backfill as a program launches it. It changes nothing."""
    before = {row["key"]: (row["state"], row["version"]) for row in room.engine.inquiry.items(POOL)}
    keys = [f"{yesterday - timedelta(days=1)}|{POOL}", f"{yesterday}|{POOL}"]
    wanted = {"assetSelection": [{"path": [asset]} for asset in ASSETS], "partitionNames": keys}
    launched = ask(room, LAUNCH, params=wanted)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    wait_until(lambda: _status(room, launched["backfillId"]) == "COMPLETED_SUCCESS", "a completed backfill")
    assert {row["key"]: (row["state"], row["version"]) for row in room.engine.inquiry.items(POOL)} == before


LAUNCH: Final = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
RUN: Final = "query ($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"
STATUS: Final = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"


def _status(room: Installation, backfill: str) -> str:
    return str(ask(room, STATUS, id=backfill)["partitionBackfillOrError"]["status"])


def ask(room: Installation, query: str, **variables: Any) -> dict[str, Any]:
    """Dagster's GraphQL."""
    content = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{room.url}/graphql", content, {"Content-Type": "application/json"})  # noqa: S310  # our own server
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        document: dict[str, Any] = json.loads(answer.read())
    assert "errors" not in document, document
    return dict(document["data"])


def break_a_promise(page: Page, room: Installation) -> None:
    """A counter is changed behind the database's back; the next cycle's check sees it."""
    drift = "update pipeline.resource set in_use = in_use + :n where key = 'spare'"
    with entered(room.database) as connection:
        run(connection, "set local session_replication_role = replica")
        run(connection, drift, n=1)
    try:
        room.engine.intake.submit(POOL, [{"key": "newcomer", "weight": 1, "demands": {"spare": 1}}])
        wait_until(lambda: bool(alerts(room.engine)), "an alert")
        (alert,) = alerts(room.engine)[:1]
        assert (alert["severity"], alert["pool"]) == ("error", POOL)
        assert "in_use_drifted" in alert["message"]
        page.goto(f"{room.url}/assets/committed_decisions?view=checks")
        page.get_by_text("ledger_invariants_hold", exact=True).first.click()
        failed = page.get_by_text("Failed", exact=True).locator("visible=true")
        failed.first.wait_for()
        photograph(page, "dagster-check")
        assert any(_is_red(str(colour)) for colour in failed.evaluate_all("all => all.map(e => getComputedStyle(e).color)"))
    finally:
        with entered(room.database) as connection:
            run(connection, "set local session_replication_role = replica")
            run(connection, drift, n=-1)


def _is_red(colour: str) -> bool:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return red > 2 * max(green, blue)


def furnish(engine: Engine) -> date:
    """Forty jobs want six machines; yesterday's cycle gave them to the dearest. Since then two that lost have become worth more."""
    yesterday: date = engine.inquiry.today() - timedelta(days=1)
    engine.intake.create_pool(POOL)
    engine.intake.apply_policy(POOL, Policy.from_document({"ttl": {"hold": "10d"}}, "test"))
    machines = {f"machine-{i}": 2 for i in range(6)}
    engine.intake.put_resources(POOL, [{"key": key, "capacity": 2} for key in machines] + [{"key": "spare", "capacity": 9}])
    jobs = [{"key": f"job-{i:02}", "weight": 10 + i, "demands": {f"machine-{i % 6}": 1}} for i in range(40)]
    engine.intake.submit(POOL, jobs)
    engine.cycles.run(POOL, day=yesterday)
    for i in range(2):
        engine.intake.revise(POOL, f"job-{i:02}", {"weight": 900 + i})
    return yesterday


def reprocessed(engine: Engine) -> list[dict[str, Any]]:
    return [cycle for cycle in engine.inquiry.cycles(POOL) if (cycle["mode"], cycle["status"]) == ("reprocess", "published")]


def alerts(engine: Engine) -> list[dict[str, Any]]:
    return [alert for alert in engine.inquiry.alerts() if alert["kind"] == "check_failed" and "ledger_invariants_hold" in alert["message"]]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up, f"expected {what} within {WAIT_S:.0f} s"
        time.sleep(0.5)
