"""Runs a query that is not ours: as the reader, who may change nothing, at one instant and for a limited time."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pipeline_project.core.errors import Refused
from pipeline_project.store import statements
from pipeline_project.store.database import READER

SQL = statements.load("own_queries")

TIMEOUT_S: Final = 10
PARAMETERS: Final = {"pool": "text", "cycle": "text", "day": "date"}
_PARAMETER: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


def parameters(query: str) -> list[str]:
    """Names of the parameters it takes, in order; those we know are in PARAMETERS."""
    return list(dict.fromkeys(_PARAMETER.findall(re.sub(r"--[^\n]*|'[^']*'", "", query))))


def rows(connection: sa.Connection, query: str, *, pool: str, cycle: str, day: date | None, most: int) -> list[dict[str, Any]]:
    """The first rows of its answer. Inside a read-only transaction, which it ends by being its last statement.

    It is wrapped and given parameters, and so it is one statement, whatever it says. Raises Refused with PostgreSQL's words.
    """
    typed = _PARAMETER.sub(lambda found: f"cast(:{found[1]} as {PARAMETERS[found[1]]})" if found[1] in PARAMETERS else found[0], query)
    wrapped = SQL["wrapped"].text.replace("{query}", typed.strip().rstrip(";"))
    known = {"pool": pool, "cycle": cycle, "day": day, "most": most}
    statement = sa.text(wrapped)
    try:
        connection.execute(sa.text(f"set local role {READER}"))
        connection.execute(sa.text(f"set local statement_timeout = '{TIMEOUT_S}s'"))
        answer = connection.execute(statement, {name: known[name] for name in statement.compile().params if name in known})
        return [dict(row) for row in answer.mappings()]
    except DBAPIError as failure:
        said = str(failure.orig).strip().splitlines()[0]
        grant = f"; an administrator grants it: grant {READER} to your database user" if "set role" in said else ""
        raise Refused(f"the query was refused by PostgreSQL: {said}{grant}") from failure
