"""One pass over the sealed audit trail, which ends at the first thing that is not as it was sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Final

import numpy as np

from pipeline_project.core.auditing import Difference, Fault, Finding, first_difference
from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import Bools
from pipeline_project.core.seals import GENESIS, SIZE, Names, Seal, merkle_root
from pipeline_project.store import seals
from pipeline_project.store.database import Database
from pipeline_project.store.seals import Batch, Gone

Progress = Callable[[int], None]

PAGE: Final = 500


def seals_after(database: Database, seal_id: int) -> Iterator[Seal]:
    """The seals that follow one, oldest first, without their bulk; 0 = all of them."""
    while True:
        with database.begin(repeatable=True) as connection:
            page = seals.after(connection, seal_id, most=PAGE)
        if not page:
            return
        yield from page
        seal_id = page[-1].seal_id


class Walk:
    """One pass over the seals, each in a transaction of its own: rows and seals are never changed, so no snapshot need last."""

    def __init__(self, database: Database, gone: Sequence[Gone], since: int, progress: Progress) -> None:
        self._database = database
        self._gone = gone
        self._since = since
        self._progress = progress
        self._before: Seal | None = None
        self.seals = self.rows = self.archived = self.compared = 0

    @property
    def expected(self) -> int:
        """Number of the seal that must come next."""
        return self._before.seal_id + 1 if self._before else self._since + 1

    def through(self, filed: Iterator[Seal]) -> Finding | None:
        """The first fault of all seals after `since`, compared with those of the file."""
        if self._since:
            trusted = next(seals_after(self._database, self._since - 1), None)
            if trusted is None or trusted.seal_id != self._since:
                raise UsageError(f"--since: expected the number of a seal, found {self._since}, which there is not")
            self._before = trusted
        following = (seal for seal in filed if seal.seal_id > self._since)
        for found, known in zip_longest(seals_after(self._database, self._since), following):
            fault = self._linked(found, known) or (found and self._rows(found))
            if fault:
                return fault
            if found is None:
                return None
            self._before = found
            self.compared += known is not None
            self._progress(self.rows)
        return None

    def _linked(self, found: Seal | None, known: Seal | None) -> Finding | None:
        """Whether a seal follows from the one before, and is the one that the file has."""
        number = self.expected
        if found is None:
            assert known is not None
            said = f"the file has seals up to this one and beyond, the database ends with {number - 1}: its tail was cut off"
            return Finding(fault=Fault.TAIL_CUT, seal=known.seal_id, message=f"seal {known.seal_id} (rows up to {known.until}): {said}")
        if found.seal_id != number:
            return Finding(
                fault=Fault.SEAL_REMOVED, seal=number, message=f"seal {number}: expected it after {number - 1}, found {found.seal_id}"
            )
        wrong = _broken_links(self._before, found)
        if wrong:
            return Finding(fault=Fault.SEAL_EDITED, seal=number, message=f"seal {number}: {wrong}")
        if known is not None and known.chain != found.chain:
            parts = ("sealed_at", "after", "until", "rows", "root", "names", "previous")
            others = ", ".join(name for name in parts if getattr(known, name) != getattr(found, name))
            said = f"expected what the file says, found other {others}: the chain was rewritten from here on, or the file is of another one"
            return Finding(
                fault=Fault.CHAIN_REWRITTEN, seal=number, message=f"seal {number} (rows after {found.after} up to {found.until}): {said}"
            )
        return None

    def _rows(self, sealed: Seal) -> Finding | None:
        """Whether the rows of a seal are those that it was made of."""
        with self._database.begin(repeatable=True) as connection:
            leaves, packed = seals.recorded(connection, sealed.seal_id)
            present = seals.present_leaves(connection, sealed)
            self.seals, self.rows = self.seals + 1, self.rows + sealed.rows
            if present == leaves and merkle_root(leaves) == sealed.root and _digest(packed) == sealed.names:
                return None
            wrong = _broken_record(sealed, leaves, packed)
            if wrong:
                return Finding(fault=Fault.SEAL_EDITED, seal=sealed.seal_id, message=f"seal {sealed.seal_id}: {wrong}")
            names = Names.unpack(packed, sealed.rows)
            kept = ~self._excused(names)
            self.archived += int((~kept).sum())
            expected = Batch(_where(leaves, kept), names.where(kept))
            if present == expected.leaves:
                return None
            batch = seals.present(connection, sealed)
            return self._name(sealed, expected, batch, first_difference(expected, batch))

    def _excused(self, names: Names) -> Bools:
        excused = np.zeros(len(names), np.bool_)
        for month in self._gone:
            excused |= month.covers(names)
        return excused

    def _name(self, sealed: Seal, expected: Batch, present: Batch, difference: Difference) -> Finding:
        """Say what a person needs to find the row again."""
        names, at = (expected.names, difference.sealed) if difference.sealed is not None else (present.names, difference.present)
        assert at is not None
        item_id, version, position = int(names.items[at]), int(names.versions[at]), names.position(at)
        with self._database.begin(repeatable=True) as connection:
            here = present.names.position(difference.present) if difference.present is not None else None
            row = seals.row_at(connection, here) if here else None
            key = seals.key_of(connection, item_id) if item_id else None
        what = f"item {key or item_id}, version {version}" if item_id else "pool event"
        said = {
            Fault.ROW_REMOVED: f"expected it as it was sealed (recorded {names.time(at).isoformat()}), found no such row: it was removed",
            Fault.ROW_INSERTED: "expected no such row, for it was not there when this was sealed: it was inserted",
            Fault.ROW_EDITED: f"its hash is not the sealed one: {_changed(difference, expected.names, present.names)}",
        }[difference.fault]
        return Finding(
            fault=difference.fault,
            seal=sealed.seal_id,
            position=str(position),
            item=key,
            item_id=item_id or None,
            version=version or None,
            message=f"seal {sealed.seal_id}, row {position}, {what}: {said}",
            row=row,
        )


def _broken_links(before: Seal | None, found: Seal) -> str | None:
    if before is not None and found.after != before.until:
        return f"expected it to begin after {before.until}, found {found.after}"
    previous = before.chain if before else GENESIS
    if found.previous != previous:
        return f"expected the chain to go on from {previous.hex()[:16]}, found {found.previous.hex()[:16]}"
    if found.chain != found.expected_chain():
        return f"what it says does not hash to its chain {found.chain.hex()[:16]}: one of its columns was edited"
    return None


def _broken_record(sealed: Seal, leaves: bytes, packed: bytes) -> str | None:
    if len(leaves) != SIZE * sealed.rows or merkle_root(leaves) != sealed.root:
        return f"its list of leaf hashes does not give its root {sealed.root.hex()[:16]}: the list was edited"
    if _digest(packed) != sealed.names:
        return "its list of row names does not give its digest: the list was edited"
    return None


def _changed(difference: Difference, expected: Names, present: Names) -> str:
    if not difference.columns:
        return "a column other than its transaction, item, version and time was edited"
    at = difference.sealed
    assert at is not None and difference.present is not None
    return ", ".join(
        f"{name.removesuffix('s')}: expected {getattr(expected, name)[at]}, found {getattr(present, name)[difference.present]}"
        for name in difference.columns
    )


def _where(leaves: bytes, kept: Bools) -> bytes:
    return bytes(np.frombuffer(leaves, f"V{SIZE}")[kept].tobytes())


def _digest(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()
