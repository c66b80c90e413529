"""A cycle's place in the catalogue: one day of one pool."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import dagster as dg

from pipeline_project.settings import Settings

POOLS: Final = dg.DynamicPartitionsDefinition(name="pools")
"""Pools come and go while Dagster runs; the sensor registers each before it asks for a run."""


def day_and_pool(settings: Settings) -> dg.MultiPartitionsDefinition:
    """Every day of the installation, in its time zone, times every pool. A simulation's days end; else today is the last one."""
    end = settings.last_day
    days = dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(),
        end_date=None if end is None else (end + timedelta(days=1)).isoformat(),
        timezone=settings.timezone,
        end_offset=1 if end is None else 0,  # without it a day has no key before it is over
    )
    return dg.MultiPartitionsDefinition({"date": days, "pool": POOLS})


def key_of(day: date, pool: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"date": day.isoformat(), "pool": pool})


def day_and_pool_of(key: str) -> tuple[date, str]:
    """The same the other way round. A pool's name holds no `|`: intake refuses it."""
    day, _, pool = key.partition("|")
    return date.fromisoformat(day), pool
