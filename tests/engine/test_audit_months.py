"""Months of the audit trail leave for files, one after the other, and stay readable; a crash on the way loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.engine.retention import Retention
from pipeline_project.engine.upkeep import Upkeep
from pipeline_project.store import audit_months
from tests.engine.ended import archive, completed, hot, months, told
from tests.store.planting import run
from tests.world import World, seal_everything


def test_months_of_the_audit_trail_go_to_files_in_order_and_stay_readable(shop: World) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    completed(shop, "a")
    shop.submit("lives", 1, {"node": 1})
    events = shop.events("a")
    timeline = shop.engine.inquiry.timeline("p", "a")
    archive(shop, days=40)
    assert months(shop) == {}  # an item of that month still waits
    shop.engine.intake.cancel("p", ["lives"])
    archive(shop, days=2)
    assert months(shop) == {"transition_2026_01": "dropped"}
    assert shop.events("a") == events
    assert [told(row) for row in shop.engine.inquiry.timeline("p", "a")] == timeline
    assert shop.events("lives") == ["submit", "cancel"]
    assert shop.engine.upkeep.check() == []


def test_an_item_whose_audit_trail_has_left_is_not_revived(shop: World) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}, "retries": {"max_attempts": 1}})
    shop.submit("a", 1, {"node": 1})
    shop.cycle()
    shop.fail(shop.claim())
    archive(shop, days=40)
    assert months(shop) == {"transition_2026_01": "dropped"}
    assert shop.engine.intake.revive("p", ["a"]) == []
    assert shop.state("a") == "failed"


def test_an_item_half_of_whose_audit_trail_has_left_is_not_revived(shop: World) -> None:
    """Its last move is still here, its submission is not: replayed, the trail would not give the present."""
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}, "retries": {"max_attempts": 1}})
    shop.submit("a", 1, {"node": 1})
    shop.advance(days=20)
    shop.engine.upkeep.sweep()  # makes the month
    shop.cycle()
    shop.fail(shop.claim())
    archive(shop, days=20)
    assert months(shop) == {"transition_2026_01": "dropped"}
    assert shop.engine.intake.revive("p", ["a"]) == []
    assert shop.engine.upkeep.check() == []
    assert shop.events("a") == ["submit", "select", "claim", "fail"]


def test_an_item_is_answered_for_when_its_month_has_left(shop: World) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    claims = completed(shop, "a")
    shop.resources(node=8)
    cycle = shop.engine.inquiry.cycles("p")[0]["cycle"]

    def asked() -> list[Any]:
        inquiry = shop.engine.inquiry
        decided = inquiry.decisions(cycle, pool="p"), inquiry.lineage(cycle, pool="p")
        return [told(inquiry.item("p", "a")), inquiry.why("p", "a"), inquiry.timeline("p", "a"), inquiry.beside("p", "a"), *decided]

    before = asked()
    archive(shop, days=40)
    assert months(shop) == {"transition_2026_01": "dropped"}
    assert asked() == before
    assert shop.engine.cycles.rollback(cycle, preview=True)["completed"] == 1
    assert [(answer["accepted"], answer["state"]) for answer in shop.complete(claims)] == [(True, "completed")]
    assert shop.engine.intake.cancel("p", ["a"]) == []
    assert shop.use("fuel") == (0, 2)
    assert (shop.engine.audit.replay(), shop.engine.upkeep.check()) == ([], [])
    verified = shop.engine.audit.verify()
    assert (verified.first, verified.gone) == (None, ["transition_2026_01"])
    assert verified.archived >= 4


def test_a_month_stays_until_it_is_sealed(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    completed(shop, "a")
    with monkeypatch.context() as patch:
        patch.setattr(Upkeep, "_seal", lambda _: 0)
        shop.advance(days=40)
        shop.engine.upkeep.sweep()
    assert hot(shop)["item_state"] == 0
    assert months(shop) == {}
    archive(shop)
    assert months(shop) == {"transition_2026_01": "dropped"}


@pytest.mark.parametrize("step", ["_export", "_detach", "_detached", "_drop"])
def test_a_crash_between_export_and_drop_is_taken_up_again(shop: World, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    completed(shop, "a")
    events = shop.events("a")
    shop.advance(days=40)
    seal_everything(shop.engine.audit)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Retention, step, crash)
        with pytest.raises(KeyboardInterrupt):
            shop.engine.upkeep.sweep()
    assert shop.events("a") == events
    shop.engine.upkeep.sweep()
    assert months(shop) == {"transition_2026_01": "dropped"}
    assert shop.events("a") == events


def test_a_month_whose_file_was_changed_is_not_dropped(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.policy({"retention": {"items": "1d", "transitions": "20d"}})
    completed(shop, "a")
    with monkeypatch.context() as patch:
        patch.setattr(Retention, "_detached", lambda _: [])
        archive(shop, days=40)
    with shop.engine.database.begin() as connection:
        file = Path(run(connection, "select location from pipeline.audit_export").scalar_one())
    written = file.read_bytes()
    for spoilt in (written[:-1], b"", None):
        file.unlink()
        if spoilt is not None:
            file.write_bytes(spoilt)
        shop.engine.upkeep.sweep()
        assert months(shop) == {"transition_2026_01": "detached"}
    file.write_bytes(written)
    shop.engine.upkeep.sweep()
    assert months(shop) == {"transition_2026_01": "dropped"}


def test_a_file_holds_every_column_of_the_audit_trail(shop: World) -> None:
    with shop.engine.database.begin() as connection:
        columns = connection.scalars(
            sa.text("select attname from pg_attribute where attrelid = 'pipeline.transition'::regclass and attnum > 0 order by attnum")
        )
        assert audit_months.SCHEMA.names == list(columns)
