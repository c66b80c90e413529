"""What verification of the audit trail finds: the first thing that is not as it was sealed, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from pipeline_project.core.seals import SIZE, Names


class Fault(StrEnum):
    """What was done: to a row of the trail, to a seal, to the chain of seals, or to a file beside the database."""

    ROW_EDITED = "row_edited"
    ROW_REMOVED = "row_removed"
    ROW_INSERTED = "row_inserted"
    SEAL_EDITED = "seal_edited"
    SEAL_REMOVED = "seal_removed"
    CHAIN_REWRITTEN = "chain_rewritten"
    TAIL_CUT = "tail_cut"
    FILE_EDITED = "file_edited"
    ARCHIVE_UNREADABLE = "archive_unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first fault.

    seal      number of the seal in which it is; None where it is in none
    position  of the row in the feed
    item      its key; item_id where the key is unknown
    message   names the thing, the expected and the found
    row       the row as it is now, where there is one
    """

    fault: Fault
    message: str
    seal: int | None = None
    position: str | None = None
    item: str | None = None
    item_id: int | None = None
    version: int | None = None
    row: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two batches part: the row's index in what was sealed, and in what is there; None = it is not in that one.

    columns  which of its names differ; none of them: another column
    """

    fault: Fault
    sealed: int | None
    present: int | None
    columns: tuple[str, ...] = ()


def first_difference(sealed: tuple[bytes, Names], present: tuple[bytes, Names]) -> Difference:
    """The first row, in feed order, that is in one batch and not the same in the other. They must differ. O(n)."""
    (sealed_leaves, sealed_names), (present_leaves, present_names) = sealed, present
    ours, theirs = _hashes(sealed_leaves), _hashes(present_leaves)
    both = min(len(ours), len(theirs))
    same = ours[:both] == theirs[:both]
    at = both if same.all() else int(same.argmin())
    gone = at == len(ours) or int(sealed_names.seqs[at]) not in set(present_names.seqs[at:].tolist())
    if at < len(ours) and gone:
        return Difference(fault=Fault.ROW_REMOVED, sealed=at, present=None)
    if at == len(ours) or sealed_names.seqs[at] != present_names.seqs[at]:
        return Difference(fault=Fault.ROW_INSERTED, sealed=None, present=at)
    columns = [
        name for name in ("xids", "items", "versions", "times") if getattr(sealed_names, name)[at] != getattr(present_names, name)[at]
    ]
    return Difference(fault=Fault.ROW_EDITED, sealed=at, present=at, columns=tuple(columns))


def _hashes(leaves: bytes) -> np.ndarray[Any, np.dtype[np.void]]:
    return np.frombuffer(leaves, f"V{SIZE}")
