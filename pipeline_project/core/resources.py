"""Resources as strangers send them: checked columns, ready to be staged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from pipeline_project.core.columns import Field, Inspection, Kind, Table, Unfit, gather, text_key, whole
from pipeline_project.core.errors import Refusal
from pipeline_project.core.packing import Int64

FIELDS: Final = {
    "key": Field(Kind.TEXT, required=True),
    "capacity": Field(Kind.INTEGER, required=True),
    "kind": Field(Kind.TEXT),
}


class ResourceKind(StrEnum):
    """What becomes of capacity when its holder completes: given back, or spent."""

    RENEWABLE = "renewable"
    CONSUMABLE = "consumable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceBatch:
    """Resources that passed every check that needs no database.

    lines       int64[n]  1-based line or row of the input
    keys        n texts   unique
    capacities  int64[n]  >= 0
    kinds       n kinds   renewable unless the sender says otherwise
    """

    lines: Int64
    keys: list[str]
    capacities: Int64
    kinds: list[ResourceKind]

    def __len__(self) -> int:
        return len(self.keys)


def check_resources(table: Table, seen: dict[str, int] | None = None) -> tuple[ResourceBatch, list[Refusal]]:
    """Good rows into a batch, each bad row into one refusal. `seen` as in `items.check_items`."""
    inspection = Inspection(table)
    keys = inspection.column("key", text_key, required=True)
    capacities = inspection.column("capacity", check_capacity, required=True)
    kinds = inspection.column("kind", _kind)
    inspection.refuse_repeated(keys, {} if seen is None else seen)
    keep = inspection.keep
    batch = ResourceBatch(
        lines=np.array(keep(table.lines), np.int64),
        keys=keep(keys),
        capacities=np.array(keep(capacities), np.int64),
        kinds=[kind or ResourceKind.RENEWABLE for kind in keep(kinds)],
    )
    return batch, inspection.refusals


def check_resource_rows(rows: Iterable[tuple[int, Any]], seen: dict[str, int] | None = None) -> tuple[ResourceBatch, list[Refusal]]:
    """The same for rows (line, mapping)."""
    table, strays = gather(rows, FIELDS)
    batch, refusals = check_resources(table, seen)
    return batch, sorted(strays + refusals, key=lambda refusal: refusal.line)


check_capacity: Final = whole(0)
"""The capacity, where it can be one. Raises Refused."""


def _kind(value: Any) -> ResourceKind:
    try:
        return ResourceKind(value)
    except ValueError:
        raise Unfit(" or ".join(ResourceKind), value) from None
