"""Puts cycles that the command line ran into Dagster's lineage, where Dagster is set up at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_project.engine.engine import Engine

log = logging.getLogger(__name__)


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
