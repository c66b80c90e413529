"""What any snapshot must look like, whatever it says: Great Expectations over its three tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline_project.core.snapshot import Snapshot

if TYPE_CHECKING:
    import great_expectations as gx

EXAMPLES: Final = 5


def structural_faults(snapshot: Snapshot) -> list[str]:
    """Expectations that do not hold, each with the first values that break it; empty = sound. About 0.1 s."""
    rules = _expectations()
    return [fault for name, frame in _frames(snapshot).items() for fault in _faults(name, frame, rules[name])]


def warm() -> None:
    """Load what the first check would have to: seconds, which a worker spends before there is anything to check."""
    for name in _expectations():
        _batches(name)


def _frames(snapshot: Snapshot) -> dict[str, pd.DataFrame]:
    s = snapshot
    items = {"item_id": s.item_ids, "key": s.keys.to_pylist(), "version": s.versions, "weight": s.weights}
    owners = np.repeat(s.item_ids, np.diff(s.indptr))
    demands = {"item_id": owners, "resource": s.resources, "quantity": s.quantities, "of": np.full(len(owners), len(s.resource_ids))}
    resources = {"resource_id": s.resource_ids, "key": s.resource_keys.to_pylist(), "free": s.free, "capacity": s.capacities}
    return {"items": pd.DataFrame(items), "demands": pd.DataFrame(demands), "resources": pd.DataFrame(resources)}


@cache
def _expectations() -> Mapping[str, Sequence[Any]]:
    from great_expectations import expectations as gxe

    _context()  # telemetry goes off before anything else is made
    return {
        "items": [
            gxe.ExpectColumnValuesToNotBeNull(column="key"),
            gxe.ExpectColumnValuesToBeUnique(column="key"),
            gxe.ExpectColumnValuesToBeBetween(column="version", min_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=0),
        ],
        "demands": [
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["item_id", "resource"]),
            gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="resource", min_value=0),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="of", column_B="resource"),
        ],
        "resources": [
            gxe.ExpectColumnValuesToNotBeNull(column="key"),
            gxe.ExpectColumnValuesToBeUnique(column="key"),
            gxe.ExpectColumnValuesToBeBetween(column="free", min_value=0),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="capacity", column_B="free", or_equal=True),
        ],
    }


def _faults(name: str, frame: pd.DataFrame, rules: Sequence[Any]) -> list[str]:
    import great_expectations as gx

    batch = _batches(name).get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name=name, expectations=list(rules))
    if batch.validate(suite, result_format="BOOLEAN_ONLY").success:  # half the work, and nearly always all of it
        return []
    return [_fault(name, one) for one in batch.validate(suite, result_format="BASIC").results if not one.success]


def _fault(table: str, result: Any) -> str:
    rule = result.expectation_config
    columns = {key: value for key, value in rule.kwargs.items() if key != "batch_id"}
    raised = (result.exception_info or {}).get("exception_message")
    found = raised or f"{result.result.get('unexpected_count')} such, {result.result.get('partial_unexpected_list', [])[:EXAMPLES]}"
    return f"{table}: {rule.type} {columns}: found {found}"


@cache
def _batches(name: str) -> Any:
    return _context().data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)


@cache
def _context() -> gx.data_context.EphemeralDataContext:
    """Imported here and once: it takes seconds. Kept in memory, silent, and telling nobody about it."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context
