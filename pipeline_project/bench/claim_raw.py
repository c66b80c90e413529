"""The yardstick of `pipeline bench claim`: claim and complete as two statements by hand, see claim_raw.sql."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import psycopg

SQL: Final = dict(
    zip(
        *[iter(re.split(r"^-- name: (\w+)\n", Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:])] * 2,
        strict=True,
    )
)
RESOURCES: Final = 1000


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, prepare_threshold=0)


def set_up(url: str, items: int) -> None:
    with connect(url) as connection:
        connection.execute(SQL["schema"].encode(), prepare=False)
        filled = SQL["fill"].replace(":items", str(items)).replace(":resources", str(RESOURCES))
        connection.execute(filled.encode(), prepare=False)


def claim(connection: psycopg.Connection[Any], executor: str, most: int) -> list[Any]:
    return connection.execute(SQL["claim"].encode(), {"most": most, "executor": executor}).fetchall()


def complete(connection: psycopg.Connection[Any], executor: str, claims: list[Any]) -> None:
    given = {"keys": [row[0] for row in claims], "tokens": [row[1] for row in claims], "executor": executor}
    rows = connection.execute(SQL["complete"].encode(), given).fetchall()
    assert len(rows) == len(claims)
