"""Months of the audit trail that left the database are verified in their files, row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from pipeline_project.core.auditing import Fault
from pipeline_project.core.errors import UsageError
from pipeline_project.engine.audit import Verification
from pipeline_project.store import audit_months, schema
from tests.store.planting import run
from tests.world import World, seal_everything

Change = Callable[[list[dict[str, Any]]], Any]


@pytest.fixture
def month(world: World) -> Path:
    """The file of a month that was dropped: two items that came and were completed, one that failed."""
    world.policy({"retention": {"items": "1d", "transitions": "20d"}, "retries": {"max_attempts": 1}})
    world.resources(node=9)
    for key in "abc":
        world.submit(key, 3, {"node": 1})
    world.cycle()
    claims = world.claim()
    world.fail({"c": claims.pop("c")}, error="out of memory")
    world.complete(claims)
    with schema.administer(world.engine.database.admin) as connection, connection.begin():
        connection.execute(sa.text("set local session_replication_role = replica"))
        connection.execute(
            sa.text('update pipeline.transition set detail = \'{"asked": 1.50, "of": 12345678901234567890}\' where version = 2')
        )
    world.advance(days=40)
    seal_everything(world.engine.audit)
    world.engine.upkeep.sweep()
    with world.engine.database.begin() as connection:
        partition, location = run(connection, "select partition, location from pipeline.audit_export where dropped_at is not null").one()
    assert partition == "transition_2026_01"
    return Path(location)


def verify(world: World) -> Verification:
    return world.engine.audit.verify(archive=world.engine.artifacts)


def test_the_files_of_the_months_that_left_are_as_they_were_sealed(world: World, month: Path) -> None:
    world.submit("later")
    found = verify(world)
    assert found.first is None
    assert found.archived == found.read_back == parquet.read_metadata(month).num_rows == 12
    assert world.engine.audit.verify().read_back is None


@pytest.mark.parametrize(
    ("change", "fault", "version"),
    [
        (lambda rows: rows[3].update(actor="nobody"), Fault.ROW_EDITED, 4),
        (lambda rows: rows[1].update(detail='{"asked": 1.5, "of": 12345678901234567890}'), Fault.ROW_EDITED, 2),
        (lambda rows: rows.pop(0), Fault.ROW_REMOVED, 1),
        (lambda rows: rows.clear(), Fault.ROW_REMOVED, 1),
        (lambda rows: rows.append({**rows[0], "seq": 10**9}), Fault.ROW_INSERTED, None),
        (lambda rows: rows.append(dict(rows[0])), Fault.ROW_INSERTED, None),
        (lambda rows: rows[0].update(to_state="nowhere"), Fault.ARCHIVE_UNREADABLE, None),
    ],
    ids=["who", "a number", "gone", "empty", "one more", "one twice", "no such state"],
)
def test_the_first_row_of_a_file_that_was_changed_is_named(
    world: World, month: Path, change: Change, fault: Fault, version: int | None
) -> None:
    rows = parquet.read_table(month).to_pylist()
    change(rows)
    parquet.write_table(pa.Table.from_pylist(rows, audit_months.SCHEMA), month)
    first = verify(world).first
    assert first is not None
    assert (first.fault, first.version, first.item) == (fault, version, "a" if version else None)
    assert str(month) in first.message
    assert world.engine.audit.verify().first is None, "without the files nothing can be said of them"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-9])], ids=["gone", "cut"])
def test_a_file_that_is_not_there_or_not_whole_is_named(world: World, month: Path, spoil: Callable[[Path], Any]) -> None:
    spoil(month)
    first = verify(world).first
    assert first is not None
    assert first.fault is Fault.ARCHIVE_UNREADABLE
    assert f"{month}: expected 12 rows of transition_2026_01" in first.message


def test_part_of_the_seals_is_not_enough_for_a_file(world: World) -> None:
    with pytest.raises(UsageError, match="expected no --since"):
        world.engine.audit.verify(since=1, archive=world.engine.artifacts)
