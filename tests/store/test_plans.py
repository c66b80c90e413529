"""The hot statements reach the few rows they need by index, in a database where nearly everything is history.

At 60,000 items, which are made in seconds; `pipeline bench plans` asks the same at a million, and docs/benchmarks.md has its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import sqlalchemy as sa

from pipeline_project.bench import large
from pipeline_project.bench.plans import Hot, archive_some, explain, hot_statements
from pipeline_project.store.database import Database
from tests.store.planting import run
from tests.world import entered

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
            yield connection


def test_a_hot_statement_reaches_its_rows_by_index(full: sa.Connection) -> None:
    """One test for all of them: as many would be spread over processes, of which each would have to make its own database."""
    plans = {f"{hot.noun}.{hot.name} by {hot.index}": (hot, explain(full, hot)) for hot in hot_statements(ITEMS)}
    assert len(plans) > 30
    everything = explain(full, Hot(noun="items", name="counts", index="", parameters={"pool_id": 1}))
    assert everything.read_whole == {"item_state"}  # else nothing below would be noticed
    assert {name: plan for name, (hot, plan) in plans.items() if hot.index not in plan.indexes or plan.read_whole} == {}
