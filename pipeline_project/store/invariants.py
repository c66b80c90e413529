"""The promises of the store as queries that return no row while they are kept: over everything, or over the items that moved."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from pipeline_project.store import check_marks, statements

SQL = statements.load("invariants")

FULL_ONLY: Final = frozenset({"spent_drifted", "resource_not_replayed"})
"""Add up every completion there ever was: a week's work of looking for what no move can break without breaking a trigger first."""
ITEMS_AT_ONCE: Final = 20_000

_PLACE: Final = re.compile(r"true /\* of (bundle )?([\w.]+) \*/")


def names() -> list[str]:
    return list(SQL)


def violated(connection: sa.Connection, only: Collection[str] = tuple(SQL)) -> list[dict[str, Any]]:
    """Each broken promise with its number of rows and the first five of them; empty on a healthy database."""
    return _shown({name: _rows(connection, SQL[name], {}) for name in only})


def violated_by(connection: sa.Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The same, of these items, their bundles, and what is held now.

    It misses what no move was recorded for: a row of another item that somebody changed with the guards off. The full check does not.
    """
    found = {name: _rows(connection, SQL[name], {}) for name in names() if name not in FULL_ONLY | _of_items().keys()}
    for part in (ids[start : start + ITEMS_AT_ONCE] for start in range(0, len(ids), ITEMS_AT_ONCE)):
        bundles = check_marks.bundles(connection, part)
        for name, query in _of_items().items():
            found.setdefault(name, []).extend(_rows(connection, query, {"ids": list(part), "bundles": bundles}))
    return _shown({name: found[name] for name in names() if name in found})


@cache
def _of_items() -> dict[str, sa.TextClause]:
    """The queries that can be asked of some items, so asked."""

    def narrowed(place: re.Match[str]) -> str:
        return f"{place[2]} = any (cast(:{'bundles' if place[1] else 'ids'} as bigint[]))"

    return {
        name: sa.text(_PLACE.sub(narrowed, query.text))
        for name, query in SQL.items()
        if name not in FULL_ONLY and _PLACE.search(query.text)
    }


def _rows(connection: sa.Connection, query: sa.TextClause, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {name: value for name, value in parameters.items() if f":{name} " in query.text}
    return [dict(row) for row in connection.execute(query, wanted).mappings()]


def _shown(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"name": name, "rows": len(rows), "examples": rows[:5]} for name, rows in found.items() if rows]
