"""Two transactions can never wait for each other: every lock is taken in id order, and none collides with foreign keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from pipeline_project import store

FILES: Final = sorted(Path(store.__file__).parent.rglob("*.sql"))
LOCK: Final = re.compile(r"\bfor\s+(?:no\s+key\s+update|update|key\s+share|share)\b", re.IGNORECASE)
IN_ID_ORDER: Final = re.compile(r"order by (?:\w+\.)?\w+_id(?: limit :\w+)?\s*$")
ONE_ROW: Final = re.compile(r"(?:limit 1|where (?:pool_id = :pool_id and key = :key|(\w+_id) = :\1))\s*$")
LOCKS: Final = [
    (file.name, text[: found.start()].rpartition(";")[2], found.group(), text[found.end() :].partition("\n")[0])
    for file in FILES
    for text in [re.sub(r"--.*", "", file.read_text(encoding="utf-8"))]
    for found in LOCK.finditer(text)
]


@pytest.mark.parametrize(("file", "before", "lock", "after"), LOCKS)
def test_a_lock_is_taken_in_id_order_on_one_row_or_without_waiting(file: str, before: str, lock: str, after: str) -> None:
    assert lock.lower() == "for no key update", f"{file}: a stronger lock collides with those of foreign keys"
    assert IN_ID_ORDER.search(before) or ONE_ROW.search(before) or "skip locked" in after, f"{file}: {before[-200:]}"


def test_there_are_locks_to_look_at() -> None:
    assert len(LOCKS) >= 10
