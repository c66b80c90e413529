"""`pipeline audit` and `pipeline feed`: what they print, and how they end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.cli import console
from pipeline_project.store.database import Database
from tests.cli.conftest import CommandLine, Submit
from tests.store.planting import run, unwatched
from tests.world import entered


def sealed(pipeline: CommandLine) -> dict[str, Any]:
    """Everything, though writers of other databases may hold the horizon back for a moment."""
    give_up = time.monotonic() + 60
    while (made := pipeline("audit", "seal"))["unsealed"]:
        assert time.monotonic() < give_up
    return made


def tamper(database: Database, statement: str) -> None:
    with entered(database) as connection, unwatched(connection):
        run(connection, statement)


def test_a_changed_row_ends_with_4_and_its_name(pipeline: CommandLine, pool: str, submit: Submit, database: Database) -> None:
    submit(a=1, b=2)
    roots = Path(sealed(pipeline)["roots"])
    verified = pipeline("audit", "verify", "--replay")
    assert (verified["verified"], verified["first"], verified["violated"]) == (True, None, [])
    assert verified["compared"] == verified["seals"] >= 1
    assert verified["read_back"] is None
    assert pipeline("audit", "verify", "--archive")["read_back"] == 0
    assert "no --since" in pipeline("audit", "verify", "--archive", "--since", "1", exits=2)["error"]["message"]
    newest = "version = 1 and item_id = (select max(item_id) from pipeline.item_key)"
    tamper(database, f"update pipeline.transition set actor = 'x' where {newest}")  # noqa: S608
    first = pipeline("audit", "verify", exits=4)["first"]
    assert (first["fault"], first["item"], first["version"], first["row"]["actor"]) == ("row_edited", "b", 1, "x")
    shown, _ = pipeline.shown("audit", "verify", exits=4)
    assert "item b, version 1" in shown
    assert roots.name.startswith(database.name)


def test_a_copy_elsewhere_is_brought_up_to_date_and_compared(pipeline: CommandLine, pool: str, submit: Submit, database: Database) -> None:
    submit(a=1)
    sealed(pipeline)
    copy = str(pipeline.folder / "copy.jsonl")
    seals = pipeline("audit", "export", copy)["exported"]
    assert pipeline("audit", "export", copy)["exported"] == 0
    assert pipeline("audit", "verify", "--from-file", copy)["compared"] == seals
    tamper(database, f"delete from pipeline.audit_seal where seal_id = {seals}")  # noqa: S608
    assert pipeline("audit", "verify", "--from-file", copy, exits=4)["first"]["fault"] == "tail_cut"
    assert "nothing was written" in pipeline("audit", "export", copy, exits=4)["error"]["message"]
    assert "expected a file" in pipeline("audit", "verify", "--from-file", "nowhere", exits=2)["error"]["message"]
    assert "--since" in pipeline("audit", "verify", "--since", "99", exits=2)["error"]["message"]


def test_a_file_that_lacks_seals_is_told(pipeline: CommandLine, pool: str, submit: Submit) -> None:
    """Emptied, it has nothing to say against a chain that was rewritten whole."""
    submit(a=1)
    roots = Path(sealed(pipeline)["roots"])
    assert "seals: of the others" not in pipeline.shown("audit", "verify")[0]
    roots.write_text("")
    shown = " ".join(pipeline.shown("audit", "verify")[0].split())
    assert re.search(r"the file has 0 of these \d+ seals: of the others a chain rewritten whole would not be noticed", shown)


def test_a_present_that_does_not_follow_ends_with_4(pipeline: CommandLine, pool: str, submit: Submit, database: Database) -> None:
    submit(a=1)
    assert pipeline("audit", "replay")["replayed"]
    tamper(database, "update pipeline.item_state set revision = 2")
    assert [v["name"] for v in pipeline("audit", "replay", exits=4)["violated"]] == ["state_not_replayed"]
    assert "state_not_replayed" in pipeline.shown("audit", "replay", exits=4)[0]


def test_a_consumer_reads_acknowledges_and_is_listed(pipeline: CommandLine, pool: str, submit: Submit) -> None:
    submit(a=1, b=2)
    sealed(pipeline)
    page = pipeline("feed", "read", "--consumer", "c", "--pool", pool)
    assert [row["item"] for row in page["events"] if row["item"]] == ["a", "b"]
    assert "pipeline feed ack" in pipeline.shown("feed", "read", "--consumer", "c")[0]
    assert pipeline("feed", "ack", page["until"], "--consumer", "c")["moved"]
    assert not pipeline("feed", "ack", page["until"], "--consumer", "c")["moved"]
    assert pipeline.shown("feed", "read", "--consumer", "c")[0].strip() == "nothing new"
    assert [row["consumer"] for row in pipeline("feed", "status")["consumers"]] == ["c"]
    assert "horizon" in pipeline.shown("feed", "status")[0]
    assert pipeline("feed", "ack", "0/0", "--consumer", "c", "--back")["moved"]
    out, _ = pipeline.shown("feed", "follow", "--consumer", "c", "--seconds", "0")
    assert [json.loads(line)["item"] for line in out.splitlines() if '"submit"' in line] == ["a", "b"]
    assert "XID/SEQ" in pipeline("feed", "ack", "7", "--consumer", "c", exits=2)["error"]["message"]


def test_the_timeline_shows_who_why_and_what_mattered_beside(
    pipeline: CommandLine, pool: str, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 200)
    submit(a=1)
    pipeline("resources", "set-capacity", "gpu", "2", "--pool", pool)
    pipeline("cycle", "run", "--pool", pool)
    pipeline("items", "cancel", "a", "--pool", pool, "--reason", "no more")
    pipeline("pools", "pause", pool)  # after its end
    found = pipeline("items", "timeline", "a", "--pool", pool)
    assert [(move["event"], move["version"], move["token"]) for move in found["transitions"]] == [
        ("submit", 1, 0), ("select", 2, 0), ("cancel", 3, 0),
    ]  # fmt: skip
    assert found["transitions"][-1]["reason"] == "no more"
    assert all(move["actor"] and move["session_name"] and move["at"] for move in found["transitions"])
    assert [event["kind"] for event in found["pool_events"]] == ["capacity_changed", "cycle_published"]
    shown, _ = pipeline.shown("items", "timeline", "a", "--pool", pool)
    assert shown.index("submit") < shown.index("capacity_changed") < shown.index("cycle_published") < shown.index("cancel")


def test_the_status_of_a_database_tells_how_the_feed_stands(pipeline: CommandLine, pool: str) -> None:
    sealed(pipeline)
    found = pipeline("db", "status")["feed"]
    assert found["unsealed"] == 0
    assert {"horizon", "waiting_rows", "waiting_s", "held_by", "vacuum_held_by"} <= found.keys()
    assert "horizon" in pipeline.shown("db", "status")[0]
