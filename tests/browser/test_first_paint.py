"""How long a person waits for the UI where there is much to show: 100 pools of 90 days, every partition of every asset made.

./pipeline test tests/browser/test_first_paint.py --browser -n 0 -s   prints the seconds
"""

from __future__ import annotations

import re
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import pytest
import sqlalchemy as sa

from pipeline_project.orchestration.assets import SELECTION
from pipeline_project.orchestration.inprocess import control_room
from pipeline_project.orchestration.partitions import POOLS, key_of
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from tests.browser.conftest import Site
from tests.browser.test_control_room import GROUP

if TYPE_CHECKING:
    from playwright.sync_api import Page

DAYS: Final = 90
NAMES: Final = [f"pool-{i:03}" for i in range(100)]
ALL_OF_THEM: Final = """
insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
select e.run_id, replace(e.event, :made, day || '|' || pool), e.dagster_event_type, e.timestamp, e.step_key, e.asset_key, day || '|' || pool
  from event_logs e, unnest(cast(:days as text[])) day, unnest(cast(:pools as text[])) pool
 where e.partition = :made and day || '|' || pool <> :made
"""
PAINTED: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
PAGES: Final = {
    "asset graph": (GROUP, re.compile(r"^9,?000 partitions$")),
    "partitions of an asset": ("/assets/committed_decisions?view=partitions", re.compile(r"^Materialized \(9,?000\)$")),
    "runs": ("/runs", re.compile(r"^Runs$")),
}


@pytest.mark.timeout(900)
def test_a_hundred_pools_of_ninety_days_can_be_looked_at(
    page: Page, site: Site, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all(site, settings)
    with site.opened(days=DAYS) as room:
        seen = {(name, visit): look(page, room.url + path, text) for visit in ("first", "again") for name, (path, text) in PAGES.items()}
    with capsys.disabled():
        for (name, visit), seconds in seen.items():
            print(f"\n{name}, {visit}: first paint {seconds['painted']:.2f} s, content {seconds['shown']:.2f} s", end="")  # noqa: T201  # what one runs it for


def look(page: Page, url: str, text: re.Pattern[str]) -> dict[str, float]:
    """Seconds until the browser painted anything, and until what one came for is there."""
    began = time.monotonic()
    page.goto(url)
    page.get_by_text(text).locator("visible=true").first.wait_for()
    shown = time.monotonic() - began
    return {"painted": float(page.evaluate(PAINTED)), "shown": shown}


def make_all(site: Site, settings: Settings) -> None:
    """One event for each asset as Dagster writes it, and copies of it for the other partitions."""
    today: date = site.engine.inquiry.today()
    made = str(key_of(today, NAMES[0]))
    with control_room(site.engine, settings) as room:
        assert room.instance
        room.instance.add_dynamic_partitions(POOLS.name or "", NAMES)
        for asset in SELECTION:
            room.instance.report_runless_asset_event(dg.AssetMaterialization(asset.key, partition=key_of(today, NAMES[0])))
    copies: dict[str, Any] = {"made": made, "days": [str(today - timedelta(days=i)) for i in range(DAYS)], "pools": NAMES}
    engine = sa.create_engine(dagster_database.url(site.engine.database, settings))
    with engine.begin() as connection:
        assert connection.execute(sa.text(ALL_OF_THEM), copies).rowcount == len(SELECTION) * (DAYS * len(NAMES) - 1)
    engine.dispose()
