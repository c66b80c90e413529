"""What taking a cycle back does to each of its items, and a hash by which one may hold us to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipeline_project.core.packing import Int64

FATES: Final = ("moved_on", "release", "claimed", "completed", "ended")
"""What becomes of an item, by number:

moved_on   it left the cycle before, waits or belongs to another one: not touched
release    selected and unclaimed: goes back to pending, and gives its resources back
claimed    an executor has it: keeps its claim
completed  cannot be undone, only compensated
ended      failed, quarantined, cancelled or expired: holds nothing any more
"""

MOVED_ON, RELEASE, CLAIMED, COMPLETED, ENDED = range(len(FATES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What a rollback meets at one instant.

    item_ids  int64[n]  ascending
    versions  int64[n]  of each item; 0 = it moved on, and its version is nothing to us
    fates     int64[n]  index into FATES
    """

    item_ids: Int64
    versions: Int64
    fates: Int64

    def where(self, fate: int) -> Int64:
        """Ids of the items with this fate."""
        found: Int64 = self.item_ids[self.fates == fate]
        return found

    def counts(self) -> dict[str, int]:
        return {name: int((self.fates == number).sum()) for number, name in enumerate(FATES)}

    def hash(self, promise: Mapping[str, Any]) -> str:
        """32 hex digits that change when an item's fate or version does, or what is promised with it (the cycle, the hold, ...).

        Leases are not in it: a heartbeat changes nothing about what a rollback does.
        """
        digest = hashlib.blake2b(repr(sorted(promise.items())).encode(), digest_size=16)
        for column in (self.item_ids, self.versions, self.fates):
            digest.update(np.ascontiguousarray(column, "<i8").tobytes())
        return digest.hexdigest()


def differing(before: Fates, now: Fates) -> Int64:
    """Ids of the items whose version or fate is another one; one that is gone or new differs too. A cycle's items only change, so both
    are the same ids but for items that went to the history."""
    kept = np.intersect1d(before.item_ids, now.item_ids)
    old, new = np.searchsorted(before.item_ids, kept), np.searchsorted(now.item_ids, kept)
    changed = (before.versions[old] != now.versions[new]) | (before.fates[old] != now.fates[new])
    return np.union1d(kept[changed], np.setxor1d(before.item_ids, now.item_ids)).astype(np.int64)


def undo_key(key: str, cycle_key: str) -> str:
    """Key of the item that makes up for a completed one: the same for the same cycle, so that it is submitted once."""
    return f"{key}~undo~{cycle_key[:12]}"
