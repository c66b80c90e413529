"""What a stranger's resource must look like."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_project.core.columns import check_header
from pipeline_project.core.errors import Refused, UsageError
from pipeline_project.core.pools import check_name
from pipeline_project.core.resources import FIELDS, check_resource_rows


def test_good_resources_become_columns_and_are_renewable_by_default() -> None:
    rows = [{"key": "gpu", "capacity": 0}, {"key": "budget", "capacity": 2**63 - 1, "kind": "consumable"}]
    batch, refusals = check_resource_rows(enumerate(rows, start=2))
    assert refusals == []
    assert batch.lines.tolist() == [2, 3]
    assert batch.keys == ["gpu", "budget"]
    assert batch.capacities.tolist() == [0, 2**63 - 1]
    assert batch.kinds == ["renewable", "consumable"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"capacity": -1}, "capacity"),
        ({"capacity": 1.0}, "capacity"),
        ({"capacity": 2**63}, "capacity"),
        ({"key": ""}, "key"),
        ({"kind": "eternal"}, "kind"),
        ({"kind": ["renewable"]}, "kind"),
        ({"capcity": 3}, "row"),
    ],
)
def test_a_bad_resource_is_refused_by_its_field(changed: dict[str, Any], field: str) -> None:
    batch, refusals = check_resource_rows([(1, {"key": "gpu", "capacity": 1} | changed)])
    assert len(batch) == 0
    assert [refused.field for refused in refusals] == [field]


def test_a_repeated_resource_is_refused() -> None:
    _, refusals = check_resource_rows([(1, {"key": "gpu", "capacity": 1}), (2, {"key": "gpu", "capacity": 1})])
    assert [refused.line for refused in refusals] == [2]


def test_a_header_is_refused_with_all_that_is_wrong_and_what_was_meant() -> None:
    with pytest.raises(UsageError, match=r"r\.csv: unknown column 'capcity' \(did you mean 'capacity'\?\); missing column 'capacity'"):
        check_header(["key", "capcity"], FIELDS, where="r.csv")


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64])
def test_a_pool_name_is_plain(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a|b", "a/b", "..", "ä", "a\n", " a", "٣"])
def test_a_pool_name_that_would_hurt_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="expected 1 to 64 of"):
        check_name(name)
