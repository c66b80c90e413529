"""The way into Dagster: cycles that the command line ran are put into its lineage, where it is set up; runs are linked to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine

log = logging.getLogger(__name__)


def page(pool: str, cycle: Mapping[str, Any]) -> str:
    """Where Dagster shows the cycle (its `run` and `day`): its run, or its partition where it ran without one."""
    from pipeline_project import settings

    root = settings.load().ui_url.rstrip("/")
    if cycle["run"]:
        return f"{root}/runs/{cycle['run']}"
    return f"{root}/assets/committed_decisions?view=partitions&partition={cycle['day']}%7C{pool}"


def record(engine: Engine, reports: Iterable[dict[str, Any]]) -> None:
    """Report published cycles as materializations of the four assets. They are committed already: a failure here is only a warning."""
    from pipeline_project import settings

    chosen = settings.load()
    published = [report for report in reports if report["status"] == "published"]
    if not published or not (chosen.dagster_home / "dagster.yaml").exists():
        return
    try:
        from pipeline_project.orchestration.inprocess import control_room

        with control_room(engine, chosen) as room:
            for report in published:
                room.report_runless(report)
    except Exception as failure:  # whatever is wrong with Dagster, the decisions stand
        log.warning("the cycle is committed, but Dagster's lineage does not show it: %s", failure)
