"""The yardstick of `pipeline bench claim`: claim and complete as two statements by hand, see claim_raw.sql."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import psycopg

_PARTS: Final = re.split(r"^-- name: (\w+)\n", Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
SQL: Final = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))
RESOURCES: Final = 1000


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, prepare_threshold=0)


def set_up(url: str, items: int) -> None:
    with connect(url) as connection:
        connection.execute(SQL["schema"].encode(), prepare=False)
        filled = SQL["fill"].replace(":items", str(items)).replace(":resources", str(RESOURCES))
        connection.execute(filled.encode(), prepare=False)


def turn(connection: psycopg.Connection[Any], executor: str, claims: list[Any], wanted: int) -> list[Any]:
    """Complete what was claimed and claim the next: rows of key, token, payload, lease_until."""
    following: list[Any] = []
    with connection.pipeline():
        if claims:
            given = {"keys": [row[0] for row in claims], "tokens": [row[1] for row in claims], "executor": executor}
            completed = connection.execute(SQL["complete"].encode(), given)
        if wanted:
            claimed = connection.execute(SQL["claim"].encode(), {"most": wanted, "executor": executor})
        connection.commit()
        if wanted:
            following = claimed.fetchall()
        assert not claims or len(completed.fetchall()) == len(claims)
    return following
