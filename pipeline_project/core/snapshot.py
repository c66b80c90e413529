"""The immutable input of one cycle, and the identity that follows from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import pyarrow as pa

from pipeline_project.core.packing import Bools, Int32, Int64
from pipeline_project.core.policy import Policy


class Mode(StrEnum):
    LIVE = "live"
    REPROCESS = "reprocess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one cycle sees. Columns, sorted by id; n items, k demands, m resources.

    item_ids      int64[n]   ascending
    keys          string[n]  idempotency keys
    versions      int64[n]
    weights       int64[n]   effective: with the points that ageing added
    bundles       int64[n]   bundle id, -1 for a lone item; only whole bundles are in a snapshot
    held          bool[n]    selected now (only a reprocess sees such items; their demands count as free)
    indptr        int64[n + 1]  item i demands rows indptr[i]:indptr[i + 1] of the next two
    resources     int32[k]   position in resource_ids
    quantities    int64[k]
    resource_ids  int64[m]   ascending; those that are demanded
    resource_keys string[m]
    free          int64[m]   what this cycle may give away
    capacities    int64[m]   what there is in all; for display, not part of the identity
    """

    pool: str
    day: date
    mode: Mode
    policy: Policy
    engine_version: str
    item_ids: Int64
    keys: pa.StringArray
    versions: Int64
    weights: Int64
    bundles: Int64
    held: Bools
    indptr: Int64
    resources: Int32
    quantities: Int64
    resource_ids: Int64
    resource_keys: pa.StringArray
    free: Int64
    capacities: Int64

    def __post_init__(self) -> None:
        n, m = len(self.item_ids), len(self.resource_ids)
        assert len(self.keys) == len(self.versions) == len(self.weights) == len(self.bundles) == len(self.held) == n
        assert len(self.resource_keys) == len(self.free) == len(self.capacities) == m
        assert self.indptr.shape == (n + 1,) and self.indptr[-1] == len(self.resources) == len(self.quantities)
        assert (np.diff(self.item_ids) > 0).all() and (np.diff(self.resource_ids) > 0).all()

    @property
    def n(self) -> int:
        return len(self.item_ids)

    def cycle_key(self) -> str:
        """32 hex digits: SHA-256 of the canonical bytes of everything that may change the answer. No clock, no payload.

        Equal worlds have equal keys, so an unchanged world makes no new cycle.
        """
        h = hashlib.sha256(b"cycle-1")
        for text in (self.pool, self.day.isoformat(), self.mode, self.policy.hash, self.engine_version):
            h.update(text.encode() + b"\0")
        for strings in (self.keys, self.resource_keys):
            h.update("\0".join(strings.to_pylist()).encode() + b"\0\0")  # keys hold no NUL: intake refuses it
        for column in (self.versions, self.weights, self.bundles, self.held, self.indptr, self.resources, self.quantities, self.free):
            h.update(len(column).to_bytes(8, "little"))
            h.update(np.ascontiguousarray(column, "<i8").tobytes())
        return h.hexdigest()[:32]
