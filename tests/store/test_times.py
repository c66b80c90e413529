"""Every timestamptz can be read, those beyond Python's years as its first or last moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from pipeline_project.store.database import Database
from pipeline_project.store.times import EARLIEST, LATEST

SUMMER = datetime(2026, 7, 1, 12, 30, 15, 250_000, UTC)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-07-01 14:30:15.25+02", SUMMER),
        ("2026-07-01 07:00:15.25-05:30", SUMMER),
        ("infinity", LATEST),
        ("-infinity", EARLIEST),
        ("10000-01-01", LATEST),
        ("0001-01-01 BC", EARLIEST),
        ("9999-12-31 23:59:59.999999+00", LATEST),
        (None, None),
    ],
)
def test_a_time_is_read_or_the_nearest_that_python_can_say(database: Database, text: str | None, found: datetime | None) -> None:
    with database.begin() as connection:
        assert connection.scalar(sa.text("select cast(:text as timestamptz)"), {"text": text}) == found
        connection.execute(sa.text("set local timezone = 'Asia/Kolkata'"))
        assert connection.scalar(sa.text("select cast(:text as timestamptz)"), {"text": text}) in (found, LATEST)
