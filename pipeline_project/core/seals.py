"""What proves that a batch of the audit trail is as it was: a Merkle root over its rows, chained to the batch before.

Hashes are SHA-256. A leaf is sha256(0x00, row), a node sha256(0x01, left, right) and the tree that of RFC 6962, section 2.1; a seal
is sha256(0x02, everything in it). So no leaf can be passed off as a node, nor a node as a seal.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import numpy as np

from pipeline_project.core.packing import Bools, Int64
from pipeline_project.core.positions import Position

SIZE: Final = 32
"""Bytes of a hash."""
GENESIS: Final = bytes(SIZE)
"""What the first seal is chained to."""
POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def merkle_root(leaves: bytes) -> bytes:
    """The root over n concatenated leaf hashes, n >= 1. O(n), level by level: where the number is odd, the last goes up as it is."""
    assert leaves and len(leaves) % SIZE == 0
    level, pair = leaves, 2 * SIZE
    while len(level) > SIZE:
        whole = len(level) - len(level) % pair
        nodes = [hashlib.sha256(b"\x01" + level[at : at + pair]).digest() for at in range(0, whole, pair)]
        level = b"".join([*nodes, level[whole:]])
    return level


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Which rows a batch is made of, in feed order; enough to say which one is gone.

    xids      int64[n]  transaction
    seqs      int64[n]  number of the row; negative for pool events
    items     int64[n]  item; 0 for pool events
    versions  int64[n]  version of the item; 0 for pool events
    times     int64[n]  microseconds since 2000-01-01 UTC, as PostgreSQL counts
    """

    xids: Int64
    seqs: Int64
    items: Int64
    versions: Int64
    times: Int64

    def __len__(self) -> int:
        return len(self.seqs)

    def pack(self) -> bytes:
        """A few bytes a row: differences, compressed."""
        columns = np.stack([self.xids, self.seqs, self.items, self.versions, self.times]).astype(">i8")
        return zlib.compress(np.diff(columns, prepend=np.int64(0)).astype(">i8").tobytes(), 1)

    @classmethod
    def unpack(cls, packed: bytes, rows: int) -> Self:
        """Raises ValueError where these are not the names of so many rows."""
        try:
            columns = np.frombuffer(zlib.decompress(packed), ">i8").astype(np.int64).reshape(5, rows).cumsum(axis=1)
        except (zlib.error, ValueError) as broken:
            raise ValueError(f"expected the names of {rows} rows, found {len(packed)} bytes that are not") from broken
        return cls(xids=columns[0], seqs=columns[1], items=columns[2], versions=columns[3], times=columns[4])

    def where(self, kept: Bools) -> Names:
        """Only these rows."""
        return Names(**{name: getattr(self, name)[kept] for name in Names.__slots__})

    def position(self, row: int) -> Position:
        return Position(int(self.xids[row]), int(self.seqs[row]))

    def time(self, row: int) -> datetime:
        return POSTGRES_EPOCH + timedelta(microseconds=int(self.times[row]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One batch: the rows after one position up to and including another.

    root      over the rows' leaf hashes
    names     hash of the packed names
    previous  chain of the seal before; GENESIS for the first
    chain     over all of the above: what the next seal refers to
    """

    seal_id: int
    sealed_at: datetime
    after: Position
    until: Position
    rows: int
    root: bytes
    names: bytes
    previous: bytes
    chain: bytes

    @classmethod
    def close(cls, *, leaves: bytes, names: bytes, previous: Self | None, sealed_at: datetime, after: Position, until: Position) -> Self:
        """Seal a batch: its concatenated leaf hashes and its packed names."""
        open_ = cls(
            seal_id=previous.seal_id + 1 if previous else 1,
            sealed_at=sealed_at.astimezone(UTC),
            after=after,
            until=until,
            rows=len(leaves) // SIZE,
            root=merkle_root(leaves),
            names=hashlib.sha256(names).digest(),
            previous=previous.chain if previous else GENESIS,
            chain=b"",
        )
        return cls(**{**{name: getattr(open_, name) for name in cls.__slots__}, "chain": open_.expected_chain()})

    def expected_chain(self) -> bytes:
        """What `chain` must be if nothing in this seal was changed."""
        microseconds = (self.sealed_at - POSTGRES_EPOCH) // timedelta(microseconds=1)
        numbers = struct.pack(
            ">qqQqQqq", self.seal_id, microseconds, self.after.xid, self.after.seq, self.until.xid, self.until.seq, self.rows
        )
        return hashlib.sha256(b"\x02" + self.previous + numbers + self.root + self.names).digest()

    def as_dict(self) -> dict[str, Any]:
        """A line of the file of roots."""
        return {
            "seal": self.seal_id,
            "sealed_at": self.sealed_at.isoformat(),
            "after": str(self.after),
            "until": str(self.until),
            "rows": self.rows,
            **{name: getattr(self, name).hex() for name in ("root", "names", "previous", "chain")},
        }

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """Read what `as_dict` wrote. Raises KeyError, TypeError or ValueError where somebody else did."""
        return cls(
            seal_id=int(line["seal"]),
            sealed_at=datetime.fromisoformat(line["sealed_at"]),
            after=Position.of(line["after"]),
            until=Position.of(line["until"]),
            rows=int(line["rows"]),
            **{name: bytes.fromhex(line[name]) for name in ("root", "names", "previous", "chain")},
        )
