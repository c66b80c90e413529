"""Seals against their definitions: the tree of RFC 6962, and a chain in which every part counts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_project.core.auditing import Fault, first_difference
from pipeline_project.core.errors import UsageError
from pipeline_project.core.positions import START, Position
from pipeline_project.core.seals import GENESIS, SIZE, Names, Seal, merkle_root


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


def leaf(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, signed=True)).digest()


def names(seqs: list[int]) -> Names:
    column = np.array(seqs, np.int64)
    return Names(xids=column // 3, seqs=column, items=column * 7, versions=column % 5, times=column * 1_000_003)


def batch(seqs: list[int]) -> tuple[bytes, Names]:
    return b"".join(map(leaf, seqs)), names(seqs)


@pytest.mark.parametrize("n", range(1, 40))
def test_the_root_is_that_of_rfc_6962(n: int) -> None:
    leaves = [leaf(number) for number in range(n)]
    assert merkle_root(b"".join(leaves)) == by_definition(leaves)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50))
def test_names_are_read_as_they_were_packed(seqs: list[int]) -> None:
    column = np.array(seqs, np.int64)
    made = Names(xids=column, seqs=column[::-1], items=column, versions=column, times=column)
    again = Names.unpack(made.pack(), len(seqs))
    assert all((getattr(again, name) == getattr(made, name)).all() for name in Names.__slots__)


def test_names_that_are_none_are_refused() -> None:
    for packed, rows in ((b"nonsense", 3), (names([1, 2]).pack(), 3), (names([1, 2]).pack()[:-4], 2)):
        with pytest.raises(ValueError, match=f"names of {rows} rows"):
            Names.unpack(packed, rows)


def seal() -> Seal:
    leaves, its_names = batch([1, 2, 3])
    at = datetime(2026, 1, 15, 12, tzinfo=UTC)
    return Seal.close(leaves=leaves, names=its_names.pack(), previous=None, sealed_at=at, after=START, until=its_names.position(-1))


def test_a_seal_is_chained_to_the_one_before() -> None:
    first = seal()
    assert (first.seal_id, first.previous, first.rows) == (1, GENESIS, 3)
    leaves, its_names = batch([4])
    at = first.sealed_at
    following = Seal.close(
        leaves=leaves, names=its_names.pack(), previous=first, sealed_at=at, after=first.until, until=its_names.position(0)
    )
    assert (following.seal_id, following.previous) == (2, first.chain)


@pytest.mark.parametrize(
    "change",
    [
        {"seal_id": 2},
        {"sealed_at": datetime(2026, 1, 15, 12, 0, 0, 1, tzinfo=UTC)},
        {"after": Position(0, 0)},
        {"until": Position(9, 9)},
        {"rows": 4},
        {"root": bytes(SIZE)},
        {"names": bytes(SIZE)},
        {"previous": bytes([1]) * SIZE},
    ],
)
def test_every_part_of_a_seal_counts(change: dict[str, object]) -> None:
    assert seal().chain == seal().expected_chain()
    assert replace(seal(), **change).expected_chain() != seal().chain  # type: ignore[arg-type]


def test_a_seal_is_read_as_it_was_written() -> None:
    assert Seal.of(seal().as_dict()) == seal()


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30, unique=True).map(sorted), st.data())
def test_the_first_difference_is_named(seqs: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(seqs) - 1))
    without = batch(seqs[:at] + seqs[at + 1 :])
    removed = first_difference(batch(seqs), without)
    assert (removed.fault, removed.sealed) == (Fault.ROW_REMOVED, at)
    inserted = first_difference(without, batch(seqs))
    assert (inserted.fault, inserted.present) == (Fault.ROW_INSERTED, at)
    leaves, its_names = batch(seqs)
    edited = first_difference((leaves, its_names), (leaves[: at * SIZE] + bytes(SIZE) + leaves[(at + 1) * SIZE :], its_names))
    assert (edited.fault, edited.sealed, edited.columns) == (Fault.ROW_EDITED, at, ())


def test_a_position_is_read_as_it_is_written() -> None:
    for position in (START, Position(7, -3), Position(2**63, 5)):
        assert Position.of(str(position)) == position
    for text in ("", "7", "7/", "x/1", "7/1/2", "99999999999999999999/1", "1/9999999999999999999"):
        with pytest.raises(UsageError, match="expected XID/SEQ"):
            Position.of(text)
