"""Items as strangers send them: checked columns, ready to be staged, and a refusal for each row that is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import numpy as np

from pipeline_project.core import json_text
from pipeline_project.core.columns import Field, Inspection, Kind, Table, Unfit, gather, json_object, text_key, whole
from pipeline_project.core.errors import Refusal
from pipeline_project.core.packing import Int64, starts_of

PAYLOAD_BYTES_LIMIT: Final = 64 * 1024
"""A payload says what to do; the data to do it with belongs somewhere else."""
DEMANDS_LIMIT: Final = 10_000
BUNDLE_SIZE_LIMIT: Final = 1_000

FIELDS: Final = {
    "key": Field(Kind.TEXT, required=True),
    "weight": Field(Kind.INTEGER, required=True),
    "demands": Field(Kind.QUANTITIES, required=True),
    "payload": Field(Kind.OBJECT),
    "not_before": Field(Kind.INSTANT),
    "expires_at": Field(Kind.INSTANT),
    "bundle_key": Field(Kind.TEXT),
    "bundle_size": Field(Kind.INTEGER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemBatch:
    """Items that passed every check that needs no database.

    lines              int64[n]      1-based line or row of the input
    keys               n texts       unique
    weights            int64[n]      whole points, >= 0
    payloads           n             canonical JSON text of an object, or None
    not_before         n             UTC, or None
    expires_at         n             UTC, later than not_before, or None
    bundle_keys        n             None for a lone item
    bundle_sizes       n             None for a lone item
    demand_indptr      int64[n + 1]  item i demands rows demand_indptr[i]:demand_indptr[i + 1] of the next two
    demand_keys        k texts       resource keys, no duplicates within an item
    demand_quantities  int64[k]      >= 1
    """

    lines: Int64
    keys: list[str]
    weights: Int64
    payloads: list[str | None]
    not_before: list[datetime | None]
    expires_at: list[datetime | None]
    bundle_keys: list[str | None]
    bundle_sizes: list[int | None]
    demand_indptr: Int64
    demand_keys: list[str]
    demand_quantities: Int64

    def __len__(self) -> int:
        return len(self.keys)


def check_items(table: Table, seen: dict[str, int] | None = None) -> tuple[ItemBatch, list[Refusal]]:
    """Good rows into a batch, each bad row into one refusal: together they are all rows.

    `seen` (key -> line) is carried from table to table of one input: of two rows with one key the later is refused, even when
    they are equal, because a file that says the same thing twice may as well say two things.
    """
    inspection = Inspection(table)
    column = inspection.column
    keys = column("key", text_key, required=True)
    weights = column("weight", whole(0), required=True)
    demands = column("demands", Demands(), required=True)
    payloads = column("payload", payload)
    not_before, expires_at = column("not_before", instant), column("expires_at", instant)
    bundle_keys, bundle_sizes = column("bundle_key", text_key), column("bundle_size", whole(1, BUNDLE_SIZE_LIMIT))
    _refuse_reversed_times(inspection, not_before, expires_at)
    _refuse_half_bundles(inspection, bundle_keys, bundle_sizes)
    inspection.refuse_repeated(keys, {} if seen is None else seen)

    keep = inspection.keep
    kept_demands: list[Mapping[str, int]] = keep(demands)
    indptr = starts_of(np.array([len(demand) for demand in kept_demands], np.int64))
    batch = ItemBatch(
        lines=np.array(keep(table.lines), np.int64),
        keys=keep(keys),
        weights=np.array(keep(weights), np.int64),
        payloads=keep(payloads),
        not_before=keep(not_before),
        expires_at=keep(expires_at),
        bundle_keys=keep(bundle_keys),
        bundle_sizes=keep(bundle_sizes),
        demand_indptr=indptr,
        demand_keys=list(chain.from_iterable(kept_demands)),
        demand_quantities=np.fromiter(chain.from_iterable(d.values() for d in kept_demands), np.int64, count=int(indptr[-1])),
    )
    return batch, inspection.refusals


def check_item_rows(rows: Iterable[tuple[int, Any]], seen: dict[str, int] | None = None) -> tuple[ItemBatch, list[Refusal]]:
    """The same for rows (line, mapping): JSON lines, a source's query, a service's request."""
    table, strays = gather(rows, FIELDS)
    batch, refusals = check_items(table, seen)
    return batch, sorted(strays + refusals, key=lambda refusal: refusal.line)


class Demands:
    """Checks one item's demands. It remembers the resource keys it has passed: few resources, many demands."""

    expected: Final = 'a JSON object {"resource key": quantity}'

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._quantity = whole(1)

    def __call__(self, value: Any) -> dict[str, int]:
        demands = json_object(value, self.expected)
        if len(demands) > DEMANDS_LIMIT:
            raise Unfit(f"at most {DEMANDS_LIMIT} demands", len(demands))
        for resource, quantity in demands.items():
            if resource not in self._known:
                self._known.add(text_key(resource))
            try:
                self._quantity(quantity)
            except Unfit as unfit:
                raise Unfit(unfit.expected, quantity, within=f".{resource}") from None
        return demands


def payload(value: Any) -> str:
    """Canonical JSON text of an object of at most 64 KiB."""
    expected = f"a JSON object of at most {PAYLOAD_BYTES_LIMIT} bytes"
    if isinstance(value, str) and len(value) > PAYLOAD_BYTES_LIMIT:  # before anything reads or copies it
        raise Unfit(expected, value)
    try:
        text = json_text.canonical(json_object(value, expected))
    except ValueError as error:
        raise Unfit(f"{expected}; this holds {error}", value) from None
    if len(text) > PAYLOAD_BYTES_LIMIT or len(text.encode()) > PAYLOAD_BYTES_LIMIT:
        raise Unfit(expected, text)
    return text


def instant(value: Any) -> datetime:
    """A point in time, in UTC. A time without an offset is none: it happens at another moment in each zone."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Unfit("an ISO 8601 time with time zone, like 2026-01-31T06:30:00+01:00", value)


def _refuse_reversed_times(inspection: Inspection, not_before: list[datetime | None], expires_at: list[datetime | None]) -> None:
    for row, (start, end) in enumerate(zip(not_before, expires_at, strict=True)):
        if start is not None and end is not None and end <= start:
            inspection.refuse(row, "expires_at", f"later than not_before ({start.isoformat()})", end.isoformat())


def _refuse_half_bundles(inspection: Inspection, keys: list[str | None], sizes: list[int | None]) -> None:
    for row, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        if (key is None) != (size is None):
            absent = "bundle_key" if key is None else "bundle_size"
            inspection.refuse(row, absent, "bundle_key and bundle_size together, or neither", "nothing")
