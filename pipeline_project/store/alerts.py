"""What somebody should look at: added once, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from pipeline_project.store import statements

SQL = statements.load("alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """dedupe_key: two alerts with the same key are one."""

    dedupe_key: str
    kind: str
    severity: Literal["info", "warning", "error"]
    message: str
    pool: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def add(connection: sa.Connection, alert: Alert) -> bool:
    """False when it was raised before."""
    return connection.scalar(SQL["add"], {**asdict(alert), "detail": json.dumps(alert.detail)}) is not None


def listing(connection: sa.Connection, *, most: int = 50) -> list[dict[str, Any]]:
    """Newest first."""
    return [dict(row) for row in connection.execute(SQL["listing"], {"most": most}).mappings()]
