"""What taking a cycle back would do, as the database has it at one instant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.core.rollbacks import FATES, MOVED_ON, RELEASE, Fates
from pipeline_project.store import columns, statements

SQL = statements.load("rollbacks")

_FATES = {"item_id": pa.int64(), "version": pa.int64(), "fate": pa.int64()}
_ABOUT = {
    **dict.fromkeys(("rank", "weight", "token", "attempts"), pa.int64()),
    **dict.fromkeys(("key", "state", "reason", "executor", "lease_until"), pa.string()),
}
_DEMANDS = {"item_id": pa.int64(), "resource_id": pa.int64(), "quantity": pa.int64()}
_RESOURCES = {"key": pa.string(), "kind": pa.string(), "capacity": pa.int64(), "in_use": pa.int64()}


def fates(connection: sa.Connection, cycle_id: int) -> Fates:
    """The fate of each item that the cycle selected. O(n), a quarter of a second for 100,000."""
    connection.execute(SQL["in_memory"])
    item_ids, versions, fates = columns.arrays(connection, SQL["fates"], {"cycle_id": cycle_id}, _FATES).values()
    return Fates(item_ids=item_ids, versions=versions, fates=fates)


def effects(connection: sa.Connection, cycle_id: int, found: Fates) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(items, resources): every item with its fate and demands, every resource with what it gets back.

    The transaction must be REPEATABLE READ, and `found` be of it.
    """
    about = columns.arrays(connection, SQL["about"], {"cycle_id": cycle_id}, _ABOUT)
    of, resource_ids, quantities = columns.arrays(connection, SQL["demands"], {"cycle_id": cycle_id}, _DEMANDS).values()
    wanted, resource = np.unique(resource_ids, return_inverse=True)
    resources = columns.arrays(connection, SQL["resources"], {"ids": columns.Bigints(wanted)}, _RESOURCES)
    at = np.searchsorted(found.item_ids, of)
    names = np.array(resources["key"], object)[resource].tolist()
    starts = starts_of(np.bincount(at, minlength=len(found.item_ids)))
    back = np.zeros(len(wanted), np.int64)
    released = found.fates[at] == RELEASE
    np.add.at(back, resource[released], quantities[released])
    return _items(about, found, _dicts(names, quantities.tolist(), starts)), _resources(resources, back)


def _dicts(names: list[str], amounts: list[int], starts: Int64) -> Iterator[dict[str, int]]:
    """What each item wants, by name."""
    for begin, end in pairwise(starts.tolist()):
        yield dict(zip(names[begin:end], amounts[begin:end], strict=True))


def _items(about: dict[str, Any], found: Fates, demands: Iterator[dict[str, int]]) -> list[dict[str, Any]]:
    """By columns first, for nearly all are simply released; then what is to be said of the others."""
    columns_ = about["key"], found.fates.tolist(), about["state"], about["rank"].tolist(), about["weight"].tolist(), demands
    items: list[dict[str, Any]] = [
        {"item": key, "effect": FATES[fate], "state": state, "rank": rank, "weight": weight, "demands": wants}
        for key, fate, state, rank, weight, wants in zip(*columns_, strict=True)
    ]
    for n in np.flatnonzero(found.fates != RELEASE).tolist():
        if found.fates[n] == MOVED_ON:
            del items[n]["demands"]
        if about["executor"][n]:
            items[n] |= {"executor": about["executor"][n], "token": int(about["token"][n]), "lease_until": about["lease_until"][n]}
        if found.fates[n] != MOVED_ON:
            items[n] |= {"attempts": int(about["attempts"][n]), "reason": about["reason"][n] or None}
    return items


def _resources(resources: dict[str, Any], back: Int64) -> list[dict[str, Any]]:
    """Those that get something back."""
    columns_ = resources["key"], resources["kind"], back.tolist(), resources["in_use"].tolist(), resources["capacity"].tolist()
    return [
        {"resource": key, "kind": kind, "gets_back": gets, "in_use": in_use, "in_use_after": in_use - gets, "capacity": capacity}
        for key, kind, gets, in_use, capacity in zip(*columns_, strict=True)
        if gets
    ]


def completed(connection: sa.Connection, cycle_id: int, *, after: int, most: int) -> list[dict[str, Any]]:
    """Completed items of a cycle in id order, from `after` on: item_id, key, token, weight, payload, demands of renewable resources."""
    parameters = {"cycle_id": cycle_id, "after": after, "most": most}
    return [dict(row) for row in connection.execute(SQL["completed"], parameters).mappings()]


def keys_of(connection: sa.Connection, ids: Int64) -> dict[int, str]:
    """Key by id."""
    return {row.item_id: row.key for row in connection.execute(SQL["named"], {"ids": ids.tolist()})}
