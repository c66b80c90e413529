"""The sealed trail against whoever rewrites it, as superuser and with no trigger watching: the first fault is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline_project.core.auditing import Fault
from pipeline_project.core.errors import CheckFailed, UsageError
from pipeline_project.engine import audit as module
from pipeline_project.engine.audit import Audit
from pipeline_project.engine.engine import Engine
from pipeline_project.store import seals
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.store.planting import run, unwatched
from tests.world import NOON, World, entered, seal_everything, settle

TABLES = ("transition", "pool_event", "audit_seal", "item_state", "resource")


@dataclass
class Sealed:
    """A trail of three seals or more, somebody who rewrites it, and how it was before."""

    world: World
    roots: Path
    audit: Audit

    @property
    def unfiled(self) -> Audit:
        """Without a file of roots to compare with."""
        return Audit(self.world.engine.database, None)

    @property
    def last(self) -> int:
        number: int = self.audit.status()["seal"]
        return number

    def item(self, key: str) -> int:
        item: int = self.world.item(key)["item_id"]
        return item

    def tamper(self, *statements: str, **parameters: Any) -> None:
        with entered(self.world.engine.database) as connection, unwatched(connection):
            for statement in statements:
                run(connection, statement, **{name: value for name, value in parameters.items() if f":{name}" in statement})

    def remember(self) -> None:
        self.tamper(*(f"create table kept_{table} as select * from pipeline.{table}" for table in TABLES))  # noqa: S608  # our own names

    def restore(self) -> None:
        for table in TABLES:
            self.tamper(f"delete from pipeline.{table}", f"insert into pipeline.{table} overriding system value select * from kept_{table}")  # noqa: S608


@contextmanager
def sealed_world(database: Database, folder: Path) -> Iterator[Sealed]:
    with entered(database) as connection:
        run(connection, "insert into pipeline.clock (at) values (:at)", at=NOON)
        run(connection, "select pipeline.ensure_partitions(2)")
    world = World(Engine.over(database, Artifacts(str(folder / "artifacts")), timezone="UTC"))
    world.engine.intake.create_pool(world.pool)
    world.resources(gpu=9)
    audit = Audit(database, folder / "roots")
    for seal in range(3):
        world.submit_all(*({"key": f"{seal}-{key}", "weight": 1, "demands": {"gpu": 1}} for key in range(4)))
        if seal == 1:
            world.cycle()
        settle(world.engine)  # else what is written here may need two seals
        seal_everything(audit)
    yield Sealed(world, next((folder / "roots").iterdir()), audit)


@pytest.fixture(scope="module")
def original(clones: Callable[[], AbstractContextManager[Database]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with clones() as database, sealed_world(database, tmp_path_factory.mktemp("sealed")) as made:
        made.remember()
        yield made


@pytest.fixture
def sealed(original: Sealed) -> Iterator[Sealed]:
    """The same for every test: whatever one does to it is undone."""
    kept = original.roots.read_bytes()
    yield original
    original.roots.write_bytes(kept)
    original.restore()


def test_a_trail_that_nobody_touched_is_verified(sealed: Sealed) -> None:
    found = sealed.audit.verify()
    assert found.first is None
    assert found.seals == found.compared == sealed.last
    with entered(sealed.world.engine.database) as connection:
        assert found.rows == run(connection, "select count(*) from pipeline.trail").scalar_one()
    assert sealed.audit.verify(since=found.seals - 1).seals == 1
    assert found.unsealed == 0


ITEM = "where item_id = :item and version = "
TWIN = (
    "insert into pipeline.transition (seq, xid, at, item_id, token, pool_id, version, revision, to_state, event, actor)"
    " select 0, xid, at, item_id, token, pool_id, 77, revision, to_state, event, actor from pipeline.transition "
)
ROWS: list[tuple[str, Fault, int, str]] = [
    (f"update pipeline.transition set reason = 'nothing to see' {ITEM} 1", Fault.ROW_EDITED, 1, "a column other"),  # noqa: S608
    (f"update pipeline.transition set actor = 'somebody' {ITEM} 2", Fault.ROW_EDITED, 2, "a column other"),  # noqa: S608
    (f"update pipeline.transition set at = at + interval '1 second' {ITEM} 1", Fault.ROW_EDITED, 1, "time: expected"),  # noqa: S608
    (f"update pipeline.transition set version = 9 {ITEM} 1", Fault.ROW_EDITED, 1, "version: expected 1, found 9"),  # noqa: S608
    (f"delete from pipeline.transition {ITEM} 1", Fault.ROW_REMOVED, 1, "no such row"),  # noqa: S608
    (f"{TWIN} {ITEM} 1", Fault.ROW_INSERTED, 77, "it was not there"),
]


@pytest.mark.parametrize(("statement", "fault", "version", "said"), ROWS)
def test_the_first_row_that_was_changed_is_named(sealed: Sealed, statement: str, fault: Fault, version: int, said: str) -> None:
    later = "update pipeline.transition set reason = 'later' where item_id in (select item_id from pipeline.item_key where key like '2-%')"
    sealed.tamper(statement, later, item=sealed.item("1-2"))
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.item, first.version) == (fault, "1-2", version)
    assert said in first.message
    assert f"seal {first.seal}" in first.message
    assert (first.row is None) == (fault is Fault.ROW_REMOVED)


def test_a_pool_event_that_was_changed_is_named(sealed: Sealed) -> None:
    sealed.tamper("update pipeline.pool_event set detail = '{}' where kind = 'capacity_changed'")
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.seal, first.row and first.row["event"]) == (Fault.ROW_EDITED, 1, "capacity_changed")


@pytest.mark.parametrize("column", ["sealed_at = sealed_at + interval '1 hour'", "rows = rows + 1", "root = previous", "chain = root",
                                    "previous = root", "until_seq = until_seq - 1", "names_digest = root", "names = '\\x00'",
                                    "leaves = overlay(leaves placing '\\x00' from 3)"])  # fmt: skip
def test_a_changed_seal_is_named(sealed: Sealed, column: str) -> None:
    sealed.tamper(f"update pipeline.audit_seal set {column} where seal_id = 2")  # noqa: S608
    first = sealed.unfiled.verify().first
    assert first is not None
    assert (first.fault, first.seal) == (Fault.SEAL_EDITED, 2)


def test_a_seal_that_was_taken_out_is_missed(sealed: Sealed) -> None:
    sealed.tamper("delete from pipeline.audit_seal where seal_id = 2")
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.seal) == (Fault.SEAL_REMOVED, 2)


def rewrite_chain(sealed: Sealed, since: int) -> None:
    """What somebody does who knows how seals are made, and owns the database: seal again what was changed."""
    sealed.tamper("delete from pipeline.audit_seal where seal_id >= :since", since=since)
    seal_everything(sealed.unfiled)


def test_a_chain_that_was_rewritten_whole_is_noticed_by_the_file_alone(sealed: Sealed) -> None:
    sealed.tamper("update pipeline.transition set actor = 'x' where item_id = :item", item=sealed.item("1-2"))
    rewrite_chain(sealed, since=2)
    assert sealed.unfiled.verify().first is None
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.seal) == (Fault.CHAIN_REWRITTEN, 2)
    assert "root" in first.message


def test_a_tail_that_was_cut_off_is_noticed_by_the_file_alone(sealed: Sealed) -> None:
    last = sealed.last
    sealed.tamper("delete from pipeline.audit_seal where seal_id = :last", last=last)
    assert sealed.unfiled.verify().first is None
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.seal) == (Fault.TAIL_CUT, last)


def test_nothing_is_sealed_onto_a_chain_that_the_file_does_not_know(sealed: Sealed) -> None:
    last = sealed.last
    sealed.tamper("delete from pipeline.audit_seal where seal_id = :last", last=last)
    with pytest.raises(CheckFailed, match=f"seal {last}: .* the database has no such seal: nothing was written"):
        sealed.audit.seal()
    assert sealed.last == last - 1
    engine = Engine.over(sealed.world.engine.database, sealed.world.engine.artifacts, timezone="UTC", roots=sealed.roots.parent)
    assert engine.upkeep.sweep()["sealed"] == 0
    assert [alert["kind"] for alert in engine.inquiry.alerts()] == ["audit_not_sealed"]


def test_a_changed_file_of_roots_is_named(sealed: Sealed) -> None:
    lines = sealed.roots.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"root": "00" * 32})
    sealed.roots.write_text("\n".join(lines) + "\n")
    first = sealed.audit.verify().first
    assert first is not None
    assert (first.fault, first.seal) == (Fault.FILE_EDITED, 2)
    with pytest.raises(UsageError, match="expected a file of roots, found nothing at"):
        sealed.audit.verify(roots=sealed.roots.with_name("elsewhere"))


def test_two_sealers_at_once_seal_each_row_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    for key in range(30):
        world.submit(f"k{key}")
    audits = [Audit(world.engine.database, tmp_path / "roots") for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = [sum(report["rows"] for report in threads.map(Audit.seal, audits)) for _ in range(2)]
    seal_everything(audits[0])
    found = audits[0].verify()
    assert found.first is None
    assert found.seals == found.compared
    assert sum(made) <= found.rows == 31


def test_a_transaction_that_has_not_ended_is_sealed_later(world: World, tmp_path: Path) -> None:
    audit = Audit(world.engine.database, tmp_path)
    with world.engine.database.begin() as slow:
        run(slow, "insert into pipeline.pool_event (at, pool_id, kind, actor) values (pipeline.now(), 1, 'slow', 'x')")
        world.submit("fast")
        audit.seal()
        assert audit.status()["unsealed"] >= 1
    seal_everything(audit)
    found = audit.verify()
    assert (found.first, found.unsealed) == (None, 0)


GONE = """create or replace function pipeline.audit_gone() returns table (partition text, from_at timestamptz, until_at timestamptz)
  language sql stable as $$ select 'transition_2026_01'::text, '2026-01-01'::timestamptz, '2026-02-01'::timestamptz $$"""


def test_rows_of_a_partition_that_was_archived_are_excused_and_no_others(database: Database, tmp_path: Path) -> None:
    with sealed_world(database, tmp_path) as sealed:
        sealed.world.advance(days=30)
        sealed.world.submit("february")
        seal_everything(sealed.audit)
        detach = "alter table pipeline.transition detach partition pipeline.transition_2026_01"
        sealed.tamper(detach)
        first = sealed.audit.verify().first
        assert first is not None
        assert (first.fault, first.item) == (Fault.ROW_REMOVED, "0-0")
        sealed.tamper(GONE)
        found = sealed.audit.verify()
        assert found.first is None
        assert (found.archived, found.gone) == (20, ["transition_2026_01"])
        sealed.tamper("delete from pipeline.transition")
        first = sealed.audit.verify().first
        assert first is not None
        assert (first.fault, first.item) == (Fault.ROW_REMOVED, "february")


def test_an_auditor_verifies_and_replays_with_nothing_but_reads(sealed: Sealed) -> None:
    database = replace(sealed.world.engine.database, role="pipeline_auditor", _engines=[])
    auditor = Audit(database, sealed.roots.parent)
    assert auditor.verify().first is None
    assert auditor.replay() == []
    with database.begin() as connection:
        assert run(connection, "select current_user").scalar_one() == "pipeline_auditor"
    sealed.world.submit("more")
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        seal_everything(auditor)
    for engine in database._engines:
        engine.dispose()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("update pipeline.item_state set version = version + 1 where item_id = :item", "state_not_last_transition"),
        ("update pipeline.item_state set cycle_id = cycle_id + 1 where item_id = :item", "state_not_replayed"),
        ("update pipeline.item_state set revision = revision + 1 where item_id = :item", "state_not_replayed"),
        ("update pipeline.resource set in_use = in_use + 1", "resource_not_replayed"),
        ("update pipeline.resource set spent = spent + 1", "resource_not_replayed"),
    ],
)
def test_a_present_that_does_not_follow_from_the_trail_is_named(sealed: Sealed, statement: str, name: str) -> None:
    assert sealed.audit.replay() == []
    sealed.tamper(statement, item=sealed.item("1-2"))
    assert name in [violation["name"] for violation in sealed.audit.replay()]


def test_what_a_row_hashes_to_does_not_depend_on_who_asks(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.world.engine.intake.cancel(sealed.world.pool, ["2-3"], reason="größer")
    seal_everything(sealed.audit)
    for name, value in {"PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    other = replace(sealed.world.engine.database, _engines=[])
    assert Audit(other, None).verify().first is None
    for engine in other._engines:
        engine.dispose()


def test_every_kind_of_move_replays(world: World, tmp_path: Path) -> None:
    world.policy({"retries": {"max_attempts": 2, "backoff": "0s"}})
    world.resources(gpu=2)
    world.resources(fuel=9, kind="consumable")
    demands = {"gpu": 1, "fuel": 2}
    world.submit("done", 9, demands=demands)
    world.submit("failed", 8, demands=demands)
    world.cycle()
    world.complete(world.claim("done"))
    world.fail(world.claim("failed"))
    world.fail(world.claim("failed"))
    world.engine.intake.revive(world.pool, ["failed"])
    world.engine.intake.revise(world.pool, "failed", {"weight": 3, "demands": {"gpu": 2}})
    world.cycle()
    world.submit("waits", demands={"gpu": 2})
    world.engine.intake.revise(world.pool, "failed", {"weight": 4, "demands": {"fuel": 3}})  # released first
    world.cycle()
    world.engine.intake.cancel(world.pool, ["waits"])
    assert world.use("fuel") == (3, 2)
    assert Audit(world.engine.database, None).replay() == []


def ask(database: Database, call: Callable[[sa.Connection], Any]) -> Any:
    with database.begin(repeatable=True) as connection:
        return call(connection)


def test_a_partition_may_go_when_all_of_it_is_sealed(world: World) -> None:
    world.submit("a")
    unsealed = "select pipeline.unsealed_rows('pipeline.transition_2026_01')"
    database = world.engine.database
    assert ask(database, lambda connection: run(connection, unsealed).scalar_one()) == 1
    seal_everything(Audit(database, None))
    assert ask(database, lambda connection: run(connection, unsealed).scalar_one()) == 0
    last = ask(database, seals.last)
    assert ask(database, lambda c: tuple(run(c, "select xid::text, seq from pipeline.sealed_up_to()").one())) == (
        str(last.until.xid), last.until.seq,
    )  # fmt: skip
