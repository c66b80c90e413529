"""The job as a run's own process builds it, from nothing but its environment: what Dagster re-executes must be importable."""

from __future__ import annotations

import dagster as dg

from pipeline_project.orchestration.definitions import defs
from pipeline_project.orchestration.requests import LIVE_CYCLE


def live_cycle() -> dg.JobDefinition:
    return defs().resolve_job_def(LIVE_CYCLE)
