"""Reads the named statements of the .sql file beside a module, so that each can be pasted into psql and explained in tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import sqlalchemy as sa

_NAME = re.compile(r"^-- name: (\w+)[^\n]*$", re.MULTILINE)


@cache
def load(noun: str, folder: Path = Path(__file__).parent) -> dict[str, sa.TextClause]:
    """The statements of <noun>.sql by name; parameters are written :name."""
    text = (folder / f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    assert len(set(names)) == len(names), f"{noun}.sql names a statement twice"
    return {name: sa.text(body.strip().rstrip(";")) for name, body in zip(names, bodies, strict=True)}
