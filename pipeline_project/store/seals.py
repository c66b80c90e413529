"""Seals of the audit trail: made batch by batch below the feed's horizon, and read again to verify it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.core.positions import START, Position
from pipeline_project.core.seals import SIZE, Names, Seal
from pipeline_project.store import cycles, feed, statements

SQL = statements.load("seals")

COUNTED_MOST: Final = 1_000_000


class Batch(NamedTuple):
    """Consecutive rows of the trail: their concatenated leaf hashes, and their names."""

    leaves: bytes
    names: Names


class Gone(NamedTuple):
    """A partition that was archived and taken away, and its times as in `Names`."""

    partition: str
    from_at: int
    until_at: int

    def covers(self, names: Names) -> Bools:
        """Which of these rows were in it. Pool events are in no partition."""
        return (names.seqs > 0) & (names.times >= self.from_at) & (names.times < self.until_at)


def seal(connection: sa.Connection, *, most: int) -> Seal | None:
    """Seal the next rows, so many at most; None where every row below the horizon is sealed."""
    connection.execute(SQL["lock"])
    feed.in_order(connection)
    before = last(connection)
    after = before.until if before else START
    batch = _batch(connection.execute(SQL["unsealed"], {"xid": str(after.xid), "seq": after.seq, "most": most}).mappings().one())
    if batch is None:
        return None
    packed = batch.names.pack()
    made = Seal.close(
        leaves=batch.leaves,
        names=packed,
        previous=before,
        sealed_at=cycles.now(connection),
        after=after,
        until=batch.names.position(-1),
    )
    connection.execute(SQL["add"], {**_columns(made), "leaves": batch.leaves, "names": packed})
    return made


def last(connection: sa.Connection) -> Seal | None:
    row = connection.execute(SQL["last"]).mappings().first()
    return _seal(row) if row else None


def after(connection: sa.Connection, seal_id: int, *, most: int) -> list[Seal]:
    """The seals that follow one, oldest first; 0 = from the first on."""
    return [_seal(row) for row in connection.execute(SQL["after"], {"seal_id": seal_id, "most": most}).mappings()]


def recorded(connection: sa.Connection, seal_id: int) -> tuple[bytes, bytes]:
    """(leaves, packed names) that were kept with a seal."""
    row = connection.execute(SQL["bulk"], {"seal_id": seal_id}).one()
    return row.leaves, row.names


def present_leaves(connection: sa.Connection, sealed: Seal) -> bytes:
    """What the rows of a seal hash to now. 300,000 rows a second."""
    leaves: bytes = connection.execute(SQL["present_leaves"], _columns(sealed)).scalar_one()
    return leaves


def present(connection: sa.Connection, sealed: Seal) -> Batch:
    """The rows of a seal as they are now, with their names."""
    nothing = Batch(b"", Names(**dict.fromkeys(Names.__slots__, np.empty(0, np.int64))))
    return _batch(connection.execute(SQL["present_names"], _columns(sealed)).mappings().one()) or nothing


def leaves_of(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> tuple[Int64, bytes]:
    """(seqs, concatenated leaves) of rows of pipeline.transition that came from a file. Raises DataError where they cannot be such rows."""
    found = connection.execute(SQL["leaves"], {"rows": json.dumps(rows, default=str)}).one()
    return np.frombuffer(found.seqs, ">i8").astype(np.int64), found.leaves


def row_at(connection: sa.Connection, position: Position) -> dict[str, Any] | None:
    """A row of the trail with the names of what it is about; None where there is none."""
    row = connection.execute(SQL["row_at"], {"xid": str(position.xid), "seq": position.seq}).mappings().first()
    return dict(row) if row else None


def key_of(connection: sa.Connection, item_id: int) -> str | None:
    key: str | None = connection.scalar(SQL["key_of"], {"item_id": item_id})
    return key


def gone(connection: sa.Connection) -> Sequence[Gone]:
    return [Gone(row.partition, *(int.from_bytes(at, signed=True) for at in row[1:])) for row in connection.execute(SQL["gone"])]


def unsealed(connection: sa.Connection) -> int:
    """Rows that no seal covers yet; COUNTED_MOST means so many or more."""
    sealed = last(connection)
    until = sealed.until if sealed else START
    return int(connection.execute(SQL["unsealed_rows"], {"xid": str(until.xid), "seq": until.seq, "most": COUNTED_MOST}).scalar_one())


def trail_name(connection: sa.Connection) -> str:
    """What tells this database's trail from every other on the server, those of the same name before it included."""
    name: str = connection.execute(SQL["trail_name"]).scalar_one()
    return name


def _batch(row: RowMapping) -> Batch | None:
    if not row["rows"]:
        return None
    columns: dict[str, Int64] = {name: np.frombuffer(row[name], ">i8").astype(np.int64) for name in Names.__slots__}
    assert len(row["leaves"]) == SIZE * row["rows"]
    return Batch(row["leaves"], Names(**columns))


def _seal(row: RowMapping) -> Seal:
    return Seal(
        after=Position(int(row["after_xid"]), row["after_seq"]),
        until=Position(int(row["until_xid"]), row["until_seq"]),
        names=row["names_digest"],
        **{name: row[name] for name in ("seal_id", "sealed_at", "rows", "root", "previous", "chain")},
    )


def _columns(sealed: Seal) -> dict[str, Any]:
    return {
        **{name: getattr(sealed, name) for name in ("seal_id", "sealed_at", "rows", "root", "previous", "chain")},
        "names_digest": sealed.names,
        "after_xid": str(sealed.after.xid),
        "after_seq": sealed.after.seq,
        "until_xid": str(sealed.until.xid),
        "until_seq": sealed.until.seq,
    }
